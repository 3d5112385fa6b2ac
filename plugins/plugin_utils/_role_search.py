# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the folder of a role where Ansible would find it."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible import constants
from ansible.utils.collection_loader._collection_finder import _get_collection_role_path
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.plugin_utils._role_reach import IN_COLLECTION


class RoleSearch:
    """Collections first, then the roles of the playbook, the configured folders, and the folder of the role that asks."""

    def __init__(self, base: Path, collections: t.Sequence[str]) -> None:
        self._base = base
        self._collections = list(collections)

    def __call__(self, name: str, beside: Path | None) -> Path | None:
        """The folder; None for a role that is nowhere. Raises ImageError for one that the image itself names."""
        home = IN_COLLECTION.search(beside.as_posix()) if beside else None
        in_collection = _get_collection_role_path(name, [f"{home[1]}.{home[2]}"] if home else self._collections)
        if in_collection:
            return Path(in_collection[1])
        configured = [Path(folder).expanduser() for folder in constants.DEFAULT_ROLES_PATH]  # type: ignore[attr-defined]
        folders = [self._base / "roles", *configured, *([beside.parent] if beside else []), self._base]
        found = next((folder / name for folder in folders if (folder / name).is_dir()), None)
        if found is None and beside is None:
            raise ImageError(
                f"Cannot find role {name} of the image: it is in no collection and in none of {', '.join(str(folder) for folder in folders)}. "
                "Correct image_roles or install the role."
            )
        return found
