# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this plugin util is private to the hyperscaler.images collection.
"""Which of the GPUs that a node is to have slurmd itself finds there, so that one that is sick does not keep Slurm from the others."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.plugin_utils._slurm_gres import DETECTED, SHARED, Gres

FOUND = re.compile(r"Found (\S+) with Autodetect=(\w+)")


def detected(printed: str, detect: str) -> dict[str, int]:
    """The names of GPUs and MIG instances that ``slurmd -C`` printed, and how many of each. A GPU that cannot be asked has no name and is left out."""
    counts: dict[str, int] = {}
    for resources, found_by in FOUND.findall(printed):
        for resource in resources.split(",") if found_by == detect else ():
            name, _colon, rest = resource.partition(":")
            kind, _colon, count = rest.rpartition(":")
            if name == "gpu" and kind and count.isdigit():
                counts[kind] = counts.get(kind, 0) + int(count)
    return counts


def working(promised: t.Sequence[Gres], detect: str, printed: str) -> tuple[list[Gres], list[str]]:
    """What there is of the promised resources, with parts of GPUs in the same measure, and a text on each of which there is less.

    Where nothing of what was promised is there, the promise stays, and Slurm drains the node with a reason: then the driver or the types are wrong.
    """
    gpus = [index for index, gres in enumerate(promised) if gres.name == "gpu"]
    names = detected(printed, detect) if detect in DETECTED else {}
    there = _matched({index: promised[index] for index in gpus}, names)
    wanted, works = sum(int(promised[index].count) for index in gpus), sum(there.values())
    if not works or works == wanted:
        return list(promised), []
    less = [
        f"{there[index]} of {promised[index].count} {promised[index].name}{':' if promised[index].type else ''}{promised[index].type}"
        for index in gpus
        if there[index] < int(promised[index].count)
    ]
    reduced = [
        _share(gres, wanted, works) if gres.name in SHARED else dataclasses.replace(gres, count=str(there.get(index, gres.count)))
        for index, gres in enumerate(promised)
    ]
    return [gres for gres in reduced if gres.count != "0"], less


def _matched(gpus: t.Mapping[int, Gres], names: t.Mapping[str, int]) -> dict[int, int]:
    """How many there are of each promise. As in Slurm a type is a part of a name, and the longest type is served first."""
    left = dict(names)
    found = dict.fromkeys(gpus, 0)
    for index, gres in sorted(gpus.items(), key=lambda item: -len(item[1].type)):
        for name in left:
            taken = min(left[name], int(gres.count) - found[index]) if gres.type.lower() in name.lower() else 0
            found[index] += taken
            left[name] -= taken
    return found


def _share(gres: Gres, wanted: int, works: int) -> Gres:
    """A part of GPUs, as much of it on each as before. Files that are not those of all GPUs were chosen, and stay."""
    if not gres.count.isdigit() or len(gres.devices) not in (0, wanted):
        return gres
    return dataclasses.replace(gres, count=str(int(gres.count) // wanted * works), devices=())
