# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the wait for SSH."""

from __future__ import annotations

import os
import socket
import threading
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _settling, _ssh_probe
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError
from ansible_collections.hyperscaler.images.plugins.module_utils._serial_log import SshOutcome
from ansible_collections.hyperscaler.images.plugins.module_utils._ssh_probe import SshTarget, SshWait, judge_greeting, judge_login, login_arguments

SEEDED = "[   41.2] cloud-init[577]: Cloud-init v. 25.1.4 finished at Sat, 21 Nov 2026 03:44:00 +0000."


class Server(threading.Thread):
    """Sends each greeting to one connection and closes it; None keeps the connection open and says nothing."""

    def __init__(self, *greetings: bytes | None) -> None:
        super().__init__(daemon=True)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.count = 0
        self._greetings = greetings
        self.start()

    def run(self) -> None:
        kept = []
        for greeting in self._greetings:
            connection = self._server.accept()[0]
            self.count += 1
            if greeting is None:
                kept.append(connection)
            else:
                connection.sendall(greeting)
                connection.close()


@pytest.fixture
def guest() -> t.Iterator[tuple[int, t.Callable[[], None]]]:
    """A descriptor that stands for a running guest, and how to end that."""
    reader, writer = os.pipe()
    yield reader, lambda: os.write(writer, b"x") and None
    os.close(reader)
    os.close(writer)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ssh_probe, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(_ssh_probe, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(_ssh_probe, "RETRY_SECONDS", dict.fromkeys(_ssh_probe.RETRY_SECONDS, 0.01))


def wait_for(server: Server, guest: tuple[int, t.Any], console: str = "") -> SshWait:
    return SshWait(SshTarget("127.0.0.1", server.port, "admin", Path("/k")), guest[0], lambda: console)


def logins(wait: SshWait, monkeypatch: pytest.MonkeyPatch, *outcomes: SshOutcome) -> list[SshOutcome]:
    left = list(outcomes)
    monkeypatch.setattr(wait, "_login", lambda: left.pop(0))
    return left


def test_login_arguments() -> None:
    arguments = login_arguments(SshTarget("127.0.0.1", 2222, "admin", Path("/keys/id")))
    assert arguments[:2] == ["-F", "none"]
    assert arguments[-8:] == ["/keys/id", "-p", "2222", "-l", "admin", "--", "127.0.0.1", "true"]
    options = {arguments[at + 1] for at, argument in enumerate(arguments) if argument == "-o"}
    assert {"BatchMode=yes", "IdentitiesOnly=yes", "UserKnownHostsFile=/dev/null", "StrictHostKeyChecking=no"} <= options
    assert "-i" not in login_arguments(SshTarget("127.0.0.1", 2222, "admin"))


@pytest.mark.parametrize(
    ("rc", "stderr", "stage", "message"),
    [
        (0, "", "login", ""),
        (255, "admin@127.0.0.1: Permission denied (publickey).\n", "refused", "admin@127.0.0.1: Permission denied (publickey)."),
        (
            255,
            "kex_exchange_identification: read: Connection reset by peer\nConnection reset by 127.0.0.1 port 2222\n",
            "closed",
            "Connection reset by 127.0.0.1 port 2222",
        ),
        (255, "", "closed", "ssh ended with exit code 255"),
        (1, "This account is currently not available.\n", "refused", "This account is currently not available."),
    ],
)
def test_judge_login(rc: int, stderr: str, stage: str, message: str) -> None:
    assert judge_login(rc, stderr) == SshOutcome(stage, message)


@pytest.mark.parametrize(
    ("data", "stage", "message"),
    [
        (b"SSH-2.0-OpenSSH_10.0p2 Debian-7\r\n", "banner", "SSH-2.0-OpenSSH_10.0p2 Debian-7"),
        (b"", "closed", "nothing listens on port 22 of the guest"),
        (b"Not allowed at this time\r\n", "closed", "the server said 'Not allowed at this time'"),
    ],
)
def test_judge_greeting(data: bytes, stage: str, message: str) -> None:
    assert judge_greeting(data) == SshOutcome(stage, message)


def test_the_banner_is_waited_for(guest: tuple[int, t.Any]) -> None:
    server = Server(b"", b"Not allowed at this time\r\n", b"SSH-2.0-OpenSSH_10.0\r\n")
    assert wait_for(server, guest).until("banner", 5).stage == "banner"
    assert server.count == 3


def test_a_server_is_greeted_once_and_then_logged_in_to(guest: tuple[int, t.Any], monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(b"SSH-2.0-x\r\n", b"SSH-2.0-x\r\n")
    wait = wait_for(server, guest)
    left = logins(wait, monkeypatch, SshOutcome("refused", "not yet"), SshOutcome("refused", "not yet"), SshOutcome("refused", "not yet"), SshOutcome("login"))
    assert wait.until("login", 5).stage == "login"
    assert left == []
    assert server.count == 1


def test_refusals_after_cloud_init_are_final(guest: tuple[int, t.Any], monkeypatch: pytest.MonkeyPatch) -> None:
    wait = wait_for(Server(b"SSH-2.0-x\r\n"), guest, SEEDED)
    left = logins(wait, monkeypatch, *[SshOutcome("refused", "no")] * 5)
    assert wait.until("login", 60) == SshOutcome("refused", "no")
    assert len(left) == 3


def test_a_silent_guest_costs_the_whole_time(guest: tuple[int, t.Any]) -> None:
    assert wait_for(Server(None, None, None, None), guest).until("banner", 0.5).stage == "silent"


def test_a_guest_that_is_up_has_little_time_left_for_ssh(guest: tuple[int, t.Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_settling, "SETTLE_SECONDS", 0.1)
    server = Server(*[None] * 9)
    wait = SshWait(SshTarget("127.0.0.1", server.port), guest[0], lambda: "[    9.1] x\nDebian GNU/Linux 13 g ttyS0\n\ng login: ")
    assert wait.until("banner", 60).stage == "silent"
    assert server.count == 2


def test_the_wait_ends_with_the_guest(guest: tuple[int, t.Callable[[], None]]) -> None:
    wait = wait_for(Server(None, None), guest)
    guest[1]()
    assert wait.until("banner", 60).stage == "silent"


def test_the_wait_ends_with_a_final_failure(guest: tuple[int, t.Any]) -> None:
    wait = wait_for(Server(None, None), guest, "[    3.1] Kernel panic - not syncing: VFS: Unable to mount root fs")
    assert wait.until("banner", 60).stage == "silent"


def test_no_server_at_all(guest: tuple[int, t.Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    outcome = SshWait(SshTarget("127.0.0.1", port), guest[0], lambda: "").until("banner", 0.1)
    assert outcome == SshOutcome("closed", "the connection failed: Connection refused")


def test_an_ssh_that_hangs_is_tried_again(guest: tuple[int, t.Any], monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging:
        def __init__(self, *_: object, **__: object) -> None: ...

        def run(self, *_: object, **__: object) -> None:
            raise CommandError("Cannot log in to the guest: ssh did not end within 60 s.")

    monkeypatch.setattr(_ssh_probe, "Command", Hanging)
    outcome = wait_for(Server(*[b"SSH-2.0-x\r\n"] * 50), guest).until("login", 0.1)
    assert outcome == SshOutcome("closed", "Cannot log in to the guest: ssh did not end within 60 s.")
