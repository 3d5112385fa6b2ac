# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""One package cache for all images and runs.

apt locks its folders, so images that are open side by side cannot share them. Each gets folders of its own, filled with hard
links from the shared cache (copies when that lies on another file system), and what apt fetched there is linked back.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

KINDS = {"archives": "cache/archives", "lists": "lists"}
LEFT_OUT = frozenset({"lock", "partial", "auxfiles"})


def fill(cache: Path, own: Path) -> None:
    """Give an image its folders ``own/cache`` (for /var/cache/apt) and ``own/lists`` with everything that the cache has."""
    for kind, place in KINDS.items():
        shared, target = cache / kind, own / place
        _make_folder(shared)
        (target / "partial").mkdir(parents=True, exist_ok=True)
        for name in _complete(shared):
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                _link_or_copy(shared / name, target / name)
    # Ansible's apt module takes the time of this folder for the time of the last update. The lists may be those of other
    # sources than this image has, so the first task updates them; what is still current is not fetched again.
    os.utime(own / "lists", (0, 0))


def collect(own: Path, cache: Path) -> int:
    """Link new packages and fresh package lists back to the cache, with the owner that the cache folder has; return how many."""
    count = 0
    for kind, place in KINDS.items():
        shared, source = cache / kind, own / place
        owner = shared.stat()
        for name in _complete(source) if source.is_dir() else []:
            if _link(source / name, shared / name, replace=kind == "lists"):
                os.chown(shared / name, owner.st_uid, owner.st_gid)
                count += 1
    return count


def _make_folder(folder: Path) -> None:
    """Make a folder of the cache; it belongs to whom the folder above belongs to, although root makes it."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        owner = folder.parent.stat()
        os.chown(folder, owner.st_uid, owner.st_gid)


def _complete(folder: Path) -> list[str]:
    """What is no lock and no half-written file, of apt or of a killed run."""
    names = [entry.name for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False)]
    return [name for name in names if name not in LEFT_OUT and not name.startswith(".")]


def _link(source: Path, target: Path, *, replace: bool) -> bool:
    if target.exists() and (not replace or _is_same(source, target)):
        return False
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    try:
        _link_or_copy(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copy2(source, target)


def _is_same(source: Path, target: Path) -> bool:
    one, other = source.stat(), target.stat()
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)
