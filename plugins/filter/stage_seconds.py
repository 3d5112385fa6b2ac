# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the stages of a build took."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError


def stage_seconds(marks: t.Sequence[t.Mapping[str, t.Any]], end: float) -> dict[str, dict[str, float]]:
    """Turn the times at which stages and roles began into seconds for each stage and each role."""
    stages: dict[str, float] = {}
    roles: dict[str, float] = {}
    try:
        ends = [*(float(mark["at"]) for mark in marks[1:]), float(end)]
        for mark, until in zip(marks, ends):
            seconds = round(until - float(mark["at"]), 1)
            stages[mark["stage"]] = round(stages.get(mark["stage"], 0.0) + seconds, 1)
            if mark.get("role"):
                roles[mark["role"]] = round(roles.get(mark["role"], 0.0) + seconds, 1)
    except (KeyError, TypeError, ValueError):
        raise AnsibleFilterError("Cannot compute the seconds of the stages: each mark needs a stage and a time.") from None
    return {"stages": stages, "roles": roles}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Names and functions."""
        return {"stage_seconds": stage_seconds}
