# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._image_facts import Machine, Probed, cmdline_facts, describe, human_size, image_mounts

OUTPUT = """kernel 6.12.48+deb13-amd64
version 6.12.48+deb13-amd64 (debian-kernel@lists.debian.org) #1 SMP PREEMPT_DYNAMIC Debian 6.12.48-1 (2025-09-20)
cmdline /boot/vmlinuz-6.12.48+deb13-amd64 root=PARTUUID=7f9f ro console=ttyS0,115200
hostname node.example.org
apparmor enabled
mount /
mount /boot/efi
"""
MACHINE = Machine(cpus=3, memory=4096, disk_size=20 << 30)
GATHERED: dict[str, t.Any] = {
    "ansible_distribution": "Debian",
    "ansible_distribution_version": "13.8",
    "ansible_env": {"PATH": "/usr/bin"},
    "ansible_kernel": "6.1.0-host",
    "ansible_service_mgr": "python",
    "ansible_eth0": {"macaddress": "02:fc:00:00:00:01"},
    "ansible_interfaces": ["eth0", "lo"],
    "ansible_product_serial": "SERIAL-OF-THE-HOST",
    "ansible_fibre_channel_wwn": ["21000014ff52a9bb"],
    "ansible_devices": {"sda": {}},
    "ansible_dns": {"nameservers": ["192.0.2.53"]},
    "ansible_something_new": "of the host",
    "ansible_mounts": [
        {"mount": "/", "device": "/dev/loop3p1", "fstype": "ext4", "options": "rw,nobarrier", "size_total": 1 << 30, "uuid": "4a36"},
        {"mount": "/boot/efi", "device": "/dev/loop3p15", "fstype": "vfat", "options": "rw", "size_total": 1 << 27, "uuid": "N/A"},
        {"mount": "/var/cache/apt", "device": "/dev/sda2", "fstype": "ext4", "options": "rw,bind", "size_total": 1 << 40, "uuid": "beef"},
        {"mount": "/tmp", "device": "tmpfs", "fstype": "tmpfs", "options": "rw", "uuid": "N/A"},
    ],
    "module_setup": True,
}


@pytest.fixture
def facts() -> dict[str, t.Any]:
    return describe(GATHERED, Probed.from_output(OUTPUT), MACHINE)


def test_probe() -> None:
    probed = Probed.from_output(OUTPUT)
    assert probed.kernel == "6.12.48+deb13-amd64"
    assert probed.version == "#1 SMP PREEMPT_DYNAMIC Debian 6.12.48-1 (2025-09-20)"
    assert probed.mounts == {"/", "/boot/efi"}


def test_probe_of_an_image_without_a_kernel() -> None:
    probed = Probed.from_output("kernel \ncmdline \nhostname \n")
    assert probed == Probed()
    assert probed.hostname == "localhost"


def test_the_image_is_described(facts: dict[str, t.Any]) -> None:
    expected = {
        "distribution": "Debian",
        "distribution_version": "13.8",
        "env": {"PATH": "/usr/bin"},
        "kernel": "6.12.48+deb13-amd64",
        "service_mgr": "systemd",
        "processor_vcpus": 3,
        "processor_nproc": 3,
        "memtotal_mb": 4096,
        "virtualization_type": "kvm",
        "hostname": "node",
        "domain": "example.org",
        "fqdn": "node.example.org",
        "apparmor": {"status": "enabled"},
    }
    assert {name: facts[f"ansible_{name}"] for name in expected} == expected
    assert facts["module_setup"] is True
    assert facts["ansible_cmdline"]["root"] == "PARTUUID=7f9f"
    assert facts["ansible_default_ipv4"]["interface"] in facts["ansible_interfaces"]
    assert facts["ansible_devices"]["vda"]["size"] == "20.00 GB"
    assert facts["ansible_device_links"]["uuids"] == {"vda1": ["4a36"]}


def test_nothing_of_the_build_host_is_left(facts: dict[str, t.Any]) -> None:
    text = str(facts)
    for leaked in ("6.1.0-host", "eth0", "02:fc", "SERIAL-OF-THE-HOST", "21000014", "sda", "192.0.2.53", "of the host", "beef", "loop3"):
        assert leaked not in text


def test_mounts_are_those_of_the_image() -> None:
    found = image_mounts(GATHERED["ansible_mounts"], {"/", "/boot/efi"})
    assert [(mount["mount"], mount["device"], mount["options"]) for mount in found] == [
        ("/", "/dev/vda1", "rw,relatime"),
        ("/boot/efi", "/dev/vda15", "rw,relatime"),
    ]


def test_command_line() -> None:
    assert cmdline_facts("/vmlinuz ro a=b=c") == {"BOOT_IMAGE": "/vmlinuz", "ro": True, "a": "b=c"}
    assert cmdline_facts("") == {}


@pytest.mark.parametrize(("size", "text"), [(512, "512.00 Bytes"), (1 << 20, "1.00 MB"), (20 << 30, "20.00 GB"), (3 << 40, "3.00 TB")])
def test_sizes(size: int, text: str) -> None:
    assert human_size(size) == text
