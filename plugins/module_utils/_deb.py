# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Read Debian package files without dpkg, and prove that they are whole."""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import gzip
import hashlib
import io
import lzma
import os
import re
import shutil
import stat
import tarfile
import tempfile
import typing as t
import zlib
from pathlib import Path, PurePosixPath

from ansible_collections.hyperscaler.images.plugins.module_utils._deb_control import Package, package_from, parse_fields, split_paragraphs
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, IntegrityError, reason
from ansible_collections.hyperscaler.images.plugins.module_utils._zstd import unpacked_zstd

AR_MAGIC = b"!<arch>\n"
AR_HEADER = 60
AR_END = b"`\n"
LARGEST_CONTROL = 4 << 20
LARGEST_SUMS = 256 << 20
CHUNK = 1 << 20

# A digest, then one or two characters before the name: two blanks, or a blank and an asterisk for "binary"; some tools write one blank only.
SUM = re.compile(r"\\?([0-9A-Fa-f]{32}) [ *]?(.+)")


@dataclasses.dataclass(frozen=True)
class _Member:
    name: str
    offset: int
    size: int


@dataclasses.dataclass(frozen=True)
class Reading:
    """What was found in a package file: ``trouble`` is why it cannot be used, empty when it can.

    Of a file that says nothing of itself, ``package`` has only the name that stands in the file's name.
    """

    package: Package
    trouble: str = ""


class _Region(io.RawIOBase):
    """A part of an open file, as a file of its own."""

    def __init__(self, stream: t.BinaryIO, member: _Member) -> None:
        super().__init__()
        self._stream = stream
        self._left = member.size
        stream.seek(member.offset)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        data = self._stream.read(min(len(buffer), self._left))
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)


