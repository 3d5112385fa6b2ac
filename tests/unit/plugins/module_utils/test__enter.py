# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of running commands in an open image, with a server that has entered nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _enter
from ansible_collections.hyperscaler.images.plugins.module_utils._entrance import Entrance

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "WORD": "given"}


@pytest.fixture
def place(tmp_path: Path) -> t.Iterator[str]:
    path = tmp_path / "enter.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(8)
    pid = os.fork()
    if pid == 0:
        Entrance(listener).serve()
    listener.close()
    yield str(path)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_output_errors_and_exit_code(place: str) -> None:
    assert _enter.run(place, "echo out; echo err >&2; exit 7", ENVIRONMENT) == (7, b"out\n", b"err\n")


def test_only_the_environment_that_was_given(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the caller")
    _rc, out, _err = _enter.run(place, "env", ENVIRONMENT)
    assert b"WORD=given" in out
    assert b"SECRET" not in out


def test_large_input_and_output(place: str) -> None:
    data = os.urandom(3 << 20)
    assert _enter.run(place, "cat", ENVIRONMENT, data) == (0, data, b"")


def test_input_that_nobody_reads(place: str) -> None:
    assert _enter.run(place, "true", ENVIRONMENT, b"x" * (1 << 20)) == (0, b"", b"")


def test_a_process_that_stays_is_not_waited_for(place: str) -> None:
    assert _enter.run(place, "sleep 30 & echo started", ENVIRONMENT) == (0, b"started\n", b"")


def test_a_signal_is_told_as_shells_tell_it(place: str) -> None:
    assert _enter.run(place, "kill -9 $$", ENVIRONMENT)[0] == 137


def test_commands_run_side_by_side(place: str, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    waiting = _enter.request(place, f"read word <{fifo}; test $word = go", ENVIRONMENT, (0, 1, 2))
    assert _enter.run(place, f"echo go >{fifo}", ENVIRONMENT)[0] == 0
    assert _enter.answer(waiting) == 0


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        _enter.run(str(tmp_path / "enter.sock"), "true", ENVIRONMENT)


def test_the_same_as_a_program(place: str) -> None:
    program = [sys.executable, "-I", "-S", _enter.__file__]
    done = subprocess.run([*program, place, '{"WORD": "given"}', "cat; echo $WORD; exit 3"], input=b"in\n", capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (3, b"in\ngiven\n")
    assert subprocess.run([*program, place + ".gone", "{}", "true"], check=False).returncode == _enter.NOT_OPEN


def test_a_path_that_is_too_long_for_a_socket(place: str, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    (deep / "enter.sock").symlink_to(place)
    assert _enter.run(str(deep / "enter.sock"), "true", ENVIRONMENT)[0] == 0
