# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Open a closed raw image read-only, and inspect its disk, its file systems and its files."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils import (
    _inspect_boot,
    _inspect_cloud,
    _inspect_disk,
    _inspect_drift,
    _inspect_first_boot,
    _inspect_fstab,
    _inspect_identity,
    _inspect_kernel,
    _inspect_leftovers,
    _inspect_needed,
    _inspect_packages,
    _inspect_pins,
    _inspect_secrets,
    _inspect_state,
    _inspect_sysctl,
    _inspect_ways_in,
    _namespace,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._disk_layout import GPT_ESP, PartitionTable, read_table
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import BusyError, CommandError, ImageError, LayoutError
from ansible_collections.hyperscaler.images.plugins.module_utils._fstab import Volume, find_volume, parse_fstab
from ansible_collections.hyperscaler.images.plugins.module_utils._image_programs import ImagePrograms
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import UNUSED_WAIVER, Expectations, Finding, Subject, run_groups
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree
from ansible_collections.hyperscaler.images.plugins.module_utils._loop import attach_disk, attached_devices, release_when_unused
from ansible_collections.hyperscaler.images.plugins.module_utils._root_plan import find_root, read_volumes

GROUPS = (
    *_inspect_boot.GROUPS,
    *_inspect_fstab.GROUPS,
    *_inspect_kernel.GROUPS,
    *_inspect_drift.GROUPS,
    *_inspect_sysctl.GROUPS,
    *_inspect_identity.GROUPS,
    *_inspect_pins.GROUPS,
    *_inspect_cloud.GROUPS,
    *_inspect_secrets.GROUPS,
    *_inspect_ways_in.GROUPS,
    *_inspect_first_boot.GROUPS,
    *_inspect_state.GROUPS,
    *_inspect_needed.GROUPS,
    *_inspect_leftovers.GROUPS,
    *_inspect_packages.GROUPS,
)
RULES = (*_inspect_disk.RULES, *(rule for group in GROUPS for rule in group.rules), UNUSED_WAIVER)
MOUNT_OPTIONS = {"ext3": "ro,noload", "ext4": "ro,noload", "xfs": "ro,norecovery,nouuid", "btrfs": "ro,rescue=nologreplay"}
MOUNT_FOLDER = Path("/run/hyperscaler-images/inspect")
# On the path of systemd-nspawn's lock; every inspection has mounts of its own there, too.
CONTAINER_FOLDER = Path("/run/hyperscaler-images/inspect-programs")
BTRFS_ROOTS = ("@", "@rootfs")


@dataclasses.dataclass(frozen=True)
class Inspection:
    """Everything that was found; ``seconds`` is the wall time of each group of rules."""

    findings: tuple[Finding, ...]
    file_systems: tuple[dict[str, t.Any], ...]
    seconds: dict[str, float]
    kernels: tuple[_inspect_kernel.Kernel, ...] = ()
    packages: int = 0
    files: int = 0
    os_release: dict[str, str] = dataclasses.field(default_factory=dict)


def inspect_image(path: Path, expectations: Expectations) -> Inspection:
    """Inspect a raw image. Raises ImageError when it cannot be inspected at all; whatever is wrong inside is a finding."""
    _require_closed(path)
    table = read_table(path)
    with _attached(path, table) as device:
        volumes = read_volumes(device, table)
        findings, seconds = _inspect_disk_of(path, table, volumes)
        unreadable = Inspection(tuple(findings), tuple(_described(table, volume) for volume in volumes), seconds)
        try:
            root = find_root(volumes, table, path)
        except LayoutError as problem:
            finding = _inspect_disk.UNREADABLE.at(_inspect_disk.DISK, f"has no root file system whose files could be inspected. {problem}")
            return dataclasses.replace(unreadable, findings=(*findings, finding))
        _namespace.unshare(_namespace.CLONE_NEWNS)
        _namespace.make_mounts_private()
        with contextlib.ExitStack() as stack:
            try:
                top = _mount(stack, root, _mount_folder())
            except CommandError as problem:
                finding = _inspect_disk.UNREADABLE.at(_inspect_disk.place_of(root), f"holds a root file system that cannot be mounted. {problem}")
                return dataclasses.replace(unreadable, findings=(*findings, finding))
            mounted = {root: ("/", top), **_mount_others(stack, volumes, table, top, findings)}
            points = frozenset(name for name, _folder in mounted.values())
            subject = Subject(Tree(top), volumes, root, expectations, points, ImagePrograms(top, CONTAINER_FOLDER).ask)
            return _inspect_files(subject, table, mounted, findings, seconds)


