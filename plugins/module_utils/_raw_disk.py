# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Tell raw disks from files that only look like one: compressed files, archives, formats with a header or footer, disks with other sectors.

qemu-img calls all of them raw, because a raw disk has no mark of its own. Sources: the magic numbers of file(1); Microsoft's specification of the
virtual hard disk format (the footer of a fixed disk); the UEFI specification (a GPT begins in the second sector, whatever its size).
"""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._errors import IntegrityError, LayoutError

SECTOR = 512
LARGE_SECTOR = 4096
GPT = b"EFI PART"
DOS_MARK = b"\x55\xaa"
# Where the mark is (negative: from the end of the file), the mark, what the file is, and what to do.
UNPACK = "Unpack it with {} first."
MARKS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\x1f\x8b", "a gzip file", UNPACK.format("gunzip")),
    (0, b"\xfd7zXZ\x00", "an xz file", UNPACK.format("unxz")),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file", UNPACK.format("unzstd")),
    (0, b"BZh", "a bzip2 file", UNPACK.format("bunzip2")),
    (0, b"\x04\x22\x4d\x18", "an lz4 file", UNPACK.format("unlz4")),
    (0, b"LZIP", "an lzip file", UNPACK.format("lunzip")),
    (0, b"PK\x03\x04", "a zip archive", "Take the disk out of it with unzip first."),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "Take the disk out of it with 7z first."),
    (257, b"ustar", "a tar archive, as an OVA is", "Take the disk out of it with tar and convert that with qemu-img convert first."),
    (0, b"\x3a\xff\x26\xed", "an Android sparse image", UNPACK.format("simg2img")),
    (0, b"QFI\xfb", "a qcow2 file", "Convert it with qemu-img convert -O raw first."),
    (0, b"KDMV", "a VMDK file", "Convert it with qemu-img convert -O raw first."),
    (0, b"vhdxfile", "a VHDX file", "Convert it with qemu-img convert -O raw first."),
    (0, b"# Disk DescriptorFile", "the description of a VMDK disk, not the disk", "Convert it with qemu-img convert -O raw first."),
    (0x40, b"\x7f\x10\xda\xbe", "a VDI file", "Convert it with qemu-img convert -O raw first."),
    (-512, b"conectix", "a VHD file", "Convert it with qemu-img convert -f vpc -O raw first."),
    (-511, b"conectix", "a VHD file", "Convert it with qemu-img convert -f vpc -O raw first."),
    (-512, b"koly", "an Apple disk image (dmg)", "Convert it with qemu-img convert -f dmg -O raw first."),
)


def foreign_format(path: Path) -> tuple[str, str] | None:
    """What a file is that is no raw disk, and what to do; None for anything that can be one."""
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        for offset, mark, name, remedy in MARKS:
            place = offset if offset >= 0 else size + offset
            if place >= 0 and os.pread(stream.fileno(), len(mark), place) == mark:
                return name, remedy
    return None


def refuse_foreign(path: Path, attempt: str) -> None:
    """Raise LayoutError for a file that is in another format than a raw disk."""
    found = foreign_format(path)
    if found is not None:
        name, remedy = found
        raise LayoutError(f"Cannot {attempt}: it is {name}, where a raw disk is expected. {remedy}")


def refuse_fragment(path: Path, attempt: str) -> None:
    """Raise LayoutError for a file that is too small for any disk, as an empty one or a page that says why a download failed."""
    size = path.stat().st_size
    if size < LARGE_SECTOR:
        raise LayoutError(f"Cannot {attempt}: it has {size} bytes, which is too small for a disk. Make or fetch it again.")


def refuse_other_sectors(path: Path, attempt: str) -> None:
    """Raise LayoutError for a disk that was partitioned with sectors of 4096 bytes. A table says nowhere what its sectors are."""
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        large = _gpt_of_large_sectors(stream, size) or _dos_table_of_large_sectors(stream)
    if large:
        raise LayoutError(
            f"Cannot {attempt}: its partition table is for sectors of {LARGE_SECTOR} bytes, and virtual machines have disks with {SECTOR}. "
            f"Make the disk again with sectors of {SECTOR} bytes, or copy its file systems into one."
        )


def _gpt_of_large_sectors(stream: t.BinaryIO, size: int) -> bool:
    """Whether a GPT begins at 4096, or is left of one in the last sector, and none begins at 512."""
    places = (LARGE_SECTOR, size - LARGE_SECTOR)
    return not _holds(stream, SECTOR, GPT) and any(_holds(stream, place, GPT) for place in places)


def _dos_table_of_large_sectors(stream: t.BinaryIO) -> bool:
    """Whether the partitions of an MBR have file systems when their places count large sectors, and none when they count small ones."""
    starts = [start for start, _sectors in _places(_dos_entries(stream))]
    return any(_has_file_system(stream, start * LARGE_SECTOR) for start in starts if start) and not any(
        _has_file_system(stream, start * SECTOR) for start in starts if start
    )


def _dos_entries(stream: t.BinaryIO) -> list[bytes]:
    """The four entries of an MBR; none where there is no MBR."""
    first = _read(stream, 0, SECTOR)
    if not first.endswith(DOS_MARK) or len(first) < SECTOR:
        return []
    return [first[446 + 16 * number : 462 + 16 * number] for number in range(4)]


def _places(entries: t.Iterable[bytes]) -> list[tuple[int, int]]:
    """Start and length of the partitions of an MBR, in sectors; the one that protects a GPT is left out."""
    return [(int.from_bytes(entry[8:12], "little"), int.from_bytes(entry[12:16], "little")) for entry in entries if entry[4] not in (0, 0xEE)]


def refuse_truncated(path: Path, attempt: str) -> None:
    """Raise IntegrityError for a file that ends before the disk does that its partition table was made for."""
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        entries = _dos_entries(stream)
    # The boot sector of a file system ends with the mark of an MBR, too, and has code where the entries would be.
    places = _places(entries) if all(entry[0] in (0, 0x80) for entry in entries) else []
    end = max([gpt_end(path), *((start + sectors) * SECTOR for start, sectors in places)])
    if end > size:
        raise IntegrityError(
            f"Cannot {attempt}: its partition table is for a disk of {end} bytes, but the file ends at {size}. It is truncated: make or fetch it again."
        )


def gpt_end(path: Path) -> int:
    """Where the disk ends that a GPT was made for, in bytes; 0 when there is none."""
    with path.open("rb") as stream:
        header = _read(stream, SECTOR, SECTOR)
    # The header says where its copy is: in the last sector.
    return (int.from_bytes(header[32:40], "little") + 1) * SECTOR if header.startswith(GPT) else 0


def _has_file_system(stream: t.BinaryIO, start: int) -> bool:
    """Whether ext2 to ext4, XFS, btrfs or FAT begins at a place."""
    boot = _read(stream, start, SECTOR)
    marks = ((1080, b"\x53\xef"), (0, b"XFSB"), (0x10040, b"_BHRfS_M"))
    return b"FAT" in (boot[54:57], boot[82:85]) or any(_holds(stream, start + offset, mark) for offset, mark in marks)


def _holds(stream: t.BinaryIO, offset: int, mark: bytes) -> bool:
    return offset >= 0 and _read(stream, offset, len(mark)) == mark


def _read(stream: t.BinaryIO, offset: int, length: int) -> bytes:
    return os.pread(stream.fileno(), length, offset)
