# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the connection to a guest."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.playbook.play_context import PlayContext
from ansible_collections.hyperscaler.images.plugins.connection import guest
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils import serial_log_captures as captures

REASON = "Failed to connect to the host via ssh: Connection reset by 127.0.0.1 port 40123"


class FakeSsh:
    """Stands for the ssh connection: remembers calls, and loses the connection when asked to."""

    def __init__(self) -> None:
        self.calls: list[tuple[t.Any, ...]] = []
        self.variables: dict[str, t.Any] = {}
        self.lost = False

    def set_options(self, *, var_options: dict[str, t.Any]) -> None:
        self.variables = var_options

    def _call(self, *call: t.Any) -> tuple[int, bytes, bytes]:
        self.calls.append(call)
        if self.lost:
            raise AnsibleConnectionFailure(REASON)
        return 0, b"out", b""

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        return self._call("exec", cmd, in_data, sudoable)

    def put_file(self, in_path: str, out_path: str) -> None:
        self._call("put", in_path, out_path)

    def fetch_file(self, in_path: str, out_path: str) -> None:
        self._call("fetch", in_path, out_path)

    def close(self) -> None:
        self._call("close")


@pytest.fixture(autouse=True)
def ssh(monkeypatch: pytest.MonkeyPatch) -> FakeSsh:
    fake = FakeSsh()
    monkeypatch.setattr(guest.connection_loader, "get", lambda *_: fake)
    return fake


@pytest.fixture
def connection(tmp_path: Path) -> guest.Connection:
    plugin = guest.Connection(PlayContext())
    options = {"ssh_variables": {"ansible_port": 40123}, "serial_log": str(tmp_path / "serial.log")}
    plugin.get_option = options.__getitem__  # type: ignore[method-assign]  # the options that Ansible would have set
    return plugin


def test_everything_goes_over_ssh(connection: guest.Connection, ssh: FakeSsh) -> None:
    assert connection.exec_command("id", in_data=b"x", sudoable=False) == (0, b"out", b"")
    connection.put_file("/a", "/b")
    connection.fetch_file("/c", "/d")
    connection.close()
    assert ssh.calls == [("exec", "id", b"x", False), ("put", "/a", "/b"), ("fetch", "/c", "/d"), ("close",)]
    assert ssh.variables == {"ansible_port": 40123}


@pytest.mark.parametrize("call", [("exec_command", "id"), ("put_file", "/a", "/b"), ("fetch_file", "/a", "/b")])
def test_a_lost_connection_is_a_failure_with_the_console(connection: guest.Connection, ssh: FakeSsh, tmp_path: Path, call: tuple[str, ...]) -> None:
    (tmp_path / "serial.log").write_bytes(captures.KERNEL_PANIC)
    ssh.lost = True
    with pytest.raises(AnsibleError) as caught:
        getattr(connection, call[0])(*call[1:])
    # Ansible looks for a lost connection in the causes too.
    assert not isinstance(caught.value, AnsibleConnectionFailure)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    lines = str(caught.value).splitlines()
    assert lines[0] == f"Cannot run a task in the guest: {REASON}."
    assert lines[1].startswith("The kernel panicked. Look at the lines before the panic")
    assert lines[2] == f"Last lines of the serial console ({tmp_path / 'serial.log'}):"


def test_a_console_that_says_nothing(tmp_path: Path) -> None:
    assert guest.explain_loss(REASON, tmp_path / "gone") == f"Cannot run a task in the guest: {REASON}."