@contextlib.contextmanager
def readable_tree(path: Path) -> t.Iterator[Tree]:
    """The files of a closed raw image with all its file systems, mounted read-only for the time of the block."""
    _require_closed(path)
    table = read_table(path)
    with _attached(path, table) as device:
        volumes = read_volumes(device, table)
        root = find_root(volumes, table, path)
        _namespace.unshare(_namespace.CLONE_NEWNS)
        _namespace.make_mounts_private()
        with contextlib.ExitStack() as stack:
            top = _mount(stack, root, _mount_folder())
            problems: list[Finding] = []
            _mount_others(stack, volumes, table, top, problems)
            if problems:
                raise ImageError(f"Cannot read {path}: {problems[0].path} {problems[0].message}", path=str(path))
            yield Tree(top)


def _inspect_files(
    subject: Subject, table: PartitionTable, mounted: t.Mapping[Volume, tuple[str, Path]], findings: t.Sequence[Finding], seconds: dict[str, float]
) -> Inspection:
    started = time.monotonic()
    files = len(subject.tree.entries)
    seconds["files"] = round(time.monotonic() - started, 3)
    found, spent = run_groups(GROUPS, subject)
    unreadable = [_inspect_disk.UNREADABLE.at(name, f"cannot be read: {reason}.") for name, reason in sorted(subject.tree.unreadable.items())]
    release = subject.tree.os_release
    return Inspection(
        findings=(*findings, *unreadable, *found),
        file_systems=tuple(_described(table, volume, *mounted.get(volume, ())) for volume in subject.volumes),
        seconds={**seconds, **spent},
        kernels=tuple(kernel for kernel in _inspect_kernel.find_kernels(subject) if kernel.has_image),
        packages=len(subject.packages.installed),
        files=files,
        os_release={name: release.get(name, "") for name in ("id", "version_id", "version_codename", "pretty_name")},
    )


def _require_closed(path: Path) -> None:
    if not path.is_file():
        raise ImageError(f"Cannot inspect {path}: there is no such file. Name a disk image in raw format.", path=str(path))
    if os.geteuid() != 0:
        raise ImageError(f"Cannot inspect {path}: mounting its file systems needs root. Run the task with become.", path=str(path))
    writers = [device for device in attached_devices(path) if Path("/sys/class/block", Path(device).name, "ro").read_text(encoding="ascii").strip() == "0"]
    if writers:
        raise BusyError(f"Cannot inspect {path}: it is open for writing ({', '.join(writers)}). Close the image first.", devices=writers)


@contextlib.contextmanager
def _attached(path: Path, table: PartitionTable) -> t.Iterator[str]:
    """Attach the disk read-only. The kernel detaches it when the last user is gone, so that nothing remains even when this process is killed."""
    device = attach_disk(path, table, read_only=True)
    try:
        handle = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    finally:
        release_when_unused(device)
    try:
        yield device
    finally:
        os.close(handle)


def _inspect_disk_of(path: Path, table: PartitionTable, volumes: t.Sequence[Volume]) -> tuple[list[Finding], dict[str, float]]:
    started = time.monotonic()
    with path.open("rb") as stream:
        findings = [*_inspect_disk.check_table(stream, path.stat().st_size, table), *_inspect_disk.check_boot_code(stream, table)]
        disk_ended = time.monotonic()
        for volume in volumes:
            reason = _inspect_disk.unclean_reason(stream, table.get(volume.number).start, volume.type)
            if reason:
                place = _inspect_disk.place_of(volume)
                findings.append(_inspect_disk.UNCLEAN.at(place, f"holds a {volume.type} file system that is not clean: {reason}."))
            else:
                findings.extend(_inspect_disk.check_health(volume))
    return findings, {"disk": round(disk_ended - started, 3), "file_systems": round(time.monotonic() - disk_ended, 3)}


