# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Rules on the disk below the files: the partition table, the boot code, and the health of each file system."""

from __future__ import annotations

import dataclasses
import struct
import typing as t
import zlib

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._disk_layout import GPT_BIOS_BOOT, GPT_ESP, PartitionTable
from ansible_collections.hyperscaler.images.plugins.module_utils._file_systems import KINDS
from ansible_collections.hyperscaler.images.plugins.module_utils._fstab import Volume
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Finding, error
from ansible_collections.hyperscaler.images.plugins.module_utils._raw_disk import GPT

DISK = "disk"
GPT_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
BOOT_CODE = 440
CORE_ADDRESS = 0x5C
EXT_RECOVER, EXT_CLEAN, EXT_ORPHANS = 0x4, 0x1, 0x10000
EXTS = ("ext2", "ext3", "ext4")
XFS_DIRTY = "valuable metadata changes in a log"
CHECKERS = {
    **{name: (kind.check, kind.package) for name, kind in KINDS.items()},
    **{name: (KINDS["ext4"].check, KINDS["ext4"].package) for name in EXTS},
    "vfat": (("fsck.fat", "-n"), "dosfstools"),
}

PARTITION_TABLE = error("disk.partition_table", "Repair it with sfdisk or sgdisk (the backup table must lie at the end of the disk), or build the image again.")
BOOT_CODE_RULE = error("disk.boot_code", "Run grub-install --target=i386-pc on the disk of the image; the BIOS boot partition is there for it.")
BOOT_PATH = error("disk.boot_path", "Give the image a BIOS boot partition with GRUB, or an EFI system partition with a loader.")
UNCLEAN = error("file_system.unclean", "Unmount the file system in an orderly way before the image is closed.")
DAMAGED = error("file_system.damaged", "Build the image again; a file system that was repaired behind its back may have lost files.")
UNREADABLE = error("file_system.unreadable", "Build the image again; its files could not be inspected.")
RULES = (PARTITION_TABLE, BOOT_CODE_RULE, BOOT_PATH, UNCLEAN, DAMAGED, UNREADABLE)


@dataclasses.dataclass(frozen=True)
class GptHeader:
    """The fields of a GPT header that must agree with each other and with its copy."""

    own: int
    other: int
    first: int
    last: int
    disk_id: bytes
    entries_at: int
    entries_crc: int
    entries: bytes


