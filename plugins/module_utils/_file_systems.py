# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""What differs between the file systems that an image may use: checking, mounting, growing."""

from __future__ import annotations

import dataclasses

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import IntegrityError, LayoutError


@dataclasses.dataclass(frozen=True)
class FileSystemKind:
    """One type of file system.

    ``check`` is the read-only checker with its arguments, ``grow`` the program that grows it (``{device}`` and ``{path}`` are filled in),
    ``grow_mounted`` whether it has to be mounted for that, ``options`` the mount options of a working copy: nothing of it has to survive
    a power failure, so no write waits for the disk, and copies of one base may be mounted at a time, though they have one UUID.
    """

    name: str
    package: str
    check: tuple[str, ...]
    grow: tuple[str, ...]
    grow_mounted: bool
    options: str


KINDS = {
    kind.name: kind
    for kind in (
        FileSystemKind("ext4", "e2fsprogs", ("e2fsck", "-f", "-n"), ("resize2fs", "-f", "{device}"), False, "noatime,nobarrier,commit=600"),
        FileSystemKind("xfs", "xfsprogs", ("xfs_repair", "-n"), ("xfs_growfs", "{path}"), True, "noatime,nouuid"),
        FileSystemKind("btrfs", "btrfs-progs", ("btrfs", "check", "--readonly"), ("btrfs", "filesystem", "resize", "max", "{path}"), True, "noatime,nobarrier"),
    )
}
BOOT_OPTIONS = {"vfat": "umask=0077", **{name: kind.options for name, kind in KINDS.items()}}
FOREIGN = {
    "LVM2_member": "it is an LVM volume",
    "crypto_LUKS": "it is encrypted with LUKS",
    "linux_raid_member": "it is part of a RAID",
    "zfs_member": "it is part of a ZFS pool",
    "swap": "it is swap space",
}


def kind_of(file_system: str | None, where: str) -> FileSystemKind:
    """The kind for a type that blkid reports. Raises LayoutError for one that cannot hold a root file system here."""
    kind = KINDS.get(file_system or "")
    if kind is None:
        known = FOREIGN.get(file_system or "", f"its file system is {file_system}" if file_system else "it has no file system that blkid knows")
        raise LayoutError(f"Cannot use {where} as root: {known}. Use an image whose root is ext4, xfs or btrfs directly on a partition.")
    return kind


def require_healthy(kind: FileSystemKind, device: str, where: str) -> None:
    """Check a file system that is not mounted, without changing it. Raises IntegrityError when it is damaged or was not unmounted."""
    remedy = "Fetch or build the base image again; a file system that was repaired behind its back is no verified base."
    if kind.name == "ext4":
        _require_clean_ext4(device, where, remedy)
    program, *arguments = kind.check
    checker = Command(program, reason=f"check {kind.name} file systems", package=kind.package)
    done = checker.run(*arguments, device, attempt=f"check the {kind.name} file system of {where}", accepted=range(256))
    if done.rc != 0:
        last = " | ".join((done.stdout + done.stderr).strip().splitlines()[-6:])
        raise IntegrityError(
            f"Cannot use {where}: its {kind.name} file system is damaged or was not unmounted ({program} ended with {done.rc}: {last}). {remedy}", rc=done.rc
        )


def grow(kind: FileSystemKind, device: str, path: str) -> None:
    """Grow a file system that was just checked to the size of its partition.

    ext4 is grown before it is mounted: the kernel does it while mounted only for processes with CAP_SYS_RESOURCE, which root in a container may lack.
    """
    program, *arguments = (part.format(device=device, path=path) for part in kind.grow)
    Command(program, reason=f"grow {kind.name} file systems", package=kind.package).run(*arguments, attempt=f"grow the {kind.name} file system on {device}")


def _require_clean_ext4(device: str, where: str, remedy: str) -> None:
    """A journal that must be replayed is no damage for e2fsck -n, but such an image was not shut down."""
    header = Command("dumpe2fs", reason="read ext4 superblocks", package="e2fsprogs").run("-h", device, attempt=f"read the superblock of {where}").stdout
    fields = dict(line.split(":", 1) for line in header.splitlines() if ":" in line)
    state = fields.get("Filesystem state", "").strip()
    if state != "clean" or "needs_recovery" in fields.get("Filesystem features", ""):
        raise IntegrityError(f"Cannot use {where}: its ext4 file system was not unmounted cleanly (state: {state or 'unknown'}). {remedy}", state=state)
