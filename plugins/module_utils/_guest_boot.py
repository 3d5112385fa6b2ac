# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Wait for the boot of a guest, and say what kind of failure it is when it does not come."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._qemu_guest import SSH_HOST, GuestError, GuestFiles, GuestSettings
from ansible_collections.hyperscaler.images.plugins.module_utils._qemu_process import GuestRecord, how_it_ended, write_record
from ansible_collections.hyperscaler.images.plugins.module_utils._screen import read_screen
from ansible_collections.hyperscaler.images.plugins.module_utils._serial_log import Diagnosis, SshOutcome, diagnose, kernel_started, read_console, tail
from ansible_collections.hyperscaler.images.plugins.module_utils._ssh_probe import SshTarget, SshWait

# What each choice of wait_for has to see.
STAGES = {"ssh": "banner", "login": "login"}


@dataclasses.dataclass(frozen=True)
class BootWait:
    """What to wait for, as whom, and how many seconds under KVM."""

    wait_for: str
    timeout: int
    user: str = ""
    key: Path | None = None


def wait_for_boot(settings: GuestSettings, record: GuestRecord, wait: BootWait) -> GuestRecord:
    """Return when the guest answers as asked. Raises GuestError with the diagnosis otherwise; the guest is not ended here."""
    if wait.wait_for == "none":
        return record
    files = GuestFiles(settings.work_dir)
    limit = wait.timeout * record.patience
    begun = time.monotonic()
    outcome = _try(settings, record, wait, limit)
    if outcome.stage != STAGES[wait.wait_for]:
        ended = how_it_ended(record.process, files)
        shown = console_text(settings)
        error = boot_error(settings, shown, diagnose(shown, outcome, ended=ended), time.monotonic() - begun, limit)
        error.details["accelerator"] = record.accelerator
        raise error
    if record.boot_seconds is None:
        record = dataclasses.replace(record, boot_seconds=round(time.time() - record.started, 1))
        write_record(record, files)
    return record


def console_text(settings: GuestSettings) -> str:
    """What the guest wrote to the serial port and, until its kernel does so, what is on its screen."""
    serial = read_console(settings.serial_log)
    if kernel_started(serial):
        return serial
    files = GuestFiles(settings.work_dir)
    return f"{serial}\n{read_screen(files.qmp, files.screen)}".strip()


def boot_error(settings: GuestSettings, shown: str, diagnosis: Diagnosis, waited: float, limit: float) -> GuestError:
    """The whole story in one message: what failed, the evidence, the last lines of the console, what to do."""
    lines = tail(shown)
    parts = [
        f"The guest {settings.name} booted from {settings.image} ({settings.firmware}) could not be reached over SSH after {waited:.0f} s "
        f"(limit {limit:.0f} s): {diagnosis.summary}",
        diagnosis.advice,
    ]
    if diagnosis.evidence:
        parts += ["Evidence:", *(f"  {line}" for line in diagnosis.evidence)]
    parts += [f"Last lines of the console ({settings.serial_log}):", *(f"  {line}" for line in lines)] if lines else []
    return GuestError("\n".join(parts), kind=diagnosis.kind, evidence=list(diagnosis.evidence), advice=diagnosis.advice, serial_tail=lines)


def _try(settings: GuestSettings, record: GuestRecord, wait: BootWait, limit: float) -> SshOutcome:
    guest = record.process.open_pidfd()
    if guest is None:
        return SshOutcome()
    try:
        target = SshTarget(SSH_HOST, record.ssh_port, wait.user, wait.key)
        return SshWait(target, guest, lambda: console_text(settings)).until(STAGES[wait.wait_for], limit)
    finally:
        os.close(guest)
