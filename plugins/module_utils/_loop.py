# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Whole disk images as loop devices with a node for each partition."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._disk_layout import PartitionTable
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, ImageError

# linux/loop.h; the device numbers are in admin-guide/devices.txt of the kernel.
LOOP_CTL_GET_FREE = 0x4C82
CONTROL, CONTROL_DEVICE = Path("/dev/loop-control"), os.makedev(10, 237)
LOOP_MAJOR = 7
# Others may take a device between the question for a free one and its use.
ATTEMPTS = 10


def attach_disk(path: Path, table: PartitionTable, *, read_only: bool = False) -> str:
    """Attach a disk image and return the loop device, for instance ``/dev/loop3``; its partitions are ``/dev/loop3p1`` ….

    The partitions are announced to the kernel one by one, because a kernel may be built without a parser for the table.
    """
    losetup = Command("losetup", reason="attach disk images", package="mount")
    mode = ["--read-only"] if read_only else []
    device = _attach(losetup, mode, path)
    try:
        _announce(device, table, path)
    except BaseException:
        release_when_unused(device)
        raise
    return device


def _attach(losetup: Command, mode: list[str], path: Path) -> str:
    """Attach to a free loop device. Where /dev is private, as in a container, its node is made first: the kernel makes the device only."""
    arguments = ["--find", "--show", "--partscan", *mode, "--", str(path)]
    attempt = f"attach {path} as a loop device"
    for _attempt in range(ATTEMPTS):
        node = _free_node(path)
        try:
            return losetup.run(*arguments, attempt=attempt).stdout.strip()
        except CommandError:
            if node is None or _is_free(node):
                raise
    return losetup.run(*arguments, attempt=attempt).stdout.strip()


def _free_node(path: Path) -> Path | None:
    """The node of a loop device that nothing uses; None where the kernel cannot be asked, so that losetup has to look for one."""
    if not CONTROL.exists():
        with contextlib.suppress(OSError):
            os.mknod(CONTROL, 0o600 | stat.S_IFCHR, CONTROL_DEVICE)
    try:
        control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
    except OSError:
        return None
    finally:
        os.close(control)
    node = Path(f"/dev/loop{number}")
    _make_node(node, os.makedev(LOOP_MAJOR, number), path)
    return node


def _is_free(node: Path) -> bool:
    return not Path("/sys/block", node.name, "loop/backing_file").exists()


def _announce(device: str, table: PartitionTable, path: Path) -> None:
    partx = Command("partx", reason="announce partitions to the kernel", package="util-linux")
    for number in (partition.number for partition in table.partitions):
        node = Path(partition_node(device, number))
        if not _known(node):
            partx.run("--add", "--nr", f"{number}:{number}", device, attempt=f"announce partition {number} of {path}")
        major, minor = Path("/sys/class/block", node.name, "dev").read_text(encoding="ascii").split(":")
        _make_node(node, os.makedev(int(major), int(minor)), path)


def partition_node(device: str, number: int) -> str:
    """The node of a partition of a loop device."""
    return f"{device}p{number}"


def release_when_unused(device: str) -> None:
    """Let the kernel detach a loop device as soon as nothing has it open; one that was detached already is no error."""
    done = Command("losetup", reason="detach disk images").run("--detach", device, attempt=f"detach {device}", accepted=(0, 1))
    if done.rc != 0 and Path("/sys/block", Path(device).name, "loop/backing_file").exists():
        raise CommandError(f"Cannot detach {device}: {done.stderr.strip()}. Something else uses it: look at losetup.", cmd=list(done.argv), rc=done.rc)


def attached_devices(path: Path) -> list[str]:
    """The loop devices that a disk image is attached to."""
    if not path.exists():
        return []
    listed = Command("losetup", reason="find loop devices").run(
        "--list", "--noheadings", "--output", "NAME", "--associated", path, attempt=f"find the loop devices of {path}"
    )
    return listed.stdout.split()


def release_disk(path: Path) -> list[str]:
    """Detach every loop device of a disk image, as after a run that was killed."""
    devices = attached_devices(path)
    for device in devices:
        release_when_unused(device)
    return devices


def _known(node: Path) -> bool:
    return Path("/sys/class/block", node.name).exists()


def _make_node(node: Path, device: int, path: Path) -> None:
    """Where nothing manages /dev (a container), the kernel knows a device but no node appears, and one of a former device stays."""
    with contextlib.suppress(FileNotFoundError):
        if node.stat().st_rdev == device:
            return
    try:
        node.unlink(missing_ok=True)
        os.mknod(node, 0o600 | stat.S_IFBLK, device)
    except FileExistsError:
        # Another run made it at the same time.
        return
    except OSError as error:
        raise ImageError(
            f"Cannot attach {path} as a loop device: {node} is missing in /dev and cannot be made ({error.strerror}). "
            "Give the container the /dev of its host, or the right to make block devices (CAP_MKNOD and a device rule for b 7:* and b 259:*)."
        ) from error
