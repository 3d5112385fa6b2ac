# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Slurm schedules on a node whose GPUs are divided with MIG."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._mig import layout_from, slurm_gres


def mig_gres(layout: t.Any, gpus: t.Mapping[str, int], types: t.Mapping[str, str] | None = None) -> list[dict[str, t.Any]]:
    """Turn a MIG layout and the GPUs of a node into the node's generic resources."""
    if not isinstance(gpus, dict) or not all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in gpus.values()):
        raise AnsibleFilterError(f"Cannot compute the generic resources of a node: its GPUs are {gpus!r}. Give models and how many of each, such as h200: 8.")
    try:
        return slurm_gres(layout_from(layout), gpus, types or {})
    except ImageError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Names and functions."""
        return {"mig_gres": mig_gres}
