# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Mount the file systems of an image where only the process that keeps it open sees them, and prepare what it needs while it is open."""

from __future__ import annotations

import dataclasses
import os
import stat
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils import _namespace, _open_files
from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import BusyError, CommandError, LayoutError
from ansible_collections.hyperscaler.images.plugins.module_utils._fat_copy import TYPE as FAT
from ansible_collections.hyperscaler.images.plugins.module_utils._fat_copy import FatCopy
from ansible_collections.hyperscaler.images.plugins.module_utils._file_systems import BOOT_OPTIONS, grow, kind_of
from ansible_collections.hyperscaler.images.plugins.module_utils._fstab import find_volume, parse_fstab
from ansible_collections.hyperscaler.images.plugins.module_utils._root_plan import RootPlan

SUBVOLUMES = ("@", "@rootfs", "root")
# Where systemd-nspawn writes for the containers of this machine. An empty one in the keeper's own mounts leaves nothing behind.
NSPAWN_STATE = Path("/run/systemd/nspawn")
BTRFS = Path("/sys/fs/btrfs")
HOST_RELEASE = Path("/usr/lib/os-release")


@dataclasses.dataclass(frozen=True)
class Bind:
    """Something of the build host that is shown at a path of the image; ``mapped`` keeps the owners that the files have."""

    source: Path
    target: str
    read_only: bool = False
    mapped: bool = False


@dataclasses.dataclass
class Mounts:
    """What was mounted: ``mounts`` and ``hidden`` are paths of the image, ``points`` where its file systems are on the build host.

    ``copies`` are file systems whose files are written back at closing, ``created`` are the files that closing removes, ``resolver`` is None
    where /etc/resolv.conf is only in memory.
    """

    mounts: list[str]
    hidden: list[str]
    points: list[Path]
    binds: list[Bind]
    created: list[str]
    resolver: _open_files.Resolver | None = None
    copies: list[FatCopy] = dataclasses.field(default_factory=list)


def mount_image(plan: RootPlan, first_id: int) -> Mounts:
    """Make the mounts in a mount namespace of the calling process. Raises LayoutError for an image that would not boot."""
    _namespace.unshare(_namespace.CLONE_NEWNS)
    _namespace.make_mounts_private()
    _mount_root(plan)
    found = Mounts(["/"], [], [plan.mount_point], [], [])
    private = _private_folder(plan)
    _mount_fstab(plan, private, first_id, found)
    _cover_nspawn(plan, private)
    _make_devices(plan, private, first_id, found)
    _provide_files(plan, private, first_id, found)
    for source, target in plan.caches:
        place = _open_files.inside(plan.mount_point, target)
        place.mkdir(parents=True, exist_ok=True)
        _empty(place)
        found.binds.append(Bind(source, target, mapped=True))
    return found


def _empty(folder: Path) -> None:
    """Remove the files below a folder that is about to be covered: nothing that runs in the image could remove them later."""
    for path, _folders, names in os.walk(folder):
        for name in names:
            (Path(path) / name).unlink()


def _mount(*arguments: str) -> None:
    Command("mount", reason="mount file systems", package="mount").run(*arguments, attempt=f"mount {arguments[-2]} at {arguments[-1]}")


def _private_folder(plan: RootPlan) -> Path:
    """A folder in memory, with device nodes, that exists for this process only."""
    folder = plan.mount_point.with_name("private")
    folder.mkdir(exist_ok=True)
    _mount("--types", "tmpfs", "--options", "mode=0755", "tmpfs", str(folder))
    return folder


def _cover_nspawn(plan: RootPlan, private: Path) -> None:
    """Keep what systemd-nspawn writes in memory, and the release of the build host out of the image."""
    NSPAWN_STATE.mkdir(parents=True, exist_ok=True)
    _mount("--types", "tmpfs", "--options", "mode=0755", "tmpfs", str(NSPAWN_STATE))
    if HOST_RELEASE.is_file():
        shown = private / "os-release"
        shown.write_bytes(_open_files.inside(plan.mount_point, "etc/os-release").read_bytes())
        _namespace.bind(shown, HOST_RELEASE)


def _mount_root(plan: RootPlan) -> None:
    kind = kind_of(plan.root.type, f"partition {plan.root.number} of {plan.disk}")
    _refuse_same_btrfs(plan)
    root = str(plan.mount_point)
    # The build host mounts it, so a device node on the disk would lead to a device of the build host.
    options = f"nodev,{kind.options}"
    _mount("--types", kind.name, "--options", options, plan.root.node, root)
    for name in SUBVOLUMES if kind.name == "btrfs" else ():
        if not _is_root(plan.mount_point) and _is_root(plan.mount_point / name):
            _namespace.unmount(plan.mount_point)
            _mount("--types", kind.name, "--options", f"{options},subvol={name}", plan.root.node, root)
    if not _is_root(plan.mount_point):
        raise LayoutError(
            f"partition {plan.root.number} holds {kind.name} but no /etc/os-release, so it is not the root file system of a Linux system. "
            "Use an image of an installed system."
        )
    if kind.grow_mounted:
        grow(kind, plan.root.node, root)


