# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages of a build as lines of a table."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

ROLE_STAGE = "provision"


def stage_table(timings: t.Mapping[str, t.Mapping[str, float]]) -> list[str]:
    """Lines with the seconds of each stage, the roles below the stage that applies them, and their sum."""
    try:
        stages, roles = timings["stages"], timings["roles"]
        rows = []
        for stage, seconds in stages.items():
            rows.append((stage, seconds))
            if stage == ROLE_STAGE:
                rows += [(f"  {role}", spent) for role, spent in roles.items()]
        rows.append(("all stages", sum(stages.values())))
        width = max(len(name) for name, _seconds in rows)
        return [f"{name:<{width}} {seconds:8.1f} s" for name, seconds in rows]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise AnsibleFilterError("Cannot show the seconds of the stages: stages and roles with seconds are needed.") from None


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Names and functions."""
        return {"stage_table": stage_table}
