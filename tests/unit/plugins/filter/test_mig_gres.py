# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the filter mig_gres."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.hyperscaler.images.plugins.filter.mig_gres import FilterModule, mig_gres

LAYOUT = [{"model": "a100-40gb", "devices": [0, 1], "instances": {"1g.5gb": 7}}]


def test_resources_of_a_node() -> None:
    assert [item["gres"] for item in mig_gres(LAYOUT, {"a100-40gb": 4})] == ["gpu:a100_1g.5gb:14", "gpu:a100:2"]
    assert [item["gres"] for item in mig_gres(LAYOUT, {"a100-40gb": 1}, {"1g.5gb": "small"})] == ["gpu:small:7"]
    assert mig_gres(LAYOUT, {}) == []
    assert FilterModule().filters() == {"mig_gres": mig_gres}


@pytest.mark.parametrize(
    ("layout", "gpus", "reason"),
    [
        ([{"model": "t4", "instances": {}}], {"t4": 1}, "this GPU has no MIG"),
        (LAYOUT, {"a100": 1}, "there are a100-40gb, a100-80gb"),
        (LAYOUT, {"a100-40gb": "4"}, "Give models and how many of each"),
        (LAYOUT, ["a100-40gb"], "Give models and how many of each"),
    ],
)
def test_what_is_refused(layout: t.Any, gpus: t.Any, reason: str) -> None:
    with pytest.raises(AnsibleFilterError, match=reason):
        mig_gres(layout, gpus)
