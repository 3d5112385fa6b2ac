# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Read Debian package files without dpkg, and prove that they are whole."""

from __future__ import annotations

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

from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, IntegrityError
from ansible_collections.hyperscaler.images.plugins.module_utils._zstd import unpacked_zstd

AR_MAGIC = b"!<arch>\n"
AR_HEADER = 60
AR_END = b"`\n"
LARGEST_CONTROL = 4 << 20
CHUNK = 1 << 20

PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
VERSION = re.compile(r"(?:\d+:)?\d[A-Za-z0-9.+~-]*")
ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9-]*")

# A dependency is a list of alternatives, of which one is enough.
Dependency = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Package:
    """The control fields of a package that matter for choosing it."""

    name: str
    version: str
    architecture: str
    depends: tuple[Dependency, ...] = ()

    @property
    def release(self) -> str:
        """The version of the software: without epoch and Debian revision."""
        upstream = self.version.partition(":")[2] or self.version
        return upstream.rpartition("-")[0] or upstream

    @property
    def file_name(self) -> str:
        """The file name by Debian's convention, made from checked fields only."""
        return f"{self.name}_{self.version.partition(':')[2] or self.version}_{self.architecture}.deb"


@dataclasses.dataclass(frozen=True)
class _Member:
    name: str
    offset: int
    size: int


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


def package_from(fields: t.Mapping[str, str]) -> Package:
    """Check the control fields of a package; raises ValueError with the reason."""
    values = []
    for field, pattern in (("Package", PACKAGE_NAME), ("Version", VERSION), ("Architecture", ARCHITECTURE)):
        value = fields.get(field)
        if value is None:
            raise ValueError(f"it has no field {field}")
        if not pattern.fullmatch(value):
            raise ValueError(f"its field {field} is {value!r}")
        values.append(value)
    depends = ", ".join(fields[name] for name in ("Pre-Depends", "Depends") if fields.get(name))
    return Package(values[0], values[1], values[2], parse_depends(depends))


def parse_depends(text: str) -> tuple[Dependency, ...]:
    """The names in a dependency field, without versions and architectures."""
    found = []
    for entry in text.split(","):
        names = tuple(match.group(1) for match in (re.match(r"\s*([a-z0-9][a-z0-9+.-]+)", name) for name in entry.split("|")) if match)
        if names:
            found.append(names)
    return tuple(found)


def parse_paragraphs(text: str) -> list[dict[str, str]]:
    """The paragraphs of a control file or a package index; raises ValueError for lines that are none."""
    paragraphs: list[dict[str, str]] = []
    fields: dict[str, str] = {}
    name = ""
    for line in [*text.splitlines(), ""]:
        if not line.strip():
            if fields:
                paragraphs.append(fields)
            fields, name = {}, ""
        elif line[0] in " \t":
            if not name:
                raise ValueError(f"a line continues no field: {line[:60]!r}")
            fields[name] += "\n" + line.strip()
        else:
            name, colon, value = line.partition(":")
            if not colon or not re.fullmatch(r"[!-9;-~]+", name):
                raise ValueError(f"a line is no field: {line[:60]!r}")
            if name in fields:
                raise ValueError(f"the field {name} is there twice")
            fields[name] = value.strip()
    return paragraphs


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
    """The control fields of a package file that was read to its end; raises IntegrityError when anything about it is damaged."""
    with open_regular(path) as stream:
        try:
            return _read(stream)
        except (ValueError, EOFError, tarfile.TarError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, CommandError) as error:
            why = str(error) or type(error).__name__
            raise IntegrityError(
                f"Cannot use the package {path}: {why}. The file is damaged or incomplete; fetch or build it again.", path=str(path)
            ) from error


def _read(stream: t.BinaryIO) -> Package:
    members = _members(stream)
    control, sums = _read_control(stream, members["control.tar"])
    try:
        paragraphs = parse_paragraphs(control)
    except ValueError as error:
        raise ValueError(f"its control file is wrong, {error}") from error
    if len(paragraphs) != 1:
        raise ValueError(f"its control file has {len(paragraphs)} paragraphs instead of one")
    package = package_from(paragraphs[0])
    _check_data(stream, members["data.tar"], sums)
    return package


def _members(stream: t.BinaryIO) -> dict[str, _Member]:
    """The two archives in a package file, by their names without the compression."""
    found: dict[str, _Member] = {}
    for index, member in enumerate(_walk(stream)):
        if index == 0:
            stream.seek(member.offset)
            if member.name != "debian-binary" or not stream.read(min(member.size, 16)).startswith(b"2."):
                raise ValueError("it does not begin with the mark of a Debian package of format 2")
            continue
        kind = ".".join(member.name.split(".")[:2])
        if kind not in ("control.tar", "data.tar"):
            if not member.name.startswith("_"):
                raise ValueError(f"it has a part {member.name!r} that is unknown")
        elif kind in found:
            raise ValueError(f"it has two parts {kind}")
        else:
            found[kind] = member
    for kind in ("control.tar", "data.tar"):
        if kind not in found:
            raise ValueError(f"it has no part {kind}")
    return found


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
    wanted = {"control": "", "md5sums": ""}
    with _unpacked(stream, member) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as archive:
        for entry in archive:
            name = str(PurePosixPath(entry.name))
            if name not in wanted:
                continue
            if not entry.isreg() or entry.size > LARGEST_CONTROL:
                raise ValueError(f"its file {name} is not a regular file of less than {LARGEST_CONTROL} bytes")
            content = archive.extractfile(entry)
            wanted[name] = content.read().decode("utf-8") if content else ""
        _read_to_end(unpacked)
    if not wanted["control"]:
        raise ValueError("it has no control file")
    sums = {}
    for line in wanted["md5sums"].splitlines():
        digest, _space, name = line.partition("  ")
        sums[name] = digest
    return wanted["control"], sums


def _check_data(stream: t.BinaryIO, member: _Member, sums: t.Mapping[str, str]) -> None:
    """Read all files of a package, so that damage shows."""
    left = dict(sums)
    with _unpacked(stream, member) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as archive:
        for entry in archive:
            path = PurePosixPath(entry.name)
            if path.is_absolute() or ".." in path.parts:
                raise ValueError(f"it would write {entry.name!r}, outside its own paths")
            expected = left.pop(str(path), None)
            if expected is None or not entry.isreg():
                continue
            content, digest = archive.extractfile(entry), hashlib.md5(usedforsecurity=False)
            for chunk in iter(lambda source=content: source.read(CHUNK) if source else b"", b""):  # type: ignore[misc]
                digest.update(chunk)
            if digest.hexdigest() != expected:
                raise ValueError(f"its file {path} has another digest than its control file says")
        _read_to_end(unpacked)
    if left:
        raise ValueError(f"its file {min(left)} is missing")


def _read_to_end(stream: t.IO[bytes]) -> None:
    """Checksums of compressed data come last."""
    while stream.read(CHUNK):
        pass
