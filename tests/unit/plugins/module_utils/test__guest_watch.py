# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the process that ends a guest with its owner."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._guest_watch import playbook_pid, watch
from ansible_collections.hyperscaler.images.plugins.module_utils._process import ProcessIdentity


def add_process(folder: Path, pid: int, parent: int, *arguments: str) -> None:
    entry = folder / str(pid)
    entry.mkdir()
    (entry / "cmdline").write_bytes(b"".join(argument.encode("utf-8") + b"\0" for argument in arguments))
    (entry / "stat").write_text(f"{pid} (a (strange) name) S {parent} 1 1 0 -1\n", encoding="utf-8")


def test_the_topmost_playbook_is_the_owner(tmp_path: Path) -> None:
    add_process(tmp_path, 10, 1, "/usr/sbin/sshd")
    add_process(tmp_path, 20, 10, "make", "images")
    add_process(tmp_path, 30, 20, "/venv/bin/python3", "/venv/bin/ansible-playbook", "build-images.yml")
    add_process(tmp_path, 40, 30, "/venv/bin/python3", "/venv/bin/ansible-playbook", "build-images.yml")
    add_process(tmp_path, 50, 40, "/bin/sh", "-c", "/usr/bin/python3 ansible-playbook")
    assert playbook_pid(tmp_path, 50) == 30


def test_a_module_that_came_over_ssh_has_no_owner(tmp_path: Path) -> None:
    add_process(tmp_path, 10, 1, "/usr/sbin/sshd")
    add_process(tmp_path, 20, 10, "/bin/sh", "-c", "/usr/bin/python3 AnsiballZ_qemu_guest.py")
    assert playbook_pid(tmp_path, 20) is None


class Sleeper:
    """A process that runs until it is ended."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
        identity = ProcessIdentity.of(self.process.pid)
        assert identity is not None
        self.identity = identity

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def pair() -> t.Iterator[tuple[Sleeper, Sleeper]]:
    both = (Sleeper(), Sleeper())
    yield both
    for sleeper in both:
        with contextlib.suppress(ProcessLookupError):
            sleeper.end()


def watched(owner: Sleeper, guest: Sleeper) -> int:
    """Start a watcher; return one end of a pipe whose other end it inherited."""
    reader, writer = os.pipe()
    watch(owner.identity, guest.identity, lambda: os.kill(guest.identity.pid, signal.SIGKILL))
    os.close(writer)
    return reader


def test_the_guest_ends_with_its_owner(pair: tuple[Sleeper, Sleeper]) -> None:
    owner, guest = pair
    os.close(watched(owner, guest))
    assert guest.identity.alive()
    owner.end()
    assert guest.identity.wait(10)


def test_an_owner_that_is_gone_already_counts(pair: tuple[Sleeper, Sleeper]) -> None:
    owner, guest = pair
    owner.end()
    os.close(watched(owner, guest))
    assert guest.identity.wait(10)


def test_a_guest_that_ends_first_leaves_the_owner_alone(pair: tuple[Sleeper, Sleeper]) -> None:
    owner, guest = pair
    os.close(watched(owner, guest))
    guest.end()
    assert not owner.identity.wait(0.3)


def test_the_watcher_holds_nothing_of_the_module(pair: tuple[Sleeper, Sleeper]) -> None:
    reader = watched(*pair)
    # The other end of the pipe is closed everywhere, although the watcher still runs.
    assert select.select([reader], [], [], 10)[0]
    assert os.read(reader, 1) == b""
    os.close(reader)
