# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the settings that a kernel has after boot: the expectations were compared with systemd-sysctl 257."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Expectations
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_sysctl import (
    check_settings,
    parse_settings,
    read_settings,
    setting_at_boot,
)
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils.inspect_fake_image import FakeImage, clean_image


@pytest.fixture
def image(tmp_path: Path) -> FakeImage:
    return clean_image(tmp_path / "image")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("net.ipv4.tcp_retries1 = 4\n", "4"),
        ("-net.ipv4.tcp_retries1=4\n", "4"),
        ("net/ipv4/tcp_retries1=4\nnet.ipv4.tcp_retries1=5\n", "5"),
        ("# net.ipv4.tcp_retries1=4\n;net.ipv4.tcp_retries1=5\n", None),
        ("net.ipv4.tcp_retries1\n", None),
        ("net.ipv4.tcp_retries*=6\n", "6"),
        ("net.ipv4.*=6\nnet.*.tcp_retries1=7\n", "7"),
        ("net.*=6\n", None),
        ("net.ipv4.tcp_retries1=4\nnet.ipv4.tcp_retries*=6\n", "4"),
        ("net.ipv4.tcp_retries*=6\n-net.ipv4.tcp_retries1\n", None),
        ("net.ipv4.tcp_retries*=6\n-net.ipv4.tcp_ret*\n", "6"),
        ("net.ipv4.tcp_r*=6\nnet.ipv4.*=7\nnet.ipv4.tcp_r*=6\n", "7"),
        ("net.ipv4.tcp_r*=6\nnet.ipv4.*=7\nnet.ipv4.tcp_r*=8\n", "8"),
    ],
)
def test_what_decides(text: str, value: str | None) -> None:
    found = setting_at_boot(parse_settings(text, "a.conf"), "net.ipv4.tcp_retries1")
    assert (found.value if found else None) == value


def test_files_in_the_order_of_their_names_and_hidden_by_name(image: FakeImage) -> None:
    image.write("/usr/lib/sysctl.d/50-default.conf", "vm.swappiness=1\n")
    image.write("/etc/sysctl.d/40-site.conf", "vm.swappiness=2\n")
    image.write("/usr/local/lib/sysctl.d/60-local.conf", "vm.swappiness=3\n")
    image.write("/etc/sysctl.d/70-not-read.txt", "vm.swappiness=4\n")
    image.write("/run/sysctl.d/90-run.conf", "vm.swappiness=5\n")
    assert [each.value for each in read_settings(image.subject().tree)] == ["2", "1", "3"]
    image.link("/etc/sysctl.d/60-local.conf", "/dev/null")
    assert [each.value for each in read_settings(image.subject().tree)] == ["2", "1"]


def lost(image: FakeImage, **settings: str) -> list[str]:
    expected = Expectations(session_settings=tuple((key.replace("__", "."), value) for key, value in settings.items()))
    return [f"{finding.path} {finding.message}" for finding in check_settings(image.subject(expected))]


def test_a_setting_that_lasts_is_no_finding(image: FakeImage) -> None:
    image.write("/etc/sysctl.d/70-site.conf", "kernel/printk = 4 4 1 7\n")
    assert lost(image, kernel__printk="4\t4\t1\t7\n", kernel__sysrq="438") == []


def test_a_setting_that_no_file_makes(image: FakeImage) -> None:
    assert lost(image, vm__swappiness="7") == ["/proc/sys/vm/swappiness was set to 7 during the build, but no file that is read at boot sets it."]


def test_a_setting_in_the_file_that_systemd_reads_no_longer(image: FakeImage) -> None:
    image.write("/etc/sysctl.conf", "vm.swappiness=7\n")
    assert lost(image, vm__swappiness="7") == [
        "/proc/sys/vm/swappiness was set to 7 during the build, but only /etc/sysctl.conf sets it, which is not read at boot."
    ]
    image.link("/etc/sysctl.d/99-sysctl.conf", "../sysctl.conf")
    assert lost(image, vm__swappiness="7") == []


def test_the_arguments_of_the_kernel_come_before_the_files(image: FakeImage) -> None:
    image.replace("/boot/grub/grub.cfg", "console=tty0", "sysctl.vm.swappiness=7 console=tty0")
    assert lost(image, vm__swappiness="7") == []
    image.write("/etc/sysctl.d/70-site.conf", "vm.swappiness=10\n")
    assert lost(image, vm__swappiness="7") == ["/proc/sys/vm/swappiness was set to 7 during the build, but /etc/sysctl.d/70-site.conf sets it to 10 at boot."]
