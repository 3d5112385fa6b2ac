# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the filter stage_table."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.hyperscaler.images.plugins.filter.stage_table import stage_table


def test_roles_stand_below_the_stage_that_applies_them() -> None:
    assert stage_table({"stages": {"open": 2.5, "provision": 108.5, "seal": 3.0}, "roles": {"a.b.one": 107.5, "a.b.two": 1.0}}) == [
        "open            2.5 s",
        "provision     108.5 s",
        "  a.b.one     107.5 s",
        "  a.b.two       1.0 s",
        "seal            3.0 s",
        "all stages    114.0 s",
    ]


@pytest.mark.parametrize("timings", [{}, {"stages": {"open": "soon"}, "roles": {}}, None])
def test_bad_timings_are_refused(timings: object) -> None:
    with pytest.raises(AnsibleFilterError, match="stages and roles with seconds are needed"):
        stage_table(timings)  # type: ignore[arg-type]
