# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Download a file in one pass: hashed while it streams into a part file, continued after a break, renamed only when verified."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import os
import re
import stat
import threading
import time
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._errors import DownloadError, ImageError, IntegrityError, SpaceError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import file_digest, require_space
from ansible_collections.hyperscaler.images.plugins.module_utils._progress import Progress, Report
from ansible_collections.hyperscaler.images.plugins.module_utils._transport import BreakError, Policy, RangeError, check_source, open_body, shown

CHUNK = 1 << 20
# So much of the digest names the part file: it never is the part of another file.
NAME_DIGITS = 16
LONGEST_RETRY_AFTER = 300.0
FILE_MODE = 0o644


@dataclasses.dataclass(frozen=True)
class Download:
    """How a file came to be at its destination.

    ``received`` counts the bytes read from the source, ``resumed`` tells that a broken transfer (of this run or an earlier one) was continued.
    """

    destination: Path
    size: int
    received: int
    resumed: bool
    changed: bool
    seconds: float


def fetch(source: str, limit: int, policy: Policy | None = None) -> bytes:
    """Read a small file whole, with retries; more than ``limit`` bytes are refused."""
    policy = policy or Policy()

    def read() -> bytes:
        with open_body(source, policy) as body:
            data = bytearray()
            for piece in body.pieces:
                data += piece
                if len(data) > limit:
                    raise IntegrityError(f"Cannot use {shown(source)}: it has more than {limit} bytes, so it is not the file it should be.", cause="integrity")
            _require_whole(source, len(data), body.total)
            return bytes(data)

    failures = 0
    while True:
        try:
            return read()
        except BreakError as error:
            failures += 1
            _pause_or_raise(error, failures, policy)


def verified(path: Path, digest: str, algorithm: str = "sha512") -> bool:
    """Whether ``path`` is a file with this digest."""
    try:
        return path.is_file() and file_digest(path, algorithm) == digest
    except OSError as error:
        raise DownloadError(f"Cannot verify {path}: {error.strerror}. Make it readable for the user that runs this, or remove it.", cause="local") from error


def place(destination: str, file_name: str) -> Path:
    """The path of a file that is to be written to ``destination``: in a folder it gets its own name."""
    path = Path(destination)
    try:
        path = path / file_name if destination.endswith("/") or path.is_dir() else path
        if not path.parent.is_dir():
            raise DownloadError(f"Cannot write {path}: the folder {path.parent} does not exist. Create it first.", cause="local")
        if path.exists() and not path.is_file():
            raise DownloadError(f"Cannot write {path}: it exists and is not a regular file. Choose another destination.", cause="local")
    except PermissionError as error:
        raise DownloadError(f"Cannot write {path}: {error.strerror}. Choose a folder that the user who runs this may enter.", cause="local") from error
    return path


def download(
    source: str,
    destination: Path,
    digest: str,
    algorithm: str = "sha512",
    *,
    policy: Policy | None = None,
    report: Report | None = None,
) -> Download:
    """Bring ``source`` (a URL or an absolute path) to ``destination``, which is touched only by a complete, verified file.

    A destination that already has the digest is left alone. What a break leaves is kept beside the destination and continued by the next call.
    Calls for the same file wait for each other, so that it is fetched once.
    """
    policy, source, digest = policy or Policy(), check_source(source), _check_digest(digest, algorithm, source)
    place(str(destination), destination.name)
    started = time.monotonic()
    with _locked_part(destination, digest, algorithm) as part:
        if part is None:
            return Download(destination, destination.stat().st_size, 0, False, False, time.monotonic() - started)
        transfer = _Transfer(source, part, digest, policy, report)
        try:
            transfer.run()
            part.publish(destination)
        except OSError as error:
            raise transfer.explained(_local_error(source, destination, error)) from error
        except (DownloadError, SpaceError) as error:
            raise transfer.explained(error) from error
        finally:
            part.remove_if_empty()
        _remove_stale_parts(destination)
        return Download(destination, part.size, transfer.received, transfer.resumed, True, time.monotonic() - started)


