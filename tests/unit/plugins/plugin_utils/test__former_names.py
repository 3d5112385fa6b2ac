# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of variables that are not read."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.plugin_utils._former_names import FORMER, former_name

ROLES = Path(__file__).resolve().parents[4] / "roles"


@pytest.mark.parametrize(("role", "old", "new"), [(role, old, new) for role, names in FORMER.items() for old, new in names.items()])
def test_the_new_name_is_told_and_the_role_reads_it_alone(role: str, old: str, new: str) -> None:
    assert former_name([f"hyperscaler.images.{role}"], {old: 1}) == (
        f"the variable {old} is set, and role hyperscaler.images.{role} does not read it. Set {new} instead"
    )
    text = "".join(path.read_text(encoding="utf-8") for path in (ROLES / role).rglob("*.yml"))
    assert new.split(",")[0].split(" and ")[0] in text
    assert f" {old}:" not in text


def test_a_name_of_somebody_elses_role_is_left_alone() -> None:
    assert former_name(["hyperscaler.images.slurm_compute", "site"], {"monitoring_role": "node", "nvidia_install_cuda": True}) == ""
    assert former_name(["monitoring_stack"], {"monitoring_stack_role": "node"}) == ""
