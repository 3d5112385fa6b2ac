# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Raw disk images, read without their holes, and their gzip form.

A gzip file written here is one ordinary member. Its content is cut into blocks of 1 MiB, each compressed on its own and ended on a byte
boundary, so that all processors can work at once and every block of zeros is the same piece of bytes, compressed once and never read.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import errno
import functools
import hashlib
import itertools
import os
import struct
import typing as t
import zlib
from pathlib import Path

BLOCK = 1 << 20
# Level 4 is within 3 % of the size of level 6, gzip's own default, and takes less than half of its time.
LEVEL = 4
CODINGS = (
    (LEVEL, zlib.Z_DEFAULT_STRATEGY),
    *((level, zlib.Z_DEFAULT_STRATEGY) for level in (5, 6, 7, 8, 9, 3, 2)),
    (LEVEL, zlib.Z_HUFFMAN_ONLY),
    (LEVEL, zlib.Z_FIXED),
    (LEVEL, zlib.Z_RLE),
)
MEMORY_LEVEL = 9
ENDING = b"\x00\x00\xff\xff"
LAST_BLOCK = b"\x03\x00"
HEADER = struct.Struct("<4sIBB")
TRAILER = struct.Struct("<II")
MAGIC = b"\x1f\x8b\x08\x00"
UNKNOWN_SYSTEM = 255
ZEROS = bytes(BLOCK)
MASK = 0xFFFFFFFF
POLYNOMIAL = 0xEDB88320

Result = t.TypeVar("Result")
Piece = t.TypeVar("Piece")


def _deflate(data: bytes) -> bytes:
    """Compress a block so that the bytes that end it are nowhere else in it: that is how the blocks are found again.

    They are in one block of some thousands by chance, more often where the data is itself a file from here; another coding moves them.
    """
    packed = b""
    for level, strategy in CODINGS:
        engine = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, MEMORY_LEVEL, strategy)
        packed = engine.compress(data) + engine.flush(zlib.Z_SYNC_FLUSH)
        if packed.find(ENDING) == len(packed) - len(ENDING):
            break
    return packed


ZERO_BLOCK = _deflate(ZEROS)
ZERO_CRC = zlib.crc32(ZEROS)


def data_extents(descriptor: int, size: int) -> t.Iterator[tuple[int, int]]:
    """The parts of a file that are not holes, as offset and end."""
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        position = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, position