@contextlib.contextmanager
def open_regular(path: Path) -> t.Iterator[t.BinaryIO]:
    """Open a file for reading; links, devices, pipes and sockets are refused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        why = "it is a symbolic link" if path.is_symlink() else error.strerror
        raise IntegrityError(f"Cannot read the package {path}: {why}. Put the file itself there, readable.", path=str(path)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IntegrityError(f"Cannot read the package {path}: it is not a regular file. Remove it.", path=str(path))
    with os.fdopen(descriptor, "rb") as stream:
        yield stream


def read_deb(path: Path) -> Package:
    """The control fields of a package file that was read to its end; raises IntegrityError when it cannot be used."""
    reading = look_into(path)
    if reading.trouble:
        raise IntegrityError(reading.trouble, path=str(path))
    return reading.package


def look_into(path: Path) -> Reading:
    """Read a package file to its end. Whatever is wrong with it is told and not raised, because nothing may ask for it."""
    package = Package(path.name.partition("_")[0].removesuffix(".deb").lower(), "", "")
    try:
        with open_regular(path) as stream:
            members = _members(stream)
            control, sums = _read_control(stream, members["control.tar"])
            package = _package_of(control)
            _check_data(stream, members["data.tar"], sums)
    except IntegrityError as error:
        return Reading(package, str(error))
    except _UnfitError as error:
        return Reading(package, f"Cannot use the package {path}: {error}. Build it again with other fields, or remove it.")
    except (ValueError, EOFError, OSError, tarfile.TarError, lzma.LZMAError, zlib.error, CommandError) as error:
        return Reading(package, f"Cannot use the package {path}: {reason(error)}. The file is damaged or incomplete; fetch or build it again.")
    return Reading(package)


class _UnfitError(ValueError):
    """The file is whole, but dpkg would not install what it holds."""


def _package_of(control: str) -> Package:
    paragraphs = split_paragraphs(control)
    if len(paragraphs) != 1:
        raise _UnfitError(f"its control file has {len(paragraphs)} paragraphs instead of one")
    try:
        fields = parse_fields(paragraphs[0])
    except ValueError as error:
        raise _UnfitError(f"its control file is wrong, {error}") from error
    try:
        return package_from(fields)
    except ValueError as error:
        raise _UnfitError(str(error)) from error


def _members(stream: t.BinaryIO) -> dict[str, _Member]:
    """The two archives in a package file, by their names without the compression. What comes after them is nothing to dpkg."""
    found: dict[str, _Member] = {}
    wanted = iter(("control.tar", "data.tar"))
    kind = next(wanted)
    for index, member in enumerate(_walk(stream)):
        if index == 0:
            stream.seek(member.offset)
            if member.name != "debian-binary" or not stream.read(min(member.size, 16)).startswith(b"2."):
                raise ValueError("it does not begin with the mark of a Debian package of format 2")
        elif member.name.startswith(kind):
            if kind == "control.tar" and member.name.endswith((".bz2", ".lzma")):
                raise ValueError(f"its part {member.name!r} is compressed in a way that dpkg has for data only")
            found[kind] = member
            kind = next(wanted, "")
            if not kind:
                return found
        elif not member.name.startswith("_"):
            raise ValueError(f"it has a part {member.name!r} before {kind}")
    raise ValueError(f"it has no part {kind}")


def _walk(stream: t.BinaryIO) -> t.Iterator[_Member]:
    size = os.fstat(stream.fileno()).st_size
    stream.seek(0)
    if stream.read(len(AR_MAGIC)) != AR_MAGIC:
        raise ValueError("it is not an ar archive" if size else "it is empty")
    offset = len(AR_MAGIC)
    while offset < size:
        stream.seek(offset)
        header = stream.read(AR_HEADER)
        if len(header) < AR_HEADER:
            raise ValueError(f"it ends within the header of a part, at byte {size}")
        if header[58:60] != AR_END or not re.fullmatch(rb"\d+ *", header[48:58]):
            raise ValueError(f"the header of a part at byte {offset} is damaged")
        name = header[:16].decode("ascii", "replace").rstrip(" ").rstrip("/")
        member = _Member(name, offset + AR_HEADER, int(header[48:58]))
        if member.offset + member.size > size:
            raise ValueError(f"its part {name!r} has {member.size} bytes, but the file ends after {size - member.offset} of them")
        yield member
        offset = member.offset + member.size + member.size % 2


@contextlib.contextmanager
def _unpacked(stream: t.BinaryIO, member: _Member) -> t.Iterator[t.IO[bytes]]:
    """The content of a part, decompressed while it is read."""
    raw = io.BufferedReader(_Region(stream, member), CHUNK)
    compression = member.name.split(".")[2:] or [""]
    if compression == [""]:
        yield raw
    elif compression == ["gz"]:
        with gzip.GzipFile(fileobj=raw) as unzipped:
            yield t.cast("t.IO[bytes]", unzipped)
    elif compression in (["xz"], ["lzma"]):
        with lzma.LZMAFile(raw) as unzipped_lzma:
            yield t.cast("t.IO[bytes]", unzipped_lzma)
    elif compression == ["bz2"]:
        with bz2.BZ2File(raw) as unzipped_bz2:
            yield t.cast("t.IO[bytes]", unzipped_bz2)
    elif compression == ["zst"]:
        with _unpacked_zstd(t.cast("t.IO[bytes]", raw), member.name) as unzipped_zstd:
            yield unzipped_zstd
    else:
        raise ValueError(f"its part {member.name!r} is compressed in a way that is unknown")


@contextlib.contextmanager
def _unpacked_zstd(raw: t.IO[bytes], name: str) -> t.Iterator[t.IO[bytes]]:
    with tempfile.NamedTemporaryFile(prefix="hyperscaler-deb-") as packed:
        shutil.copyfileobj(raw, packed, CHUNK)
        packed.flush()
        attempt = f"unpack its part {name!r}"
        with unpacked_zstd(Path(packed.name), reason="read packages that are compressed with zstd", attempt=attempt) as plain, plain.open("rb") as unzipped:
            yield unzipped


def _read_control(stream: t.BinaryIO, member: _Member) -> tuple[str, dict[str, str]]:
    """The control file, and the digests of the files in the package where it has them."""
    limits = {"control": LARGEST_CONTROL, "md5sums": LARGEST_SUMS}
    found = {"control": "", "md5sums": ""}
    with _unpacked(stream, member) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as archive:
        for entry in archive:
            name = plain_path(entry.name)
            if name not in limits:
                continue
            if name == "md5sums" and entry.issym():
                continue
            if not entry.isreg() or entry.size > limits[name]:
                raise ValueError(f"its file {name} is not a regular file of less than {limits[name]} bytes")
            content = archive.extractfile(entry)
            # File names and people's names have any encoding.
            found[name] = content.read().decode("utf-8", "surrogateescape") if content else ""
        _read_to_end(unpacked)
    if not found["control"]:
        raise ValueError("it has no control file")
    return found["control"], parse_sums(found["md5sums"])


def parse_sums(text: str) -> dict[str, str]:
    """The digests in a file md5sums by path without a leading slash. dpkg needs none of them, so lines that are none are left out."""
    matches = (SUM.fullmatch(line.rstrip("\r")) for line in text.split("\n"))
    return {plain_path(match.group(2)): match.group(1).lower() for match in matches if match}


def plain_path(name: str) -> str:
    """A path in a package as dpkg keeps it: without ``/`` and ``./`` before it, and without a slash behind it."""
    return re.sub(r"^(?:\.?/+)+", "", name).rstrip("/")


def _check_data(stream: t.BinaryIO, member: _Member, sums: t.Mapping[str, str]) -> None:
    """Read all files of a package, so that damage shows."""
    found: dict[str, str] = {}
    with _unpacked(stream, member) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as archive:
        for entry in archive:
            name = plain_path(entry.name)
            if ".." in PurePosixPath(name).parts:
                raise _UnfitError(f"it would write {entry.name!r}, outside its own paths")
            if name not in sums or not entry.isreg():
                continue
            content, digest = archive.extractfile(entry), hashlib.md5(usedforsecurity=False)
            for chunk in iter(lambda source=content: source.read(CHUNK) if source else b"", b""):  # type: ignore[misc]
                digest.update(chunk)
            # Of two files with one path, dpkg keeps the later one.
            found[name] = digest.hexdigest()
        _read_to_end(unpacked)
    for name, digest_found in found.items():
        if digest_found != sums[name]:
            raise ValueError(f"its file {name} has another digest than its control file says")


def _read_to_end(stream: t.IO[bytes]) -> None:
    """Checksums of compressed data come last."""
    while stream.read(CHUNK):
        pass
