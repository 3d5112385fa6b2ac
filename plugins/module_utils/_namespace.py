# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Kernel calls for namespaces and mounts that Python offers only from version 3.12 on, or not at all."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

CLONE_NEWNS = 0x00020000
MNT_DETACH = 2
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
PR_SET_PDEATHSIG = 1
KEYCTL_JOIN_SESSION_KEYRING = 1
# These system calls have one number for all processors.
FSCONFIG = 431
FSPICK = 433
FSCONFIG_SET_FLAG = 0
FSCONFIG_CMD_RECONFIGURE = 7


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


def bind(source: Path, target: Path) -> None:
    """Show a file, or a directory with all that is mounted below it, at another path."""
    flags = ctypes.c_ulong(MS_BIND | MS_REC)
    _require(_libc().mount(os.fsencode(source), os.fsencode(target), None, flags, None), f"bind {source} to {target}")


def mount_memory(target: Path, options: str) -> None:
    """Mount an empty file system in memory; ``options`` are those of tmpfs, such as ``mode=0755``."""
    flags = ctypes.c_ulong(MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _require(_libc().mount(b"tmpfs", os.fsencode(target), b"tmpfs", flags, options.encode("ascii")), f"mount a tmpfs at {target}")


def join(descriptor: int) -> None:
    """Enter the namespace that an open file of ``/proc/PID/ns`` stands for; a pid namespace begins with the next child."""
    _require(_libc().setns(ctypes.c_int(descriptor), ctypes.c_int(0)), "enter a namespace")


def die_with_parent(number: int) -> None:
    """Have the kernel send this signal to the calling process when its parent ends; it lasts beyond the start of another program."""
    _require(_libc().prctl(ctypes.c_int(PR_SET_PDEATHSIG), ctypes.c_ulong(number)), "ask for a signal at the end of the parent")


def leave_session_keyring() -> None:
    """Take a new, empty session keyring, so that no key of the user who builds can be reached."""
    call = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
    result = _libc().syscall(ctypes.c_long(call), ctypes.c_int(KEYCTL_JOIN_SESSION_KEYRING), None)
    # A kernel without keyrings has no key that could be reached.
    if result < 0 and ctypes.get_errno() != errno.ENOSYS:
        _require(-1, "take a new session keyring")


def remount_read_only(path: Path) -> None:
    """Write out a file system and mark it clean, even while files of it are still open for reading."""
    _require(_libc().mount(None, os.fsencode(path), None, ctypes.c_ulong(MS_REMOUNT | MS_RDONLY), None), f"remount {path} read-only")


def remount_writable(path: Path) -> None:
    """Let a mount be written, as far as its file system can be; there are still no programs, devices and set-user-id files."""
    flags = ctypes.c_ulong(MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _require(_libc().mount(None, os.fsencode(path), None, flags, None), f"remount {path} writable")


def make_writable(path: Path) -> None:
    """Let the file system of a path be written. Its mounts stay as they are, and may be those of another mount namespace."""
    call = _libc().syscall
    descriptor = call(ctypes.c_long(FSPICK), ctypes.c_int(-1), os.fsencode(path), ctypes.c_uint(0))
    _require(min(descriptor, 0), f"look at the file system of {path}")
    try:
        for command, key in ((FSCONFIG_SET_FLAG, b"rw"), (FSCONFIG_CMD_RECONFIGURE, None)):
            result = call(ctypes.c_long(FSCONFIG), ctypes.c_int(descriptor), ctypes.c_uint(command), key, None, ctypes.c_int(0))
            _require(result, f"make the file system of {path} writable")
    finally:
        os.close(descriptor)


def unmount_lazily(path: Path) -> None:
    """Take a mount out of the tree; it goes away when nothing uses it any more."""
    _require(_libc().umount2(os.fsencode(path), ctypes.c_int(MNT_DETACH)), f"unmount {path}")


def unmount(path: Path) -> None:
    """Unmount; fails when it is in use."""
    _require(_libc().umount2(os.fsencode(path), ctypes.c_int(0)), f"unmount {path}")
