# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Pack a disk image: a compressed qcow2 file and further formats beside it, each complete and compared, or none of them replaced."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import time
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils import _qemu_img, _raw_formats
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, ImageError, IntegrityError, LayoutError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import file_digest, part_file, require_space
from ansible_collections.hyperscaler.images.plugins.module_utils._raw_disk import refuse_foreign, refuse_truncated

QCOW2, RAW, RAW_GZ = "qcow2", "raw", "raw.gz"
PRIMARY_SUFFIX = ".qcow2"
# Deflate needs at least one byte for 1032, and a few more for each block that cannot be compressed.
GZIP_FLOOR = 1000
UNREADABLE = (CommandError, IntegrityError, LayoutError)


@dataclasses.dataclass(frozen=True)
class PackRequest:
    """What is wanted; ``cluster_size`` is in bytes and ``formats`` are those beside the qcow2 file."""

    source: Path
    destination: Path
    formats: tuple[str, ...] = ()
    compression: str = "zstd"
    cluster_size: int = 128 << 10
    coroutines: int = 8
    out_of_order: bool = True
    verify: bool = True
    force: bool = False
    discard_snapshots: bool = False
    gzip_mtime: int = 0

    def outputs(self) -> dict[str, Path]:
        """The file of every format, the qcow2 file first."""
        name = self.destination.name
        stem = name[: -len(PRIMARY_SUFFIX)] if name.endswith(PRIMARY_SUFFIX) else name
        beside = {image_format: self.destination.with_name(f"{stem}.{image_format}") for image_format in (RAW, RAW_GZ) if image_format in self.formats}
        return {QCOW2: self.destination, **beside}


@dataclasses.dataclass(frozen=True)
class PackedFile:
    """A file of the result; size and sha256 are None for one that check mode would write."""

    format: str
    path: str
    size: int | None
    sha256: str | None
    changed: bool
    previous_size: int | None


@dataclasses.dataclass(frozen=True)
class PackResult:
    """What there is after packing; ``reasons`` has one sentence for every file that was or would be written."""

    source: _qemu_img.DiskInfo
    files: tuple[PackedFile, ...]
    reasons: tuple[str, ...]
    seconds: dict[str, float]


