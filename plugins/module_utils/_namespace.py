# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Kernel calls for namespaces and mounts that Python offers only from version 3.12 on, or not at all."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
MNT_DETACH = 2
MS_RDONLY = 0x1
MS_REMOUNT = 0x20
MS_REC = 0x4000
MS_PRIVATE = 0x40000


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _require(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the namespaces that ``flags`` name; a new pid namespace begins with the next child."""
    _require(_libc().unshare(ctypes.c_int(flags)), "unshare")


def make_mounts_private() -> None:
    """Keep the mounts of this namespace to itself."""
    _require(_libc().mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None), "make mounts private")


def remount_read_only(path: Path) -> None:
    """Write out a file system and mark it clean, even while files of it are still open for reading."""
    _require(_libc().mount(None, os.fsencode(path), None, ctypes.c_ulong(MS_REMOUNT | MS_RDONLY), None), f"remount {path} read-only")


def unmount_lazily(path: Path) -> None:
    """Take a mount out of the tree; it goes away when nothing uses it any more."""
    _require(_libc().umount2(os.fsencode(path), ctypes.c_int(MNT_DETACH)), f"unmount {path}")


def unmount(path: Path) -> None:
    """Unmount; fails when it is in use."""
    _require(_libc().umount2(os.fsencode(path), ctypes.c_int(0)), f"unmount {path}")


def pivot_root(new: Path, old: Path) -> None:
    """Make ``new`` the root of this mount namespace and move the former root to ``old``."""
    call = {"x86_64": 155, "aarch64": 41}[os.uname().machine]
    _require(_libc().syscall(ctypes.c_long(call), os.fsencode(new), os.fsencode(old)), f"pivot to {new}")


def namespace_of(pid: int, kind: str) -> str:
    """The identity of a namespace, for instance ``mnt:[4026532208]``."""
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())
