# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""A FAT file system of an image on a build host whose kernel has no FAT: its files are in memory while the image is open.

mtools reads them from the partition and writes back what changed. The memory is mounted with the partition as its source: grub-install looks
there for the file system, and finds that it is FAT. So updates of GRUB and shim reach the EFI system partition.
"""

from __future__ import annotations

import dataclasses
import os
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import LayoutError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import file_digest

TYPE = "vfat"


@dataclasses.dataclass(frozen=True)
class FatCopy:
    """The files of partition ``node`` in ``folder``; ``before`` has the digest of each file by its name below it, None for a folder."""

    node: str
    folder: Path
    before: t.Mapping[str, str | None]

    @classmethod
    def load(cls, node: str, folder: Path, owner: int) -> FatCopy:
        """Mount memory on ``folder`` and fill it; everything belongs to ``owner``."""
        with Path(node).open("rb") as device:
            size = device.seek(0, os.SEEK_END)
        options = f"mode=0700,uid={owner},gid={owner},size={size},nodev"
        Command("mount", reason="mount file systems", package="mount").run(
            *("--types", "tmpfs", "--options", options, node, folder), attempt=f"mount memory for {node}"
        )
        return cls.read(node, folder, owner)

    @classmethod
    def read(cls, node: str, folder: Path, owner: int) -> FatCopy:
        """Fill an empty folder with the files of the partition."""
        _tool("mcopy").run("-s", "-n", "-m", "-i", node, "::", folder, attempt=f"read the files of {node}")
        for path, folders, files in os.walk(folder):
            for name in (*folders, *files):
                os.chown(Path(path) / name, owner, owner)
                (Path(path) / name).chmod(0o700)
        return cls(node, folder, _content(folder))

    def store(self) -> bool:
        """Write back what changed, and tell whether anything did. Raises LayoutError or CommandError when it cannot be written."""
        after = _content(self.folder)
        gone = [name for name, digest in self.before.items() if name not in after or (digest is None) != (after[name] is None)]
        fresh = [name for name, digest in after.items() if name in gone or name not in self.before or self.before[name] != digest]
        attempt = f"write the files of {self.node} back"
        # Folders come after what is in them, and before it when they are made.
        for name in sorted(gone, reverse=True):
            _tool("mdel" if self.before[name] else "mrd").run("-i", self.node, f"::/{name}", attempt=attempt)
        for name in sorted(fresh):
            if after[name] is None:
                _tool("mmd").run("-i", self.node, f"::/{name}", attempt=attempt)
            else:
                _tool("mcopy").run("-o", "-m", "-i", self.node, self.folder / name, f"::/{name}", attempt=attempt)
        return bool(gone or fresh)


def _tool(program: str) -> Command:
    return Command(program, reason="read and write an EFI system partition", package="mtools", environment={"MTOOLS_SKIP_CHECK": "1"})


def _content(folder: Path) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            place = Path(path) / name
            if place.is_symlink() or not (place.is_dir() or place.is_file()):
                raise LayoutError(f"/{place.relative_to(folder)} cannot be written to the EFI system partition: FAT has only files and folders. Remove it.")
            found[str(place.relative_to(folder))] = None if place.is_dir() else file_digest(place)
    return found
