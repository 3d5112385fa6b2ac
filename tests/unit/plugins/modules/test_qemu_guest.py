# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module qemu_guest."""

from __future__ import annotations

import dataclasses
import os
import typing as t
from pathlib import Path
from unittest import mock

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _guest_fallback
from ansible_collections.hyperscaler.images.plugins.module_utils._accelerator import Accelerator
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ToolError
from ansible_collections.hyperscaler.images.plugins.module_utils._process import ProcessIdentity
from ansible_collections.hyperscaler.images.plugins.module_utils._qemu_guest import GuestError, GuestFiles, GuestSettings
from ansible_collections.hyperscaler.images.plugins.module_utils._qemu_process import GuestRecord, guest_lock
from ansible_collections.hyperscaler.images.plugins.modules import qemu_guest

ACCELERATOR = Accelerator("tcg", "Emulation (TCG) was asked for.", "10.0.2")
Run = t.Callable[..., "dict[str, t.Any]"]


class FakeHost:
    """A host on which guests start and end at once; ``current`` is the one that runs."""

    def __init__(self, work_dir: Path) -> None:
        self.files = GuestFiles(work_dir)
        self.current: GuestRecord | None = None
        self.started: list[GuestSettings] = []
        self.stopped: list[float] = []
        self.waits: list[t.Any] = []
        self.failure: Exception | None = None
        self.watched: list[tuple[ProcessIdentity, ProcessIdentity]] = []

    def find(self, files: GuestFiles) -> GuestRecord | None:
        assert files == self.files
        return self.current

    def start(self, settings: GuestSettings, accelerator: Accelerator) -> GuestRecord:
        self.started.append(settings)
        self.current = GuestRecord(
            ProcessIdentity(4711, 1, "b", "n"), settings.to_dict(), accelerator.name, accelerator.reason, accelerator.patience, 40123, 1000.0
        )
        return self.current

    def stop(self, files: GuestFiles, *, powerdown: float) -> GuestRecord | None:
        assert files == self.files
        self.stopped.append(powerdown)
        before, self.current = self.current, None
        return before

    def wait(self, _settings: GuestSettings, record: GuestRecord, wait: t.Any) -> GuestRecord:
        self.waits.append(wait)
        if self.failure is not None:
            raise self.failure
        return dataclasses.replace(record, boot_seconds=41.5)

    def watch(self, owner: ProcessIdentity, guest: ProcessIdentity, end_guest: t.Callable[[], None]) -> None:
        self.watched.append((owner, guest))
        self.end_guest = end_guest


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    fake = FakeHost(tmp_path)
    for name, function in (
        ("find_guest", fake.find),
        ("start_guest", fake.start),
        ("stop_guest", fake.stop),
        ("wait_for_boot", fake.wait),
        ("watch", fake.watch),
    ):
        monkeypatch.setattr(qemu_guest, name, function)
    monkeypatch.setattr(_guest_fallback, "select", mock.Mock(return_value=ACCELERATOR))
    return fake


@pytest.fixture
def run(run_module: Run, host: FakeHost, tmp_path: Path) -> Run:
    (tmp_path / "image.qcow2").write_bytes(b"")
    (tmp_path / "serial.log").write_bytes(b"one\r\n\r\ntwo\r\n")

    def run_guest(**arguments: t.Any) -> dict[str, t.Any]:
        defaults = {"name": "g", "work_dir": str(host.files.folder)}
        if arguments.get("state") != "stopped":
            defaults["image"] = str(tmp_path / "image.qcow2")
        return run_module(qemu_guest.main, **{key: value for key, value in {**defaults, **arguments}.items() if value is not None})

    return run_guest


