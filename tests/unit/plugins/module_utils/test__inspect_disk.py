# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules on partition tables, boot code and file systems."""

from __future__ import annotations

import io
import struct
import typing as t
import zlib

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _inspect_disk as disk
from ansible_collections.hyperscaler.images.plugins.module_utils._command import CommandResult
from ansible_collections.hyperscaler.images.plugins.module_utils._disk_layout import GPT_BIOS_BOOT, GPT_ESP, GPT_ROOT, Partition, PartitionTable
from ansible_collections.hyperscaler.images.plugins.module_utils._fstab import Volume

SECTOR = 512
SECTORS = 2048
BIOS = Partition(14, 64 * SECTOR, 64 * SECTOR, GPT_BIOS_BOOT)
ESP = Partition(15, 128 * SECTOR, 64 * SECTOR, GPT_ESP)
ROOT = Partition(1, 192 * SECTOR, 1024 * SECTOR, GPT_ROOT["amd64"])
TABLE = PartitionTable("gpt", "", SECTOR, (BIOS, ESP, ROOT))
CORE_SECTOR = 64


def header(own: int, other: int, entries_at: int, entries: bytes, disk_id: bytes = b"D" * 16) -> bytes:
    fields = [b"EFI PART", 0x10000, 92, 0, 0, own, other, 34, SECTORS - 34, disk_id, entries_at, 128, 128, zlib.crc32(entries)]
    raw = bytearray(disk.GPT_HEADER.pack(*fields))
    raw[16:20] = struct.pack("<I", zlib.crc32(raw))
    return bytes(raw)


def make_disk() -> bytearray:
    """A disk with both copies of a GPT, GRUB's boot code and the first sector of its core image."""
    data = bytearray(SECTORS * SECTOR)
    entries = bytes(range(128)) * 128
    data[SECTOR : SECTOR + 92] = header(1, SECTORS - 1, 2, entries)
    data[2 * SECTOR : 34 * SECTOR] = entries
    data[(SECTORS - 33) * SECTOR : (SECTORS - 1) * SECTOR] = entries
    data[(SECTORS - 1) * SECTOR : (SECTORS - 1) * SECTOR + 92] = header(SECTORS - 1, 1, SECTORS - 33, entries)
    data[0:3] = b"\xeb\x63\x90"
    data[disk.CORE_ADDRESS : disk.CORE_ADDRESS + 8] = struct.pack("<Q", CORE_SECTOR)
    data[0x180:0x185] = b"GRUB "
    data[CORE_SECTOR * SECTOR : CORE_SECTOR * SECTOR + 4] = b"core"
    return data


def table_findings(data: bytes, table: PartitionTable = TABLE) -> list[str]:
    return [f"{finding.rule} {finding.path} {finding.message}" for finding in disk.check_table(io.BytesIO(data), len(data), table)]


def boot_findings(data: bytes, table: PartitionTable = TABLE) -> list[str]:
    return [f"{finding.rule} {finding.message}" for finding in disk.check_boot_code(io.BytesIO(data), table)]


def test_a_sound_disk_has_no_finding() -> None:
    assert table_findings(make_disk()) == []
    assert boot_findings(make_disk()) == []


@pytest.mark.parametrize(
    ("offset", "message"),
    [
        (SECTOR, "the primary header is missing"),
        (SECTOR + 40, "the primary header has a wrong checksum"),
        (2 * SECTOR + 5, "the partition entries of the primary header have a wrong checksum"),
        ((SECTORS - 1) * SECTOR, f"the backup header at the end of the disk (sector {SECTORS - 1}) is missing"),
        ((SECTORS - 33) * SECTOR, f"the partition entries of the backup header at the end of the disk (sector {SECTORS - 1}) have a wrong checksum"),
    ],
)
def test_one_changed_byte_of_the_gpt_is_found(offset: int, message: str) -> None:
    data = make_disk()
    data[offset] ^= 0xFF
    assert table_findings(data) == [f"disk.partition_table disk has a damaged GPT: {message}."]


