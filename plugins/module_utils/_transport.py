# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Open a file for reading on an HTTP(S) server or in a local folder, from any offset, and say plainly why it cannot be read."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import re
import socket
import ssl
import stat
import time
import typing as t
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from ansible_collections.hyperscaler.images.plugins.module_utils._errors import DownloadError, IntegrityError, ToolError

try:
    import requests
    from urllib3.exceptions import HTTPError, ReadTimeoutError

    HAS_REQUESTS = True
except ImportError:
    HAS_REQUESTS = False

PIECE = 1 << 18
# A server that sends less than this, in bytes per second over the stall timeout, is stalled.
SLOWEST = 256
REDIRECTS = (301, 302, 303, 307, 308)
MOST_REDIRECTS = 10
PASSING_STATUS = (408, 425, 429, 500, 502, 503, 504)


@dataclasses.dataclass(frozen=True)
class Policy:
    """How long to wait and how often to try; times are in seconds."""

    retries: int = 5
    connect_timeout: float = 15.0
    stall_timeout: float = 60.0
    first_pause: float = 1.0
    longest_pause: float = 60.0
    ca_path: str | None = None
    progress_interval: float = 5.0


@dataclasses.dataclass(frozen=True)
class Body:
    """A file that is being read: its pieces from ``offset`` on, and the size of the whole file where the server tells it."""

    pieces: t.Iterator[bytes]
    offset: int
    total: int | None
    etag: str | None


class BreakError(DownloadError):
    """A failure that another attempt may get past; ``retry_after`` is the pause in seconds that the server asks for."""

    def __init__(self, message: str, retry_after: float | None = None, **details: t.Any) -> None:
        super().__init__(message, **{"cause": "unreachable", **details})
        self.retry_after = retry_after


class RangeError(BreakError):
    """The server cannot continue at the offset that was asked for: only a start from the first byte helps."""


def shown(source: str) -> str:
    """An address as it may appear in messages and results: without user, password, query and fragment."""
    parts = urlsplit(source)
    if not parts.scheme:
        return source
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def check_source(source: str) -> str:
    """Accept an http or https URL, a file URL, or an absolute path; return it without a slash at the end."""
    try:
        parts = urlsplit(source)
        parts.port  # noqa: B018  (reading it checks it)
    except ValueError as error:
        raise DownloadError(f"Cannot use the address {source!r}: {error}. Correct the address.", cause="input") from error
    if parts.scheme in ("http", "https"):
        if not parts.hostname:
            raise _refused(source, "it names no server")
        if "@" in parts.netloc:
            raise _refused(source, "it holds a user name or password, which would end up in logs", "Put them into ~/.netrc")
    elif parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise _refused(source, f"a file URL cannot name the server {parts.netloc}", "Use file:///path")
    elif parts.scheme or not source.startswith("/"):
        raise _refused(source, "it is neither an https, http or file URL nor an absolute path")
    return source.rstrip("/") or "/"


def local_path(source: str) -> Path | None:
    """The path of a local source, None for one on a server."""
    parts = urlsplit(source)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if parts.scheme else Path(source)


@contextlib.contextmanager
def open_body(source: str, policy: Policy, offset: int = 0, etag: str | None = None) -> t.Iterator[Body]:
    """Open ``source`` for reading at ``offset``; the server may answer with the whole file, which ``Body.offset`` then tells.

    With ``etag`` the server is asked to continue only if the file is still the same.
    """
    path = local_path(check_source(source))
    with _open_local(path, offset) if path else _open_remote(source, policy, offset, etag) as body:
        yield body


def parse_content_range(text: str) -> tuple[int, int | None] | None:
    """The offset and the full size that a Content-Range header tells, None when it is malformed."""
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", text.strip())
    if found is None or int(found.group(1)) > int(found.group(2)):
        return None
    return int(found.group(1)), None if found.group(3) == "*" else int(found.group(3))


def next_address(current: str, location: str) -> str:
    """The target of a redirect; only https, or http when the current address is http too, is followed."""
    try:
        target = urljoin(current, location)
        scheme = urlsplit(target).scheme
    except ValueError as error:
        raise _untrusted(current, f"the server redirects to an address that is none ({error})") from error
    if scheme not in ("http", "https"):
        raise _untrusted(current, f"the server redirects to {shown(target)}, and the scheme {scheme} is never followed")
    if scheme == "http" and urlsplit(current).scheme == "https":
        raise _untrusted(current, f"the server redirects from https to {shown(target)}, which nobody protects against changes")
    return check_source(target)


