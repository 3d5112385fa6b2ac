# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of fstab parsing."""

from __future__ import annotations

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._fstab import FstabEntry, Volume, find_volume, parse_fstab

ROOT = Volume(1, "/dev/loop0p1", "ext4", "6e1a-uuid", "cloudimg", "ABCD-01", "rootfs")
ESP = Volume(15, "/dev/loop0p15", "vfat", "1234-ABCD", "", "abcd-15", "")


def test_comments_short_lines_and_escapes() -> None:
    text = "  # comment\nPARTUUID=abcd-01 / ext4 rw,discard 0 1\n\nbroken line\nUUID=1234-abcd /boot/efi vfat # trailing\nLABEL=a\\040b /my\\040data ext4\n"
    assert parse_fstab(text) == [
        FstabEntry("PARTUUID=abcd-01", "/", "ext4", ("rw", "discard")),
        FstabEntry("UUID=1234-abcd", "/boot/efi", "vfat", ("defaults",)),
        FstabEntry("LABEL=a b", "/my data", "ext4", ("defaults",)),
    ]


def test_a_number_sign_begins_a_comment_at_the_start_of_a_line_only() -> None:
    assert parse_fstab("#UUID=1 / ext4\nLABEL=data#1 /data#2 ext4 defaults,x-a=#3 0 2\n") == [
        FstabEntry("LABEL=data#1", "/data#2", "ext4", ("defaults", "x-a=#3")),
    ]


@pytest.mark.parametrize(
    ("source", "volume"),
    [
        ("PARTUUID=abcd-01", ROOT),
        ('UUID="1234-abcd"', ESP),
        ("LABEL=cloudimg", ROOT),
        ("LABEL=CLOUDIMG", None),
        ("PARTLABEL=rootfs", ROOT),
        ("/dev/disk/by-partuuid/ABCD-15", ESP),
        ("/dev/sda1", None),
        ("LABEL=", None),
        ("UUID=other", None),
    ],
)
def test_find_volume(source: str, volume: Volume | None) -> None:
    assert find_volume(FstabEntry(source, "/", "ext4", ()), (ROOT, ESP)) == volume