def _refuse_same_btrfs(plan: RootPlan) -> None:
    """Linux before 6.7 would give a second btrfs with the UUID of a mounted one the files of the first."""
    if plan.root.type == "btrfs" and (BTRFS / plan.root.uuid).exists() and not (BTRFS / "features/temp_fsid").exists():
        raise BusyError(
            f"a btrfs file system with the UUID {plan.root.uuid} is mounted already, and this kernel would take both for one. "
            "Build images from one btrfs base one after the other, or on a kernel from 6.7 on."
        )


def _is_root(folder: Path) -> bool:
    return (folder / "etc/os-release").is_symlink() or (folder / "etc/os-release").exists()


def _mount_fstab(plan: RootPlan, private: Path, first_id: int, found: Mounts) -> None:
    """Mount the partitions of this image that fstab names, parents first, beside its root: systemd-nspawn maps the owners of each mount.

    Of a FAT file system that the kernel does not know, there is a copy in memory. An empty folder in memory hides any other, so that nothing
    is written to a place where the booted system will not see it.
    """
    file = plan.mount_point / "etc/fstab"
    entries = parse_fstab(file.read_text(encoding="utf-8", errors="replace")) if file.is_file() else []
    for entry in sorted(entries, key=lambda entry: entry.target):
        if entry.target == "/" or not entry.target.startswith("/") or entry.type == "swap" or entry.tag is None:
            continue
        volume = find_volume(entry, plan.volumes)
        if volume is None:
            if entry.is_on_disk and not entry.is_optional:
                raise LayoutError(
                    f"/etc/fstab mounts {entry.source} at {entry.target}, but no partition of the image has that name; such an image would not boot. "
                    "Correct its fstab."
                )
            continue
        _open_files.inside(plan.mount_point, entry.target).mkdir(parents=True, exist_ok=True)
        target = private / f"partition-{volume.number}"
        target.mkdir()
        subvolume = next((f",{option}" for option in entry.options if option.startswith("subvol")), "")
        options = f"nodev,{BOOT_OPTIONS.get(volume.type, 'noatime')}{subvolume}"
        try:
            _mount("--types", volume.type, "--options", options, volume.node, str(target))
            found.mounts.append(entry.target)
        except CommandError:
            if _kernel_knows(volume.type):
                raise
            if volume.type == FAT:
                found.copies.append(FatCopy.load(volume.node, target, first_id))
                found.mounts.append(entry.target)
                found.points.append(target)
                found.binds.append(Bind(target, entry.target))
                continue
            _mount("--types", "tmpfs", "--options", "mode=0700,size=1m,nodev", "tmpfs", str(target))
            found.hidden.append(entry.target)
        found.points.append(target)
        found.binds.append(Bind(target, entry.target, mapped=True))


def _kernel_knows(file_system: str) -> bool:
    """Whether the kernel has the file system; trying to mount it made the kernel load the module if there is one."""
    return file_system in Path("/proc/filesystems").read_text(encoding="ascii").split()


def _make_devices(plan: RootPlan, private: Path, first_id: int, found: Mounts) -> None:
    """Of all disks only the nodes of this image, which belong to the root of its user namespace: grub-install needs them."""
    for device in (plan.device, *(volume.node for volume in plan.volumes)):
        node = private / Path(device).name
        os.mknod(node, stat.S_IFBLK | 0o660, Path(device).stat().st_rdev)
        os.chown(node, first_id, first_id)
        found.binds.append(Bind(node, f"/dev/{node.name}"))


def _provide_files(plan: RootPlan, private: Path, first_id: int, found: Mounts) -> None:
    """Write what the image needs while it is open, and note what has to be removed from its file systems afterwards."""
    root = plan.mount_point
    for file in plan.files:
        if file.path.startswith(("/run/", "/tmp/")):
            found.binds.append(_shown(private, file.path, file.text, file.mode, first_id))
            continue
        place = _open_files.create(root, file.path, file.text, file.mode)
        if place is None:
            found.binds.append(_shown(private, file.path, file.text, stat.S_IMODE(_open_files.inside(root, file.path).stat().st_mode), first_id))
        else:
            found.created.append(place)
    for path, text in plan.replacements:
        target = _open_files.inside(root, path)
        if target.is_file():
            found.binds.append(_shown(private, path, text, stat.S_IMODE(target.stat().st_mode), first_id))
    found.created += [trace for trace in _open_files.TRACES if not (root / trace).exists()]
    found.resolver = _open_files.Resolver.place(root, plan.resolver)


def _shown(private: Path, path: str, text: str, mode: int, first_id: int) -> Bind:
    """A text that is bound over a file that the image has; the file itself stays as it is."""
    shown = private / path.strip("/").replace("/", "-")
    shown.write_text(text, encoding="utf-8")
    shown.chmod(mode)
    os.chown(shown, first_id, first_id)
    return Bind(shown, path, read_only=True)