def test_started(run: Run, host: FakeHost, tmp_path: Path) -> None:
    result = run(
        memory=2048, cpus=4, firmware="uefi", outbound=False, disk_size="2M", wait_for="login", timeout=60, ssh_user="admin", ssh_private_key="/k", diff=True
    )
    assert result["changed"]
    assert result["msg"] == "g did not run and was started (tcg: Emulation (TCG) was asked for.)"
    assert result["diff"] == {"before": {"state": "stopped"}, "after": {"state": "started"}}
    assert result["serial_tail"] == ["one", "two"]
    assert result["guest"] == {
        "name": "g",
        "pid": 4711,
        "ssh_host": "127.0.0.1",
        "ssh_port": 40123,
        "qmp_socket": str(tmp_path / "qmp.sock"),
        "serial_log": str(tmp_path / "serial.log"),
        "qemu_log": str(tmp_path / "qemu.log"),
        "accelerator": "tcg",
        "reason": "Emulation (TCG) was asked for.",
        "patience": 6,
        "boot_seconds": 41.5,
        "owner_pid": None,
    }
    settings = host.started[0]
    assert (settings.memory_mib, settings.cpus, settings.firmware, settings.outbound, settings.disk_size) == (2048, 4, "uefi", False, 2 << 20)
    assert (host.waits[0].wait_for, host.waits[0].timeout, host.waits[0].user, host.waits[0].key) == ("login", 60, "admin", Path("/k"))


def test_started_twice_is_unchanged(run: Run, host: FakeHost) -> None:
    run()
    result = run()
    assert not result["changed"]
    assert result["msg"] == "g runs already."
    assert len(host.started) == 1
    assert len(host.waits) == 2


def test_growth_is_kept_apart_from_size(run: Run, host: FakeHost) -> None:
    run(disk_size="+1G")
    assert (host.started[0].disk_size, host.started[0].disk_growth) == (0, 1 << 30)


def test_check_mode_starts_nothing(run: Run, host: FakeHost) -> None:
    result = run(check_mode=True)
    assert result["changed"]
    assert result["msg"] == "g does not run and would be started."
    assert (host.started, host.waits, result["guest"]) == ([], [], {})
    run()
    again = run(check_mode=True)
    assert not again["changed"]
    assert again["guest"]["pid"] == 4711


def test_other_settings_are_refused_and_the_guest_stays(run: Run, host: FakeHost) -> None:
    run()
    result = run(memory=4096)
    assert result["failed"]
    assert result["msg"] == "Cannot start the guest g: it runs as pid 4711 with other settings (memory_mib changed from 1024 to 4096). Stop it first."
    assert host.current is not None
    assert host.stopped == []


def test_a_guest_that_a_killed_run_left_is_replaced(run: Run, host: FakeHost) -> None:
    host.current = GuestRecord(ProcessIdentity(99, 1, "b", "n"))
    result = run()
    assert result["changed"]
    assert result["left_behind"]
    assert len(host.started) == 1


def test_a_failed_boot_ends_the_guest_and_keeps_the_diagnosis(run: Run, host: FakeHost) -> None:
    host.failure = GuestError("The guest g could not be reached.", kind="kernel_panic", evidence=["x"], advice="y", serial_tail=["z"])
    result = run(wait_for="ssh")
    assert result["failed"]
    assert (result["msg"], result["kind"], result["serial_tail"]) == ("The guest g could not be reached.", "kernel_panic", ["z"])
    assert host.stopped == [0]


def test_no_accelerator(run: Run, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guest_fallback, "select", mock.Mock(side_effect=ToolError("QEMU is too old.", qemu_version="7.2")))
    result = run()
    assert (result["msg"], result["qemu_version"]) == ("QEMU is too old.", "7.2")
    assert host.started == []


def test_stopped(run: Run, host: FakeHost) -> None:
    run()
    result = run(state="stopped", powerdown_timeout=10)
    assert result["changed"]
    assert result["msg"] == "g ran as pid 4711 and was ended."
    # Emulated guests get six times as long.
    assert host.stopped == [60]


