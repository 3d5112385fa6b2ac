# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of _raw_formats."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import zlib
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _raw_formats
from ansible_collections.hyperscaler.images.plugins.module_utils._raw_formats import BLOCK, ENDING, combine_crc, data_blocks, gzip_matches, write_gzip

NOISE = random.Random(1).randbytes(BLOCK)
TEXT = (b"a line of text that can be compressed %d\n" * 30000)[: BLOCK // 2]


def sparse_file(path: Path, size: int, *pieces: tuple[int, bytes]) -> Path:
    """A file with holes between the pieces."""
    with path.open("wb") as stream:
        stream.truncate(size)
        for offset, data in pieces:
            stream.seek(offset)
            stream.write(data)
    return path


DISKS = {
    "empty": (0, ()),
    "one hole": (5 * BLOCK, ()),
    "data at the beginning": (4 * BLOCK, ((0, TEXT),)),
    "data at the end": (4 * BLOCK, ((4 * BLOCK - len(TEXT), TEXT),)),
    "data across a border of blocks": (6 * BLOCK, ((BLOCK - 4096, TEXT),)),
    "two pieces in a block": (3 * BLOCK, ((BLOCK, b"one"), (BLOCK + BLOCK // 2, b"two"))),
    "noise": (4 * BLOCK, ((2 * BLOCK, NOISE),)),
    "zeros that are allocated": (3 * BLOCK, ((0, bytes(2 * BLOCK)),)),
    "a short last block": (2 * BLOCK + 512, ((2 * BLOCK, b"end"),)),
    "a short last block of zeros": (2 * BLOCK + 512, ()),
    "more blocks than are in work": (70 * BLOCK, ((3 * BLOCK, TEXT), (65 * BLOCK, NOISE))),
}


@pytest.fixture(params=list(DISKS.values()), ids=list(DISKS))
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    size, pieces = request.param
    return sparse_file(tmp_path / "disk.raw", size, *pieces)


def test_the_gzip_form_is_the_disk(disk: Path) -> None:
    packed = disk.with_name("disk.raw.gz")
    digest = write_gzip(disk, packed)
    assert gzip.decompress(packed.read_bytes()) == disk.read_bytes()
    assert digest == hashlib.sha256(packed.read_bytes()).hexdigest()
    assert gzip_matches(disk, packed)


def test_the_gzip_form_is_one_member(disk: Path) -> None:
    packed = disk.with_name("disk.raw.gz")
    write_gzip(disk, packed)
    engine = zlib.decompressobj(zlib.MAX_WBITS | 16)
    engine.decompress(packed.read_bytes())
    assert engine.eof
    assert engine.unused_data == b""


def test_the_digest_of_a_sparse_file(disk: Path) -> None:
    assert _raw_formats.sparse_digest(disk) == hashlib.sha256(disk.read_bytes()).hexdigest()


def test_the_same_content_gives_the_same_bytes_however_it_is_allocated(tmp_path: Path) -> None:
    sparse = sparse_file(tmp_path / "sparse.raw", 4 * BLOCK, (BLOCK, TEXT))
    full = tmp_path / "full.raw"
    full.write_bytes(sparse.read_bytes())
    assert write_gzip(sparse, tmp_path / "sparse.gz") == write_gzip(full, tmp_path / "full.gz")
    assert gzip_matches(full, tmp_path / "sparse.gz")


def test_the_time_in_the_header(tmp_path: Path) -> None:
    disk = sparse_file(tmp_path / "disk.raw", BLOCK)
    write_gzip(disk, tmp_path / "zero.gz")
    write_gzip(disk, tmp_path / "epoch.gz", mtime=1754000000)
    assert (tmp_path / "zero.gz").read_bytes()[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    assert int.from_bytes((tmp_path / "epoch.gz").read_bytes()[4:8], "little") == 1754000000
    assert gzip_matches(disk, tmp_path / "epoch.gz")


def test_holes_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = sparse_file(tmp_path / "disk.raw", 1000 * BLOCK, (10 * BLOCK, TEXT))
    read: list[int] = []
    pread = os.pread

    def watched(descriptor: int, length: int, offset: int) -> bytes:
        read.append(offset // BLOCK)
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", watched)
    write_gzip(disk, tmp_path / "disk.raw.gz")
    assert gzip_matches(disk, tmp_path / "disk.raw.gz")
    _raw_formats.sparse_digest(disk)
    assert read == [10, 10, 10]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-1], "truncated"),
        (lambda data: data[: len(data) // 2], "half"),
        (lambda data: data[:0], "empty"),
        (lambda data: data + b"\0", "longer"),
        (lambda data: data[:-8] + b"\0\0\0\0" + data[-4:], "other checksum"),
        (lambda data: data[:2000] + bytes([data[2000] ^ 1]) + data[2001:], "a bit in the data"),
        (lambda data: b"PK" + data[2:], "no gzip"),
        (lambda data: gzip.compress(gzip.decompress(data)), "made by another program"),
    ],
)
def test_another_file_does_not_match(tmp_path: Path, change: object, reason: str) -> None:
    disk = sparse_file(tmp_path / "disk.raw", 4 * BLOCK, (BLOCK, NOISE))
    packed = tmp_path / "disk.raw.gz"
    write_gzip(disk, packed)
    packed.write_bytes(change(packed.read_bytes()))  # type: ignore[operator]
    assert not gzip_matches(disk, packed), reason


@pytest.mark.parametrize("size", [3 * BLOCK, 5 * BLOCK])
def test_a_disk_of_another_size_does_not_match(tmp_path: Path, size: int) -> None:
    write_gzip(sparse_file(tmp_path / "disk.raw", 4 * BLOCK), tmp_path / "disk.raw.gz")
    assert not gzip_matches(sparse_file(tmp_path / "other.raw", size), tmp_path / "disk.raw.gz")


def test_content_that_holds_the_ending_of_a_block(tmp_path: Path) -> None:
    """A disk that holds a file made here, which cannot be compressed again, is the case that matters."""
    inner = sparse_file(tmp_path / "inner.raw", 3 * BLOCK, (0, NOISE), (2 * BLOCK, NOISE))
    write_gzip(inner, tmp_path / "inner.gz")
    nested = (tmp_path / "inner.gz").read_bytes()
    assert ENDING in zlib.compress(nested[:BLOCK], 4)[:-8] or ENDING in nested
    disk = sparse_file(tmp_path / "disk.raw", 6 * BLOCK, (100, nested), (5 * BLOCK - 4, ENDING))
    write_gzip(disk, tmp_path / "disk.gz")
    assert gzip.decompress((tmp_path / "disk.gz").read_bytes()) == disk.read_bytes()
    assert gzip_matches(disk, tmp_path / "disk.gz")


def test_the_ending_is_only_at_the_end_of_a_block() -> None:
    data = NOISE[: BLOCK // 2] + ENDING + NOISE[BLOCK // 2 : -4]
    first_choice = zlib.compressobj(_raw_formats.LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
    assert ENDING in (first_choice.compress(data) + first_choice.flush(zlib.Z_SYNC_FLUSH))[:-4]
    packed = _raw_formats._deflate(data)
    assert packed.find(ENDING) == len(packed) - len(ENDING)
    assert zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed) == data


@pytest.mark.parametrize("length", [0, 1, 511, BLOCK, 3 * BLOCK + 7])
def test_checksums_are_combined(length: int) -> None:
    first, second = b"the first piece", (NOISE * 4)[:length]
    assert combine_crc(zlib.crc32(first), zlib.crc32(second), length) == zlib.crc32(first + second)


@pytest.mark.parametrize(
    ("extents", "size", "blocks"),
    [
        ([], 0, ""),
        ([], 40, "...."),
        ([(0, 40)], 40, "####"),
        ([(10, 20)], 40, ".#.."),
        ([(11, 12), (14, 15)], 40, ".#.."),
        ([(9, 11)], 40, "##.."),
        ([(5, 6), (25, 26)], 40, "#.#."),
        ([(8, 12), (18, 22)], 40, "###."),
        ([], 35, "...#"),
        ([(34, 35)], 35, "...#"),
    ],
)
def test_blocks_that_have_to_be_read(extents: list[tuple[int, int]], size: int, blocks: str) -> None:
    assert list(data_blocks(extents, size, block=10)) == [(index, sign == "#") for index, sign in enumerate(blocks)]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 0

    def pieces() -> object:
        nonlocal taken
        for index in range(1000):
            taken += 1
            yield index

    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    results = _raw_formats._in_order(lambda index: index * 2, pieces())  # type: ignore[arg-type]
    assert next(results) == 0
    assert taken <= 6
    assert list(results) == [index * 2 for index in range(1, 1000)]
