# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""The files of an image together with those that each machine gets at boot."""

from __future__ import annotations

import functools
import stat
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import TEXT_LIMIT, Entry, Tree


class BootedTree(Tree):
    """A tree with files over it, by their paths; nothing is written."""

    def __init__(self, tree: Tree, added: t.Mapping[str, bytes]) -> None:
        super().__init__(tree.root)
        self._below = tree
        self._added = {tree.resolve(path): data for path, data in added.items()}

    @functools.cached_property
    def entries(self) -> dict[str, Entry]:
        """Every name, with the folders of what is added."""
        found = dict(self._below.entries)
        for path, data in self._added.items():
            found[path] = Entry(path, stat.S_IFREG | 0o600, len(data), 0, 0.0)
            folder = path.rpartition("/")[0]
            while folder and folder not in found:
                found[folder] = Entry(folder, stat.S_IFDIR | 0o755, 0, 0, 0.0)
                folder = folder.rpartition("/")[0]
        return found

    def data(self, path: str, limit: int = TEXT_LIMIT) -> bytes:
        """The first bytes of a file, be it of the image or added."""
        resolved = self.resolve(path)
        return self._added[resolved][:limit] if resolved in self._added else self._below.data(path, limit)
