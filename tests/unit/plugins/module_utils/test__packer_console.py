# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of following the console of Packer's machine, on consoles of real boots."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _packer_console
from ansible_collections.hyperscaler.images.plugins.module_utils._packer_console import Console
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils import serial_log_captures as captures

REFUSED = "[DEBUG] SSH handshake err: ssh: handshake failed: ssh: unable to authenticate, attempted methods [none publickey], no supported methods remain\n"


@pytest.fixture
def console(tmp_path: Path) -> Console:
    return Console(tmp_path / "serial", tmp_path / "monitor", tmp_path / "debug")


def kind(console: Console) -> str:
    failure = console.lasting_failure(console.text())
    return failure.kind if failure else ""


def test_the_screen_counts_until_the_kernel_writes(console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screens = iter(["No bootable device.", ""])
    monkeypatch.setattr(_packer_console, "read_screen", lambda *_paths: next(screens))
    assert kind(console) == "no_boot_loader"
    # QEMU has ended: what was seen last still counts.
    assert kind(console) == "no_boot_loader"
    (tmp_path / "serial").write_bytes(captures.BOOTED)
    assert kind(console) == ""


def test_without_monitor_only_the_console_counts(tmp_path: Path) -> None:
    (tmp_path / "serial").write_bytes(captures.ROOT_NOT_FOUND)
    assert kind(Console(tmp_path / "serial", None, tmp_path / "debug")) == "root_not_found"
    assert Console(None, None, tmp_path / "debug").text() == ""


def test_a_refusal_lasts_when_it_comes_again_after_cloud_init(console: Console, tmp_path: Path) -> None:
    (tmp_path / "debug").write_text(REFUSED, encoding="utf-8")
    assert kind(console) == ""
    (tmp_path / "serial").write_bytes(captures.OTHER_KEY)
    # That refusal may be older than the account.
    assert [kind(console), kind(console)] == ["", ""]
    (tmp_path / "debug").write_text(REFUSED * 2, encoding="utf-8")
    assert kind(console) == "authentication_refused"


def test_no_refusal_lasts_while_cloud_init_runs(console: Console, tmp_path: Path) -> None:
    (tmp_path / "serial").write_bytes(captures.NO_SEED)
    for count in (1, 2, 3):
        (tmp_path / "debug").write_text(REFUSED * count, encoding="utf-8")
        assert kind(console) == ""


def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False, True])
    monkeypatch.setattr(_packer_console.Settling, "over", lambda _self, _console: next(answers))


def test_no_answer_lasts_when_the_boot_ended_long_ago(console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settled(monkeypatch)
    (tmp_path / "debug").write_text("[DEBUG] TCP connection to SSH ip/port failed: dial tcp 127.0.0.1:2222: i/o timeout\n", encoding="utf-8")
    (tmp_path / "serial").write_bytes(captures.BOOTED)
    assert [kind(console), kind(console)] == ["", "no_network"]


def test_a_connection_that_is_closed_after_the_boot_is_a_server_that_is_not_up(console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settled(monkeypatch)
    (tmp_path / "debug").write_text("[DEBUG] handshaking with SSH\n[DEBUG] SSH handshake err: ssh: handshake failed: EOF\n", encoding="utf-8")
    (tmp_path / "serial").write_bytes(captures.BOOTED)
    assert [kind(console), kind(console)] == ["", "sshd_not_up"]
