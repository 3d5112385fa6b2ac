# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables that roles of other image builders read, and what the roles of this collection read instead."""

from __future__ import annotations

import typing as t

# By role. A name counts only where its role is applied: elsewhere it may belong to somebody's own role.
FORMER: dict[str, dict[str, str]] = {
    "container_runtime": {
        "container_runtime_allow_suid": "container_runtime_apptainer_suid",
        "container_runtime_install_method": "artefact_sources",
        "container_runtime_type": "container_runtime_apptainer and container_runtime_podman",
        "container_runtime_version": "artefact_sources, as {apptainer: {version: …}}",
    },
    "monitoring_stack": {"monitoring_role": "monitoring_stack_role"},
    "nvidia_gpu_drivers": {
        "nvidia_driver_version": "nvidia_gpu_drivers_branch",
        "nvidia_install_cuda": "nvidia_gpu_drivers_install_cuda",
    },
}


def former_name(roles: t.Iterable[str], variables: t.Container[str]) -> str:
    """Why the variables cannot be meant for these roles, as the end of a sentence; empty when all is well."""
    for role in roles:
        for old, new in FORMER.get(role.removeprefix("hyperscaler.images."), {}).items():
            if old in variables:
                return f"the variable {old} is set, and role {role} does not read it. Set {new} instead"
    return ""
