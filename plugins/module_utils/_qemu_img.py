# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Disk image files as qemu-img sees them, and who has one open for writing."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import re
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command, CommandResult, explain
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import BusyError, CommandError, ImageError, IntegrityError, LayoutError, ToolError
from ansible_collections.hyperscaler.images.plugins.module_utils._loop import attached_devices

SECTOR = 512
READABLE_FORMATS = ("raw", "qcow2")
ZSTD_SINCE = (5, 1)
CHECK_LEAKS = 3
CHECK_UNSUPPORTED = 63
MOST_COMPARISONS = 8
# The largest cluster of a qcow2 file: no cluster is read twice.
RANGE_UNIT = 2 << 20


@dataclasses.dataclass(frozen=True)
class DiskInfo:
    """A disk image file; sizes are in bytes."""

    path: Path
    format: str
    virtual_size: int
    allocated_size: int
    cluster_size: int | None = None
    compression: str | None = None
    backing_file: str | None = None
    data_file: str | None = None
    snapshots: tuple[str, ...] = ()
    encrypted: bool = False
    corrupt: bool = False
    dirty: bool = False

    @classmethod
    def from_json(cls, path: Path, document: t.Mapping[str, t.Any]) -> DiskInfo:
        """Read the output of ``qemu-img info --output=json``."""
        data = document.get("format-specific", {}).get("data", {})
        return cls(
            path=path,
            format=document["format"],
            virtual_size=document["virtual-size"],
            allocated_size=document["actual-size"],
            cluster_size=document.get("cluster-size"),
            compression=data.get("compression-type", "zlib") if document["format"] == "qcow2" else None,
            backing_file=document.get("backing-filename"),
            data_file=data.get("data-file"),
            snapshots=tuple(snapshot["name"] for snapshot in document.get("snapshots", ())),
            encrypted=bool(document.get("encrypted", False)),
            corrupt=bool(data.get("corrupt", False)),
            dirty=bool(document.get("dirty-flag", False)),
        )


def refuse_unusable(info: DiskInfo, attempt: str, *, discard_snapshots: bool = False) -> None:
    """Raise an error when a disk image cannot be copied as one complete, sound disk."""
    for error, applies, text in (
        (LayoutError, info.format not in READABLE_FORMATS, f"its format is {info.format}, not raw or qcow2. Convert it with qemu-img convert first."),
        (LayoutError, info.encrypted, "it is encrypted. Give an image that is not."),
        (
            LayoutError,
            info.backing_file is not None,
            f"it is an overlay of the backing file {info.backing_file}. Merge them with qemu-img convert or qemu-img rebase first.",
        ),
        (
            LayoutError,
            info.data_file is not None,
            f"its data is in the external file {info.data_file}. Make one file of them with qemu-img convert first.",
        ),
        (IntegrityError, info.corrupt, "it is marked as corrupt. Make the image again, or repair it with qemu-img check -r all and inspect the result."),
        (IntegrityError, info.dirty, "it was not closed cleanly (dirty bit). Repair it with qemu-img check -r all first."),
        (
            LayoutError,
            bool(info.snapshots) and not discard_snapshots,
            f"it holds the internal snapshots {', '.join(info.snapshots)}, which a copy would lose. "
            "Delete them with qemu-img snapshot -d, or set discard_snapshots.",
        ),
        (IntegrityError, info.virtual_size == 0, "it is empty. Give a disk image."),
    ):
        if applies:
            raise error(f"Cannot {attempt}: {text}")


def refuse_partial_sector(path: Path, attempt: str) -> None:
    """Raise an error when a raw file cannot be a whole disk."""
    size = path.stat().st_size
    if size % SECTOR:
        raise IntegrityError(f"Cannot {attempt}: its size of {size} bytes is not a multiple of {SECTOR}, so it is truncated or no disk. Make the image again.")


