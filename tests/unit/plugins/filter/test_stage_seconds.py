# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the filter stage_seconds."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.hyperscaler.images.plugins.filter.stage_seconds import stage_seconds


def test_seconds_are_those_until_the_next_mark() -> None:
    marks = [
        {"stage": "open", "role": "", "at": 10.0},
        {"stage": "provision", "role": "a.b.one", "at": 12.5},
        {"stage": "provision", "role": "a.b.two", "at": 20.0},
        {"stage": "seal", "role": "", "at": 21.0},
    ]
    assert stage_seconds(marks, 24.04) == {
        "stages": {"open": 2.5, "provision": 8.5, "seal": 3.0},
        "roles": {"a.b.one": 7.5, "a.b.two": 1.0},
    }


def test_no_mark_gives_no_stage() -> None:
    assert stage_seconds([], 1.0) == {"stages": {}, "roles": {}}


def test_bad_mark_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="each mark needs a stage and a time"):
        stage_seconds([{"stage": "open"}], 1.0)