def data_blocks(extents: t.Iterable[tuple[int, int]], size: int, block: int = BLOCK) -> t.Iterator[tuple[int, bool]]:
    """Every block of a file in order, with whether it has to be read; a last block that is shorter always is."""
    following = 0
    count = -(-size // block)
    for start, end in extents:
        for index in range(following, max(following, start // block)):
            yield index, False
        first = max(following, start // block)
        following = max(first, -(-end // block))
        for index in range(first, following):
            yield index, True
    for index in range(following, count):
        yield index, bool(size % block) and index == count - 1


def write_gzip(source: Path, destination: Path, mtime: int = 0) -> str:
    """Write the gzip form of a raw file and return its sha256; ``mtime`` is the time in the header, in seconds since 1970."""
    digest = hashlib.sha256()
    with source.open("rb") as raw, destination.open("wb") as packed:

        def put(data: bytes) -> None:
            packed.write(data)
            digest.update(data)

        put(HEADER.pack(MAGIC, mtime & MASK, 0, UNKNOWN_SYSTEM))
        size = os.fstat(raw.fileno()).st_size
        crc = 0
        pack = functools.partial(_pack_block, raw.fileno())
        with contextlib.closing(_in_order(pack, data_blocks(data_extents(raw.fileno(), size), size))) as blocks:
            for data, part_crc, length in blocks:
                put(data)
                crc = combine_crc(crc, part_crc, length)
        put(LAST_BLOCK + TRAILER.pack(crc, size & MASK))
    return digest.hexdigest()


def gzip_matches(source: Path, packed: Path) -> bool:
    """Tell whether a gzip file that was written here is sound and holds the content of a raw file."""
    with source.open("rb") as raw, packed.open("rb") as stream:
        if stream.read(HEADER.size)[: len(MAGIC)] != MAGIC:
            return False
        size = os.fstat(raw.fileno()).st_size
        crc = 0
        with contextlib.closing(_in_order(_inflate, _segments(stream))) as blocks:
            for index, is_data in data_blocks(data_extents(raw.fileno(), size), size):
                expected = os.pread(raw.fileno(), BLOCK, index * BLOCK) if is_data else ZEROS
                _segment, content = next(blocks, (b"", None))
                if content != expected:
                    return False
                crc = combine_crc(crc, ZERO_CRC if expected is ZEROS else zlib.crc32(expected), len(expected))
            rest = b"".join(segment for segment, _content in itertools.islice(blocks, 4))
        return rest == LAST_BLOCK + TRAILER.pack(crc, size & MASK)


def sparse_digest(path: Path) -> str:
    """The sha256 of a raw file, without reading its holes."""
    digest = hashlib.sha256()
    with path.open("rb") as raw:
        size = os.fstat(raw.fileno()).st_size
        for index, is_data in data_blocks(data_extents(raw.fileno(), size), size):
            digest.update(os.pread(raw.fileno(), BLOCK, index * BLOCK) if is_data else ZEROS)
    return digest.hexdigest()


def combine_crc(first: int, second: int, length: int) -> int:
    """The CRC-32 of two pieces of data in sequence; ``length`` is that of the second."""
    return _multiply(_shift(length), first) ^ second


def _multiply(left: int, right: int) -> int:
    """The product of two polynomials over GF(2) modulo that of CRC-32, the lowest power in the highest bit."""
    product = 0
    for bit in range(31, -1, -1):
        if left >> bit & 1:
            product ^= right
        right = right >> 1 ^ (POLYNOMIAL if right & 1 else 0)
    return product


@functools.lru_cache(maxsize=16)
def _shift(length: int) -> int:
    """The polynomial x to the power of eight times ``length``."""
    power, result = 1 << 30, 1 << 31
    exponent = length * 8
    while exponent:
        if exponent & 1:
            result = _multiply(power, result)
        power = _multiply(power, power)
        exponent >>= 1
    return result


def _pack_block(descriptor: int, block: tuple[int, bool]) -> tuple[bytes, int, int]:
    index, is_data = block
    data = os.pread(descriptor, BLOCK, index * BLOCK) if is_data else ZEROS
    if data == ZEROS:
        return ZERO_BLOCK, ZERO_CRC, BLOCK
    return _deflate(data), zlib.crc32(data), len(data)


def _segments(stream: t.BinaryIO) -> t.Iterator[bytes]:
    """Cut a deflate stream after every block."""
    pending = bytearray()
    while chunk := stream.read(BLOCK):
        pending += chunk
        start = 0
        while (found := pending.find(ENDING, start)) >= 0:
            end = found + len(ENDING)
            yield bytes(pending[start:end])
            start = end
        del pending[:start]
    yield bytes(pending)


def _inflate(segment: bytes) -> tuple[bytes, bytes | None]:
    """A block and its content, which is None when the block is damaged."""
    if segment == ZERO_BLOCK:
        return segment, ZEROS
    try:
        return segment, zlib.decompressobj(-zlib.MAX_WBITS).decompress(segment, BLOCK + 1)
    except zlib.error:
        return segment, None


def _in_order(work: t.Callable[[Piece], Result], pieces: t.Iterable[Piece]) -> t.Generator[Result, None, None]:
    """The results of ``work`` in the order of the pieces, made by all processors, with few of them in memory."""
    workers = len(os.sched_getaffinity(0))
    pending: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for piece in pieces:
            pending.append(pool.submit(work, piece))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
