# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Whether PCI devices of a host can be given to a virtual machine, from what /sys and /proc say of them.

Sources: Linux, Documentation/driver-api/vfio.rst (groups and their viability) and Documentation/admin-guide/kernel-parameters.txt.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError

ADDRESS = re.compile(r"(?:([0-9a-fA-F]{4,8}):)?([0-9a-fA-F]{2}):([0-9a-fA-F]{2})\.([0-7])")
BRIDGE, DISPLAY, ACCELERATOR = 0x06, 0x03, 0x12
NVIDIA = 0x10DE
# With these, or with no driver, a device does not keep others of its group from a machine.
HARMLESS = frozenset({"", "vfio-pci", "pci-stub"})
VFIO = "vfio-pci"


@dataclasses.dataclass(frozen=True)
class PciDevice:
    """A function of a device: ``kind`` is the base class and the subclass, ``driver`` and ``group`` are empty where there is none."""

    address: str
    vendor: int
    device: int
    kind: int
    driver: str
    group: str

    @property
    def is_bridge(self) -> bool:
        """Whether it is a bridge, which stays with the host."""
        return self.kind >> 8 == BRIDGE

    @property
    def is_gpu(self) -> bool:
        """Whether it is a GPU or another accelerator, and not its sound device."""
        return self.kind >> 8 in (DISPLAY, ACCELERATOR)

    @property
    def slot(self) -> str:
        """The address without the function."""
        return self.address.rpartition(".")[0]


@dataclasses.dataclass(frozen=True)
class Host:
    """A host: its PCI devices by address, the ACPI table with which its firmware offers an IOMMU (empty without one), and whether vfio-pci is loaded."""

    devices: dict[str, PciDevice]
    command_line: tuple[str, ...]
    firmware: str
    has_vfio: bool

    @property
    def has_iommu(self) -> bool:
        """Whether the kernel uses an IOMMU: then it puts devices into groups."""
        return any(device.group for device in self.devices.values())

    def members(self, group: str) -> list[PciDevice]:
        """The devices of a group."""
        return [device for device in self.devices.values() if group and device.group == group]


def normal(address: str) -> str:
    """An address with its domain, in lower case; raises ImageError for what is none."""
    match = ADDRESS.fullmatch(address.strip())
    if not match:
        raise ImageError(f"Cannot look at the PCI device {address!r}: it is no address. Write it as lspci -D does, for instance 0000:41:00.0.")
    domain, bus, slot, function = match.groups()
    return f"{domain or '0000'}:{bus}:{slot}.{function}".lower()


def read_host(root: Path) -> Host:
    """What /sys and /proc below ``root`` say; raises ImageError where there is no PCI bus."""
    folder = root / "sys/bus/pci/devices"
    if not folder.is_dir():
        raise ImageError(f"Cannot look at PCI devices: {folder} does not exist. Run this on the machine that has the devices, where /sys is mounted.")
    devices = [_device(path) for path in sorted(folder.iterdir())]
    tables = root / "sys/firmware/acpi/tables"
    command_line = root / "proc/cmdline"
    return Host(
        {device.address: device for device in devices},
        tuple(command_line.read_text(encoding="utf-8").split()) if command_line.is_file() else (),
        next((name for name in ("DMAR", "IVRS") if (tables / name).exists()), ""),
        (root / "sys/bus/pci/drivers" / VFIO).is_dir(),
    )


def _device(path: Path) -> PciDevice:
    return PciDevice(
        path.name, _number(path / "vendor"), _number(path / "device"), _number(path / "class") >> 8, _link(path / "driver"), _link(path / "iommu_group")
    )


def _number(path: Path) -> int:
    return int(path.read_text(encoding="utf-8"), 16) if path.is_file() else 0


def _link(path: Path) -> str:
    return path.readlink().name if path.is_symlink() else ""


def wanted(host: Host, addresses: t.Sequence[str]) -> list[PciDevice]:
    """The devices with some addresses, or all GPUs of NVIDIA; raises ImageError for an address that no device has."""
    if not addresses:
        return [device for device in host.devices.values() if device.vendor == NVIDIA and device.is_gpu]
    found = [normal(address) for address in addresses]
    absent = [address for address in found if address not in host.devices]
    if absent:
        known = ", ".join(device.address for device in host.devices.values() if device.is_gpu) or "none"
        raise ImageError(f"Cannot look at {', '.join(absent)}: this host has no such PCI device. GPUs that it has: {known}. lspci -D lists all devices.")
    return [host.devices[address] for address in dict.fromkeys(found)]


def missing_on_host(host: Host, programs: t.Sequence[str]) -> list[str]:
    """What the host lacks for every device, a sentence each."""
    found = []
    if not host.has_iommu:
        found.append(_no_iommu(host))
    if not host.has_vfio:
        found.append("The driver vfio-pci is not loaded. Load it with modprobe vfio-pci, and name it in /etc/modules-load.d for the next boot.")
    found += [f"The program {program} is not found. Install the package that has it." for program in programs if not shutil.which(program)]
    return found


def _no_iommu(host: Host) -> str:
    off = [word for word in host.command_line if word in ("intel_iommu=off", "amd_iommu=off", "iommu=off")]
    if off:
        return f"The kernel command line has {' '.join(off)}, so no IOMMU is used. Remove it and boot again."
    if host.firmware == "DMAR":
        return (
            "The firmware offers an IOMMU (table DMAR), and the kernel does not use it. Add intel_iommu=on iommu=pt to the kernel command line and boot again."
        )
    if host.firmware == "IVRS":
        return "The firmware offers an IOMMU (table IVRS), and the kernel does not use it. Look for AMD-Vi in the kernel log."
    return (
        "The firmware offers no IOMMU. Switch on VT-d (Intel) or AMD-Vi, also called IOMMU, in the firmware settings. A host that is a virtual machine itself "
        "needs one from its own host."
    )


def missing_for(host: Host, device: PciDevice, chosen: t.Collection[str]) -> list[str]:
    """What keeps one device from a machine, a sentence each; ``chosen`` are the addresses that the machine gets."""
    found = []
    if device.is_bridge:
        found.append(f"{device.address} is a bridge, which cannot be given to a machine.")
    if device.driver != VFIO:
        used = f"is used by the driver {device.driver}" if device.driver else "has no driver"
        found.append(f"{device.address} {used} and must have vfio-pci: driverctl set-override {device.address} vfio-pci.")
    for other in host.members(device.group):
        if other.address in chosen or other.is_bridge:
            continue
        if other.slot == device.slot:
            found.append(f"{other.address} is another function of the same device, in the same IOMMU group {device.group}. Give it to the machine as well.")
        elif other.driver not in HARMLESS:
            found.append(
                f"{other.address} is in the same IOMMU group {device.group} and used by the driver {other.driver}, because nothing between them has ACS. "
                "Give it to the machine as well, or put one of the cards into another slot, or switch on ACS in the firmware settings."
            )
    return found
