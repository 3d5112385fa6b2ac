# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What slurm.conf says of the partitions of a cluster."""

from __future__ import annotations

import re
import typing as t

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.hyperscaler.images.plugins.plugin_utils._slurm_values import duration, merge, name_of, quoted, refuse, seconds_of

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
ALIASES = {"shared": "oversubscribe"}


def _is_default(value: t.Any, what: str) -> str:
    try:
        return "YES" if value not in (None, "") and boolean(value) else "NO"
    except TypeError:
        refuse(what, f"its default is {value!r}", "Write true or false")


def _whole_minutes(seconds: int | None) -> int | None:
    """A limit as Slurm keeps it, which rounds up."""
    return None if seconds is None else -(-seconds // 60) * 60


def _partition(partition: t.Mapping[str, t.Any], nodes: t.Mapping[str, t.Sequence[str]], group: str) -> dict[str, t.Any]:
    """One partition."""
    name = name_of(partition.get("name"), "a partition")
    if not NAME.fullmatch(name):
        refuse("a partition", f"{name!r} is no name of one", "Use letters, digits and the characters _.+- in slurm_controller_partitions")
    what = f"the partition {name}"
    limit = partition.get("max_time")
    ours = {
        "PartitionName": name,
        "Nodes": ",".join(nodes[partition.get("group") or group]),
        "Default": _is_default(partition.get("default"), what),
        "MaxTime": "INFINITE" if limit in (None, "") else limit,
        "State": "UP",
    }
    line = merge(ours, partition.get("options"), what, aliases=ALIASES)
    return {
        "name": name,
        "line": {key: quoted(key, text, what) for key, text in line.items()},
        "default": line.get("Default", "").upper() in ("YES", "TRUE", "UP", "1"),
        "limit": duration(_whole_minutes(seconds_of(line.get("MaxTime", "INFINITE"), what))),
    }


def slurm_partitions(partitions: t.Iterable[t.Mapping[str, t.Any]], nodes: t.Mapping[str, t.Sequence[str]], group: str) -> list[dict[str, t.Any]]:
    """Turn slurm_controller_partitions into lines; raise AnsibleFilterError for what Slurm would refuse or misread.

    ``nodes`` has the names in Slurm of the nodes of each inventory group, ``group`` is that of the whole cluster.
    """
    return [_partition(partition, nodes, group) for partition in partitions]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Names and functions."""
        return {"slurm_partitions": slurm_partitions}
