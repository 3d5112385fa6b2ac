# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what a QEMU guest is made of."""

from __future__ import annotations

import dataclasses
import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ToolError
from ansible_collections.hyperscaler.images.plugins.module_utils._qemu_guest import (
    Firmware,
    GuestError,
    GuestFiles,
    GuestSettings,
    disk_bytes,
    find_firmware,
    overlay_arguments,
    parse_ssh_port,
    qemu_arguments,
)

SETTINGS = GuestSettings(
    name="cloud-base", work_dir=Path("/w/a,b"), image=Path("/i/x.qcow2"), image_format="qcow2", serial_log=Path("/w/a,b/serial.log"), seed=Path("/w/seed.iso")
)
OVMF = Firmware(Path("/ovmf/CODE.fd"), Path("/ovmf/VARS.fd"))
# Captured from QEMU 10.0.2 for hostfwd=tcp:127.0.0.1:0-:22 while a client waits for an answer.
USERNET = (
    "Hub -1 (net):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n"
    "  TCP[SYN_SENT]      19       127.0.0.1 41263       10.0.2.15    22     0     0\r\n"
    "  TCP[HOST_FORWARD]  13       127.0.0.1 41263       10.0.2.15    22     0     0\r\n"
)


def arguments(accelerator: str = "kvm", firmware: Firmware | None = None, **changes: t.Any) -> list[str]:
    return qemu_arguments(dataclasses.replace(SETTINGS, **changes), accelerator, firmware, 7)


def value(argv: list[str], option: str) -> str:
    return argv[argv.index(option) + 1]


def blockdevs(argv: list[str]) -> dict[str, dict[str, t.Any]]:
    found = [json.loads(argv[at + 1]) for at, argument in enumerate(argv) if argument == "-blockdev"]
    return {entry["node-name"]: entry for entry in found}


@pytest.mark.parametrize(
    ("accelerator", "changes", "option", "expected"),
    [
        ("kvm", {}, "-accel", "kvm"),
        ("tcg", {}, "-accel", "tcg,thread=multi"),
        ("kvm", {}, "-cpu", "host"),
        ("tcg", {}, "-cpu", "max"),
        ("kvm", {"cpus": 3}, "-smp", "3"),
        ("kvm", {"memory_mib": 3072}, "-m", "3072"),
        ("kvm", {}, "-display", "none"),
        ("kvm", {}, "-machine", "q35"),
        ("kvm", {}, "-pidfile", "/w/a,b/qemu.pid"),
        ("kvm", {}, "-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:0-:22"),
        ("kvm", {"ssh_port": 2222}, "-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:2222-:22"),
        ("kvm", {"outbound": False}, "-netdev", "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:22"),
        ("kvm", {}, "-action", "reboot=shutdown"),
        ("kvm", {}, "-chardev", "file,id=serial,path=/w/a,,b/serial.log"),
        ("kvm", {}, "-mon", "chardev=qmp,mode=control"),
    ],
)
def test_one_option_each(accelerator: str, changes: dict[str, t.Any], option: str, expected: str) -> None:
    assert value(arguments(accelerator, **changes), option) == expected


def test_nothing_comes_by_default() -> None:
    argv = arguments()
    assert {"-nodefaults", "-no-user-config"} <= set(argv)
    assert [argv[at + 1] for at, argument in enumerate(argv) if argument == "-device"] == [
        "virtio-blk-pci,drive=disk,bootindex=0,write-cache=on",
        "virtio-blk-pci,drive=seed",
        "virtio-net-pci,netdev=net,romfile=",
        "VGA",
        "virtio-rng-pci",
    ]
    assert "socket,id=qmp,fd=7,server=on,wait=off" in argv


def test_the_disk_is_the_overlay_and_passes_discards_on() -> None:
    disk = blockdevs(arguments())["disk"]
    assert disk["driver"] == "qcow2"
    assert disk["discard"] == disk["file"]["discard"] == "unmap"
    assert disk["file"]["filename"] == "/w/a,b/overlay.qcow2"
    assert disk["cache"]["no-flush"] is True


def test_the_seed_is_read_only_and_left_out_when_there_is_none() -> None:
    seed = blockdevs(arguments())["seed"]
    assert seed["read-only"] is True
    assert seed["file"]["filename"] == "/w/seed.iso"
    assert "seed" not in blockdevs(arguments(seed=None))
    assert "virtio-blk-pci,drive=seed" not in arguments(seed=None)


def test_uefi_has_its_own_variables() -> None:
    argv = arguments(firmware=OVMF)
    nodes = blockdevs(argv)
    assert value(argv, "-machine") == "q35,pflash0=firmware-code,pflash1=firmware-variables"
    assert nodes["firmware-code"]["read-only"] is True
    assert nodes["firmware-code"]["file"]["filename"] == "/ovmf/CODE.fd"
    assert nodes["firmware-variables"]["file"]["filename"] == "/w/a,b/efivars.fd"
    assert "read-only" not in nodes["firmware-variables"]


def test_bios_has_no_flash() -> None:
    assert set(blockdevs(arguments())) == {"disk", "seed"}


def test_a_guest_that_may_reboot() -> None:
    assert "-action" not in arguments(allow_reboot=True)


def test_overlay_arguments() -> None:
    assert overlay_arguments(SETTINGS, None) == ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "/i/x.qcow2", "--", "/w/a,b/overlay.qcow2"]
    raw = dataclasses.replace(SETTINGS, image_format="raw")
    assert overlay_arguments(raw, 4096)[4:6] == ["-F", "raw"]
    assert overlay_arguments(raw, 4096)[-1] == "4096"


@pytest.mark.parametrize(("changes", "expected"), [({}, 1000), ({"disk_size": 3000}, 3000), ({"disk_growth": 500}, 1500), ({"disk_size": 1000}, 1000)])
def test_disk_bytes(changes: dict[str, int], expected: int) -> None:
    assert disk_bytes(dataclasses.replace(SETTINGS, **changes), 1000) == expected


def test_a_disk_is_never_smaller_than_its_image() -> None:
    with pytest.raises(GuestError, match=r"Cannot give the guest cloud-base a disk of 999 bytes: /i/x\.qcow2 has 1000 bytes"):
        disk_bytes(dataclasses.replace(SETTINGS, disk_size=999), 1000)


def test_firmware_is_the_first_complete_pair(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(b"")
    pairs = [(str(tmp_path / "a"), str(tmp_path / "missing")), (str(tmp_path / "b"), str(tmp_path / "c"))]
    assert find_firmware("uefi", pairs) == Firmware(tmp_path / "b", tmp_path / "c")
    assert find_firmware("bios", pairs) is None


def test_no_firmware() -> None:
    with pytest.raises(ToolError, match=r"Cannot start a guest with UEFI: no OVMF firmware was found \(looked for /x\)\. Install the package ovmf\."):
        find_firmware("uefi", [("/x", "/y")])


def test_the_ssh_port_is_that_of_the_forwarding() -> None:
    assert parse_ssh_port(USERNET) == 41263


def test_no_forwarding() -> None:
    with pytest.raises(GuestError, match="Cannot find the SSH port of the guest"):
        parse_ssh_port("Hub -1 (net):\r\n")


def test_settings_are_plain_data() -> None:
    data = SETTINGS.to_dict()
    assert data["image"] == "/i/x.qcow2"
    assert json.loads(json.dumps(data)) == data


def test_the_record_is_removed_last() -> None:
    files = GuestFiles(Path("/w"))
    assert files.temporary()[-1] == files.record
    assert files.log not in files.temporary()
