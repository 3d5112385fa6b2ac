# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of reading from servers and local folders."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import typing as t
from pathlib import Path

import pytest
import requests
from ansible_collections.hyperscaler.images.plugins.module_utils import _transport as transport
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import DownloadError, IntegrityError, ToolError
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils.download_fake_server import Clock, OldRaw, Raw, Response, Server
from urllib3.exceptions import NewConnectionError, ProtocolError, ReadTimeoutError, SSLError

URL = "https://server/folder/file"
POLICY = transport.Policy(connect_timeout=3, stall_timeout=7)


def serve(monkeypatch: pytest.MonkeyPatch, *answers: t.Any) -> Server:
    server = Server(*answers)
    monkeypatch.setattr(requests.Session, "get", lambda *arguments, **options: server.get(*arguments, **options))  # pylint: disable=unnecessary-lambda
    return server


def read(source: str, offset: int = 0, etag: str | None = None, policy: transport.Policy = POLICY) -> tuple[bytes, transport.Body]:
    with transport.open_body(source, policy, offset, etag) as body:
        return b"".join(body.pieces), body


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("https://me:secret@host:1/a/b?token=x#y", "https://host:1/a/b"),
        ("http://host/a", "http://host/a"),
        ("file:///srv/a", "file:///srv/a"),
        ("/srv/a?b#c", "/srv/a?b#c"),
    ],
)
def test_shown(source: str, expected: str) -> None:
    assert transport.shown(source) == expected


@pytest.mark.parametrize("source", ["https://host/a", "http://host:80/a/", "file:///srv/a", "file://localhost/srv/a", "/srv/a", "/"])
def test_sources_that_are_accepted(source: str) -> None:
    assert transport.check_source(source) == (source if source == "/" else source.rstrip("/"))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("ftp://host/a", "neither an https, http or file URL nor an absolute path"),
        ("srv/a", "neither an https, http or file URL nor an absolute path"),
        ("", "neither an https, http or file URL nor an absolute path"),
        ("javascript:alert(1)", "neither an https, http or file URL nor an absolute path"),
        ("https:///a", "it names no server"),
        ("https://me:secret@host/a", "it holds a user name or password, which would end up in logs. Put them into ~/.netrc"),
        ("file://host/a", "a file URL cannot name the server host. Use file:///path"),
        ("http://[::1/a", "Invalid IPv6 URL"),
        ("http://host:99999/a", "Port out of range"),
    ],
)
def test_sources_that_are_refused(source: str, says: str) -> None:
    with pytest.raises(DownloadError) as error:
        transport.check_source(source)
    assert says in str(error.value)
    assert str(error.value).startswith("Cannot use the address ")
    assert "secret" not in str(error.value)
    assert error.value.details["cause"] == "input"


@pytest.mark.parametrize(
    ("source", "path"),
    [("/srv/a?b", Path("/srv/a?b")), ("file:///srv/a%20b", Path("/srv/a b")), ("https://host/a", None), ("http://host/a", None)],
)
def test_local_path(source: str, path: Path | None) -> None:
    assert transport.local_path(source) == path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes 5-9/10", (5, 10)),
        ("bytes 0-0/*", (0, None)),
        (" bytes 5-9/10 ", (5, 10)),
        ("", None),
        ("bytes */10", None),
        ("bytes 9-5/10", None),
        ("items 5-9/10", None),
        ("bytes 5-9", None),
    ],
)
def test_content_range(text: str, expected: tuple[int, int | None] | None) -> None:
    assert transport.parse_content_range(text) == expected


@pytest.mark.parametrize(
    ("current", "location", "target"),
    [
        ("https://a/b/c", "d", "https://a/b/d"),
        ("https://a/b/c", "/d", "https://a/d"),
        ("https://a/b", "//other/c", "https://other/c"),
        ("http://a/b", "https://other/c?token=1", "https://other/c?token=1"),
        ("http://a/b", "http://other/c", "http://other/c"),
    ],
)
def test_redirects_that_are_followed(current: str, location: str, target: str) -> None:
    assert transport.next_address(current, location) == target


