# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Tell what is in an initramfs: cpio archives in the format newc, one after the other, the last of which may be compressed."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import tempfile
import typing as t
import zlib
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, reason
from ansible_collections.hyperscaler.images.plugins.module_utils._zstd import unpacked_zstd

MAGIC = b"070701"
TRAILER = "TRAILER!!!"
# The header is the magic number and 13 numbers of 8 hexadecimal digits: inode, mode, uid, gid, links, time, size, device (2), rdev (2), length of name, check.
HEADER_BYTES = 110
ZSTD = b"\x28\xb5\x2f\xfd"
GZIP = b"\x1f\x8b"
XZ = b"\xfd7zXZ"


class InitramfsError(ImageError):
    """An initramfs is damaged, or packed in a way that is not known."""


def listing(data: bytes) -> bytes:
    """One line for each member: name, mode, owner, group, device and SHA-256. Times and inode numbers, new in each build, are left out.

    Raises InitramfsError for what is no initramfs.
    """
    lines: list[str] = []
    number, at = 0, 0
    while data[at : at + len(MAGIC)] == MAGIC:
        at = _archive(data, at, number, lines)
        number += 1
    if at < len(data):
        rest = _unpacked(data[at:])
        if rest[: len(MAGIC)] != MAGIC:
            raise InitramfsError(f"Cannot read an initramfs: at {at} is neither an archive nor one that is compressed with zstd, gzip or xz.")
        _archive(rest, 0, number, lines)
    return "\n".join(lines).encode("utf-8", errors="surrogateescape")


def _archive(data: bytes, at: int, number: int, lines: list[str]) -> int:
    """Note the members of the archive at ``at`` and return where it ends, with its padding."""
    while True:
        header = data[at : at + HEADER_BYTES]
        if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
            raise InitramfsError(f"Cannot read an initramfs: archive {number} is damaged at {at}. Build it again with update-initramfs.")
        _inode, mode, uid, gid, _links, _time, size, _major, _minor, rmajor, rminor, length, _check = _numbers(header)
        name = data[at + HEADER_BYTES : at + HEADER_BYTES + length - 1].decode("utf-8", errors="surrogateescape")
        begin = _padded(at + HEADER_BYTES + length)
        at = _padded(begin + size)
        if name == TRAILER:
            while data[at : at + 1] == b"\0":
                at += 1
            return at
        digest = hashlib.sha256(data[begin : begin + size]).hexdigest()
        lines.append(f"{number} {name} {mode:o} {uid} {gid} {rmajor}:{rminor} {digest}")


def _numbers(header: bytes) -> t.Iterator[int]:
    for at in range(len(MAGIC), HEADER_BYTES, 8):
        try:
            yield int(header[at : at + 8], 16)
        except ValueError as problem:
            raise InitramfsError("Cannot read an initramfs: a header is damaged. Build it again with update-initramfs.") from problem


def _padded(offset: int) -> int:
    return (offset + 3) & ~3


def _unpacked(data: bytes) -> bytes:
    try:
        if data.startswith(GZIP):
            return gzip.decompress(data)
        if data.startswith(XZ):
            return lzma.decompress(data)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as problem:
        raise InitramfsError(f"Cannot read an initramfs: {reason(problem)}. Build it again with update-initramfs.") from problem
    if not data.startswith(ZSTD):
        return b""
    with tempfile.NamedTemporaryFile(prefix="hyperscaler-initramfs-") as packed:
        packed.write(data)
        packed.flush()
        with unpacked_zstd(Path(packed.name), reason="read an initramfs that is compressed with zstd", attempt="read an initramfs") as plain:
            return plain.read_bytes()