def test_a_grown_disk_has_its_backup_in_the_wrong_place() -> None:
    assert "is missing" in table_findings(make_disk() + bytes(SECTOR))[0]


def test_a_header_in_the_wrong_sector_is_found() -> None:
    data = make_disk()
    data[SECTOR : SECTOR + 92] = header(5, SECTORS - 1, 2, bytes(range(128)) * 128)
    assert table_findings(data) == ["disk.partition_table disk has a damaged GPT: the primary header belongs to sector 5."]


def test_two_copies_that_differ_are_found() -> None:
    data = make_disk()
    data[(SECTORS - 1) * SECTOR : (SECTORS - 1) * SECTOR + 92] = header(SECTORS - 1, 1, SECTORS - 33, bytes(range(128)) * 128, b"E" * 16)
    assert table_findings(data) == ["disk.partition_table disk has a backup GPT that differs from the primary one."]


def test_overlapping_partitions_are_found() -> None:
    table = PartitionTable("gpt", "", SECTOR, (BIOS, Partition(2, BIOS.start + SECTOR, SECTOR, GPT_ESP)))
    assert table_findings(make_disk(), table) == ["disk.partition_table disk has a partition 2 that overlaps the one before it."]


def test_a_truncated_file_is_found() -> None:
    table = PartitionTable("dos", "", SECTOR, (Partition(1, SECTOR, SECTORS * SECTOR, "83"),))
    assert table_findings(make_disk(), table) == ["disk.partition_table disk has a partition 1 that ends behind the disk: the file was truncated."]


def test_a_bios_boot_partition_needs_boot_code() -> None:
    data = make_disk()
    data[:440] = bytes(440)
    assert boot_findings(data) == ["disk.boot_code has a BIOS boot partition but no boot code in its first sector."]


def test_boot_code_needs_the_core_image() -> None:
    data = make_disk()
    data[CORE_SECTOR * SECTOR : CORE_SECTOR * SECTOR + 4] = bytes(4)
    assert boot_findings(data) == [
        f"disk.boot_code has GRUB boot code that loads sector {CORE_SECTOR}, but that sector is empty: GRUB's core image is missing."
    ]


def test_the_core_image_lies_in_the_bios_boot_partition() -> None:
    data = make_disk()
    data[disk.CORE_ADDRESS : disk.CORE_ADDRESS + 8] = struct.pack("<Q", 1)
    assert boot_findings(data) == ["disk.boot_code has GRUB boot code that loads sector 1, which lies in no BIOS boot partition."]


def test_a_disk_for_uefi_alone_is_sound() -> None:
    assert boot_findings(bytes(SECTORS * SECTOR), PartitionTable("gpt", "", SECTOR, (ESP, ROOT))) == []


def test_a_disk_that_nothing_can_start_is_found() -> None:
    found = boot_findings(bytes(SECTORS * SECTOR), PartitionTable("gpt", "", SECTOR, (ROOT,)))
    assert found == ["disk.boot_path has neither boot code nor an EFI system partition, so no firmware can start it."]


def superblock(offset: int, value: bytes) -> t.BinaryIO:
    data = bytearray(0x12000)
    data[512 + 1024 + 0x3A] = 1
    data[512 + offset : 512 + offset + len(value)] = value
    return io.BytesIO(data)