@contextlib.contextmanager
def _open_local(path: Path, offset: int) -> t.Iterator[Body]:
    status = _local_status(path)
    try:
        stream = path.open("rb", buffering=0)
    except OSError as error:
        raise DownloadError(f"Cannot read {path}: {error.strerror}. Make it readable for the user that runs this.", cause="denied") from error
    with stream:
        start = offset if offset <= status.st_size else 0
        stream.seek(start)
        yield Body(iter(lambda: stream.read(PIECE), b""), start, status.st_size, None)


def _local_status(path: Path) -> os.stat_result:
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise DownloadError(f"Cannot read {path}: there is no such file. Check the path and the layout of the folder.", cause="missing") from error
    except OSError as error:
        raise DownloadError(f"Cannot read {path}: {error.strerror}. Make it readable for the user that runs this.", cause="denied") from error
    if not stat.S_ISREG(status.st_mode):
        raise DownloadError(f"Cannot read {path}: it is not a regular file. Give the path of a file.", cause="local")
    return status


@contextlib.contextmanager
def _open_remote(source: str, policy: Policy, offset: int, etag: str | None) -> t.Iterator[Body]:
    _require_requests()
    if policy.ca_path and not Path(policy.ca_path).exists():
        raise DownloadError(f"Cannot read {shown(source)}: the certificates {policy.ca_path} do not exist. Correct ca_path.", cause="local")
    headers = {"Accept-Encoding": "identity", "User-Agent": "hyperscaler.images"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if etag:
            headers["If-Range"] = etag
    with requests.Session() as session, _follow(session, source, headers, policy) as response:
        start, total = _extent(response, offset)
        tag = response.headers.get("ETag")
        yield Body(_pieces(response, policy), start, total, None if tag is None or tag.startswith("W/") else tag)


def _follow(session: requests.Session, source: str, headers: dict[str, str], policy: Policy) -> requests.Response:
    address = source
    for _attempt in range(MOST_REDIRECTS + 1):
        response = _get(session, address, headers, policy)
        location = response.headers.get("Location")
        if response.status_code not in REDIRECTS or location is None:
            return response
        response.close()
        address = next_address(address, location)
    raise DownloadError(f"Cannot read {shown(source)}: the server redirects more than {MOST_REDIRECTS} times. Use another server.", cause="denied")


def _get(session: requests.Session, address: str, headers: dict[str, str], policy: Policy) -> requests.Response:
    try:
        return session.get(
            address,
            headers=headers,
            stream=True,
            allow_redirects=False,
            timeout=(policy.connect_timeout, policy.stall_timeout),
            verify=policy.ca_path or True,
        )
    except requests.exceptions.ReadTimeout as error:
        raise BreakError(f"Cannot read {shown(address)}: the server did not answer within {policy.stall_timeout:g} s.") from error
    except requests.exceptions.ConnectTimeout as error:
        raise BreakError(f"Cannot read {shown(address)}: no connection within {policy.connect_timeout:g} s.") from error
    except requests.exceptions.ConnectionError as error:
        cause = _innermost(error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise _untrusted(address, f"its certificate is not trusted: {cause.verify_message}", "Give the authority's certificate as ca_path") from error
        raise BreakError(f"Cannot read {shown(address)}: {_sentence(cause)}.") from error
    except (requests.exceptions.RequestException, HTTPError, OSError) as error:
        raise DownloadError(f"Cannot read {shown(address)}: {_sentence(_innermost(error))}. Check the address.", cause="unreachable") from error


def _extent(response: requests.Response, offset: int) -> tuple[int, int | None]:
    """Where the body begins and how large the whole file is; raises for every status that brings no part of the file."""
    address, status = shown(response.url), response.status_code
    length = response.headers.get("Content-Length", "")
    if status == 200:
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind in ("text/html", "application/xhtml+xml"):
            raise _html(address)
        return 0, int(length) if length.isdigit() else None
    if status == 206 and offset:
        told = parse_content_range(response.headers.get("Content-Range", ""))
        if told is None or told[0] != offset:
            raise RangeError(f"Cannot continue {address} at byte {offset}: the server sent another part.")
        return told
    if status == 416:
        raise RangeError(f"Cannot continue {address} at byte {offset}: the server's file is not longer than that.")
    raise _status_error(address, status, response)


def _status_error(address: str, status: int, response: requests.Response) -> DownloadError:
    answered = f"Cannot read {address}: the server answered {status} {response.reason or ''}".rstrip()
    if status in PASSING_STATUS:
        wait = response.headers.get("Retry-After", "")
        return BreakError(f"{answered}.", float(wait) if wait.isdigit() else None)
    if status in (404, 410):
        return DownloadError(
            f"{answered}. The file is not there: check the version and the server's address; old releases are removed over time.", cause="missing"
        )
    if status in (401, 403, 407):
        return DownloadError(f"{answered}. Access is refused: check the proxy and the credentials in ~/.netrc.", cause="denied")
    return DownloadError(f"{answered}. Check the address or use another server.", cause="denied")


def _pieces(response: requests.Response, policy: Policy) -> t.Iterator[bytes]:
    """The body as it arrives; raises BreakError when it stops, dries up or ends early."""
    address = shown(response.url)
    read = _reader(response.raw)
    began, received = time.monotonic(), 0
    while True:
        try:
            piece = read(PIECE)
        except (ReadTimeoutError, socket.timeout) as error:
            raise BreakError(f"Cannot read {address}: the server stalled, nothing came for {policy.stall_timeout:g} s.") from error
        except (HTTPError, http.client.HTTPException, OSError) as error:
            raise BreakError(f"Cannot read {address}: the connection broke ({_sentence(_innermost(error))}).") from error
        if not piece:
            return
        received += len(piece)
        yield piece
        passed = time.monotonic() - began
        if passed >= policy.stall_timeout:
            if received < SLOWEST * passed:
                raise BreakError(f"Cannot read {address}: the server stalled, only {received} bytes came in {passed:.0f} s.")
            began, received = time.monotonic(), 0


def _reader(raw: t.Any) -> t.Callable[[int], bytes]:
    """A function that returns what has arrived, without waiting until a piece is full: only so can a server be seen to drip."""
    if hasattr(raw, "read1"):
        return lambda size: raw.read1(size, decode_content=False)
    # urllib3 before 2.1 waits for full pieces; the response below it does not.
    return t.cast("t.Callable[[int], bytes]", raw._original_response.read1)


def _innermost(error: BaseException) -> BaseException:
    """The error at the root of the several layers that wrap it."""
    for _layer in range(10):
        if isinstance(error, (OSError, http.client.HTTPException)) and not isinstance(error, requests.exceptions.RequestException):
            break
        # urllib3 keeps what it wraps in "reason" or among the arguments, Python in the other two.
        layers = (getattr(error, "reason", None), error.__cause__, *error.args, error.__context__)
        inner = next((layer for layer in layers if isinstance(layer, BaseException)), None)
        if inner is None:
            break
        error = inner
    return error


def _sentence(error: BaseException) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return "it ended before the whole file had come"
    if isinstance(error, OSError) and error.strerror:
        return str(error.strerror)
    text = str(error).strip()
    return text if text else type(error).__name__


def _html(address: str) -> IntegrityError:
    return IntegrityError(
        f"Cannot use {address}: the server answered with an HTML page instead of the file. "
        "A proxy, a login page or a wrong server address answers; open the address in a browser.",
        cause="integrity",
    )


def _refused(source: str, why: str, remedy: str = "Correct the address") -> DownloadError:
    return DownloadError(f"Cannot use the address {shown(source)!r}: {why}. {remedy}.", cause="input")


def _untrusted(address: str, why: str, remedy: str = "Use another server or its final address") -> DownloadError:
    return DownloadError(f"Cannot read {shown(address)}: {why}. {remedy}.", cause="untrusted")


def _require_requests() -> None:
    if not HAS_REQUESTS:
        raise ToolError(
            "The Python library requests is required to read from a server, but it was not found; install the package python3-requests.", cause="local"
        )
