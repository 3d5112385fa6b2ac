# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Start, find and end the QEMU of a guest."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import signal
import time
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._accelerator import QEMU_PACKAGE, QEMU_PROGRAM, Accelerator
from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import BusyError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import write_atomic
from ansible_collections.hyperscaler.images.plugins.module_utils._host_speed import awaited, grown
from ansible_collections.hyperscaler.images.plugins.module_utils._process import ProcessIdentity
from ansible_collections.hyperscaler.images.plugins.module_utils._qemu_guest import (
    Firmware,
    GuestError,
    GuestFiles,
    GuestSettings,
    disk_bytes,
    find_firmware,
    overlay_arguments,
    parse_ssh_port,
    qemu_arguments,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._qmp import Qmp, QmpError, listen
from ansible_collections.hyperscaler.images.plugins.module_utils._serial_log import plain_text, tail

START_SECONDS = 30.0
QUIT_SECONDS = 10.0
# systemd gives up on devices and services after 90 s of real time, which an emulated guest exceeds when it has to share the host's processors evenly.
EMULATED_PRIORITY = -10


@dataclasses.dataclass(frozen=True)
class GuestRecord:
    """A guest that was started. ``settings`` is empty when a killed run left it behind before it wrote its record."""

    process: ProcessIdentity
    settings: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    accelerator: str = ""
    reason: str = ""
    patience: int = 1
    ssh_port: int = 0
    started: float = 0.0
    boot_seconds: float | None = None

    @classmethod
    def from_dict(cls, data: dict[str, t.Any]) -> GuestRecord:
        """The record that ``to_dict`` made."""
        process = ProcessIdentity.from_dict(data["process"])
        if process is None:
            raise ValueError("the record names no process")
        return cls(**{**data, "process": process})

    def to_dict(self) -> dict[str, t.Any]:
        """The record as plain data."""
        return dataclasses.asdict(self)


@contextlib.contextmanager
def guest_lock(files: GuestFiles) -> t.Iterator[None]:
    """Keep other tasks off the guest. Raises BusyError when one is at work."""
    descriptor = os.open(files.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(
                f"Cannot work on the guest in {files.folder}: another task does so right now. Wait for it, or choose another work folder."
            ) from error
        yield
    finally:
        os.close(descriptor)


def find_guest(files: GuestFiles) -> GuestRecord | None:
    """The guest of a work folder that runs now, also one that a killed run left behind."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        record = GuestRecord.from_dict(json.loads(files.record.read_text(encoding="utf-8")))
        if record.process.alive() and _is_ours(record.process.pid, files):
            return record
    with contextlib.suppress(OSError, ValueError):
        process = ProcessIdentity.of(int(files.pid.read_text(encoding="ascii")))
        if process is not None and _is_ours(process.pid, files):
            return GuestRecord(process)
    return None


def start_guest(settings: GuestSettings, accelerator: Accelerator) -> GuestRecord:
    """Start QEMU, in place of what runs in the work folder, and return when it runs the guest. Nothing is left when that fails."""
    files = GuestFiles(settings.work_dir)
    firmware = find_firmware(settings.firmware)
    stop_guest(files, powerdown=0)
    try:
        _make_disk(settings)
        if firmware is not None:
            shutil.copyfile(firmware.variables, files.firmware_variables)
        settings.serial_log.parent.mkdir(parents=True, exist_ok=True)
        settings.serial_log.write_bytes(b"")
        return _run(settings, accelerator, firmware, files)
    except BaseException:
        stop_guest(files, powerdown=0)
        raise


def stop_guest(files: GuestFiles, *, powerdown: float) -> GuestRecord | None:
    """End the guest and remove its files; return what ran. ``powerdown`` is how many seconds it may take to shut itself down, 0 not to ask."""
    record = find_guest(files)
    if record is not None:
        _end(record.process, files, powerdown)
    remove_temporary(files)
    return record


def write_record(record: GuestRecord, files: GuestFiles) -> None:
    """Keep what is known of the guest for the next task."""
    write_atomic(files.record, json.dumps(record.to_dict(), indent=1) + "\n", 0o600)


def remove_temporary(files: GuestFiles) -> None:
    """Remove what only a running guest needs."""
    for path in files.temporary():
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def how_it_ended(process: ProcessIdentity, files: GuestFiles) -> str:
    """One sentence on the end of QEMU, or an empty text while it runs (or is only paused by a full disk, which the text then says)."""
    said = " | ".join(line.strip() for line in tail(plain_text(files.log.read_bytes()) if files.log.exists() else "", 5))
    if process.alive():
        with contextlib.suppress(QmpError), Qmp(files.qmp) as qmp:
            status = str(qmp.execute("query-status")["status"])
            return "" if status == "running" else f"QEMU holds the guest in the state {status}. {said}".strip()
        return ""
    ended = _exit_text(process.pid)
    return f"{ended}{': ' + said if said else '; it left no message (a guest that shuts itself down or reboots looks like this)'}."


def _run(settings: GuestSettings, accelerator: Accelerator, firmware: Firmware | None, files: GuestFiles) -> GuestRecord:
    qemu = Command(QEMU_PROGRAM, reason="run a guest", package=QEMU_PACKAGE)
    started = time.time()
    with listen(files.qmp) as server, files.log.open("wb") as log:
        arguments = qemu_arguments(settings, accelerator.name, firmware, server.fileno())
        pid = qemu.spawn(*arguments, stdout=log.fileno(), stderr=log.fileno(), pass_fds=(server.fileno(),))
    process = ProcessIdentity.of(pid)
    try:
        with Qmp(files.qmp, grown(START_SECONDS)) as qmp:
            usernet = str(qmp.execute("human-monitor-command", **{"command-line": "info usernet"}))
        if process is None:
            raise QmpError("it ended at once")
        if accelerator.name == "tcg":
            _prefer(pid)
        record = GuestRecord(process, settings.to_dict(), accelerator.name, accelerator.reason, accelerator.patience, parse_ssh_port(usernet), started)
        write_record(record, files)
        return record
    except BaseException as error:
        _end_unrecorded(process)
        if not isinstance(error, QmpError):
            raise
        said = " | ".join(tail(plain_text(files.log.read_bytes()), 5)) or str(error)
        raise GuestError(
            f"Cannot start the guest {settings.name} from {settings.image}: QEMU does not run it: {said.rstrip('.')}. "
            "Correct what QEMU names (its full log and the arguments are in the result).",
            cmd=qemu.argv(*arguments),
            stderr=said,
        ) from error


def _prefer(pid: int) -> None:
    # QEMU leads a process group and a session of its own; its threads are up once QMP answers. Only root may do this, and others do without.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PGRP, pid, EMULATED_PRIORITY)
    # Where the kernel shares the processors between sessions first, the session has to be preferred too.
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(EMULATED_PRIORITY), encoding="ascii")


def _make_disk(settings: GuestSettings) -> None:
    tool = Command("qemu-img", reason="make the disk of a guest", package="qemu-utils")
    size = None
    if settings.disk_size or settings.disk_growth:
        attempt = f"read the size of {settings.image}"
        info = tool.run_json("info", "--output=json", "-U", "-f", settings.image_format, "--", settings.image, attempt=attempt)
        size = disk_bytes(settings, int(info["virtual-size"]))
    attempt = f"make a throw-away disk on top of {settings.image}"
    tool.run(*overlay_arguments(settings, size), attempt=attempt, remedy="Check the path and the format of the image.")


def _end(process: ProcessIdentity, files: GuestFiles, powerdown: float) -> None:
    with contextlib.suppress(QmpError), Qmp(files.qmp) as qmp:
        if powerdown:
            qmp.execute("system_powerdown")
            if process.wait(powerdown):
                return
        qmp.execute("quit")
        awaited(process.wait, QUIT_SECONDS)
    process.end(QUIT_SECONDS)
    _reap(process.pid)


def _end_unrecorded(process: ProcessIdentity | None) -> None:
    if process is not None:
        process.end(QUIT_SECONDS)
        _reap(process.pid)


def _reap(pid: int) -> int | None:
    """The wait status of a child of ours that has ended; None for a process that is not our child or still runs."""
    try:
        done, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return status if done else None


def _exit_text(pid: int) -> str:
    status = _reap(pid)
    if status is None:
        return "QEMU is gone"
    if os.WIFSIGNALED(status):
        return f"QEMU was ended by signal {signal.Signals(os.WTERMSIG(status)).name}"
    return f"QEMU ended with exit code {os.WEXITSTATUS(status)}"


def _is_ours(pid: int, files: GuestFiles) -> bool:
    """Whether the process is the QEMU of this work folder: its arguments name our pid file."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return Path(os.fsdecode(arguments[0])).name == QEMU_PROGRAM and os.fsencode(files.pid) in arguments
