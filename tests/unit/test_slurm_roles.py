# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two Slurm roles can be applied to one machine: what both write must be the same."""

from __future__ import annotations

from pathlib import Path

ROLES = Path(__file__).parents[2] / "roles"


def _files(role: str) -> dict[str, bytes]:
    folder = ROLES / role / "files"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_of_both_slurm_roles_are_equal() -> None:
    controller, compute = _files("slurm_controller"), _files("slurm_compute")
    shared = controller.keys() & compute.keys()
    assert shared == {"etc/slurm/cgroup.conf", "etc/slurm/slurm.conf.example", "etc/systemd/system/munge.service.d/10-configured.conf"}
    assert {name for name in shared if controller[name] != compute[name]} == set()
