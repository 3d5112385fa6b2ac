# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this plugin util is private to the hyperscaler.images collection.
"""Which of the GPUs that a node is to have its slurmd finds there, so that one that is sick does not keep Slurm from the others."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.plugin_utils._slurm_gres import SHARED, Gres

LINE = re.compile(r"Gres Name=gpu .*")
VALUE = re.compile(r"(\w+)=(\S+)")
ABSENT = "(null)"


@dataclasses.dataclass(frozen=True)
class Device:
    """A GPU or MIG instance: ``file`` may be several with commas, ``links`` has the NVLink connections to each GPU of the machine and -1 at its own place."""

    type: str
    file: str
    cores: str
    links: tuple[str, ...]


def devices_of(printed: str) -> list[Device]:
    """The GPUs of the output of ``slurmd -G``, in its order, with types as slurm.conf has them. Those that cannot be asked are not in it."""
    found = []
    for line in LINE.findall(printed):
        values = {key: text for key, text in VALUE.findall(line) if text != ABSENT}
        if "File" in values:
            links = tuple(values["Links"].split(",")) if "Links" in values else ()
            found.append(Device(values.get("Type", ""), values["File"], values.get("Cores", ""), links))
    return found


def working(promised: t.Sequence[Gres], printed: str) -> tuple[list[Gres], list[str]]:
    """What there is of the promised resources, with parts of GPUs in the same measure, and a text on each of which there is less.

    Where nothing of what was promised is there, the promise stays, and Slurm drains the node with a reason: then the driver or the types are wrong.
    The GPUs get their files only where Slurm could not use what it detects: NVML also counts GPUs that are lost, so each line of links is as long as that
    count, and slurmctld refuses a node with more links than GPUs (``Invalid GRES Links value``). Detection knows more otherwise, as names of MIG instances.
    """
    there = _matched([gres for gres in promised if gres.name == "gpu"], devices_of(printed))
    found = [device for _gres, devices in there for device in devices]
    less = [f"{len(devices)} of {gres.node_text}" for gres, devices in there if len(devices) < int(gres.count)]
    if not found:
        return list(promised), less
    wanted = sum(int(gres.count) for gres, _devices in there)
    named = any(len(device.links) > len(found) for device in found)
    gpus = iter(there)
    real = []
    for gres in promised:
        if gres.name in SHARED:
            real.append(_share(gres, wanted, found))
        elif gres.name == "gpu":
            real.append(_with(*next(gpus), _links(found) if named else None))
        else:
            real.append(gres)
    return [gres for gres in real if gres.count != "0"], less


def _matched(gpus: t.Sequence[Gres], devices: t.Sequence[Device]) -> list[tuple[Gres, list[Device]]]:
    """What there is of each promise; slurmd has given the devices the types of the promises."""
    left = list(devices)
    there = []
    for gres in gpus:
        mine = [device for device in left if device.type.lower() == gres.type.lower()][: int(gres.count)]
        left = [device for device in left if device not in mine]
        there.append((gres, mine))
    return there


def _with(gres: Gres, devices: t.Sequence[Device], links: t.Mapping[str, str] | None) -> Gres:
    """The promise with the count of its devices, and with their files where ``links`` are given."""
    real = dataclasses.replace(gres, count=str(len(devices)))
    if links is None:
        return real
    details = tuple(f"{f' Cores={device.cores}' if device.cores else ''}{links[device.file]}" for device in devices)
    return dataclasses.replace(real, devices=tuple(device.file for device in devices), details=details)


def _links(found: t.Sequence[Device]) -> dict[str, str]:
    """By file, the links of each GPU to those that work, without those to the others. MIG instances have none."""
    places = [device.links.index("-1") if "-1" in device.links else None for device in found]
    texts = {}
    for device in found:
        counts = [
            "-1" if other is device else "0" if place is None or place >= len(device.links) else device.links[place] for other, place in zip(found, places)
        ]
        texts[device.file] = f" Links={','.join(counts)}" if device.links else ""
    return texts


def _share(gres: Gres, wanted: int, found: t.Sequence[Device]) -> Gres:
    """A part of GPUs, as much of it on each as before; files of its own are those that work."""
    if not gres.count.isdigit():
        return gres
    if not gres.devices:
        return dataclasses.replace(gres, count=str(int(gres.count) * len(found) // wanted))
    work = {path for device in found for path in device.file.split(",")}
    devices = tuple(device for device in gres.devices if device in work)
    return dataclasses.replace(gres, count=str(int(gres.count) // len(gres.devices) * len(devices)), devices=devices)
