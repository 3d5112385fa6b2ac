# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""What an open image sees in /sys: its own disk, the hardware of a virtual machine, and settings that can be written."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils import _namespace
from ansible_collections.hyperscaler.images.plugins.module_utils._fstab import Volume
from ansible_collections.hyperscaler.images.plugins.module_utils._settings_copy import copy_settings

BLOCK = Path("/sys/devices/virtual/block")
# Interfaces belong to the network namespace of the image, and the kernel lets its root write their settings. It refuses all others.
INTERFACES = Path("/sys/devices/virtual/net")
MEMORY = Path("/sys/kernel/mm")
HARDWARE = {"sys_vendor": "QEMU", "product_name": "Standard PC (Q35 + ICH9, 2009)", "chassis_vendor": "QEMU", "bios_vendor": "SeaBIOS"}


def show_own_disk(device: str, volumes: t.Sequence[Volume]) -> None:
    """Of all block devices, leave only the disk of the image in /sys."""
    nodes = {Path(node).name: Path(node).stat().st_rdev for node in (device, *(volume.node for volume in volumes))}
    disk = Path(device).name
    real = {name: BLOCK / disk / ("" if name == disk else name) for name in nodes}
    for place, wanted in (("/sys/block", [disk]), ("/sys/class/block", list(nodes))):
        _replace_folder(Path(place), {name: str(real[name]) for name in wanted})
    _replace_folder(Path("/sys/dev/block"), {f"{os.major(number)}:{os.minor(number)}": str(real[name]) for name, number in nodes.items()})
    for place in ("/sys/bus/pci/devices", "/proc/bus"):
        _replace_folder(Path(place), {})


def _replace_folder(path: Path, links: t.Mapping[str, str]) -> None:
    if not path.is_dir():
        return
    _namespace.mount_memory(path, "mode=0555,size=64k")
    for name, target in links.items():
        (path / name).symlink_to(target)


def show_hardware() -> None:
    """Describe the machine as QEMU does; a build host without such a table has nothing to hide."""
    folder = Path("/sys/devices/virtual/dmi/id")
    if not folder.is_dir():
        return
    _namespace.mount_memory(folder, "mode=0555,size=64k")
    for name, text in HARDWARE.items():
        (folder / name).write_text(text + "\n", encoding="ascii")


def copied_settings(device: str) -> tuple[Path, ...]:
    """The folders of which an image has a copy: settings of memory and of its disk ``device``."""
    return MEMORY, BLOCK / Path(device).name / "queue"


def show_writable_settings(device: str, place: Path) -> None:
    """Let settings of memory, of the disk ``device`` and of network interfaces be written; the copies of the first two lie below ``place``."""
    for source in filter(Path.is_dir, copied_settings(device)):
        copy = place / str(source).strip("/").replace("/", "-")
        copy_settings(source, copy)
        _namespace.bind(copy, source)
    _namespace.bind(INTERFACES, INTERFACES)
    _namespace.remount_writable(INTERFACES)
