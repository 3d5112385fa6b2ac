# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Process 1 of an open image: it makes the mounts, becomes their root and waits."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils import _namespace, _open_files
from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, ImageError, LayoutError
from ansible_collections.hyperscaler.images.plugins.module_utils._file_systems import BOOT_OPTIONS, grow, kind_of
from ansible_collections.hyperscaler.images.plugins.module_utils._fstab import find_volume, parse_fstab
from ansible_collections.hyperscaler.images.plugins.module_utils._root_plan import RootPlan

DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"}
SUBVOLUMES = ("@", "@rootfs", "root")


def run_first_process(plan: RootPlan, report: int) -> t.NoReturn:
    """Mount everything, report success or the error as JSON to a file descriptor, then reap children until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    try:
        answer: dict[str, t.Any] = _enter(plan)
    except (ImageError, OSError) as error:
        os.write(report, json.dumps({"error": f"Cannot open {plan.disk}: {error}"}).encode("utf-8"))
        os._exit(1)
    os.write(report, json.dumps(answer).encode("utf-8"))
    os.close(report)
    while signal.sigwait({signal.SIGTERM, signal.SIGCHLD}) == signal.SIGCHLD:
        _reap()
    for target in reversed(answer["mounts"]):
        _settle(Path(target))
    os._exit(0)


def _empty(folder: Path) -> None:
    """Remove the files below a folder that is about to be covered: nothing that runs in the image could remove them later."""
    for path, _folders, names in os.walk(folder):
        for name in names:
            (Path(path) / name).unlink()


def _enter(plan: RootPlan) -> dict[str, t.Any]:
    _namespace.unshare(_namespace.CLONE_NEWNS | _namespace.CLONE_NEWUTS | _namespace.CLONE_NEWIPC)
    _namespace.make_mounts_private()
    socket.sethostname(plan.hostname)
    root = plan.mount_point
    _mount_root(plan)
    mounted, hidden = _mount_fstab(plan)
    mounts = ["/", *mounted]
    _mount_kernel(root, plan)
    created = _provide_files(root, plan)
    for source, target in plan.caches:
        place = _open_files.inside(root, target)
        place.mkdir(parents=True, exist_ok=True)
        _empty(place)
        _mount("--bind", str(source), str(place))
    os.chdir(root)
    old = root / "run/hyperscaler/host"
    old.mkdir(parents=True)
    _namespace.pivot_root(root, old)
    os.chdir("/")
    _namespace.unmount_lazily(Path("/run/hyperscaler/host"))
    Path("/run/hyperscaler/host").rmdir()
    return {"mounts": mounts, "hidden": hidden, "created": created}


def _mount(*arguments: str) -> None:
    Command("mount", reason="mount file systems", package="mount").run(*arguments, attempt=f"mount {arguments[-2]} at {arguments[-1]}")


def _mount_root(plan: RootPlan) -> None:
    kind = kind_of(plan.root.type, f"partition {plan.root.number} of {plan.disk}")
    root = str(plan.mount_point)
    _mount("--types", kind.name, "--options", kind.options, plan.root.node, root)
    for name in SUBVOLUMES if kind.name == "btrfs" else ():
        if not _is_root(plan.mount_point) and _is_root(plan.mount_point / name):
            _namespace.unmount(plan.mount_point)
            _mount("--types", kind.name, "--options", f"{kind.options},subvol={name}", plan.root.node, root)
    if not _is_root(plan.mount_point):
        raise LayoutError(
            f"partition {plan.root.number} holds {kind.name} but no /etc/os-release, so it is not the root file system of a Linux system. "
            "Use an image of an installed system."
        )
    if kind.grow_mounted:
        grow(kind, plan.root.node, root)


def _is_root(folder: Path) -> bool:
    return (folder / "etc/os-release").is_symlink() or (folder / "etc/os-release").exists()


def _mount_fstab(plan: RootPlan) -> tuple[list[str], list[str]]:
    """Mount the partitions of this image that fstab names, parents first; return where, and where the kernel does not know the file system.

    An empty folder in memory hides the latter, so that nothing is written to a place where the booted system will not see it.
    """
    file = plan.mount_point / "etc/fstab"
    entries = parse_fstab(file.read_text(encoding="utf-8", errors="replace")) if file.is_file() else []
    mounted: list[str] = []
    hidden: list[str] = []
    for entry in sorted(entries, key=lambda entry: entry.target):
        if entry.target == "/" or not entry.target.startswith("/") or entry.type == "swap" or entry.tag is None:
            continue
        volume = find_volume(entry, plan.volumes)
        if volume is None:
            if {"nofail", "noauto"}.isdisjoint(entry.options):
                raise LayoutError(
                    f"/etc/fstab mounts {entry.source} at {entry.target}, but no partition of the image has that name; such an image would not boot. "
                    "Correct its fstab."
                )
            continue
        target = _open_files.inside(plan.mount_point, entry.target)
        target.mkdir(parents=True, exist_ok=True)
        subvolume = next((f",{option}" for option in entry.options if option.startswith("subvol")), "")
        try:
            _mount("--types", volume.type, "--options", BOOT_OPTIONS.get(volume.type, "noatime") + subvolume, volume.node, str(target))
            mounted.append(entry.target)
        except CommandError:
            if _kernel_knows(volume.type):
                raise
            _mount("--types", "tmpfs", "--options", "mode=0700,size=1m", "tmpfs", str(target))
            hidden.append(entry.target)
    return mounted, hidden


def _kernel_knows(file_system: str) -> bool:
    """Whether the kernel has the file system; trying to mount it made the kernel load the module if there is one."""
    return file_system in Path("/proc/filesystems").read_text(encoding="ascii").split()


def _mount_kernel(root: Path, plan: RootPlan) -> None:
    """Give the image /proc, /sys, /dev, /run and /tmp; the settings of the build host's kernel are read-only."""
    for place in ("proc", "sys", "dev", "run", "tmp"):
        (root / place).mkdir(exist_ok=True)
    _mount("--types", "proc", "--options", "nosuid,nodev,noexec", "proc", f"{root}/proc")
    for part in [name for name in ("sys", "sysrq-trigger") if (root / "proc" / name).exists()]:
        _mount("--bind", f"{root}/proc/{part}", f"{root}/proc/{part}")
        _mount("--options", "remount,bind,ro", f"{root}/proc/{part}", f"{root}/proc/{part}")
    _mount("--types", "sysfs", "--options", "nosuid,nodev,noexec,ro", "sysfs", f"{root}/sys")
    _mount("--types", "tmpfs", "--options", "nosuid,mode=0755", "tmpfs", f"{root}/dev")
    _mount("--types", "tmpfs", "--options", "nosuid,nodev,mode=0755", "tmpfs", f"{root}/run")
    _mount("--types", "tmpfs", "--options", "nosuid,nodev,mode=1777", "tmpfs", f"{root}/tmp")
    _make_devices(root / "dev", plan)


