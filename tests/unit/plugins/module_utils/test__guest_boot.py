# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the wait for a boot."""

from __future__ import annotations

import dataclasses
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _guest_boot
from ansible_collections.hyperscaler.images.plugins.module_utils._guest_boot import BootWait, console_text, wait_for_boot
from ansible_collections.hyperscaler.images.plugins.module_utils._process import ProcessIdentity
from ansible_collections.hyperscaler.images.plugins.module_utils._qemu_guest import GuestError, GuestFiles, GuestSettings
from ansible_collections.hyperscaler.images.plugins.module_utils._qemu_process import GuestRecord
from ansible_collections.hyperscaler.images.plugins.module_utils._serial_log import SshOutcome
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils import serial_log_captures as captures


class FakeWait:
    """Answers with an outcome and remembers what it was asked."""

    outcome = SshOutcome("login")
    calls: t.ClassVar[list[tuple[t.Any, ...]]] = []

    def __init__(self, target: t.Any, _guest: int, console: t.Callable[[], str]) -> None:
        self._seen = (target.port, target.user, target.key, console())

    def until(self, stage: str, timeout: float) -> SshOutcome:
        self.calls.append((*self._seen, stage, timeout))
        return self.outcome


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GuestSettings:
    monkeypatch.setattr(_guest_boot, "SshWait", FakeWait)
    monkeypatch.setattr(FakeWait, "outcome", SshOutcome("login"))
    monkeypatch.setattr(FakeWait, "calls", [])
    monkeypatch.setattr(_guest_boot, "read_screen", lambda *_paths: "GRUB loading.")
    monkeypatch.setattr(_guest_boot, "how_it_ended", lambda *_: "")
    return GuestSettings(name="g", work_dir=tmp_path, image=Path("/i.qcow2"), image_format="qcow2", serial_log=tmp_path / "serial.log")


@pytest.fixture
def record() -> GuestRecord:
    me = ProcessIdentity.of(os.getpid())
    assert me is not None
    return GuestRecord(me, {"name": "g"}, "tcg", "Emulation (TCG) was asked for.", 6, 40123, 1000.0)


def test_nothing_is_waited_for_when_nothing_is_asked(settings: GuestSettings, record: GuestRecord) -> None:
    assert wait_for_boot(settings, record, BootWait("none", 60)) is record
    assert FakeWait.calls == []


def test_the_time_limit_grows_with_the_patience(settings: GuestSettings, record: GuestRecord) -> None:
    done = wait_for_boot(settings, record, BootWait("login", 60, "admin", Path("/k")))
    assert FakeWait.calls == [(40123, "admin", Path("/k"), "GRUB loading.", "login", 360)]
    assert done.boot_seconds is not None
    assert GuestFiles(settings.work_dir).record.is_file()


def test_the_time_of_the_first_boot_is_kept(settings: GuestSettings, record: GuestRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeWait, "outcome", SshOutcome("banner"))
    done = wait_for_boot(settings, record, BootWait("ssh", 60))
    assert wait_for_boot(settings, done, BootWait("ssh", 60)).boot_seconds == done.boot_seconds


def test_the_whole_story_is_told(settings: GuestSettings, record: GuestRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeWait, "outcome", SshOutcome("silent"))
    settings.serial_log.write_bytes(captures.KERNEL_PANIC)
    with pytest.raises(GuestError) as caught:
        wait_for_boot(settings, record, BootWait("login", 10, "admin", Path("/k")))
    lines = str(caught.value).splitlines()
    assert lines[0] == "The guest g booted from /i.qcow2 (bios) could not be reached over SSH after 0 s (limit 60 s): The kernel panicked."
    assert lines[1].startswith("Look at the lines before the panic")
    assert lines[2] == "Evidence:"
    assert "  [    4.916743] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)" in lines
    assert f"Last lines of the console ({settings.serial_log}):" in lines
    assert lines[-1].startswith("  [    4.9")
    details = caught.value.details
    assert (details["kind"], details["accelerator"]) == ("kernel_panic", "tcg")
    assert details["evidence"]
    assert details["serial_tail"]


def test_a_guest_that_is_gone(settings: GuestSettings, record: GuestRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guest_boot, "how_it_ended", lambda *_: "QEMU ended with exit code 0.")
    gone = GuestRecord(dataclasses.replace(record.process, start=1), patience=1)
    with pytest.raises(GuestError, match=r"The guest ended early: QEMU ended with exit code 0\."):
        wait_for_boot(settings, gone, BootWait("ssh", 60))
    assert FakeWait.calls == []


def test_the_screen_counts_until_the_kernel_writes(settings: GuestSettings) -> None:
    settings.serial_log.write_bytes(b"Booting `Debian GNU/Linux'\r\n")
    assert console_text(settings) == "Booting `Debian GNU/Linux'\n\nGRUB loading."
    settings.serial_log.write_bytes(b"[    0.000000] Linux version 6.12\r\n")
    assert console_text(settings) == "[    0.000000] Linux version 6.12\n"
