# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of telling when a guest will not answer any more."""

from __future__ import annotations

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _settling
from ansible_collections.hyperscaler.images.plugins.module_utils._settling import Settling

KERNEL = "[    0.000000] Linux version 6.12.1\n"
LOGIN = f"{KERNEL}Debian GNU/Linux 13 localhost ttyS0\n\nlocalhost login: "


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    clock = {"now": 0.0}
    monkeypatch.setattr(_settling.time, "monotonic", lambda: clock["now"])
    return clock


@pytest.mark.parametrize(
    ("boot_seconds", "after", "over"),
    [(10, 59, False), (10, 60, True), (200, 199, False), (200, 200, True)],
    ids=["quick guest, short", "quick guest, a minute", "slow guest, short", "slow guest, as long as its boot"],
)
def test_the_time_for_ssh_after_the_boot(at: dict[str, float], boot_seconds: int, after: int, over: bool) -> None:
    settling = Settling()
    assert not settling.over(KERNEL)
    at["now"] += boot_seconds
    assert not settling.over(LOGIN)
    at["now"] += after
    assert settling.over(LOGIN) is over


def test_a_guest_that_shows_nothing_or_still_boots_never_settles(at: dict[str, float]) -> None:
    settling = Settling()
    for console in ("", KERNEL, KERNEL):
        at["now"] += 1000
        assert not settling.over(console)
