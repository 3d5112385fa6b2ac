# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Exchange two folders in one step."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._image_inputs import MANIFEST
from ansible_collections.hyperscaler.images.plugins.module_utils._manifest import SUMS, TEXTS

AT_FDCWD = -100
RENAME_EXCHANGE = 2


def put_in_place(source: Path, destination: Path) -> list[str]:
    """Make ``source`` the content of ``destination`` and remove the former content, except files that did not come from a build."""
    if not destination.exists():
        destination.parent.mkdir(parents=True, exist_ok=True)
        source.rename(destination)
        return []
    kept = foreign_files(destination, source)
    for name in kept:
        os.link(destination / name, source / name)
    exchange(source, destination)
    shutil.rmtree(source)
    return kept


def foreign_files(former: Path, new: Path) -> list[str]:
    """The files of a former set that neither a build wrote nor the new set has."""
    try:
        listed = set(json.loads((former / MANIFEST).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        listed = {path.name for path in former.glob(f"{former.name}.*")}
    built = {*listed, *TEXTS, MANIFEST, SUMS, *(path.name for path in new.iterdir())}
    return sorted(path.name for path in former.iterdir() if path.is_file() and not path.is_symlink() and path.name not in built)


def exchange(first: Path, second: Path) -> None:
    """Swap two folders of one file system in one step; where the file system cannot, in two renames."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE) == 0:
        return
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(number, f"{os.strerror(number)}: {first}, {second}")
    aside = second.with_name(f".{second.name}.former")
    second.rename(aside)
    first.rename(second)
    aside.rename(first)
