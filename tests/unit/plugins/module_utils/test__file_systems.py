# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what differs between file systems, on file systems in plain files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import IntegrityError, LayoutError
from ansible_collections.hyperscaler.images.plugins.module_utils._file_systems import KINDS, kind_of, require_healthy


@pytest.mark.parametrize(
    ("file_system", "text"),
    [
        ("LVM2_member", "it is an LVM volume"),
        ("crypto_LUKS", "it is encrypted with LUKS"),
        ("zfs_member", "it is part of a ZFS pool"),
        ("ntfs", "its file system is ntfs"),
        ("", "it has no file system that blkid knows"),
        (None, "it has no file system that blkid knows"),
    ],
)
def test_foreign_root_is_refused(file_system: str | None, text: str) -> None:
    with pytest.raises(LayoutError, match=f"Cannot use partition 1 as root: {text}. Use an image whose root is ext4, xfs or btrfs"):
        kind_of(file_system, "partition 1")


@pytest.fixture
def ext4(tmp_path: Path) -> Path:
    if not shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin"):
        pytest.skip("mkfs.ext4 is not installed")
    disk = tmp_path / "ext4"
    with disk.open("wb") as stream:
        stream.truncate(8 << 20)
    subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-F", disk], check=True)
    return disk


def test_healthy_file_system_passes_and_is_not_changed(ext4: Path) -> None:
    before = ext4.read_bytes()
    require_healthy(KINDS["ext4"], str(ext4), "partition 1")
    assert ext4.read_bytes() == before


def test_file_system_that_was_not_unmounted_is_refused(ext4: Path) -> None:
    subprocess.run(["/usr/sbin/debugfs", "-w", "-R", "set_super_value state 0", ext4], check=True, capture_output=True)
    with pytest.raises(IntegrityError, match=r"Cannot use partition 1: its ext4 file system was not unmounted cleanly"):
        require_healthy(KINDS["ext4"], str(ext4), "partition 1")


def test_damaged_file_system_is_refused(ext4: Path) -> None:
    subprocess.run(["/usr/sbin/debugfs", "-w", "-R", "clri <2>", ext4], check=True, capture_output=True)
    with pytest.raises(IntegrityError, match=r"Cannot use partition 1: its ext4 file system is damaged or was not unmounted \(e2fsck ended with"):
        require_healthy(KINDS["ext4"], str(ext4), "partition 1")
