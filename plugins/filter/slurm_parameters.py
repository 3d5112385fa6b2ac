# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines of a configuration file of Slurm: what a role chooses, with what a user says otherwise."""

from __future__ import annotations

import typing as t

from ansible_collections.hyperscaler.images.plugins.plugin_utils._slurm_values import merge, repeated


def slurm_parameters(ours: t.Mapping[str, t.Any], options: t.Any, what: str, kept: t.Sequence[str] = ()) -> list[str]:
    """Turn two sets of parameters into lines; raise AnsibleFilterError for values that YAML may have changed or that are none."""
    lines, rest = repeated(options, what)
    return [f"{key}={text}" for key, text in merge(ours, rest, what, kept).items()] + lines


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Names and functions."""
        return {"slurm_parameters": slurm_parameters}