@dataclasses.dataclass(frozen=True)
class Conversion:
    """One call of ``qemu-img convert``; ``compression`` and ``cluster_size`` (bytes) belong to qcow2 only."""

    source: Path
    source_format: str
    destination: Path
    format: str
    compression: str | None = None
    cluster_size: int | None = None
    coroutines: int = 8
    out_of_order: bool = False

    def argv(self) -> list[str]:
        """The arguments of qemu-img."""
        options = []
        # zlib is what every qcow2 without the option means, also to a qemu-img that does not know the option yet.
        if self.compression not in (None, "zlib"):
            options.append(f"compression_type={self.compression}")
        if self.cluster_size is not None:
            options.append(f"cluster_size={self.cluster_size}")
        return [
            "convert",
            "-f",
            self.source_format,
            "-O",
            self.format,
            *(["-c"] if self.compression else []),
            "-m",
            str(self.coroutines),
            *(["-W"] if self.out_of_order else []),
            *(["-o", ",".join(options)] if options else []),
            "--",
            str(self.source),
            str(self.destination),
        ]


class QemuImg:
    """The program qemu-img. Paths must be absolute: it takes a colon in a relative one for a protocol."""

    def __init__(self) -> None:
        self._command = Command("qemu-img", reason="read and write disk images", package="qemu-utils")

    def require_zstd(self) -> None:
        """Raise ToolError when zstd compression is not known yet."""
        version = self._command.version()
        if version < ZSTD_SINCE:
            found, needed = ".".join(map(str, version)), ".".join(map(str, ZSTD_SINCE))
            raise ToolError(f"Found qemu-img {found}, need {needed} or newer to compress with zstd; install a newer qemu-utils or set compression to zlib.")

    def info(self, path: Path) -> DiskInfo:
        """Describe an image; fails when a running virtual machine holds it."""
        document = self._json("info", "--output=json", "--", path, attempt=f"read the disk image {path}", path=path)
        return DiskInfo.from_json(path, document)

    def check(self, path: Path, image_format: str) -> None:
        """Raise IntegrityError when the metadata of a qcow2 file is damaged or the file is truncated."""
        attempt = f"check the disk image {path}"
        arguments = ("check", "--output=json", "-f", image_format, "--", path)
        result = self._run(*arguments, attempt=attempt, path=path, accepted=(0, 1, 2, CHECK_LEAKS, CHECK_UNSUPPORTED))
        if result.rc not in (0, CHECK_LEAKS, CHECK_UNSUPPORTED):
            raise IntegrityError(
                f"Cannot use the disk image {path}: it is damaged or truncated, {explain('qemu-img check', result)} Make the image again.",
                cmd=list(result.argv),
                rc=result.rc,
                stdout=result.stdout,
                stderr=result.stderr,
            )

    def same_content(self, first: Path, first_format: str, second: Path, second_format: str) -> bool:
        """Tell whether a guest would read the same from two images. One processor reads only so fast: each compares a range of its own."""
        sizes = {self._virtual_size(path, image_format) for path, image_format in ((first, first_format), (second, second_format))}
        if len(sizes) > 1:
            return False
        ranges = split_evenly(self._data_extents(first, first_format), sizes.pop(), min(os.cpu_count() or 1, MOST_COMPARISONS))
        with concurrent.futures.ThreadPoolExecutor(max(1, len(ranges))) as pool:
            return all(pool.map(lambda part: self._same_range(_range_of(first, first_format, *part), _range_of(second, second_format, *part), first), ranges))

    def _same_range(self, first: str, second: str, path: Path) -> bool:
        return self._run("compare", "--image-opts", "--", first, second, attempt=f"compare {first} and {second}", path=path, accepted=(0, 1)).rc == 0

    def _virtual_size(self, path: Path, image_format: str) -> int:
        return int(self._json("info", "--output=json", "-f", image_format, "--", path, attempt=f"read the disk image {path}", path=path)["virtual-size"])

    def _data_extents(self, path: Path, image_format: str) -> list[tuple[int, int]]:
        document = self._json("map", "--output=json", "-f", image_format, "--", path, attempt=f"read the allocation of {path}", path=path)
        return [(extent["start"], extent["length"]) for extent in document if extent["data"]]

    def data_size(self, path: Path, image_format: str) -> int:
        """The bytes that the image takes at most as a file of its own, without compression."""
        arguments = ("measure", "--output=json", "-f", image_format, "-O", "qcow2", path)
        return int(self._json(*arguments, attempt=f"measure the disk image {path}", path=path)["required"])

    def convert(self, conversion: Conversion) -> None:
        """Copy an image; a destination that exists is replaced."""
        attempt = f"convert {conversion.source} to {conversion.destination}"
        self._run(*conversion.argv(), attempt=attempt, path=conversion.source)

    def _run(self, *arguments: str | Path, attempt: str, path: Path, accepted: t.Collection[int] = (0,)) -> CommandResult:
        with _locked_as_busy(attempt, path):
            return self._command.run(*arguments, attempt=attempt, accepted=accepted)

    def _json(self, *arguments: str | Path, attempt: str, path: Path) -> t.Any:
        with _locked_as_busy(attempt, path):
            return self._command.run_json(*arguments, attempt=attempt)


