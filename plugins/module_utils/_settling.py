# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Tell when a guest that has booted will not answer on SSH any more."""

from __future__ import annotations

import time

from ansible_collections.hyperscaler.images.plugins.module_utils._serial_log import booted

# User-mode networking asks the guest again after 6, 12 and 24 s on behalf of a connection that was begun too early, and gives it up after 75 s.
SETTLE_SECONDS = 60.0


class Settling:
    """Watch a console from the start of a guest on."""

    def __init__(self) -> None:
        self._began_at: float | None = None
        self._booted_at: float | None = None

    def over(self, console: str) -> bool:
        """Whether SSH had as much time since the end of the boot as the boot took, but at least a minute: a slow guest gets more."""
        now = time.monotonic()
        if self._began_at is None and console:
            self._began_at = now
        if self._booted_at is None and booted(console):
            self._booted_at = now
        if self._began_at is None or self._booted_at is None:
            return False
        return now - self._booted_at >= max(SETTLE_SECONDS, self._booted_at - self._began_at)
