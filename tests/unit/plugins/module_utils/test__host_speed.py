# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the measurement of this host."""

from __future__ import annotations

import os
import time

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _host_speed
from ansible_collections.hyperscaler.images.plugins.module_utils._host_speed import REFERENCE_SECONDS, Deadline, awaited, grown, measure, readable, slowness


@pytest.mark.parametrize(
    ("load", "processors", "seconds", "expected"),
    [
        (0.2, 2, [REFERENCE_SECONDS / 3, REFERENCE_SECONDS / 3], 1.0),
        # As many programs as processors.
        (2.0, 2, [REFERENCE_SECONDS, REFERENCE_SECONDS], 1.0),
        # Programs wait for a processor.
        (5.0, 2, [REFERENCE_SECONDS, REFERENCE_SECONDS], 2.5),
        # A slow processor.
        (0.0, 8, [3 * REFERENCE_SECONDS, 3.5 * REFERENCE_SECONDS], 3.0),
        # One interruption.
        (0.0, 8, [9 * REFERENCE_SECONDS, REFERENCE_SECONDS], 1.0),
    ],
)
def test_slowness(load: float, processors: int, seconds: list[float], expected: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(processors)))
    monkeypatch.setattr(_host_speed, "measure", iter(seconds).__next__)
    assert slowness() == pytest.approx(expected)


def test_this_host() -> None:
    assert 0 < measure() < 60
    assert grown(10) >= 10


def test_a_wait_goes_on_as_long_as_the_host_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_host_speed, "slowness", lambda: 4.0)
    waits: list[float] = []

    def never(seconds: float) -> bool:
        waits.append(seconds)
        return False

    assert not awaited(never, 10.0)
    assert waits == [10.0, 30.0]


def test_a_wait_that_ends_at_once_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(_host_speed, "slowness")
    assert awaited(lambda _seconds: True, 10.0)


def test_what_can_be_read_late_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    source, other = os.pipe()
    try:
        # Measuring stands for the time that passes: what comes by then is found in the second wait.
        monkeypatch.setattr(_host_speed, "slowness", lambda: float(os.write(other, b"x")))
        assert readable([source], 0.01) == [source]
        monkeypatch.delattr(_host_speed, "slowness")
        assert readable([source], 0.01) == [source]
        os.read(source, 1)
        monkeypatch.setattr(_host_speed, "slowness", lambda: 1.0, raising=False)
        assert readable([source], 0.01) == []
    finally:
        os.close(source)
        os.close(other)


def test_a_deadline_moves_once_on_a_slow_host(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.delattr(_host_speed, "slowness")
    deadline = Deadline(10)
    now = 109.0
    assert not deadline.over()
    monkeypatch.setattr(_host_speed, "slowness", lambda: 3.0, raising=False)
    now = 125.0
    assert not deadline.over()
    monkeypatch.delattr(_host_speed, "slowness")
    now = 131.0
    assert deadline.over()