@pytest.mark.parametrize(
    ("current", "location", "says"),
    [
        ("https://a/b", "http://a/b?token=1", "redirects from https to http://a/b, which nobody protects against changes"),
        ("https://a/b", "file:///etc/passwd", "redirects to file:///etc/passwd, and the scheme file is never followed"),
        ("http://a/b", "ftp://a/b", "the scheme ftp is never followed"),
        ("http://a/b", "data:text/plain,x", "the scheme data is never followed"),
        ("http://a/b", "http://[::1/", "redirects to an address that is none"),
    ],
)
def test_redirects_that_are_refused(current: str, location: str, says: str) -> None:
    with pytest.raises(DownloadError) as error:
        transport.next_address(current, location)
    assert says in str(error.value)
    assert error.value.details["cause"] == "untrusted"


def test_redirect_with_a_password_is_refused() -> None:
    with pytest.raises(DownloadError, match="holds a user name or password"):
        transport.next_address("https://a/b", "https://me:secret@c/d")


def test_whole_file(monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(monkeypatch, Response(200, [b"ab", b"cd"], {"Content-Length": "4", "ETag": '"x"'}))
    data, body = read(URL)
    assert (data, body.offset, body.total, body.etag) == (b"abcd", 0, 4, '"x"')
    request = server.requests[0]
    assert request.headers == {"Accept-Encoding": "identity", "User-Agent": "hyperscaler.images"}
    assert request.options == {"stream": True, "allow_redirects": False, "timeout": (3, 7), "verify": True}
    assert server.given[0].closed


def test_certificates_are_handed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = serve(monkeypatch, Response(200))
    read(URL, policy=transport.Policy(ca_path=str(tmp_path)))
    assert server.requests[0].options["verify"] == str(tmp_path)


def test_missing_certificates(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"the certificates /.*/none do not exist\. Correct ca_path"):
        read(URL, policy=transport.Policy(ca_path=str(tmp_path / "none")))


def test_unknown_length_and_weak_etag(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, Response(200, [b"ab"], {"ETag": 'W/"x"'}))
    _data, body = read(URL)
    assert (body.total, body.etag) == (None, None)


def test_range(monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(monkeypatch, Response(206, [b"cd"], {"Content-Range": "bytes 2-3/4"}))
    data, body = read(URL, 2, '"x"')
    assert (data, body.offset, body.total) == (b"cd", 2, 4)
    assert server.requests[0].headers["Range"] == "bytes=2-"
    assert server.requests[0].headers["If-Range"] == '"x"'


def test_range_without_etag(monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(monkeypatch, Response(206, [b"cd"], {"Content-Range": "bytes 2-3/4"}))
    read(URL, 2)
    assert "If-Range" not in server.requests[0].headers


def test_range_that_the_server_ignores(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, Response(200, [b"abcd"], {"Content-Length": "4"}))
    data, body = read(URL, 2)
    assert (data, body.offset, body.total) == (b"abcd", 0, 4)


@pytest.mark.parametrize(
    ("response", "says"),
    [
        (Response(206, headers={"Content-Range": "bytes 3-3/4"}), "the server sent another part"),
        (Response(206), "the server sent another part"),
        (Response(416, headers={"Content-Range": "bytes */1"}), "the server's file is not longer than that"),
    ],
)
def test_range_that_fails(monkeypatch: pytest.MonkeyPatch, response: Response, says: str) -> None:
    serve(monkeypatch, response)
    with pytest.raises(transport.RangeError, match=f"Cannot continue {URL} at byte 2: {says}"):
        read(URL, 2)


@pytest.mark.parametrize("kind", ["text/html", "Text/HTML; charset=utf-8", "application/xhtml+xml"])
def test_html(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    serve(monkeypatch, Response(200, [b"x"], {"Content-Type": kind}))
    with pytest.raises(IntegrityError, match="the server answered with an HTML page instead of the file"):
        read(URL)


@pytest.mark.parametrize(
    ("status", "cause", "says"),
    [
        (404, "missing", "answered 404 Reason. The file is not there"),
        (410, "missing", "answered 410 Reason. The file is not there"),
        (401, "denied", "Access is refused"),
        (403, "denied", "Access is refused"),
        (407, "denied", "Access is refused"),
        (400, "denied", "Check the address or use another server"),
        (204, "denied", "answered 204 Reason"),
        (206, "denied", "answered 206 Reason"),
        (304, "denied", "answered 304 Reason"),
        (501, "denied", "answered 501 Reason"),
    ],
)
def test_status_that_is_final(monkeypatch: pytest.MonkeyPatch, status: int, cause: str, says: str) -> None:
    serve(monkeypatch, Response(status, reason="Reason"))
    with pytest.raises(DownloadError) as error:
        read(URL)
    assert not isinstance(error.value, transport.BreakError)
    assert says in str(error.value)
    assert error.value.details["cause"] == cause


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
@pytest.mark.parametrize(("header", "wait"), [("7", 7.0), ("", None), ("Fri, 31 Dec 1999 23:59:59 GMT", None)])
def test_status_that_passes(monkeypatch: pytest.MonkeyPatch, status: int, header: str, wait: float | None) -> None:
    serve(monkeypatch, Response(status, headers={"Retry-After": header}))
    with pytest.raises(transport.BreakError, match=rf"Cannot read {URL}: the server answered {status}\.") as error:
        read(URL)
    assert error.value.retry_after == wait
    assert error.value.details["cause"] == "unreachable"


def test_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(monkeypatch, Response(302, headers={"Location": "/other?token=1"}), Response(206, [b"b"], {"Content-Range": "bytes 1-1/2"}))
    data, _body = read(URL, 1)
    assert data == b"b"
    assert [request.url for request in server.requests] == [URL, "https://server/other?token=1"]
    assert server.ranges == ["bytes=1-", "bytes=1-"]
    assert server.given[0].closed


def test_redirect_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, Response(302, reason="Found"))
    with pytest.raises(DownloadError, match="the server answered 302 Found"):
        read(URL)


def test_redirect_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(monkeypatch, *(Response(307, headers={"Location": "/again"}) for _number in range(20)))
    with pytest.raises(DownloadError, match="the server redirects more than 10 times"):
        read(URL)
    assert len(server.requests) == 11


def refused() -> requests.exceptions.ConnectionError:
    error = requests.exceptions.ConnectionError("outer")
    inner = NewConnectionError(t.cast(t.Any, None), "inner")
    inner.__cause__ = ConnectionRefusedError(111, "Connection refused")
    error.__context__ = inner
    return error


def untrusted() -> requests.exceptions.SSLError:
    error = requests.exceptions.SSLError("outer")
    error.__cause__ = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.__cause__.verify_message = "self-signed certificate"
    return error


def closed() -> requests.exceptions.ConnectionError:
    inner = http.client.RemoteDisconnected("Remote end closed connection without response")
    inner.__context__ = TypeError("getresponse() got an unexpected keyword argument 'buffering'")
    return requests.exceptions.ConnectionError(ProtocolError("Connection aborted.", inner))


def untrusted_by_old_urllib3() -> requests.exceptions.SSLError:
    inner = ssl.SSLCertVerificationError(1, "certificate verify failed")
    inner.verify_message = "self-signed certificate"
    return requests.exceptions.SSLError(SSLError(inner))


@pytest.mark.parametrize(
    ("error", "kind", "cause", "says"),
    [
        (requests.exceptions.ReadTimeout(), transport.BreakError, "unreachable", "the server did not answer within 7 s"),
        (requests.exceptions.ConnectTimeout(), transport.BreakError, "unreachable", "no connection within 3 s"),
        (refused(), transport.BreakError, "unreachable", "Connection refused"),
        (untrusted(), DownloadError, "untrusted", "its certificate is not trusted: self-signed certificate. Give the authority's certificate as ca_path"),
        (closed(), transport.BreakError, "unreachable", "Remote end closed connection without response"),
        (untrusted_by_old_urllib3(), DownloadError, "untrusted", "its certificate is not trusted: self-signed certificate"),
        (requests.exceptions.InvalidURL("no host"), DownloadError, "unreachable", "no host. Check the address"),
        (ProtocolError("bad header"), DownloadError, "unreachable", "bad header. Check the address"),
    ],
)
def test_connection_errors(monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception], cause: str, says: str) -> None:
    serve(monkeypatch, error)
    with pytest.raises(DownloadError) as raised:
        read(URL)
    assert type(raised.value) is kind  # pylint: disable=unidiomatic-typecheck
    assert f"Cannot read {URL}: {says}" in str(raised.value)
    assert raised.value.details["cause"] == cause


def incomplete() -> ProtocolError:
    error = ProtocolError("outer")
    error.__cause__ = http.client.IncompleteRead(b"x", 5)
    return error


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ReadTimeoutError(t.cast(t.Any, None), "", "Read timed out."), "the server stalled, nothing came for 7 s"),
        (incomplete(), r"the connection broke \(it ended before the whole file had come\)"),
        (ConnectionResetError(104, "Connection reset by peer"), r"the connection broke \(Connection reset by peer\)"),
    ],
)
def test_break_in_the_middle(monkeypatch: pytest.MonkeyPatch, error: Exception, says: str) -> None:
    serve(monkeypatch, Response(200, [b"ab", error]))
    got = bytearray()

    def receive() -> None:
        with transport.open_body(URL, POLICY) as body:
            for piece in body.pieces:
                got.extend(piece)

    with pytest.raises(transport.BreakError, match=f"Cannot read {URL}: {says}"):
        receive()
    assert got == b"ab"


