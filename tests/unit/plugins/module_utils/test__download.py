# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of verified downloads."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import threading
import types
import typing as t
from pathlib import Path

import pytest
import requests
from ansible_collections.hyperscaler.images.plugins.module_utils import _download as downloads
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import DownloadError, ImageError, IntegrityError, SpaceError
from ansible_collections.hyperscaler.images.plugins.module_utils._progress import Progress
from ansible_collections.hyperscaler.images.plugins.module_utils._transport import Policy
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils.download_fake_server import Answer, Piece, Request, Response, Server

URL = "https://server/folder/file"
DATA = b"0123456789" * 10
DIGEST = hashlib.sha512(DATA).hexdigest()
OTHER = hashlib.sha512(b"other").hexdigest()
BROKEN = ConnectionResetError(104, "Connection reset by peer")


def whole(*pieces: Piece, length: int | None = len(DATA)) -> Response:
    return Response(200, pieces or [DATA], {"ETag": '"x"', **({} if length is None else {"Content-Length": str(length)})})


def rest(start: int, *pieces: Piece, total: int = len(DATA)) -> Response:
    return Response(206, pieces or [DATA[start:]], {"Content-Range": f"bytes {start}-{total - 1}/{total}", "ETag": '"x"'})


def gone() -> Response:
    return Response(416)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that would have been made."""
    made: list[float] = []
    event = types.SimpleNamespace(wait=made.append)
    monkeypatch.setattr(downloads, "threading", types.SimpleNamespace(Event=lambda: event))
    return made


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> t.Callable[..., Server]:
    del pauses

    def start(*answers: Answer | t.Callable[[Request], Answer]) -> Server:
        server = Server(*answers)
        monkeypatch.setattr(requests.Session, "get", lambda *arguments, **options: server.get(*arguments, **options))  # pylint: disable=unnecessary-lambda
        return server

    return start


def part_of(destination: Path, digest: str = DIGEST) -> Path:
    return destination.parent / f".{destination.name}.{digest[:16]}.part"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_download(serve: t.Callable[..., Server], tmp_path: Path) -> None:
    server = serve(whole(DATA[:30], DATA[30:]))
    done = downloads.download(URL, tmp_path / "file", DIGEST.upper())
    assert (done.size, done.received, done.resumed, done.changed) == (100, 100, False, True)
    assert (tmp_path / "file").read_bytes() == DATA
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
    assert names(tmp_path) == ["file"]
    assert server.ranges == [None]


def test_other_algorithm(serve: t.Callable[..., Server], tmp_path: Path) -> None:
    serve(whole())
    downloads.download(URL, tmp_path / "file", hashlib.sha256(DATA).hexdigest(), "sha256")
    assert (tmp_path / "file").read_bytes() == DATA


def test_verified_file_is_left_alone(serve: t.Callable[..., Server], tmp_path: Path) -> None:
    server = serve()
    (tmp_path / "file").write_bytes(DATA)
    before = (tmp_path / "file").stat()
    done = downloads.download(URL, tmp_path / "file", DIGEST)
    assert (done.changed, done.received, done.size) == (False, 0, 100)
    assert (tmp_path / "file").stat() == before
    assert server.requests == []
    assert names(tmp_path) == ["file"]


def test_other_file_is_replaced(serve: t.Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"other")
    serve(lambda _request: whole() if (tmp_path / "file").read_bytes() == b"other" else Response(404))
    assert downloads.download(URL, tmp_path / "file", DIGEST).changed
    assert (tmp_path / "file").read_bytes() == DATA


def test_local_file(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(DATA)
    done = downloads.download(str(tmp_path / "source"), tmp_path / "file", DIGEST)
    assert (done.received, done.changed) == (100, True)
    assert (tmp_path / "file").read_bytes() == DATA


def test_damaged_local_file(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"other")
    with pytest.raises(IntegrityError, match=f"its 5 bytes have the digest {OTHER}, but {DIGEST} is expected"):
        downloads.download(f"file://{tmp_path}/source", tmp_path / "file", DIGEST)
    assert names(tmp_path) == ["source"]


def test_break_is_continued(serve: t.Callable[..., Server], tmp_path: Path, pauses: list[float]) -> None:
    server = serve(whole(DATA[:30], BROKEN), rest(30, DATA[30:50]), rest(50))
    done = downloads.download(URL, tmp_path / "file", DIGEST)
    assert (done.received, done.resumed) == (100, True)
    assert (tmp_path / "file").read_bytes() == DATA
    assert server.ranges == [None, "bytes=30-", "bytes=50-"]
    assert server.requests[1].headers["If-Range"] == '"x"'
    assert pauses == [1.0, 1.0]


def test_short_body_is_a_break(serve: t.Callable[..., Server], tmp_path: Path) -> None:
    server = serve(whole(DATA[:30]), rest(30))
    assert downloads.download(URL, tmp_path / "file", DIGEST).resumed
    assert server.ranges == [None, "bytes=30-"]


def test_break_after_the_last_byte(serve: t.Callable[..., Server], tmp_path: Path) -> None:
    server = serve(whole(DATA, BROKEN, length=None))
    assert downloads.download(URL, tmp_path / "file", DIGEST).received == 100
    assert len(server.requests) == 1


def test_next_run_continues(serve: t.Callable[..., Server], tmp_path: Path) -> None:
    serve(whole(DATA[:30], BROKEN))
    with pytest.raises(DownloadError) as error:
        downloads.download(URL, tmp_path / "file", DIGEST, policy=Policy(retries=0))
    assert f"The 30 bytes received so far are kept in {part_of(tmp_path / 'file')} and continued by the next run." in str(error.value)
    assert error.value.details["cause"] == "unreachable"
    assert names(tmp_path) == [part_of(tmp_path / "file").name]
    server = serve(rest(30))
    done = downloads.download(URL, tmp_path / "file", DIGEST)
    assert (done.received, done.resumed) == (70, True)
    assert server.ranges == ["bytes=30-"]
    assert "If-Range" not in server.requests[0].headers
    assert names(tmp_path) == ["file"]


def test_complete_part_needs_no_server(serve: t.Callable[..., Server], tmp_path: Path) -> None:
    server = serve()
    part_of(tmp_path / "file").write_bytes(DATA)
    done = downloads.download(URL, tmp_path / "file", DIGEST)
    assert (done.received, done.changed) == (0, True)
    assert server.requests == []
    assert names(tmp_path) == ["file"]


def test_part_of_another_file_is_never_continued(serve: t.Callable[..., Server], tmp_path: Path) -> None:
    part_of(tmp_path / "file", OTHER).write_bytes(DATA[:30])
    server = serve(whole())
    assert not downloads.download(URL, tmp_path / "file", DIGEST).resumed
    assert server.ranges == [None]
    assert names(tmp_path) == ["file"]


def test_foreign_files_survive(serve: t.Callable[..., Server], tmp_path: Path) -> None:
    for name in (".file.123.part", ".file2.0123456789abcdef.part", "file.0123456789abcdef.part"):
        (tmp_path / name).write_bytes(b"x")
    serve(whole())
    downloads.download(URL, tmp_path / "file", DIGEST)
    assert len(names(tmp_path)) == 4


def test_running_download_of_another_version_is_left_alone(serve: t.Callable[..., Server], tmp_path: Path) -> None:
    serve(whole())
    with part_of(tmp_path / "file", OTHER).open("wb") as running:
        fcntl.flock(running, fcntl.LOCK_EX)
        downloads.download(URL, tmp_path / "file", DIGEST)
        assert part_of(tmp_path / "file", OTHER).exists()


def test_going_back_and_forth_is_no_progress(serve: t.Callable[..., Server], tmp_path: Path) -> None:
    server = serve(*(whole(DATA[: 50 if number % 2 else 10], BROKEN) for number in range(20)))
    with pytest.raises(DownloadError):
        downloads.download(URL, tmp_path / "file", DIGEST, policy=Policy(retries=2))
    assert len(server.requests) == 4


@pytest.mark.parametrize("answers", [[gone(), whole()], [Response(206, [b"x"], {"Content-Range": "bytes 0-99/100"}), whole()], [whole()]])
def test_server_that_cannot_continue(serve: t.Callable[..., Server], tmp_path: Path, answers: list[Response], pauses: list[float]) -> None:
    part_of(tmp_path / "file").write_bytes(b"y" * 200)
    server = serve(*answers)
    done = downloads.download(URL, tmp_path / "file", DIGEST, policy=Policy(retries=0))
    assert (done.received, done.resumed) == (100, False)
    assert server.ranges == ["bytes=200-", None][: len(answers)]
    assert pauses == []


def test_server_that_refuses_every_range(serve: t.Callable[..., Server], tmp_path: Path) -> None:
    server = serve(gone(), gone(), gone(), gone())
    part_of(tmp_path / "file").write_bytes(b"y")
    with pytest.raises(DownloadError, match="Cannot continue"):
        downloads.download(URL, tmp_path / "file", DIGEST, policy=Policy(retries=2))
    assert len(server.requests) == 4
    assert names(tmp_path) == []


def test_size_that_changes_in_between(serve: t.Callable[..., Server], tmp_path: Path) -> None:
    server = serve(whole(DATA[:30], BROKEN), rest(30, total=101), whole())
    assert downloads.download(URL, tmp_path / "file", DIGEST).received == 130
    assert server.ranges == [None, "bytes=30-", None]


def test_damaged_part_is_found_out(serve: t.Callable[..., Server], tmp_path: Path) -> None:
    part_of(tmp_path / "file").write_bytes(b"y" * 30)
    server = serve(rest(30), whole())
    done = downloads.download(URL, tmp_path / "file", DIGEST)
    assert (done.received, done.resumed) == (170, False)
    assert (tmp_path / "file").read_bytes() == DATA
    assert server.ranges == ["bytes=30-", None]


def test_wrong_file(serve: t.Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    server = serve(whole(b"other", length=5))
    with pytest.raises(IntegrityError) as error:
        downloads.download(URL, tmp_path / "file", DIGEST)
    assert f"Cannot use {URL}: its 5 bytes have the digest {OTHER}, but {DIGEST} is expected" in str(error.value)
    assert error.value.details == {"cause": "integrity", "expected": DIGEST, "actual": OTHER}
    assert len(server.requests) == 1
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_wrong_file_after_a_break_is_proven_from_the_start(serve: t.Callable[..., Server], tmp_path: Path) -> None:
    lie = b"z" * 100
    server = serve(whole(lie[:30], BROKEN), rest(30, lie[30:]), whole(lie[:30], BROKEN), rest(30, lie[30:]))
    with pytest.raises(IntegrityError):
        downloads.download(URL, tmp_path / "file", DIGEST)
    assert server.ranges == [None, "bytes=30-", None, "bytes=30-"]
    assert names(tmp_path) == []


def test_back_off(serve: t.Callable[..., Server], tmp_path: Path, pauses: list[float]) -> None:
    serve(*(Response(503) for _number in range(6)))
    with pytest.raises(DownloadError) as error:
        downloads.download(URL, tmp_path / "file", DIGEST, policy=Policy(retries=5, longest_pause=10))
    assert pauses == [1, 2, 4, 8, 10]
    assert "the server answered 503. 6 attempts in a row brought nothing new. Check the network, the proxy and the server" in str(error.value)
    assert names(tmp_path) == []


def test_retry_after(serve: t.Callable[..., Server], tmp_path: Path, pauses: list[float]) -> None:
    serve(Response(503, headers={"Retry-After": "7"}), Response(503, headers={"Retry-After": "99999"}), Response(503, headers={"Retry-After": "0"}), whole())
    downloads.download(URL, tmp_path / "file", DIGEST)
    assert pauses == [7, 300, 4]


def test_progress_resets_the_retries(serve: t.Callable[..., Server], tmp_path: Path, pauses: list[float]) -> None:
    serve(*(whole(DATA[:1], BROKEN) if not at else rest(at, DATA[at : at + 1], BROKEN) for at in range(0, 99)), rest(99))
    assert downloads.download(URL, tmp_path / "file", DIGEST, policy=Policy(retries=1)).received == 100
    assert set(pauses) == {1.0}


def test_server_without_ranges_that_always_breaks(serve: t.Callable[..., Server], tmp_path: Path) -> None:
    server = serve(*(whole(DATA[:50], BROKEN) for _number in range(20)))
    with pytest.raises(DownloadError):
        downloads.download(URL, tmp_path / "file", DIGEST, policy=Policy(retries=3))
    assert len(server.requests) == 4


@pytest.mark.parametrize("answer", [Response(404), Response(200, headers={"Content-Type": "text/html"}), Response(302, headers={"Location": "ftp://x/"})])
def test_final_errors_are_not_retried(serve: t.Callable[..., Server], tmp_path: Path, answer: Response) -> None:
    server = serve(answer)
    with pytest.raises(ImageError):
        downloads.download(URL, tmp_path / "file", DIGEST)
    assert len(server.requests) == 1
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("digest", "algorithm", "says"),
    [
        ("", "sha512", "its sha512 is empty, 128 hex digits"),
        ("ab", "sha256", "its sha256 has 2 characters, 64"),
        ("g" * 128, "sha512", "hex digits"),
    ],
)
def test_no_download_without_a_checksum(tmp_path: Path, digest: str, algorithm: str, says: str) -> None:
    with pytest.raises(ImageError, match=f"Cannot download {URL}: .*{says}.* Nothing is downloaded without a checksum"):
        downloads.download(URL, tmp_path / "file", digest, algorithm)


def test_destination(tmp_path: Path) -> None:
    assert downloads.place(str(tmp_path), "name") == tmp_path / "name"
    assert downloads.place(f"{tmp_path}/", "name") == tmp_path / "name"
    assert downloads.place(f"{tmp_path}/file", "name") == tmp_path / "file"
    for destination, says in (
        (f"{tmp_path}/none/", "the folder .*/none does not exist. Create it first"),
        (f"{tmp_path}/none/file", "the folder .*/none does not exist. Create it first"),
        ("/dev/null", "it exists and is not a regular file. Choose another destination"),
    ):
        with pytest.raises(DownloadError, match=says) as error:
            downloads.place(destination, "name")
        assert error.value.details["cause"] == "local"


def test_destination_that_may_not_be_entered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(_path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(DownloadError, match=r"Permission denied\. Choose a folder that the user who runs this may enter"):
        downloads.place(str(tmp_path / "file"), "name")


def test_file_that_cannot_be_verified(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(_path: Path, _algorithm: str) -> str:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(downloads, "file_digest", refuse)
    with pytest.raises(DownloadError, match=f"Cannot verify {tmp_path}/file: Permission denied"):
        downloads.verified(tmp_path / "file", DIGEST)


def test_space_is_checked_before_the_first_byte(serve: t.Callable[..., Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = types.SimpleNamespace(free=99)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)
    serve(whole())
    with pytest.raises(SpaceError, match=f"Cannot download {URL}") as error:
        downloads.download(URL, tmp_path / "file", DIGEST)
    assert error.value.details == {"cause": "local", "needed": 100, "free": 99}
    assert names(tmp_path) == []
    usage.free = 70
    part_of(tmp_path / "file").write_bytes(DATA[:30])
    serve(rest(30))
    downloads.download(URL, tmp_path / "file", DIGEST)


@pytest.mark.parametrize(
    ("number", "kind", "says"),
    [
        (errno.ENOSPC, SpaceError, "No space left on device. Free space there; the next run continues"),
        (errno.EIO, DownloadError, "Input/output error. Check the folder"),
    ],
)
def test_disk_that_fails(
    serve: t.Callable[..., Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, kind: type[ImageError], says: str
) -> None:
    write, calls = os.pwrite, []

    def fail(descriptor: int, data: bytes, offset: int) -> int:
        calls.append(offset)
        if len(calls) > 1:
            raise OSError(number, os.strerror(number))
        return write(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", fail)
    serve(whole(DATA[:30], DATA[30:]))
    with pytest.raises(kind) as error:
        downloads.download(URL, tmp_path / "file", DIGEST)
    assert f"Cannot download {URL} to {tmp_path}/file: {says}" in str(error.value)
    assert "The 30 bytes received so far are kept" in str(error.value)
    assert error.value.details["cause"] == "local"
    assert names(tmp_path) == [part_of(tmp_path / "file").name]


def test_short_writes_are_completed(serve: t.Callable[..., Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: write(descriptor, bytes(data)[:7], offset))
    serve(whole())
    downloads.download(URL, tmp_path / "file", DIGEST)
    assert (tmp_path / "file").read_bytes() == DATA


def test_part_that_is_a_link_or_shared(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    part = part_of(tmp_path / "file")
    part.symlink_to(tmp_path / "victim")
    with pytest.raises(DownloadError, match="Make its folder writable, or remove that file"):
        downloads.download(URL, tmp_path / "file", DIGEST)
    part.unlink()
    part.hardlink_to(tmp_path / "victim")
    with pytest.raises(DownloadError, match=r"it is not a plain file of the user that runs this\. Remove it"):
        downloads.download(URL, tmp_path / "file", DIGEST)
    part.unlink()
    os.mkfifo(part)
    with pytest.raises(DownloadError, match=r"it is not a plain file of the user that runs this\. Remove it"):
        downloads.download(URL, tmp_path / "file", DIGEST)
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_two_at_once_fetch_once(serve: t.Callable[..., Server], tmp_path: Path) -> None:
    begun, second_waits = threading.Event(), threading.Event()
    lock = fcntl.flock

    def slowly(_request: Request) -> Response:
        begun.set()
        second_waits.wait(10)
        return whole()

    def notice(descriptor: int, operation: int) -> None:
        if begun.is_set():
            second_waits.set()
        lock(descriptor, operation)

    server = serve(slowly)
    results: list[downloads.Download] = []
    first = threading.Thread(target=lambda: results.append(downloads.download(URL, tmp_path / "file", DIGEST)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", notice)
        first.start()
        assert begun.wait(10)
        second = downloads.download(URL, tmp_path / "file", DIGEST)
        first.join(10)
    assert len(server.requests) == 1
    assert [results[0].changed, second.changed] == [True, False]
    assert names(tmp_path) == ["file"]


def test_file_that_appears_before_the_lock_is_used(serve: t.Callable[..., Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lock = fcntl.flock

    def appear(descriptor: int, operation: int) -> None:
        (tmp_path / "file").write_bytes(DATA)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", appear)
    server = serve()
    assert not downloads.download(URL, tmp_path / "file", DIGEST).changed
    assert server.requests == []
    assert names(tmp_path) == ["file"]


def test_part_that_vanishes_before_the_lock_is_made_anew(serve: t.Callable[..., Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lock = fcntl.flock
    vanished: list[bool] = []

    def vanish(descriptor: int, operation: int) -> None:
        if not vanished:
            part_of(tmp_path / "file").unlink()
            vanished.append(True)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", vanish)
    serve(whole())
    assert downloads.download(URL, tmp_path / "file", DIGEST).changed
    assert names(tmp_path) == ["file"]


def test_progress(serve: t.Callable[..., Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(downloads, "time", types.SimpleNamespace(monotonic=lambda: float(next(ticks))))
    serve(whole(*(DATA[at : at + 10] for at in range(0, 100, 10))))
    seen: list[Progress] = []
    downloads.download(URL, tmp_path / "file", DIGEST, policy=Policy(progress_interval=4), report=seen.append)
    assert [(progress.present, progress.total) for progress in seen] == [(40, 100), (80, 100), (100, 100)]
    assert seen[0].rate == 10.0


def test_fetch(serve: t.Callable[..., Server], pauses: list[float]) -> None:
    server = serve(Response(503), whole(DATA[:30], BROKEN), whole(DATA[:30]), whole())
    assert downloads.fetch(URL, 1000) == DATA
    assert len(server.requests) == 4
    assert pauses == [1, 2, 4]


def test_fetch_gives_up(serve: t.Callable[..., Server]) -> None:
    server = serve(Response(503), Response(503), Response(503))
    with pytest.raises(DownloadError, match="3 attempts in a row brought nothing new"):
        downloads.fetch(URL, 1000, Policy(retries=2))
    assert len(server.requests) == 3


def test_fetch_of_too_much(serve: t.Callable[..., Server]) -> None:
    serve(whole(*([DATA] * 100), length=None))
    with pytest.raises(IntegrityError, match="it has more than 150 bytes, so it is not the file it should be"):
        downloads.fetch(URL, 150)
