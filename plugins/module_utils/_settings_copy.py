# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Copies of settings of the kernel in memory, where they can be written and read back without changing the build host."""

from __future__ import annotations

import contextlib
import os
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils import _namespace

WRITABLE = 0o200


def copy_settings(source: Path, copy: Path, left_out: t.Collection[str] = ()) -> None:
    """Copy the files below ``source`` into an empty file system in memory at ``copy``; ``left_out`` are folders, relative to ``source``."""
    copy.mkdir(parents=True)
    _namespace.mount_memory(copy, "mode=0555,size=4m")
    for folder, folders, names in os.walk(source):
        place = os.path.relpath(folder, source)
        folders[:] = [name for name in folders if os.path.normpath(f"{place}/{name}") not in left_out and not (Path(folder) / name).is_symlink()]
        for name in folders:
            (copy / place / name).mkdir()
        for name in names:
            _copy_setting(Path(folder) / name, copy / place / name)


def _copy_setting(source: Path, target: Path) -> None:
    content = b""
    # Some can only be written, some only by the root of the build host.
    with contextlib.suppress(OSError):
        content = source.read_bytes()
    target.write_bytes(content)
    target.chmod(0o644 if source.stat().st_mode & WRITABLE else 0o444)