def test_server_that_drips(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(1.0)
    monkeypatch.setattr(transport, "time", clock)
    serve(monkeypatch, Response(200, raw=Raw([b"x"] * 100, clock)))
    with pytest.raises(transport.BreakError, match="the server stalled, only 7 bytes came in 7 s"):
        read(URL)


def test_server_that_drips_after_a_quick_start(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(1.0)
    monkeypatch.setattr(transport, "time", clock)
    serve(monkeypatch, Response(200, raw=Raw([b"x" * 10000] + [b"x"] * 20, clock)))
    with pytest.raises(transport.BreakError, match="the server stalled, only 7 bytes came in 7 s"):
        read(URL)


def test_slow_server_is_no_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(1.0)
    monkeypatch.setattr(transport, "time", clock)
    serve(monkeypatch, Response(200, raw=Raw([b"x" * 300] * 100, clock)))
    data, _body = read(URL)
    assert len(data) == 30000


def test_old_urllib3(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, Response(200, raw=OldRaw(b"ab", b"cd")))
    assert read(URL)[0] == b"abcd"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (socket.timeout("timed out"), "the server stalled, nothing came for 7 s"),
        (http.client.IncompleteRead(b"x", 5), r"the connection broke \(it ended before the whole file had come\)"),
        (ConnectionResetError(104, "Connection reset by peer"), r"the connection broke \(Connection reset by peer\)"),
    ],
)
def test_break_with_old_urllib3(monkeypatch: pytest.MonkeyPatch, error: Exception, says: str) -> None:
    serve(monkeypatch, Response(200, raw=OldRaw(b"ab", error)))
    with pytest.raises(transport.BreakError, match=says):
        read(URL)