def test_stopped_twice_is_unchanged(run: Run) -> None:
    result = run(state="stopped")
    assert not result["changed"]
    assert (result["msg"], result["guest"]) == ("g does not run.", {})


def test_check_mode_ends_nothing(run: Run, host: FakeHost) -> None:
    run()
    result = run(state="stopped", check_mode=True)
    assert result["changed"]
    assert result["msg"] == "g ran as pid 4711 and would be ended."
    assert host.current is not None


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, host: FakeHost) -> list[ProcessIdentity]:
    """The processes that were ended."""
    found: list[ProcessIdentity] = []

    def end(process: ProcessIdentity) -> None:
        found.append(process)
        if host.current is not None and host.current.process == process:
            host.current = None

    monkeypatch.setattr(ProcessIdentity, "end", end)
    return found


def test_the_guest_ends_with_its_owner(run: Run, host: FakeHost, ended: list[ProcessIdentity]) -> None:
    result = run(owner_pid=os.getpid())
    assert result["guest"]["owner_pid"] == os.getpid()
    assert host.watched == [(ProcessIdentity.of(os.getpid()), ProcessIdentity(4711, 1, "b", "n"))]
    host.end_guest()
    assert ended == [ProcessIdentity(4711, 1, "b", "n")]
    assert host.stopped == [0]


def test_the_guest_ends_with_its_owner_while_a_task_waits_for_it(run: Run, host: FakeHost, ended: list[ProcessIdentity]) -> None:
    run(owner_pid=os.getpid())
    with guest_lock(host.files):
        host.end_guest()
    assert ended == [ProcessIdentity(4711, 1, "b", "n")]
    assert host.stopped == []


def test_the_watcher_leaves_the_files_of_the_next_guest_alone(run: Run, host: FakeHost, ended: list[ProcessIdentity]) -> None:
    run(owner_pid=os.getpid())
    host.current = GuestRecord(ProcessIdentity(5000, 9, "b", "n"), {"name": "g"})
    host.end_guest()
    assert ended == [ProcessIdentity(4711, 1, "b", "n")]
    assert host.stopped == []


def test_the_playbook_is_the_owner_when_asked(run: Run, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu_guest, "playbook_pid", os.getpid)
    assert run(end_with_playbook=True)["guest"]["owner_pid"] == os.getpid()
    monkeypatch.setattr(qemu_guest, "playbook_pid", lambda: None)
    host.current = None
    assert run(end_with_playbook=True)["guest"]["owner_pid"] is None


def test_an_owner_that_is_not_there(run: Run, host: FakeHost) -> None:
    result = run(owner_pid=2**22 + 1)
    assert result["msg"] == f"Cannot tie the guest g to the process {2**22 + 1}: there is no such process. Correct owner_pid."
    assert host.stopped == [0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "a b"}, "Cannot name a guest 'a b': use letters, digits, dots, dashes and underscores."),
        ({"work_dir": "/gone"}, "Cannot work on the guest g: work_dir /gone does not exist. Create it or correct the path."),
        ({"image": "/gone.qcow2"}, "Cannot work on the guest g: image /gone.qcow2 does not exist. Create it or correct the path."),
        ({"seed": "/gone.iso"}, "Cannot work on the guest g: seed /gone.iso does not exist. Create it or correct the path."),
        ({"disk_size": "large"}, "Cannot use the disk_size 'large': "),
        ({"image": None}, "state is started but all of the following are missing: image"),
        ({"wait_for": "login"}, "wait_for is login but all of the following are missing: ssh_user, ssh_private_key"),
    ],
)
def test_what_cannot_work(run: Run, arguments: dict[str, t.Any], message: str) -> None:
    result = run(**arguments)
    assert result["failed"]
    assert message in result["msg"]


def test_two_tasks_at_once(run: Run, host: FakeHost) -> None:
    with guest_lock(host.files):
        assert "another task does so right now" in run()["msg"]
