# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what an open image sees of a machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._private_view import REBOOT_UNITS, UNITS, Machine, command_line, machine_texts, read_settings

MENU = """
menuentry 'Debian' {
        linux   /boot/vmlinuz-6.12.118 root=PARTUUID=1234 ro  console=ttyS0
        initrd  /boot/initrd.img-6.12.118
}
menuentry 'older' {
        linux   /boot/vmlinuz-6.12.41 root=PARTUUID=1234 ro
}
"""


@pytest.mark.parametrize(
    ("menu", "line"),
    [(MENU, "BOOT_IMAGE=/boot/vmlinuz-6.12.118 root=PARTUUID=1234 ro  console=ttyS0"), ("linux /vmlinuz", "BOOT_IMAGE=/vmlinuz"), ("set timeout=5", "")],
)
def test_the_command_line_is_that_of_the_boot_menu(menu: str, line: str) -> None:
    assert command_line(menu) == line


def test_processors_and_memory_are_those_of_the_image() -> None:
    texts = machine_texts(Machine(3, 1024, "ro"), "6.12.118", "#1 SMP")
    assert re.findall(r"^processor\t: (\d)$", texts["/proc/cpuinfo"], re.MULTILINE) == ["0", "1", "2"]
    assert re.search(r"^MemTotal: +1048576 kB$", texts["/proc/meminfo"], re.MULTILINE)
    assert texts["/proc/version"] == "Linux version 6.12.118 #1 SMP\n"
    assert texts["/proc/cmdline"] == "ro\n"
    assert texts["/proc/modules"] == ""


def test_without_a_kernel_the_version_stays() -> None:
    assert "/proc/version" not in machine_texts(Machine(1, 1024, ""), "", "")


def test_settings_are_read_by_their_keys(tmp_path: Path) -> None:
    files = {
        "vm/swappiness": "7\n",
        "net/ipv4/ip_forward": "1\n",
        "net/ipv4/conf/all/rp_filter": "2\n",
        "net/ipv4/conf/all/forwarding": "1\n",
        "net/ipv4/conf/eth0/rp_filter": "2\n",
        "net/ipv4/tcp_fastopen_key": "x\n",
        "kernel/random/uuid": "x\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert read_settings(tmp_path) == {"vm.swappiness": "7", "net.ipv4.ip_forward": "1", "net.ipv4.conf.all.rp_filter": "2"}


def test_units_that_need_a_kernel_of_their_own_count_as_started() -> None:
    assert "ExecStart=\nExecStart=/bin/true\n" in UNITS["/run/systemd/system/nfs-server.service.d/hyperscaler.conf"]
    assert "PIDFile=\n" in UNITS["/run/systemd/system/auditd.service.d/hyperscaler.conf"]
    # An unmet condition does not fail the units that require this one.
    assert UNITS["/run/systemd/system/proc-fs-nfsd.mount.d/hyperscaler.conf"] == "[Unit]\nConditionVirtualization=no\n"


def test_a_unit_that_refuses_a_container_starts() -> None:
    assert UNITS["/run/systemd/system/systemd-timesyncd.service.d/hyperscaler.conf"] == "[Unit]\nConditionVirtualization=\n"
    assert REBOOT_UNITS.items() <= UNITS.items()
