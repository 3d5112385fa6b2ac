# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the ranges of user ids."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _user_range
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import BusyError


def test_no_two_images_share_a_range(tmp_path: Path) -> None:
    taken = [_user_range.take(tmp_path) for _number in range(3)]
    firsts = [first for first, _lock in taken]
    assert firsts == [0x70000000, 0x71000000, 0x72000000]
    os.close(taken[1][1])
    again, lock = _user_range.take(tmp_path)
    assert again == 0x71000000
    for descriptor in (taken[0][1], taken[2][1], lock):
        os.close(descriptor)


def test_all_are_taken(tmp_path: Path) -> None:
    locks = [_user_range.take(tmp_path)[1] for _number in range(_user_range.COUNT)]
    with pytest.raises(BusyError, match="16 are open on this machine"):
        _user_range.take(tmp_path)
    for descriptor in locks:
        os.close(descriptor)


def test_every_id_is_one_that_systemd_leaves_to_others() -> None:
    assert _user_range.FIRST + _user_range.COUNT * _user_range.SIZE == 0x80000000