class _Part:
    """The open and locked part file, with the digest of what it holds."""

    def __init__(self, path: Path, descriptor: int, algorithm: str) -> None:
        self.path = path
        self.size = 0
        self._descriptor = descriptor
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm)

    def read_back(self) -> None:
        """Hash what an earlier run left."""
        while True:
            chunk = os.pread(self._descriptor, CHUNK, self.size)
            if not chunk:
                return
            self._hash.update(chunk)
            self.size += len(chunk)

    def write(self, piece: bytes) -> None:
        self._hash.update(piece)
        view = memoryview(piece)
        while view:
            written = os.pwrite(self._descriptor, view, self.size)
            self.size += written
            view = view[written:]

    def restart(self) -> None:
        os.ftruncate(self._descriptor, 0)
        self.size = 0
        self._hash = hashlib.new(self._algorithm)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def publish(self, destination: Path) -> None:
        os.fchmod(self._descriptor, FILE_MODE)
        self.path.replace(destination)

    def remove_if_empty(self) -> None:
        if self.size == 0:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()


class _Transfer:
    """One download: as many connections as it takes until the part file is complete and verified."""

    def __init__(self, source: str, part: _Part, digest: str, policy: Policy, report: Report | None) -> None:
        self.received = 0
        self.resumed = False
        self._source = source
        self._part = part
        self._digest = digest
        self._policy = policy
        self._report = report
        self._etag: str | None = None
        self._total: int | None = None
        self._began = time.monotonic()
        self._reported = self._began

    def run(self) -> None:
        self._part.read_back()
        proven = False
        while not self._complete():
            self._receive_with_retries()
            if self._complete():
                break
            if proven or not self.resumed:
                raise self._mismatch()
            # What was continued may have been damaged or of another file: only a transfer from the first byte proves the source wrong.
            self._part.restart()
            self.resumed, proven, self._etag = False, True, None
        self._tell(last=True)

    def explained(self, error: ImageError) -> ImageError:
        """The error with what became of the bytes received so far."""
        details = {"cause": "local", **error.details}
        kept = f" The {self._part.size} bytes received so far are kept in {self._part.path} and continued by the next run." if self._part.size else ""
        return type(error)(str(error) + kept, **details)

    def _receive_with_retries(self) -> None:
        """Connect until the source has no more bytes, or the file is complete."""
        failures, furthest, refused = 0, self._part.size, False
        while True:
            try:
                return self._receive()
            except RangeError as error:
                self._part.restart()
                if refused:
                    failures += 1
                    _pause_or_raise(error, failures, self._policy)
                refused = True
            except BreakError as error:
                if self._complete():
                    return None
                # A server that breaks off again and again is fine as long as each connection brings the file further.
                failures = 1 if self._part.size > furthest else failures + 1
                furthest = max(furthest, self._part.size)
                _pause_or_raise(error, failures, self._policy)

    def _complete(self) -> bool:
        return self._part.hexdigest() == self._digest

    def _receive(self) -> None:
        part = self._part
        with open_body(self._source, self._policy, part.size, self._etag) as body:
            if body.offset != part.size:
                part.restart()
            elif part.size:
                self.resumed = True
            if part.size and None not in (body.total, self._total) and body.total != self._total:
                raise RangeError(f"Cannot continue {shown(self._source)}: its size changed from {self._total} to {body.total} bytes.")
            self._total, self._etag = body.total, body.etag
            if body.total is not None:
                require_space(part.path.parent, body.total - part.size, f"download {shown(self._source)}")
            for piece in body.pieces:
                part.write(piece)
                self.received += len(piece)
                self._tell()
            _require_whole(self._source, part.size, body.total)

    def _tell(self, last: bool = False) -> None:
        now = time.monotonic()
        if self._report is None or not (last or now - self._reported >= self._policy.progress_interval):
            return
        self._reported = now
        self._report(Progress(self._part.size, self._part.size if last else self._total, self.received / max(now - self._began, 1e-6)))

    def _mismatch(self) -> IntegrityError:
        size, actual = self._part.size, self._part.hexdigest()
        self._part.restart()
        return IntegrityError(
            f"Cannot use {shown(self._source)}: its {size} bytes have the digest {actual}, but {self._digest} is expected. "
            "The file was changed on the server or on the way, or the digest belongs to another file. It was discarded; "
            "compare the digest with the publisher's, or use another server.",
            cause="integrity",
            expected=self._digest,
            actual=actual,
        )


