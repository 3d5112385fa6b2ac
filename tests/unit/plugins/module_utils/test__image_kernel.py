# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the kernel that an image will boot."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._image_kernel import ImageKernel

VERSION = "6.12.118+deb13-amd64 (maintainer@example.com) #1 SMP PREEMPT_DYNAMIC Debian 6.12.118-1 (2026-11-20)"


def add(root: Path, release: str, text: str = "") -> None:
    (root / "usr/lib/modules" / release).mkdir(parents=True)
    (root / "boot").mkdir(exist_ok=True)
    header = bytearray(0x600)
    header[0x20E:0x210] = struct.pack("<H", 0x100)
    header[0x300 : 0x300 + len(text)] = text.encode("ascii")
    (root / f"boot/vmlinuz-{release}").write_bytes(header)


def test_the_newest_kernel_counts_by_number(tmp_path: Path) -> None:
    add(tmp_path, "6.12.9+deb13-amd64")
    add(tmp_path, "6.12.118+deb13-amd64", VERSION)
    assert ImageKernel(tmp_path).newest() == ("6.12.118+deb13-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.118-1 (2026-11-20)")


def test_a_kernel_that_is_installed_later_is_seen(tmp_path: Path) -> None:
    kernel = ImageKernel(tmp_path)
    assert kernel.newest() == ("", "")
    add(tmp_path, "6.1.0-1-amd64")
    assert kernel.newest()[0] == "6.1.0-1-amd64"
    add(tmp_path, "6.12.118+deb13-amd64", VERSION)
    os.utime(tmp_path / "usr/lib/modules", ns=(1, 1))
    assert kernel.newest()[0] == "6.12.118+deb13-amd64"


def test_modules_without_a_kernel_file_have_no_version(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/modules/6.1.0").mkdir(parents=True)
    assert ImageKernel(tmp_path).newest() == ("6.1.0", "")


def test_settings_appear_with_their_module(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    kernel = ImageKernel(tmp_path)
    kernel.settings_of_module("br_netfilter", tmp_path)
    file = tmp_path / "net/bridge/bridge-nf-call-iptables"
    assert file.read_text() == "1\n"
    file.write_text("0\n")
    kernel.settings_of_module("br_netfilter", tmp_path)
    assert file.read_text() == "0\n"
    kernel.settings_of_module("overlay", tmp_path)
    assert [path.name for path in (tmp_path / "net").iterdir()] == ["bridge"]