def _make_devices(dev: Path, plan: RootPlan) -> None:
    """The usual nodes, and of all disks only the one of this image, so that nothing inside can touch another."""
    for name, (major, minor) in DEVICES.items():
        _node(dev / name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
    for name, target in LINKS.items():
        (dev / name).symlink_to(target)
    for name in ("pts", "shm"):
        (dev / name).mkdir()
    _mount("--types", "devpts", "--options", "newinstance,ptmxmode=0666,mode=0620,gid=5", "devpts", str(dev / "pts"))
    _mount("--types", "tmpfs", "--options", "nosuid,nodev,mode=1777", "tmpfs", str(dev / "shm"))
    for device in (plan.device, *(volume.node for volume in plan.volumes)):
        _node(dev / Path(device).name, stat.S_IFBLK | 0o660, Path(device).stat().st_rdev)
    for volume in plan.volumes:
        for kind, value in (("uuid", volume.uuid), ("partuuid", volume.partition_uuid), ("label", volume.label), ("partlabel", volume.partition_label)):
            if value and "/" not in value:
                link = dev / "disk" / f"by-{kind}" / value
                link.parent.mkdir(parents=True, exist_ok=True)
                if not link.is_symlink():
                    link.symlink_to(f"../../{Path(volume.node).name}")


def _node(path: Path, mode: int, device: int) -> None:
    os.mknod(path, mode, device)
    path.chmod(stat.S_IMODE(mode))


def _provide_files(root: Path, plan: RootPlan) -> list[str]:
    """Write what the image needs while it is open; return what has to be removed from its file systems afterwards."""
    created = []
    (root / "run/lock").mkdir()
    for path, text in plan.files:
        mode = 0o755 if path == f"/{_open_files.POLICY}" else 0o644
        place = _open_files.create(root, path, text, mode)
        if place is None:
            _show(root, path, text)
        elif not place.startswith(("run/", "tmp/")):
            created.append(place)
    for path, text in plan.replacements:
        if _open_files.inside(root, path).is_file():
            _show(root, path, text)
    return [*created, *(trace for trace in _open_files.TRACES if not (root / trace).exists())]


def _show(root: Path, path: str, text: str) -> None:
    """Bind a text over a file that the image has; the file itself stays as it is."""
    shown = root / "run/hyperscaler/files" / path.strip("/").replace("/", "-")
    shown.parent.mkdir(parents=True, exist_ok=True)
    target = _open_files.inside(root, path)
    shown.write_text(text, encoding="utf-8")
    shown.chmod(stat.S_IMODE(target.stat().st_mode))
    _mount("--bind", str(shown), str(target))


def _reap() -> None:
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def _settle(target: Path) -> None:
    """Leave a file system clean on disk before the namespace, and with it the mount, goes away."""
    try:
        _namespace.remount_read_only(target)
    except OSError as error:
        os.write(2, f"{target}: {error}\n".encode())