def _mount_folder() -> Path:
    """Where root is mounted. Every inspection has mounts of its own, so all share the folder, and a run that was killed leaves nothing new.

    It is never removed, because that would unmount it for others.
    """
    MOUNT_FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    return MOUNT_FOLDER.resolve()


def _mount(stack: contextlib.ExitStack, volume: Volume, target: Path) -> Path:
    """Mount a volume until the stack is closed, and return the folder that is its root."""
    mount = Command("mount", reason="mount file systems", package="mount")
    attempt = f"mount {_inspect_disk.place_of(volume)} read-only"
    if volume.type == "vfat":
        # A kernel may be built without vfat, and an EFI system partition is small: its files are shown as a copy in memory.
        mcopy = Command("mcopy", reason="read EFI system partitions", package="mtools", environment={"MTOOLS_SKIP_CHECK": "1"})
        with contextlib.ExitStack() as undo:
            mount.run("--types", "tmpfs", "--options", "mode=0755", "--", "tmpfs", target, attempt=attempt)
            undo.callback(_namespace.unmount, target)
            mcopy.run("-s", "-m", "-n", "-i", volume.node, "::/", target, attempt=f"read the files of {_inspect_disk.place_of(volume)}")
            stack.push(undo.pop_all())
        return target
    options = MOUNT_OPTIONS.get(volume.type, "ro")
    mount.run("--types", volume.type, "--options", options, "--", volume.node, target, attempt=attempt)
    stack.callback(_namespace.unmount, target)
    subvolumes = [target / name for name in BTRFS_ROOTS if volume.type == "btrfs" and not (target / "etc").is_dir() and (target / name / "etc").is_dir()]
    return subvolumes[0] if subvolumes else target


def _mount_others(
    stack: contextlib.ExitStack, volumes: t.Sequence[Volume], table: PartitionTable, top: Path, findings: list[Finding]
) -> dict[Volume, tuple[str, Path]]:
    """Mount what fstab mounts from this image, below ``top``; a mount point that leads elsewhere is left alone."""
    fstab = top / "etc" / "fstab"
    entries = parse_fstab(fstab.read_text(encoding="utf-8", errors="replace")) if fstab.is_file() and not fstab.is_symlink() else []
    wanted = [(entry.target, find_volume(entry, volumes)) for entry in entries if entry.type != "swap"]
    # systemd mounts an EFI system partition by its type when fstab does not.
    wanted += [(_inspect_boot.ESP, volume) for volume in volumes if table.get(volume.number).type.upper() == GPT_ESP]
    mounted: dict[Volume, tuple[str, Path]] = {}
    tried: set[Volume] = set()
    for name, volume in sorted(wanted, key=lambda pair: len(Path(pair[0]).parts)):
        target = top / name.lstrip("/")
        if volume is None or volume in tried or target == top or not target.is_dir() or target.resolve() != target:
            continue
        tried.add(volume)
        try:
            _mount(stack, volume, target)
            mounted[volume] = (name, target)
        except CommandError as problem:
            message = f"holds a file system that cannot be mounted at {name}. {problem}"
            findings.append(_inspect_disk.UNREADABLE.at(_inspect_disk.place_of(volume), message))
    return mounted


def _described(table: PartitionTable, volume: Volume, mount_point: str = "", location: Path | None = None) -> dict[str, t.Any]:
    space = os.statvfs(location) if location else None
    return {
        "partition": volume.number,
        "type": volume.type,
        "uuid": volume.uuid,
        "label": volume.label,
        "partition_uuid": volume.partition_uuid,
        "partition_type": table.get(volume.number).type,
        "size": table.get(volume.number).size,
        "mount_point": mount_point,
        "used": (space.f_blocks - space.f_bfree) * space.f_frsize if space else 0,
    }