class Packer:
    """Packs one disk image."""

    def __init__(self, request: PackRequest) -> None:
        self.request = request
        self.outputs = request.outputs()
        self._attempt = f"pack the disk image {request.source}"
        self._qemu = _qemu_img.QemuImg()
        self._seconds: dict[str, float] = {}
        self._digests: dict[str, str] = {}
        self._raw: Path | None = None

    def pack(self, *, dry_run: bool) -> PackResult:
        """Write the files that are missing or differ; a dry run writes none of them."""
        try:
            return self._pack(dry_run=dry_run)
        except OSError as error:
            place = f" ({error.filename})" if error.filename else ""
            raise ImageError(f"Cannot {self._attempt}: {error.strerror}{place}. Check the permissions and the disk, and try again.") from error

    def _pack(self, *, dry_run: bool) -> PackResult:
        started = time.monotonic()
        source = self._inspect_source()
        identity = _identity(source.path)
        before = {image_format: _size(path) for image_format, path in self.outputs.items()}
        with contextlib.ExitStack() as scratch:
            reasons = self._plan(source, scratch)
            if reasons and not dry_run:
                self._write(source, identity, reasons, scratch)
        pending = set(reasons) if dry_run else set()
        files = tuple(self._describe(image_format, image_format in reasons, image_format in pending, before[image_format]) for image_format in self.outputs)
        self._seconds["total"] = time.monotonic() - started
        return PackResult(source, files, tuple(reasons.values()), self._seconds)

    def _inspect_source(self) -> _qemu_img.DiskInfo:
        path = self.request.source
        if not path.is_file():
            what = "it is not a regular file" if path.exists() else "there is no such file"
            raise LayoutError(f"Cannot {self._attempt}: {what}. Give the path of a disk image file.")
        for output in self.outputs.values():
            self._refuse_output(output)
        _qemu_img.refuse_in_use(path, self._attempt)
        info = self._qemu.info(path)
        _qemu_img.refuse_unusable(info, self._attempt, discard_snapshots=self.request.discard_snapshots)
        if info.format == RAW:
            refuse_foreign(path, self._attempt)
            _qemu_img.refuse_partial_sector(path, self._attempt)
            refuse_truncated(path, self._attempt)
            self._raw = path
        else:
            self._qemu.check(path, info.format)
        if self.request.compression == "zstd":
            self._qemu.require_zstd()
        return info

    def _refuse_output(self, output: Path) -> None:
        if not output.parent.is_dir():
            raise LayoutError(f"Cannot {self._attempt} as {output}: the folder {output.parent} does not exist. Create it first.")
        if not output.exists():
            return
        if not output.is_file():
            raise LayoutError(f"Cannot {self._attempt} as {output}: that is not a regular file. Give another destination.")
        if output.samefile(self.request.source):
            raise LayoutError(f"Cannot {self._attempt} as {output}: both are the same file. Give another destination.")
        _qemu_img.refuse_in_use(output, f"replace the file {output}")

    def _plan(self, source: _qemu_img.DiskInfo, scratch: contextlib.ExitStack) -> dict[str, str]:
        """Why a file has to be written, for each format that has to be."""
        judges = {QCOW2: self._judge_qcow2, RAW: self._judge_raw, RAW_GZ: self._judge_gzip}
        reasons = {}
        for image_format, path in self.outputs.items():
            if not path.exists():
                reasons[image_format] = f"{path} did not exist"
            elif self.request.force:
                reasons[image_format] = f"{path} was to be written again (force)"
            else:
                with self._timed("compare"):
                    fault = judges[image_format](path, source, scratch)
                if fault:
                    reasons[image_format] = f"{path} {fault}"
        return reasons

    def _judge_qcow2(self, path: Path, source: _qemu_img.DiskInfo, _scratch: contextlib.ExitStack) -> str:
        try:
            found = self._qemu.info(path)
            _qemu_img.refuse_unusable(found, f"keep {path}")
            self._qemu.check(path, found.format)
        except UNREADABLE:
            return "was damaged or no complete image"
        for name, is_value, wanted in (
            ("format", found.format, QCOW2),
            ("compression", found.compression, self.request.compression),
            ("cluster size", found.cluster_size, self.request.cluster_size),
            ("virtual size", found.virtual_size, source.virtual_size),
        ):
            if is_value != wanted:
                return f"had the {name} {is_value}, not {wanted}"
        return "" if self._equal(path, QCOW2, source) else "had another content"

    def _judge_raw(self, path: Path, source: _qemu_img.DiskInfo, _scratch: contextlib.ExitStack) -> str:
        if path.stat().st_size != source.virtual_size or not self._equal(path, RAW, source):
            return "had another content"
        self._raw = self._raw or path
        return ""

    def _judge_gzip(self, path: Path, source: _qemu_img.DiskInfo, scratch: contextlib.ExitStack) -> str:
        return "" if _raw_formats.gzip_matches(self._raw_content(source, scratch), path) else "had another content or was made by another program"

    def _equal(self, path: Path, image_format: str, source: _qemu_img.DiskInfo) -> bool:
        try:
            return self._qemu.same_content(source.path, source.format, path, image_format)
        except UNREADABLE:
            # The source was checked before, so it is the other file that cannot be read.
            return False

    def _write(self, source: _qemu_img.DiskInfo, identity: tuple[int, ...], reasons: t.Mapping[str, str], scratch: contextlib.ExitStack) -> None:
        """Write the files as parts, prove them, and put them all in place at the end."""
        for output in self.outputs.values():
            remove_stale_parts(output)
        self._require_space(source, reasons)
        makers = {QCOW2: self._make_qcow2, RAW: self._make_raw, RAW_GZ: self._make_gzip}
        with contextlib.ExitStack() as parts:
            for image_format in reasons:
                # A link is followed: the file behind it is replaced.
                part = parts.enter_context(part_file(self.outputs[image_format].resolve()))
                makers[image_format](part, source, scratch)
            if _identity(source.path) != identity:
                raise IntegrityError(f"Cannot {self._attempt}: it was changed while it was read. Stop what writes to it and try again.")

    def _make_qcow2(self, part: Path, source: _qemu_img.DiskInfo, _scratch: contextlib.ExitStack) -> None:
        request = self.request
        with self._timed("convert"):
            self._convert(source, part, QCOW2, compression=request.compression, cluster_size=request.cluster_size)
        self._prove(part, QCOW2, source)
        with self._timed("checksum"):
            self._digests[QCOW2] = file_digest(part)

    def _make_raw(self, part: Path, source: _qemu_img.DiskInfo, _scratch: contextlib.ExitStack) -> None:
        with self._timed("raw"):
            self._convert(source, part, RAW)
        self._prove(part, RAW, source)
        self._raw = self._raw or part
        with self._timed("checksum"):
            self._digests[RAW] = _raw_formats.sparse_digest(part)

    def _make_gzip(self, part: Path, source: _qemu_img.DiskInfo, scratch: contextlib.ExitStack) -> None:
        content = self._raw_content(source, scratch)
        with self._timed("gzip"):
            self._digests[RAW_GZ] = _raw_formats.write_gzip(content, part, self.request.gzip_mtime)
        if self.request.verify:
            with self._timed("verify"):
                _require_equal(_raw_formats.gzip_matches(content, part), self.outputs[RAW_GZ])

    def _prove(self, part: Path, image_format: str, source: _qemu_img.DiskInfo) -> None:
        if not self.request.verify:
            return
        with self._timed("verify"):
            if image_format == QCOW2:
                self._qemu.check(part, QCOW2)
            _require_equal(self._qemu.same_content(source.path, source.format, part, image_format), self.outputs[image_format])

    def _raw_content(self, source: _qemu_img.DiskInfo, scratch: contextlib.ExitStack) -> Path:
        """A raw file with the content of the source: the source, the raw output, or a temporary file that is gone afterwards."""
        if self._raw is None:
            require_space(self.request.destination.parent, self._qemu.data_size(source.path, source.format), f"{self._attempt} as raw.gz")
            name = f".{self.request.destination.name}.{RAW}.{os.getpid()}.part"
            temporary = self.request.destination.with_name(name)
            scratch.callback(temporary.unlink, missing_ok=True)
            with self._timed("raw"):
                self._convert(source, temporary, RAW)
            self._raw = temporary
        return self._raw

    def _convert(self, source: _qemu_img.DiskInfo, part: Path, image_format: str, *, compression: str | None = None, cluster_size: int | None = None) -> None:
        self._qemu.convert(
            _qemu_img.Conversion(
                source=source.path,
                source_format=source.format,
                destination=part,
                format=image_format,
                compression=compression,
                cluster_size=cluster_size,
                coroutines=self.request.coroutines,
                out_of_order=self.request.out_of_order,
            )
        )

    def _require_space(self, source: _qemu_img.DiskInfo, reasons: t.Collection[str]) -> None:
        data = self._qemu.data_size(source.path, source.format)
        needed = needed_bytes(data, source.virtual_size, reasons, has_raw=self._raw is not None)
        require_space(self.request.destination.resolve().parent, needed, self._attempt)

    def _describe(self, image_format: str, changed: bool, is_pending: bool, previous_size: int | None) -> PackedFile:
        path = self.outputs[image_format]
        if is_pending:
            return PackedFile(image_format, str(path), None, None, changed, previous_size)
        if image_format not in self._digests:
            with self._timed("checksum"):
                self._digests[image_format] = _raw_formats.sparse_digest(path) if image_format == RAW else file_digest(path)
        return PackedFile(image_format, str(path), path.stat().st_size, self._digests[image_format], changed, previous_size)

    @contextlib.contextmanager
    def _timed(self, step: str) -> t.Iterator[None]:
        started = time.monotonic()
        yield
        self._seconds[step] = self._seconds.get(step, 0.0) + time.monotonic() - started


def needed_bytes(data: int, virtual_size: int, formats: t.Collection[str], *, has_raw: bool) -> int:
    """The space that files take when nothing in them can be compressed."""
    gzip = data + (data + virtual_size) // GZIP_FLOOR
    temporary = data if RAW_GZ in formats and RAW not in formats and not has_raw else 0
    return sum({QCOW2: data, RAW: data, RAW_GZ: gzip}[image_format] for image_format in formats) + temporary


def remove_stale_parts(output: Path) -> None:
    """Remove what killed runs left behind for an output; a part whose process lives is kept."""
    pattern = re.compile(rf"\.{re.escape(output.resolve().name)}(?:\.{RAW})?\.(\d+)\.part")
    for path in output.resolve().parent.iterdir():
        found = pattern.fullmatch(path.name)
        if found and not Path("/proc", found.group(1)).exists():
            path.unlink(missing_ok=True)


def _require_equal(is_equal: bool, output: Path) -> None:
    if not is_equal:
        raise IntegrityError(f"Cannot write {output}: what was written does not hold the content of the source. Check the disk and memory of this machine.")


def _identity(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None
