# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel settings that differ from what is wanted."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.hyperscaler.images.plugins.module_utils._sysctl import normal_key, normal_value


def sysctl_differences(wanted: t.Mapping[str, t.Any], lines: t.Iterable[str]) -> list[str]:
    """One sentence for each setting that ``lines``, the output of sysctl(8), does not have with the wanted value.

    Values are equal when the kernel reads them as the same: white space, number bases and the two separators of keys do not count.
    """
    if not isinstance(wanted, t.Mapping) or isinstance(lines, str):
        raise AnsibleFilterError("Cannot compare kernel settings: expected a dictionary of settings and the lines that sysctl prints.")
    found: dict[str, str] = {}
    for line in lines:
        key, _equals, value = line.partition("=")
        found[normal_key(key.strip())] = value.strip()
    return list(filter(None, (_difference(str(key), _text(value), found) for key, value in wanted.items())))


def _text(value: t.Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _difference(key: str, value: str, found: t.Mapping[str, str]) -> str | None:
    present = found.get(normal_key(key))
    if present is None:
        return f"{key}: the kernel has no such setting"
    if normal_value(present) == normal_value(value):
        return None
    return f"{key}: expected {' '.join(value.split())}, got {' '.join(present.split())}"


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Names and functions."""
        return {"sysctl_differences": sysctl_differences}
