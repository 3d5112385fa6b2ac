# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""File capabilities that were set in a user namespace, stored as those that were not."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

ATTRIBUTE = "security.capability"


def store_as_ordinary(root: Path) -> int:
    """Write the capabilities of all executable files of a file system again, and return how many there are.

    The kernel stores the id of the namespace's root with those that are set through a mount with mapped owners. It is 0, so they work
    on any machine; but tools that compare or copy files see another attribute, and Linux before 4.14 ignores it.
    """
    device = root.stat().st_dev
    count = 0
    folders = [os.fspath(root)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.stat(follow_symlinks=False).st_dev == device:
                        folders.append(entry.path)
                elif entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH):
                    count += _store(entry.path)
    return count


def _store(path: str) -> int:
    with contextlib.suppress(OSError):
        os.setxattr(path, ATTRIBUTE, os.getxattr(path, ATTRIBUTE, follow_symlinks=False), follow_symlinks=False)
        return 1
    return 0
