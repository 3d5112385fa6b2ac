# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two Slurm roles can be applied to one machine: what both write must be the same."""

from __future__ import annotations

from pathlib import Path

import yaml
from ansible_collections.hyperscaler.images.plugins.filter.mig_gres import mig_gres

ROLES = Path(__file__).parents[2] / "roles"


def _files(role: str) -> dict[str, bytes]:
    folder = ROLES / role / "files"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_of_both_slurm_roles_are_equal() -> None:
    controller, compute = _files("slurm_controller"), _files("slurm_compute")
    shared = controller.keys() & compute.keys()
    assert shared == {"etc/slurm/slurm.conf.example", "etc/systemd/system/munge.service.d/10-configured.conf"}
    assert {name for name in shared if controller[name] != compute[name]} == set()


def test_both_roles_confine_jobs_in_the_same_way() -> None:
    """The controller renders cgroup.conf because a site may change it; without changes it says what a node has baked."""
    variables = yaml.safe_load((ROLES / "slurm_controller/vars/main.yml").read_text(encoding="utf-8"))
    lines = (ROLES / "slurm_compute/files/etc/slurm/cgroup.conf").read_text(encoding="utf-8").splitlines()
    baked = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert baked == variables["__slurm_controller_cgroup"]


def test_a_node_takes_the_resources_that_the_mig_filter_returns() -> None:
    specification = yaml.safe_load((ROLES / "slurm_compute/meta/argument_specs.yml").read_text(encoding="utf-8"))
    known = specification["argument_specs"]["configure"]["options"]["slurm_compute_gres"]["options"].keys()
    resources = mig_gres([{"model": "a100-40gb", "devices": [0], "instances": {"1g.5gb": 7}}], {"a100-40gb": 2})
    assert [resource["type"] for resource in resources] == ["a100_1g.5gb", "a100"]
    assert all(resource.keys() <= known for resource in resources)