def split_evenly(extents: t.Sequence[tuple[int, int]], size: int, parts: int) -> list[tuple[int, int]]:
    """Cut an image of ``size`` bytes into at most ``parts`` ranges (start, length) that hold about as much data each.

    ``extents`` are the ranges with data, in order. The cuts lie on multiples of RANGE_UNIT.
    """
    total, cuts, passed = sum(length for _start, length in extents), [0], 0
    for start, length in extents:
        while len(cuts) < parts and passed + length >= total * len(cuts) / parts:
            cut = (start + int(total * len(cuts) / parts) - passed) // RANGE_UNIT * RANGE_UNIT
            cuts.append(max(cut, cuts[-1]))
        passed += length
    ends = [*cuts[1:], size]
    return [(start, end - start) for start, end in zip(cuts, ends) if end > start]


def _range_of(path: Path, image_format: str, start: int, length: int) -> str:
    """The options for a range of what a guest reads from an image."""
    name = str(path).replace(",", ",,")
    return f"driver=raw,offset={start},size={length},file.driver={image_format},file.file.driver=file,file.file.filename={name}"


@contextlib.contextmanager
def _locked_as_busy(attempt: str, path: Path) -> t.Iterator[None]:
    try:
        yield
    except CommandError as error:
        if re.search(r"Failed to get .*lock", str(error.details.get("stderr", ""))) is None:
            raise
        raise in_use_error(attempt, path, writers(path) or ("another process or host",), **error.details) from error


def in_use_error(attempt: str, path: Path, holders: t.Sequence[str], **details: t.Any) -> ImageError:
    """The error that names who has an image open for writing."""
    return BusyError(
        f"Cannot {attempt}: {path} is open for writing by {', '.join(holders)}. Stop the virtual machine or program, or detach the device, and try again.",
        **details,
    )


def refuse_in_use(path: Path, attempt: str) -> None:
    """Raise BusyError when something on this machine has a file open for writing."""
    holders = writers(path)
    if holders:
        raise in_use_error(attempt, path, holders)


def writers(path: Path, proc: Path = Path("/proc"), sys_block: Path = Path("/sys/class/block")) -> tuple[str, ...]:
    """Who has a file open for writing: processes (an ordinary user sees only their own) and writable loop devices."""
    devices = [device for device in attached_devices(path) if _text(sys_block / Path(device).name / "ro") != "1"]
    return (*writing_processes(path, proc), *(f"the loop device {device}" for device in devices))


def writing_processes(path: Path, proc: Path = Path("/proc")) -> tuple[str, ...]:
    """The processes that have a file open for writing, as ``process 812 (name)``."""
    wanted = path.stat()
    found: dict[int, str] = {}
    for process in proc.iterdir():
        if not process.name.isdigit():
            continue
        # A process may end, and another user's process may not be looked at.
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                if _is_writable(descriptor, wanted):
                    found[int(process.name)] = _text(process / "comm")
                    break
    return tuple(f"process {pid} ({found[pid]})" for pid in sorted(found))


def _is_writable(descriptor: Path, wanted: os.stat_result) -> bool:
    try:
        status = descriptor.stat()
    except OSError:
        return False
    if (status.st_dev, status.st_ino) != (wanted.st_dev, wanted.st_ino):
        return False
    flags = re.search(r"^flags:\s*([0-7]+)", _text(descriptor.parents[1] / "fdinfo" / descriptor.name), re.MULTILINE)
    return flags is not None and int(flags.group(1), 8) & os.O_ACCMODE != os.O_RDONLY


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
