# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Follow the console and the screen of the machine that Packer boots, and tell when waiting for it makes no sense any longer."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._packer_failure import lasting_failure, refusals, ssh_outcome
from ansible_collections.hyperscaler.images.plugins.module_utils._screen import read_screen
from ansible_collections.hyperscaler.images.plugins.module_utils._serial_log import Diagnosis, diagnose, kernel_started, read_console, seeded
from ansible_collections.hyperscaler.images.plugins.module_utils._settling import Settling


class Console:
    """The console of one machine. ``monitor`` is its QMP socket, and ``debug_log`` is Packer's own log."""

    def __init__(self, serial_log: Path | None, monitor: Path | None, debug_log: Path) -> None:
        self._serial_log = serial_log
        self._monitor = monitor
        self._debug_log = debug_log
        self._screen = ""
        self._refusals: int | None = None
        self._settling = Settling()

    def text(self) -> str:
        """What the machine wrote to its console and, until its kernel does so, what was on its screen when it was last seen."""
        serial = read_console(self._serial_log) if self._serial_log else ""
        if self._monitor is None or kernel_started(serial):
            return serial
        self._screen = read_screen(self._monitor, self._monitor.with_name("screen")) or self._screen
        return f"{serial}\n{self._screen}".strip()

    def lasting_failure(self, text: str) -> Diagnosis | None:
        """A failure of the boot that will not go away.

        A login that is refused is one when it is still refused after cloud-init has ended; no answer to SSH, when the boot ended long ago.
        """
        debug = self._debug_log.read_text(encoding="utf-8", errors="replace") if self._debug_log.exists() else ""
        before = self._refusals
        if before is None and seeded(text):
            self._refusals = refusals(debug)
        refused_again = before is not None and refusals(debug) > before
        found = lasting_failure(text, debug if refused_again else "")
        return found or (diagnose(text, ssh_outcome(debug)) if self._settling.over(text) else None)