@pytest.mark.parametrize(
    ("kind", "offset", "value", "reason"),
    [
        ("ext4", 0, b"", ""),
        ("ext4", 1024 + 0x60, struct.pack("<I", 0x2C6), "its journal has changes that were not written (it was not unmounted)"),
        ("ext4", 1024 + 0x60, struct.pack("<I", 0x2C2), ""),
        ("ext4", 1024 + 0x3A, struct.pack("<H", 0), "it is not marked clean (it was not unmounted, or has errors)"),
        ("ext4", 1024 + 0x3A, struct.pack("<H", 3), "it is not marked clean (it was not unmounted, or has errors)"),
        ("ext4", 1024 + 0x64, struct.pack("<I", 0x10000), "it lists files that were deleted while open (it was not unmounted)"),
        ("ext4", 1024 + 0x64, struct.pack("<I", 0x46B), ""),
        ("btrfs", 0x10060, struct.pack("<Q", 30408704), "its log tree has changes that were not written (it was not unmounted)"),
        ("btrfs", 0x10060, bytes(8), ""),
        ("vfat", 0x25, b"\x01", "its dirty bit is set (it was not unmounted)"),
        ("vfat", 0x41, b"\x01" + bytes(16) + b"FAT32", "its dirty bit is set (it was not unmounted)"),
        ("vfat", 0x52, b"FAT32", ""),
        ("xfs", 0, b"XFSB", ""),
        ("", 0, b"", ""),
    ],
)
def test_unclean_file_systems(kind: str, offset: int, value: bytes, reason: str) -> None:
    assert disk.unclean_reason(superblock(offset, value), 512, kind) == reason


class FakeChecker:
    """Stands for the checker of a file system."""

    rc = 0
    output = ""
    calls: t.ClassVar[list[tuple[str, ...]]] = []

    def __init__(self, program: str, *, reason: str, package: str) -> None:
        self.words = (program, reason, package)

    def run(self, *args: str, attempt: str, accepted: t.Collection[int]) -> CommandResult:
        assert 255 in accepted
        self.calls.append((self.words[0], *args, attempt))
        return CommandResult((), self.rc, self.output, "", 0.1)


@pytest.fixture
def checker(monkeypatch: pytest.MonkeyPatch) -> type[FakeChecker]:
    class Checker(FakeChecker):
        calls: t.ClassVar[list[tuple[str, ...]]] = []

    monkeypatch.setattr(disk, "Command", Checker)
    return Checker


def volume(kind: str) -> Volume:
    return Volume(1, "/dev/loop7p1", kind, "", "", "", "")


@pytest.mark.parametrize(
    ("kind", "argv"),
    [
        ("ext4", ("e2fsck", "-f", "-n", "/dev/loop7p1", "check partition 1 (ext4)")),
        ("ext2", ("e2fsck", "-f", "-n", "/dev/loop7p1", "check partition 1 (ext2)")),
        ("xfs", ("xfs_repair", "-n", "/dev/loop7p1", "check partition 1 (xfs)")),
        ("btrfs", ("btrfs", "check", "--readonly", "/dev/loop7p1", "check partition 1 (btrfs)")),
        ("vfat", ("fsck.fat", "-n", "/dev/loop7p1", "check partition 1 (vfat)")),
    ],
)
def test_every_checker_only_reads(kind: str, argv: tuple[str, ...], checker: type[FakeChecker]) -> None:
    assert list(disk.check_health(volume(kind))) == []
    assert checker.calls == [argv]


def test_other_volumes_are_not_checked(checker: type[FakeChecker]) -> None:
    assert list(disk.check_health(volume("swap"))) == []
    assert checker.calls == []


def test_damage_is_reported_with_the_last_lines_of_the_checker(checker: type[FakeChecker]) -> None:
    checker.rc, checker.output = 4, "\n".join(f"line {number}" for number in range(9))
    (finding,) = disk.check_health(volume("ext4"))
    assert finding.rule == "file_system.damaged"
    assert finding.path == "partition 1"
    assert finding.message == "holds a damaged ext4 file system; e2fsck ended with 4: line 3 | line 4 | line 5 | line 6 | line 7 | line 8."


def test_a_dirty_log_of_xfs_is_not_called_damage(checker: type[FakeChecker]) -> None:
    checker.rc = 1
    checker.output = "ALERT: The filesystem has valuable metadata changes in a log which is being\nignored because the -n option was used."
    assert [finding.rule for finding in disk.check_health(volume("xfs"))] == ["file_system.unclean"]
