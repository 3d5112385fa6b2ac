# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the conversation with QEMU."""

from __future__ import annotations

import json
import threading
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._qmp import Qmp, QmpError, listen

# Captured from QEMU 10.0.2.
GREETING = {"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": "Debian"}, "capabilities": ["oob"]}}
EVENT = {
    "timestamp": {"seconds": 1795231722, "microseconds": 428930},
    "event": "RTC_CHANGE",
    "data": {"offset": 0, "qom-path": "/machine/unattached/device[6]/rtc"},
}


class FakeQemu(threading.Thread):
    """Accepts one session and answers it from a list; an empty list closes the connection after the greeting."""

    def __init__(self, path: Path, *answers: dict[str, t.Any], greeting: bytes = json.dumps(GREETING).encode("utf-8") + b"\r\n") -> None:
        super().__init__(daemon=True)
        self.requests: list[dict[str, t.Any]] = []
        self._server = listen(path)
        self._answers = answers
        self._greeting = greeting
        self.start()

    def run(self) -> None:
        connection = self._server.accept()[0]
        self._server.close()
        with connection, connection.makefile("rwb") as stream:
            stream.write(self._greeting)
            stream.flush()
            for answer in self._answers:
                self.requests.append(json.loads(stream.readline()))
                stream.write(json.dumps(EVENT).encode("utf-8") + b"\r\n" + json.dumps(answer).encode("utf-8") + b"\r\n")
                stream.flush()


def test_a_command_is_answered_past_events(tmp_path: Path) -> None:
    qemu = FakeQemu(tmp_path / "q", {"return": {}}, {"return": {"status": "running"}})
    with Qmp(tmp_path / "q") as qmp:
        assert qmp.execute("query-status") == {"status": "running"}
    qemu.join(5)
    assert qemu.requests == [{"execute": "qmp_capabilities"}, {"execute": "query-status"}]


def test_arguments_are_passed(tmp_path: Path) -> None:
    qemu = FakeQemu(tmp_path / "q", {"return": {}}, {"return": "text"})
    with Qmp(tmp_path / "q") as qmp:
        assert qmp.execute("human-monitor-command", **{"command-line": "info usernet"}) == "text"
    qemu.join(5)
    assert qemu.requests[1] == {"execute": "human-monitor-command", "arguments": {"command-line": "info usernet"}}


def test_a_refusal_is_an_error(tmp_path: Path) -> None:
    FakeQemu(tmp_path / "q", {"return": {}}, {"error": {"class": "CommandNotFound", "desc": "The command bogus has not been found"}})
    with Qmp(tmp_path / "q") as qmp, pytest.raises(QmpError, match=r"Cannot run bogus on the QEMU at .*: The command bogus has not been found\."):
        qmp.execute("bogus")


def test_a_qemu_that_closes_is_an_error(tmp_path: Path) -> None:
    FakeQemu(tmp_path / "q", {"return": {}})
    with Qmp(tmp_path / "q") as qmp, pytest.raises(QmpError, match=r"Cannot run query-status on the QEMU at .*It has ended"):
        qmp.execute("query-status")


def test_something_else_on_the_socket_is_an_error(tmp_path: Path) -> None:
    FakeQemu(tmp_path / "q", greeting=b"220 smtp ready\r\n")
    with pytest.raises(QmpError, match="Cannot run connect"), Qmp(tmp_path / "q"):
        pass


def test_no_socket_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(QmpError, match=r"Cannot run connect on the QEMU at .*/gone"), Qmp(tmp_path / "gone"):
        pass


def test_a_qemu_that_hangs_is_an_error(tmp_path: Path) -> None:
    server = listen(tmp_path / "q")
    with server, pytest.raises(QmpError, match="timed out"), Qmp(tmp_path / "q", timeout=0.1):
        pass


def test_a_deep_folder_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    FakeQemu(deep / "qmp.sock", {"return": {}}, {"return": 1})
    with Qmp(deep / "qmp.sock") as qmp:
        assert qmp.execute("x") == 1
    assert (deep / "qmp.sock").stat().st_mode & 0o777 == 0o600


def test_an_old_socket_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "q").write_bytes(b"")
    listen(tmp_path / "q").close()
    assert (tmp_path / "q").is_socket()
