# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Decide whether an image has to be built: compare what shapes it now with what shaped the one that is there."""

from __future__ import annotations

import json
import re
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._digest import changes, document_digest
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import file_digest

MANIFEST = "manifest.json"
SECRET = re.compile(r"pass(word|wd|phrase)?$|secret|token|private_key|credential", re.IGNORECASE)
MOST_REASONS = 3


def without_secrets(name: str, value: t.Any) -> t.Any:
    """The value of a variable as it may be written down: of a secret only a digest, so that a change is still seen."""
    return f"sha256:{document_digest(value)}" if value and SECRET.search(name) else value


def file_digests(paths: t.Iterable[str]) -> dict[str, str]:
    """The sha256 of each input file, by path. Raises ImageError for one that is missing."""
    found = {}
    for path in sorted(paths):
        if not Path(path).is_file():
            raise ImageError(f"Cannot read the input file {path}: there is no such file. Correct image_input_files.")
        found[path] = file_digest(Path(path))
    return found


def rebuild_reason(document: t.Mapping[str, t.Any], output: Path, rebuild: str) -> str:
    """Why the image has to be built, as a sentence; empty when the output is there, intact and made from the same inputs."""
    if rebuild == "always":
        return "a rebuild was asked for"
    manifest_file = output / MANIFEST
    if not manifest_file.is_file():
        return "there is no image yet" if not any(output.glob("*.qcow2")) else "the image has no manifest"
    try:
        manifest = json.loads(manifest_file.read_text(encoding="utf-8"))
        recorded, files = manifest["inputs"]["document"], manifest["files"]
    except (ValueError, KeyError, TypeError):
        return "its manifest cannot be read"
    return _damage(output, files) or ("" if rebuild == "never" else _difference(recorded, document))


def _damage(output: Path, files: t.Mapping[str, t.Mapping[str, t.Any]]) -> str:
    for name, wanted in sorted(files.items()):
        path = output / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != wanted["size"] or file_digest(path) != wanted["sha256"]:
            return f"{name} is damaged: it differs from its checksum"
    return ""


def _difference(recorded: t.Any, document: t.Mapping[str, t.Any]) -> str:
    found = [_sentence(change) for change in changes(recorded, json.loads(json.dumps(document, default=str)))]
    unique = list(dict.fromkeys(found))
    more = f" and {len(unique) - MOST_REASONS} more" if len(unique) > MOST_REASONS else ""
    return ", ".join(unique[:MOST_REASONS]) + more


def _sentence(change: str) -> str:
    """Turn the path of a change in the document into words."""
    role = re.match(r"roles\.((?:\w+\.)*\w+)\.files\b", change)
    if role:
        return f"the files of role {role.group(1)} changed"
    variable = re.match(r"roles\.(?:\w+\.)*?variables\.(.*)", change)
    if variable:
        return f"variable {variable.group(1)}"
    section, _dot, rest = change.partition(".")
    if section == "builder":
        return f"the code of the collection changed ({rest.split(' changed ')[0]})"
    names = {"base": "the base image: ", "definition": "variable ", "tools": "tool ", "files": "input file "}
    return f"{names[section]}{rest}" if section in names else change