@contextlib.contextmanager
def _locked_part(destination: Path, digest: str, algorithm: str) -> t.Iterator[_Part | None]:
    """The part file of ``destination`` under a lock, or None when the destination is verified already (perhaps by the one we waited for)."""
    path = destination.with_name(f".{destination.name}.{digest[:NAME_DIGITS]}.part")
    while True:
        before = _signature(destination)
        if verified(destination, digest, algorithm):
            yield None
            return
        descriptor = _open_part(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            part = _Part(path, descriptor, algorithm)
            # Whoever held the lock may have renamed or removed the part file meanwhile.
            if _signature(path) != _signature(descriptor):
                continue
            if _signature(destination) == before:
                yield part
                return
            part.read_back()
            part.remove_if_empty()
        finally:
            os.close(descriptor)


def _open_part(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DownloadError(f"Cannot write {path}: {error.strerror}. Make its folder writable, or remove that file.", cause="local") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink > 1:
        os.close(descriptor)
        raise DownloadError(f"Cannot continue {path}: it is not a plain file of the user that runs this. Remove it.", cause="local")
    return descriptor


def _signature(target: Path | int) -> tuple[int, int, int, int] | None:
    try:
        status = target.stat() if isinstance(target, Path) else os.fstat(target)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _remove_stale_parts(destination: Path) -> None:
    """Remove what earlier, broken downloads of other versions to the same destination left, unless one of them is running."""
    name = re.compile(rf"\.{re.escape(destination.name)}\.[0-9a-f]{{{NAME_DIGITS}}}\.part")
    for path in destination.parent.iterdir():
        if name.fullmatch(path.name) is None:
            continue
        with contextlib.suppress(OSError, DownloadError):
            descriptor = _open_part(path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(descriptor)


def _check_digest(digest: str, algorithm: str, source: str) -> str:
    digits = digest.strip().lower()
    wanted = hashlib.new(algorithm).digest_size * 2
    if not re.fullmatch(rf"[0-9a-f]{{{wanted}}}", digits):
        shown_length = f"has {len(digits)} characters" if digits else "is empty"
        raise ImageError(
            f"Cannot download {shown(source)}: its {algorithm} {shown_length}, {wanted} hex digits are needed. Nothing is downloaded without a checksum.",
            cause="input",
        )
    return digits


def _require_whole(source: str, present: int, total: int | None) -> None:
    if total is not None and present < total:
        raise BreakError(f"Cannot read {shown(source)}: the connection ended after {present} of {total} bytes.")


def _pause_or_raise(error: BreakError, failures: int, policy: Policy) -> None:
    if failures > policy.retries:
        tried = f" {failures} attempts in a row brought nothing new." if failures > 1 else ""
        remedy = " Check the network, the proxy and the server, or use another server or a local folder."
        raise DownloadError(str(error) + tried + remedy, **error.details) from error
    pause = min(policy.first_pause * 2 ** (failures - 1), policy.longest_pause)
    if error.retry_after is not None:
        pause = max(pause, min(error.retry_after, LONGEST_RETRY_AFTER))
    threading.Event().wait(pause)


def _local_error(source: str, destination: Path, error: OSError) -> ImageError:
    attempt = f"Cannot download {shown(source)} to {destination}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SpaceError(f"{attempt}. Free space there; the next run continues.", cause="local")
    return DownloadError(f"{attempt}. Check the folder {destination.parent}.", cause="local")
