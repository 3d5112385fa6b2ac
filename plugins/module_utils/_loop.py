# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Whole disk images as loop devices with a node for each partition."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._disk_layout import PartitionTable
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError


def attach_disk(path: Path, table: PartitionTable, *, read_only: bool = False) -> str:
    """Attach a disk image and return the loop device, for instance ``/dev/loop3``; its partitions are ``/dev/loop3p1`` ….

    The partitions are announced to the kernel one by one, because a kernel may be built without a parser for the table.
    """
    losetup = Command("losetup", reason="attach disk images", package="mount")
    mode = ["--read-only"] if read_only else []
    device = losetup.run("--find", "--show", "--partscan", *mode, "--", path, attempt=f"attach {path} as a loop device").stdout.strip()
    try:
        _announce(device, table, path)
    except BaseException:
        release_when_unused(device)
        raise
    return device


def _announce(device: str, table: PartitionTable, path: Path) -> None:
    partx = Command("partx", reason="announce partitions to the kernel", package="util-linux")
    for number in (partition.number for partition in table.partitions):
        node = Path(partition_node(device, number))
        if not _known(node):
            partx.run("--add", "--nr", f"{number}:{number}", device, attempt=f"announce partition {number} of {path}")
        _make_node(node)


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


def _make_node(node: Path) -> None:
    """Where nothing manages /dev (a container), the kernel knows the partition but no node appears."""
    if node.exists():
        return
    major, minor = Path("/sys/class/block", node.name, "dev").read_text(encoding="ascii").split(":")
    os.mknod(node, 0o600 | stat.S_IFBLK, os.makedev(int(major), int(minor)))
