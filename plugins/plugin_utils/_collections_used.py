# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the code outside of roles that their tasks use: collections, and plugins beside the playbook."""

from __future__ import annotations

import hashlib
import re
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.plugin_utils._role_tasks import load_yaml
from ansible_collections.hyperscaler.images.plugins.plugin_utils._source_tree import SourceTree, tree_digest

OWN = "hyperscaler.images"
QUALIFIED = re.compile(r"\b([a-z]\w*)\.([a-z]\w*)\.[a-z]\w*")
PLUGIN_FOLDERS = ("action_plugins", "filter_plugins", "library", "lookup_plugins", "module_utils", "test_plugins")


def collections_used(roles: t.Iterable[SourceTree], folders: t.Iterable[str]) -> dict[str, Path]:
    """The installed collections that roles name, by name; ``folders`` are where collections are installed, in order."""
    installed: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(Path(folder, "ansible_collections").glob("*/*/plugins")):
            installed.setdefault(f"{path.parent.parent.name}.{path.parent.name}", path.parent)
    named: set[str] = set()
    for role in roles:
        for name, text in role.texts.items():
            named.update(f"{found[1]}.{found[2]}" for found in QUALIFIED.finditer(text))
            if name.startswith("meta/main."):
                document = load_yaml(text)
                named.update(str(entry) for entry in (document.get("collections") or [] if isinstance(document, dict) else []))
    return {name: path for name, path in sorted(installed.items()) if name in named and name != OWN}


def collection_digest(path: Path) -> str:
    """A digest of a collection: of what was installed, or of the code in a folder that somebody works in."""
    manifest = path / "MANIFEST.json"
    # It has the version and the checksum of FILES.json, which has those of all files.
    return hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else tree_digest(path / "plugins")


def plugin_folders(base: Path) -> list[Path]:
    """The folders with plugins beside a playbook."""
    return [base / name for name in PLUGIN_FOLDERS if (base / name).is_dir()]
