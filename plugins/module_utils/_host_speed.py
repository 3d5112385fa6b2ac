# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""How slow this host is right now, so that no time limit is too short on a slow or busy one."""

from __future__ import annotations

import hashlib
import os
import select
import time
import typing as t

# What the machine on which the limits were chosen needs at most when nothing else runs. No processor has instructions of its own for BLAKE2.
SAMPLE_BYTES = 16 << 20
REFERENCE_SECONDS = 0.06


def measure() -> float:
    """The seconds that a fixed piece of work takes now."""
    sample = bytes(SAMPLE_BYTES)
    started = time.monotonic()
    hashlib.blake2b(sample).digest()
    return time.monotonic() - started


def slowness() -> float:
    """The factor by which time limits grow here and now: 1 on a quick and idle host, more on a slow one, or where programs wait for a processor."""
    waiting = os.getloadavg()[0] / max(1, len(os.sched_getaffinity(0)))
    # The shorter of two measurements: a single interruption is no slowness.
    return max(1.0, waiting, min(measure(), measure()) / REFERENCE_SECONDS)


def grown(seconds: float) -> float:
    """A time limit in seconds, chosen for a quick and idle host, as it has to be on this one."""
    return seconds * slowness()


def awaited(wait: t.Callable[[float], bool], seconds: float) -> bool:
    """Whether ``wait`` ends well within a limit in seconds, chosen for a quick and idle host. The host is measured only once that limit is over."""
    return wait(seconds) or wait(max(0.0, grown(seconds) - seconds))


def readable(sources: t.Sequence[t.Any], seconds: float) -> list[t.Any]:
    """Those of the files and sockets that can be read; none when nothing comes within a limit like that of ``awaited``."""
    found: list[t.Any] = []

    def comes(limit: float) -> bool:
        found.extend(select.select(sources, [], [], limit)[0])
        return bool(found)

    awaited(comes, seconds)
    return found


class Deadline:
    """A limit in seconds from now, chosen for a quick and idle host. The host is measured only once that limit is over, so a deadline costs nothing."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._started = time.monotonic()
        self._measured = False

    def over(self) -> bool:
        """Whether the time is over, also on a host as slow as this one is then."""
        passed = time.monotonic() - self._started
        if passed > self._seconds and not self._measured:
            self._seconds, self._measured = grown(self._seconds), True
        return passed > self._seconds
