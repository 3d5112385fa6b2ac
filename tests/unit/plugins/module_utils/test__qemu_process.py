# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of starting, finding and ending a guest, with a small program in the place of QEMU."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _qemu_process
from ansible_collections.hyperscaler.images.plugins.module_utils._accelerator import Accelerator
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import BusyError
from ansible_collections.hyperscaler.images.plugins.module_utils._process import ProcessIdentity
from ansible_collections.hyperscaler.images.plugins.module_utils._qemu_guest import GuestError, GuestFiles, GuestSettings
from ansible_collections.hyperscaler.images.plugins.module_utils._qemu_process import (
    GuestRecord,
    find_guest,
    guest_lock,
    how_it_ended,
    start_guest,
    stop_guest,
    write_record,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._screen import read_screen

KVM = Accelerator("kvm", "A probe guest ran.", "10.0.2")
# Stands for QEMU: serves QMP on the socket that it inherits, as the arguments say.
FAKE_QEMU = """
import json, os, re, socket, sys
text = " ".join(sys.argv)
mode = os.environ.get("HOME", "")
if mode.endswith("broken"):
    sys.exit("qemu-system-x86_64: -m 1: not enough")
with open(sys.argv[sys.argv.index("-pidfile") + 1], "w") as file:
    file.write(f"{os.getpid()}\\n")
server = socket.socket(fileno=int(re.search(r"fd=(\\d+)", text).group(1)))
while True:
    connection, _ = server.accept()
    with connection, connection.makefile("rwb") as stream:
        stream.write(b'{"QMP": {}}\\n')
        stream.flush()
        for line in stream:
            request = json.loads(line)
            name = request["execute"]
            result = {}
            if name == "human-monitor-command":
                result = "  TCP[HOST_FORWARD]  13       127.0.0.1 41263       10.0.2.15    22     0     0\\r\\n"
            if name == "query-status":
                result = {"status": "io-error" if mode.endswith("full") else "running"}
            if name == "pmemsave":
                with open(request["arguments"]["filename"], "wb") as file:
                    file.write("GRUB loading.".ljust(2000).encode("utf-16-le"))
            stream.write(json.dumps({"return": result}).encode() + b"\\n")
            stream.flush()
            if name == "quit" or (name == "system_powerdown" and not mode.endswith("stubborn")):
                sys.exit(0)
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[GuestSettings]:
    """A guest whose QEMU and qemu-img are the small programs; HOME passes the mode on to them."""
    tools = tmp_path / "bin"
    tools.mkdir()
    # A copy of the interpreter, so that the process has the name of QEMU.
    program = tools / "qemu-system-x86_64"
    program.symlink_to(sys.executable)
    (tools / "qemu.py").write_text(FAKE_QEMU, encoding="utf-8")
    (tools / "qemu-img").write_text('#!/bin/sh\necho "$@" >> "$0.calls"\necho \'{"virtual-size": 1000}\'\n', encoding="utf-8")
    (tools / "qemu-img").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setattr(_qemu_process, "qemu_arguments", lambda settings, *rest: [str(tools / "qemu.py"), *arguments(settings, *rest)])
    monkeypatch.setattr(_qemu_process, "QUIT_SECONDS", 2.0)
    folder = tmp_path / "work"
    folder.mkdir()
    yield GuestSettings(name="g", work_dir=folder, image=tmp_path / "i.raw", image_format="raw", serial_log=folder / "logs" / "serial.log")
    stop_guest(GuestFiles(folder), powerdown=0)


arguments = _qemu_process.qemu_arguments


def files_of(settings: GuestSettings) -> GuestFiles:
    return GuestFiles(settings.work_dir)


def test_a_guest_starts_is_found_and_ends(settings: GuestSettings) -> None:
    record = start_guest(settings, KVM)
    files = files_of(settings)
    assert record.process.alive()
    assert (record.ssh_port, record.accelerator, record.patience) == (41263, "kvm", 1)
    assert find_guest(files) == record
    assert settings.serial_log.is_file()
    assert stop_guest(files, powerdown=0) == record
    assert not record.process.alive()
    assert find_guest(files) is None
    assert sorted(path.name for path in settings.work_dir.iterdir()) == ["logs", "qemu.log"]


def test_powerdown_is_asked_for_first(settings: GuestSettings) -> None:
    record = start_guest(settings, KVM)
    stop_guest(files_of(settings), powerdown=5)
    assert not record.process.alive()


def test_a_guest_that_does_not_power_down_is_quit(settings: GuestSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/stubborn")
    record = start_guest(settings, KVM)
    stop_guest(files_of(settings), powerdown=0.2)
    assert not record.process.alive()


def test_a_guest_of_a_killed_run_is_found_by_its_pid_file(settings: GuestSettings) -> None:
    record = start_guest(settings, KVM)
    files = files_of(settings)
    files.record.unlink()
    assert find_guest(files) == GuestRecord(record.process)
    stop_guest(files, powerdown=0)
    assert not record.process.alive()


def test_another_process_with_the_pid_is_left_alone(settings: GuestSettings) -> None:
    files = files_of(settings)
    me = ProcessIdentity.of(os.getpid())
    assert me is not None
    files.pid.write_text(f"{os.getpid()}\n", encoding="ascii")
    write_record(GuestRecord(me), files)
    assert find_guest(files) is None
    assert stop_guest(files, powerdown=0) is None


def test_the_guest_of_another_folder_is_left_alone(settings: GuestSettings, tmp_path: Path) -> None:
    other = start_guest(settings, KVM)
    files = GuestFiles(tmp_path / "mine")
    files.folder.mkdir()
    files.pid.write_text(f"{other.process.pid}\n", encoding="ascii")
    write_record(other, files)
    assert find_guest(files) is None
    assert stop_guest(files, powerdown=0) is None
    assert other.process.alive()


@pytest.mark.parametrize("change", [{"start": 1}, {"boot": "another"}, {"namespace": "another"}])
def test_a_recycled_pid_is_not_the_recorded_guest(settings: GuestSettings, change: dict[str, t.Any]) -> None:
    record = start_guest(settings, KVM)
    files = files_of(settings)
    write_record(dataclasses.replace(record, process=dataclasses.replace(record.process, **change)), files)
    found = find_guest(files)
    # The pid file and the arguments still lead to it, but nothing of the record is believed.
    assert found == GuestRecord(record.process)


def test_a_damaged_record_is_no_guest(settings: GuestSettings) -> None:
    files = files_of(settings)
    for text in ("{", "[]", "{}", json.dumps({"process": {}})):
        files.record.write_text(text, encoding="utf-8")
        assert find_guest(files) is None


def test_a_qemu_that_fails_is_explained_and_leaves_nothing(settings: GuestSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/broken")
    with pytest.raises(GuestError, match=r"Cannot start the guest g from .*/i\.raw: QEMU does not run it: qemu-system-x86_64: -m 1: not enough\.") as caught:
        start_guest(settings, KVM)
    assert caught.value.details["cmd"][0].endswith("qemu-system-x86_64")
    assert sorted(path.name for path in settings.work_dir.iterdir()) == ["logs", "qemu.log"]


def test_a_start_in_place_of_a_guest_ends_that(settings: GuestSettings) -> None:
    first = start_guest(settings, KVM)
    second = start_guest(settings, KVM)
    assert not first.process.alive()
    assert second.process.alive()


def test_a_larger_disk_is_made_from_the_size_of_the_image(settings: GuestSettings, tmp_path: Path) -> None:
    start_guest(dataclasses.replace(settings, disk_growth=24), KVM)
    calls = (tmp_path / "bin" / "qemu-img.calls").read_text(encoding="utf-8").splitlines()
    assert calls[0].startswith("info --output=json -U -f raw -- ")
    assert calls[1].endswith("overlay.qcow2 1024")


def test_one_task_at_a_time(tmp_path: Path) -> None:
    files = GuestFiles(tmp_path)
    with guest_lock(files), pytest.raises(BusyError, match="another task does so right now"), guest_lock(files):
        pass
    with guest_lock(files):
        pass


def test_how_a_running_guest_ended(settings: GuestSettings) -> None:
    record = start_guest(settings, KVM)
    assert how_it_ended(record.process, files_of(settings)) == ""


def test_a_full_disk_of_the_host_is_named(settings: GuestSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/full")
    record = start_guest(settings, KVM)
    assert how_it_ended(record.process, files_of(settings)) == "QEMU holds the guest in the state io-error."


def test_how_a_killed_guest_ended(settings: GuestSettings) -> None:
    record = start_guest(settings, KVM)
    os.kill(record.process.pid, 9)
    assert record.process.wait(5)
    assert how_it_ended(record.process, files_of(settings)).startswith("QEMU was ended by signal SIGKILL; it left no message")


def test_the_screen_is_read(settings: GuestSettings) -> None:
    start_guest(settings, KVM)
    assert read_screen(files_of(settings).qmp, files_of(settings).screen) == "GRUB loading."


def test_no_guest_has_no_screen(tmp_path: Path) -> None:
    assert read_screen(tmp_path / "qmp.sock", tmp_path / "screen") == ""
