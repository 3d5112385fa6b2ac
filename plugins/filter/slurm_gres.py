# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The device files of the generic resources of a node of Slurm."""

from __future__ import annotations

import typing as t

from ansible_collections.hyperscaler.images.plugins.plugin_utils._slurm_gres import gres_of


def slurm_gres(entries: t.Any, detect: str = "nvml", host: str = "the node") -> list[dict[str, t.Any]]:
    """Turn slurm_compute_gres into resources; raise AnsibleFilterError for what Slurm would refuse or misread."""
    return [{"name": gres.name, "type": gres.type, "count": gres.count, "devices": list(gres.devices)} for gres in gres_of(host, entries, detect)]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Names and functions."""
        return {"slurm_gres": slurm_gres}