def check_table(stream: t.BinaryIO, size: int, table: PartitionTable) -> t.Iterator[Finding]:
    """Both copies of the GPT are whole and agree, and the partitions lie apart from each other on the disk."""
    if table.label == "gpt":
        sector = table.sector_size
        try:
            primary = read_gpt(stream, 1, sector)
            backup = read_gpt(stream, size // sector - 1, sector)
        except ValueError as problem:
            yield PARTITION_TABLE.at(DISK, f"has a damaged GPT: {problem}.")
        else:
            if (primary.disk_id, primary.entries_crc, primary.other) != (backup.disk_id, backup.entries_crc, backup.own):
                yield PARTITION_TABLE.at(DISK, "has a backup GPT that differs from the primary one.")
    end = 0
    for partition in table.partitions:
        if partition.start < end and table.label == "gpt":
            yield PARTITION_TABLE.at(DISK, f"has a partition {partition.number} that overlaps the one before it.")
        if partition.end > size:
            yield PARTITION_TABLE.at(DISK, f"has a partition {partition.number} that ends behind the disk: the file was truncated.")
        end = max(end, partition.end)


def read_gpt(stream: t.BinaryIO, lba: int, sector: int) -> GptHeader:
    """One copy of the GPT. Raises ValueError with the reason when it is not valid."""
    where = "the primary header" if lba == 1 else f"the backup header at the end of the disk (sector {lba})"
    stream.seek(lba * sector)
    raw = stream.read(sector)
    if len(raw) < GPT_HEADER.size or not raw.startswith(GPT):
        raise ValueError(f"{where} is missing")
    _magic, _revision, length, crc, _zero, own, other, first, last, disk_id, entries_at, count, entry_size, entries_crc = GPT_HEADER.unpack_from(raw)
    if not GPT_HEADER.size <= length <= sector or zlib.crc32(raw[:16] + b"\0\0\0\0" + raw[20:length]) != crc:
        raise ValueError(f"{where} has a wrong checksum")
    if own != lba:
        raise ValueError(f"{where} belongs to sector {own}")
    stream.seek(entries_at * sector)
    entries = stream.read(count * entry_size)
    if zlib.crc32(entries) != entries_crc:
        raise ValueError(f"the partition entries of {where} have a wrong checksum")
    return GptHeader(own, other, first, last, disk_id, entries_at, entries_crc, entries)


def check_boot_code(stream: t.BinaryIO, table: PartitionTable) -> t.Iterator[Finding]:
    """Every way of booting that the partition table promises has something to start."""
    bios, esp = table.of_type(GPT_BIOS_BOOT), [*table.of_type(GPT_ESP), *table.of_type("ef")]
    stream.seek(0)
    code = stream.read(BOOT_CODE)
    has_code = any(code)
    if not has_code and bios:
        yield BOOT_CODE_RULE.at(DISK, "has a BIOS boot partition but no boot code in its first sector.")
    elif not has_code and not esp:
        yield BOOT_PATH.at(DISK, "has neither boot code nor an EFI system partition, so no firmware can start it.")
    elif has_code and b"GRUB" in code:
        yield from _check_core(stream, table, code)


def _check_core(stream: t.BinaryIO, table: PartitionTable, code: bytes) -> t.Iterator[Finding]:
    """GRUB's boot sector names the sector where the rest of GRUB begins."""
    (lba,) = struct.unpack_from("<Q", code, CORE_ADDRESS)
    address = lba * table.sector_size
    bios = table.of_type(GPT_BIOS_BOOT)
    if table.label == "gpt" and not any(partition.start <= address < partition.end for partition in bios):
        yield BOOT_CODE_RULE.at(DISK, f"has GRUB boot code that loads sector {lba}, which lies in no BIOS boot partition.")
        return
    stream.seek(address)
    if not any(stream.read(table.sector_size)):
        yield BOOT_CODE_RULE.at(DISK, f"has GRUB boot code that loads sector {lba}, but that sector is empty: GRUB's core image is missing.")


def place_of(volume: Volume) -> str:
    """What findings call a partition."""
    return f"partition {volume.number}"


def unclean_reason(stream: t.BinaryIO, start: int, kind: str) -> str:
    """Why a file system was not unmounted as it should, or nothing; read from its superblock."""
    stream.seek(start)
    head = stream.read(0x11000)
    reader = {"btrfs": _btrfs, "vfat": _vfat, **dict.fromkeys(EXTS, _ext)}.get(kind)
    return reader(head) if reader and len(head) == 0x11000 else ""


def _ext(head: bytes) -> str:
    (state,) = struct.unpack_from("<H", head, 1024 + 0x3A)
    incompatible, read_only = struct.unpack_from("<II", head, 1024 + 0x60)
    if incompatible & EXT_RECOVER:
        return "its journal has changes that were not written (it was not unmounted)"
    if not state & EXT_CLEAN or state & ~EXT_CLEAN:
        return "it is not marked clean (it was not unmounted, or has errors)"
    return "it lists files that were deleted while open (it was not unmounted)" if read_only & EXT_ORPHANS else ""


def _btrfs(head: bytes) -> str:
    (log_root,) = struct.unpack_from("<Q", head, 0x10000 + 0x60)
    return "its log tree has changes that were not written (it was not unmounted)" if log_root else ""


def _vfat(head: bytes) -> str:
    dirty = head[0x41] if head[0x52:0x57] == b"FAT32" else head[0x25]
    return "its dirty bit is set (it was not unmounted)" if dirty & 1 else ""


def check_health(volume: Volume) -> t.Iterator[Finding]:
    """The read-only checker of the file system finds nothing."""
    if volume.type not in CHECKERS:
        return
    (program, *arguments), package = CHECKERS[volume.type]
    checker = Command(program, reason=f"check {volume.type} file systems", package=package)
    done = checker.run(*arguments, volume.node, attempt=f"check {place_of(volume)} ({volume.type})", accepted=range(256))
    output = done.stdout + done.stderr
    if volume.type == "xfs" and XFS_DIRTY in output:
        yield UNCLEAN.at(place_of(volume), "holds an XFS file system that is not clean: its log has changes that were not written (it was not unmounted).")
    elif done.rc:
        last = " | ".join(line.strip() for line in output.strip().splitlines()[-6:])
        yield DAMAGED.at(place_of(volume), f"holds a damaged {volume.type} file system; {program} ended with {done.rc}: {last}.")
