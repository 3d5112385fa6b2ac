# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module pci_passthrough_info, on trees of the form of /sys."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.modules import pci_passthrough_info

# Address: vendor, device, class, driver, IOMMU group.
Card = tuple[str, str, str, str, str]
GPU: Card = ("0x10de", "0x20b5", "0x030200", "vfio-pci", "27")
SOUND: Card = ("0x10de", "0x1aef", "0x040300", "vfio-pci", "27")
PORT: Card = ("0x8086", "0x347a", "0x060400", "pcieport", "27")
DISK: Card = ("0x144d", "0xa80a", "0x010802", "nvme", "27")


def make(root: Path, cards: t.Mapping[str, Card], command_line: str = "", firmware: str = "DMAR", vfio: bool = True) -> None:
    for address, (vendor, device, kind, driver, group) in cards.items():
        folder = root / "sys/bus/pci/devices" / address
        folder.mkdir(parents=True)
        for name, text in (("vendor", vendor), ("device", device), ("class", kind)):
            (folder / name).write_text(f"{text}\n", encoding="utf-8")
        if driver:
            (folder / "driver").symlink_to(f"../../../bus/pci/drivers/{driver}")
        if group:
            (folder / "iommu_group").symlink_to(f"../../../kernel/iommu_groups/{group}")
    if vfio:
        (root / "sys/bus/pci/drivers/vfio-pci").mkdir(parents=True)
    if firmware:
        (root / "sys/firmware/acpi/tables").mkdir(parents=True)
        (root / "sys/firmware/acpi/tables" / firmware).touch()
    (root / "proc").mkdir()
    (root / "proc/cmdline").write_text(f"BOOT_IMAGE=/vmlinuz root=/dev/sda1 {command_line}\n", encoding="utf-8")


def with_changes(card: Card, driver: str | None = None, group: str | None = None) -> Card:
    vendor, device, kind, old_driver, old_group = card
    return vendor, device, kind, old_driver if driver is None else driver, old_group if group is None else group


def test_a_gpu_that_is_ready(run_module: t.Any, tmp_path: Path) -> None:
    make(tmp_path, {"0000:40:01.0": PORT, "0000:41:00.0": GPU, "0000:41:00.1": SOUND})
    result = run_module(pci_passthrough_info.main, root=str(tmp_path), devices=["41:00.1", "0000:41:00.0"])
    assert result["ready"], result["msg"]
    assert [device["pci_address"] for device in result["devices"]] == ["0000:41:00.0", "0000:41:00.1"]
    assert result["devices"][0]["group"] == ["0000:40:01.0", "0000:41:00.0", "0000:41:00.1"]
    assert (result["devices"][0]["vendor_id"], result["devices"][0]["device_id"], result["devices"][0]["iommu_group"]) == ("10de", "20b5", "27")


def test_all_gpus_by_default(run_module: t.Any, tmp_path: Path) -> None:
    make(tmp_path, {"0000:41:00.0": GPU, "0000:c1:00.0": with_changes(GPU, driver="nvidia", group="31"), "0000:02:00.0": with_changes(DISK, group="1")})
    result = run_module(pci_passthrough_info.main, root=str(tmp_path))
    assert [device["missing"] for device in result["devices"]] == [
        [],
        ["0000:c1:00.0 is used by the driver nvidia and must have vfio-pci: driverctl set-override 0000:c1:00.0 vfio-pci."],
    ]
    assert not result["ready"]


@pytest.mark.parametrize(
    ("cards", "settings", "said"),
    [
        ({"0000:41:00.0": with_changes(GPU, group="")}, {"command_line": "intel_iommu=off"}, "The kernel command line has intel_iommu=off"),
        ({"0000:41:00.0": with_changes(GPU, group="")}, {}, "Add intel_iommu=on iommu=pt to the kernel command line"),
        ({"0000:41:00.0": with_changes(GPU, group="")}, {"firmware": "IVRS"}, "Look for AMD-Vi in the kernel log"),
        ({"0000:41:00.0": with_changes(GPU, group="")}, {"firmware": ""}, "The firmware offers no IOMMU"),
        ({"0000:41:00.0": with_changes(GPU, driver="")}, {"vfio": False}, "The driver vfio-pci is not loaded"),
        ({"0000:41:00.0": with_changes(GPU, driver="")}, {}, "0000:41:00.0 has no driver and must have vfio-pci"),
        ({"0000:41:00.0": GPU, "0000:41:00.1": SOUND}, {}, "0000:41:00.1 is another function of the same device"),
        ({"0000:41:00.0": GPU, "0000:42:00.0": DISK}, {}, "used by the driver nvme, because nothing between them has ACS"),
        ({"0000:02:00.0": DISK}, {}, "This host has no NVIDIA GPU."),
    ],
    ids=["off", "intel", "amd", "firmware", "no-vfio", "unbound", "sound", "acs", "none"],
)
def test_what_is_missing(run_module: t.Any, tmp_path: Path, cards: dict[str, Card], settings: dict[str, t.Any], said: str) -> None:
    make(tmp_path, cards, **settings)
    result = run_module(pci_passthrough_info.main, root=str(tmp_path))
    assert not result["ready"]
    assert said in result["msg"]


def test_a_neighbour_without_a_driver_is_harmless(run_module: t.Any, tmp_path: Path) -> None:
    make(tmp_path, {"0000:41:00.0": GPU, "0000:42:00.0": with_changes(DISK, driver="")})
    assert run_module(pci_passthrough_info.main, root=str(tmp_path))["ready"]


def test_a_program_that_is_not_there(run_module: t.Any, tmp_path: Path) -> None:
    make(tmp_path, {"0000:41:00.0": GPU})
    result = run_module(pci_passthrough_info.main, root=str(tmp_path), programs=["no-such-virsh"])
    assert result["missing"] == ["The program no-such-virsh is not found. Install the package that has it."]


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        (["41:00"], "Cannot look at the PCI device '41:00': it is no address. Write it as lspci -D does"),
        (["0000:55:00.0"], "Cannot look at 0000:55:00.0: this host has no such PCI device. GPUs that it has: 0000:41:00.0."),
    ],
    ids=["form", "absent"],
)
def test_wrong_addresses(run_module: t.Any, tmp_path: Path, devices: list[str], said: str) -> None:
    make(tmp_path, {"0000:41:00.0": GPU})
    result = run_module(pci_passthrough_info.main, root=str(tmp_path), devices=devices)
    assert result["failed"]
    assert said in result["msg"]


def test_a_host_without_pci(run_module: t.Any, tmp_path: Path) -> None:
    assert "Run this on the machine that has the devices" in run_module(pci_passthrough_info.main, root=str(tmp_path))["msg"]