def test_requests_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "HAS_REQUESTS", False)
    with pytest.raises(ToolError, match=r"The Python library requests is required .* install the package python3-requests"):
        read(URL)


@pytest.mark.parametrize(("offset", "data", "start"), [(0, b"abcd", 0), (2, b"cd", 2), (4, b"", 4), (5, b"abcd", 0)])
def test_local_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, offset: int, data: bytes, start: int) -> None:
    monkeypatch.setattr(transport, "HAS_REQUESTS", False)
    (tmp_path / "a b").write_bytes(b"abcd")
    for source in (str(tmp_path / "a b"), (tmp_path / "a b").as_uri()):
        got, body = read(source, offset)
        assert (got, body.offset, body.total) == (data, start, 4)


def test_local_file_that_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"")
    for path, cause, says in (
        (tmp_path / "none", "missing", "there is no such file"),
        (tmp_path, "local", "it is not a regular file"),
        (tmp_path / "pipe", "local", "it is not a regular file"),
        (tmp_path / "file" / "below", "denied", "Not a directory"),
    ):
        with pytest.raises(DownloadError, match=f"Cannot read {path}: {says}") as error:
            read(str(path))
        assert error.value.details["cause"] == cause


def test_local_file_without_permission(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    def refuse(*_arguments: t.Any, **_options: t.Any) -> t.NoReturn:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DownloadError, match=r"Permission denied\. Make it readable for the user that runs this"):
        read(str(tmp_path / "file"))
