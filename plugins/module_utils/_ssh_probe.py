# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Wait until a guest answers on SSH, and stop waiting as soon as it cannot any more."""

from __future__ import annotations

import dataclasses
import select
import socket
import time
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError
from ansible_collections.hyperscaler.images.plugins.module_utils._serial_log import SshOutcome, final_failure, seeded
from ansible_collections.hyperscaler.images.plugins.module_utils._settling import Settling

# User-mode networking asks the guest again and again on behalf of a connection that was given up, for 75 s. All of these arrive at once when
# the guest is up, and OpenSSH takes more than a dozen for an attack: so few and long attempts.
ANSWER_SECONDS = 12.0
LOOK_SECONDS = 2.0
LOGIN_SECONDS = 30
# OpenSSH 9.8 and newer lock out an address for 5 s after each refused login: asking more often makes it last.
RETRY_SECONDS = {"silent": 0.1, "closed": 0.5, "banner": 1.0, "refused": 6.0}
# Refusals after the end of cloud-init before it is final.
REFUSALS = 2


@dataclasses.dataclass(frozen=True)
class SshTarget:
    """Where and as whom to log in."""

    host: str
    port: int
    user: str = ""
    key: Path | None = None


def login_arguments(target: SshTarget) -> list[str]:
    """The arguments of ssh for a login that asks nothing and remembers nothing."""
    options = (
        "BatchMode=yes",
        "ControlMaster=no",
        "ControlPath=none",
        "GlobalKnownHostsFile=/dev/null",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "LogLevel=ERROR",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        f"ConnectTimeout={LOGIN_SECONDS}",
        "ServerAliveInterval=10",
    )
    identity = ["-i", str(target.key)] if target.key else []
    return [
        *("-F", "none"),
        *(part for option in options for part in ("-o", option)),
        *identity,
        *("-p", str(target.port)),
        *("-l", target.user),
        "--",
        target.host,
        "true",
    ]


def judge_login(rc: int, stderr: str) -> SshOutcome:
    """What the end of ssh means."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    message = lines[-1] if lines else f"ssh ended with exit code {rc}"
    if rc == 0:
        return SshOutcome("login")
    if rc == 255 and "Permission denied" not in stderr:
        return SshOutcome("closed", message)
    return SshOutcome("refused", message)


def judge_greeting(data: bytes) -> SshOutcome:
    """What the first bytes that a server sent mean; none at all: it closed the connection."""
    if data.startswith(b"SSH-"):
        return SshOutcome("banner", data.splitlines()[0].decode("ascii", errors="replace"))
    line = data.decode("utf-8", errors="replace").strip()
    return SshOutcome("closed", f"the server said {line!r}" if line else "nothing listens on port 22 of the guest")


class SshWait:
    """Wait for a guest.

    ``guest`` is a pidfd of its QEMU: it becomes readable when the guest ends. ``console`` reads what the guest shows.
    """

    def __init__(self, target: SshTarget, guest: int, console: t.Callable[[], str]) -> None:
        self._target = target
        self._guest = guest
        self._console = console
        self._settling = Settling()
        self._refusals = 0

    def until(self, stage: str, timeout: float) -> SshOutcome:
        """Try until the outcome is ``stage`` (banner or login), nothing better can come, or ``timeout`` seconds are over."""
        deadline = time.monotonic() + timeout
        outcome = SshOutcome()
        while True:
            outcome = self._next(outcome, stage)
            left = deadline - time.monotonic()
            if outcome.stage == stage or left <= 0 or self._hopeless(outcome):
                return outcome
            if self._ended_within(min(RETRY_SECONDS[outcome.stage], left)):
                return outcome

    def _next(self, before: SshOutcome, stage: str) -> SshOutcome:
        # A server that was seen once is not greeted again without a login: it would count that as abuse.
        if stage == "login" and before.stage in ("banner", "refused"):
            return self._login()
        greeting = self._greeting()
        return self._login() if stage == "login" and greeting.stage == "banner" else greeting

    def _greeting(self) -> SshOutcome:
        try:
            with socket.create_connection((self._target.host, self._target.port), timeout=ANSWER_SECONDS) as connection:
                if self._answers(connection):
                    return judge_greeting(connection.recv(256))
                return SshOutcome("silent", "no answer on port 22 of the guest")
        except OSError as error:
            return SshOutcome("closed", f"the connection failed: {error.strerror or error}")

    def _answers(self, connection: socket.socket) -> bool:
        deadline = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < deadline:
            ready = select.select([connection.fileno(), self._guest], [], [], LOOK_SECONDS)[0]
            if ready:
                return connection.fileno() in ready
            if final_failure(self._console()) is not None:
                return False
        return False

    def _login(self) -> SshOutcome:
        ssh = Command("ssh", reason="log in to the guest", package="openssh-client")
        try:
            result = ssh.run(*login_arguments(self._target), attempt="log in to the guest", accepted=range(256), timeout=2 * LOGIN_SECONDS)
        except CommandError as error:
            return SshOutcome("closed", str(error))
        return judge_login(result.rc, result.stderr)

    def _hopeless(self, outcome: SshOutcome) -> bool:
        console = self._console()
        if outcome.stage == "refused" and seeded(console):
            self._refusals += 1
        return self._settling.over(console) or self._refusals >= REFUSALS or final_failure(console) is not None

    def _ended_within(self, seconds: float) -> bool:
        return bool(select.select([self._guest], [], [], seconds)[0])
