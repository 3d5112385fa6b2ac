# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""MIG layouts: which instances each GPU of a machine is divided into, checked against what the GPU can do.

The table of models is not all that there is: drivers offer further profiles, and GPUs have further editions. What the table has is checked; a profile that it
lacks is taken when the GPU could have it, and an entry may add PCI ids. The driver decides when the layout is applied.
"""

from __future__ import annotations

import dataclasses
import math
import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._gpu_models import GpuModel, Mig, MigProfile, model_of

PROFILE = re.compile(r"([1-8])g\.([1-9]\d*)gb((?:[+-][a-z]+(?:\.[a-z]+)*)*)")
# The vendor alone is no device.
PCI_ID = re.compile(r"(?:0x|10de:)?(?!10de$)([0-9a-f]{4})(?:10de)?", re.IGNORECASE)
# No GPU has more instances than this.
MOST_INSTANCES = 8
# Drivers and editions differ in how much memory is left for instances: 7g.186gb of one GB200 is 7g.189gb of another.
MEMORY_DIFFERS = 0.15


class MigError(ImageError):
    """A MIG layout that cannot be."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """What the GPUs of one model become.

    ``devices`` are the numbers that nvidia-smi gives them, None for all of this model. ``instances`` are profiles and how many of each; none of them means
    that MIG is off. ``pci_ids`` are those of the model and those that the entry adds.
    """

    model: GpuModel
    devices: tuple[int, ...] | None
    instances: tuple[tuple[MigProfile, int], ...]
    pci_ids: tuple[str, ...]

    @property
    def unknown(self) -> tuple[str, ...]:
        """The profiles that the table does not have for the model."""
        known = {profile.name for profile in self.model.mig.profiles} if self.model.mig else set()
        return tuple(profile.name for profile, _count in self.instances if profile.name not in known)

    def applies_to(self, device: int) -> bool:
        """Whether the GPU with this number is meant, when it is of the model."""
        return self.devices is None or device in self.devices


def layout_from(raw: t.Any) -> list[Entry]:
    """Read and check a layout; raises MigError or GpuError."""
    if not isinstance(raw, (list, tuple)):
        raise MigError(f"Cannot use the MIG layout {raw!r}: it must be a list with one entry for each kind of GPU.")
    entries = [_entry_from(item, f"entry {number} of the MIG layout") for number, item in enumerate(raw, start=1)]
    for number, entry in enumerate(entries):
        for other in entries[:number]:
            shared = [device for device in entry.pci_ids if device in other.pci_ids]
            if shared and _overlap(entry, other):
                same = entry.model.name if entry.model == other.model else f"GPU with the PCI id {shared[0]}"
                raise MigError(f"Cannot use the MIG layout: two entries are for the same {same}. Give each entry its own devices.")
    return entries


def _overlap(one: Entry, other: Entry) -> bool:
    return one.devices is None or other.devices is None or bool(set(one.devices) & set(other.devices))


def _entry_from(item: t.Any, where: str) -> Entry:
    if not isinstance(item, dict):
        raise MigError(f"Cannot use {where}: it is {item!r}, but must have the keys model and instances.")
    strange = set(item) - {"model", "devices", "instances", "pci_ids"}
    if strange or "model" not in item or "instances" not in item:
        raise MigError(
            f"Cannot use {where}: it has the keys {', '.join(sorted(map(str, item))) or 'of an empty entry'}. "
            "It needs model and instances, and may have devices and pci_ids."
        )
    if not str(item["model"] or "").strip():
        raise MigError(f"Cannot use {where}: its model is empty. Give the name of a GPU, such as h200.")
    model = model_of(str(item["model"]))
    if model.mig is None:
        raise MigError(f"Cannot divide {model.name} ({where}): this GPU has no MIG. Remove the entry.")
    added = _pci_ids_from(item.get("pci_ids"), where)
    instances = _instances_from(item["instances"], model, model.mig, where, other_edition=bool(added))
    return Entry(model, _devices_from(item.get("devices", "all"), where), instances, tuple(dict.fromkeys((*model.pci_ids, *added))))


def _pci_ids_from(raw: t.Any, where: str) -> tuple[str, ...]:
    """PCI device ids in the spellings of lspci, nvidia-smi and the kernel, as four capital digits."""
    found = []
    for item in () if raw is None else raw if isinstance(raw, (list, tuple)) else [raw]:
        # YAML reads 0x2330 as the number 9008, and 2330 as a number, too: which of both was written cannot be told.
        if not isinstance(item, str):
            raise MigError(f'Cannot use {where}: {item!r} in pci_ids is no text, and YAML may have changed it. Write the id in quotes, such as "2330".')
        if not item.strip():
            raise MigError(f'Cannot use {where}: an entry of pci_ids is empty. Give the four digits of lspci -nn after 10de:, such as "2330".')
        match = PCI_ID.fullmatch(item.strip())
        if match is None:
            raise MigError(f'Cannot use {where}: {item!r} in pci_ids is no PCI device id. Give the four digits of lspci -nn after 10de:, such as "2330".')
        found.append(match.group(1).upper())
    return tuple(found)


def _devices_from(raw: t.Any, where: str) -> tuple[int, ...] | None:
    if raw in ("all", None):
        return None
    numbers = raw if isinstance(raw, (list, tuple)) else [raw]
    if not numbers or not all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers):
        raise MigError(f"Cannot use {where}: devices is {raw!r}. Give the numbers of GPUs as nvidia-smi -L shows them, or all.")
    return tuple(sorted(set(numbers)))


def _instances_from(raw: t.Any, model: GpuModel, mig: Mig, where: str, *, other_edition: bool) -> tuple[tuple[MigProfile, int], ...]:
    if not isinstance(raw, dict):
        raise MigError(f"Cannot use {where}: instances is {raw!r}. Give profiles and how many of each, such as {mig.profiles[0].name}: 2.")
    known = {profile.name: profile for profile in mig.profiles}
    wanted = []
    for name, count in raw.items():
        profile = known.get(name) or further_profile(str(name), mig, other_edition=other_edition)
        if profile is None:
            raise MigError(f"Cannot divide {model.name} ({where}): it has no profile {name!r}. It has {', '.join(known)}.")
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise MigError(f"Cannot divide {model.name} ({where}): the number of {name} is {count!r}. Give a whole number from 1 to {profile.count}.")
        wanted.append((profile, count))
    wanted.sort(key=lambda pair: (-pair[0].memory, -pair[0].compute, pair[0].name))
    _check_slices(wanted, model, mig, where, other_edition=other_edition)
    return tuple(wanted)


def further_profile(name: str, mig: Mig, *, other_edition: bool = False) -> MigProfile | None:
    """A profile that the table lacks; None for one that a GPU of this size cannot have, because its memory is no half, quarter or eighth.

    ``other_edition`` is for GPUs whose memory is not that of the table, so that it cannot be compared.
    """
    found = PROFILE.fullmatch(name)
    if found is None:
        return None
    compute, gb = int(found.group(1)), int(found.group(2))
    whole = _gb_of(mig)
    part = min((8, 4, 2, 1), key=lambda divisor: abs(gb - whole / divisor))
    if abs(gb - whole / part) > MEMORY_DIFFERS * whole / part and not other_edition:
        return None
    return MigProfile(name, None, MOST_INSTANCES, compute, max(1, mig.memory // part), ())


def _gb_of(mig: Mig) -> int:
    """The memory of the whole GPU in GB, as the names of profiles have it."""
    return max(_gb_in(profile.name) for profile in mig.profiles)


def _gb_in(name: str) -> int:
    found = PROFILE.fullmatch(name)
    return int(found.group(2)) if found else 0


def _check_slices(wanted: t.Sequence[tuple[MigProfile, int]], model: GpuModel, mig: Mig, where: str, *, other_edition: bool) -> None:
    asked = " + ".join(f"{count} x {profile.name}" for profile, count in wanted)
    for profile, count in wanted:
        if count > profile.count:
            raise MigError(f"Cannot divide {model.name} ({where}): {count} x {profile.name} do not fit, at most {profile.count} do.")
    if sum(count for profile, count in wanted if profile.media) > 1:
        raise MigError(f"Cannot divide {model.name} ({where}): {asked} has several +me instances, but only one can have the media engines.")
    others = [profile.name for profile, _count in wanted if not profile.all_media and not profile.no_media]
    if others and any(profile.all_media for profile, _count in wanted):
        raise MigError(f"Cannot divide {model.name} ({where}): beside +me.all no instance has media engines, but {others[0]} has some. Take one with -me.")
    if any(profile.name not in {known.name for known in mig.profiles} for profile, _count in wanted):
        _check_memory(asked, sum(_gb_in(profile.name) * count for profile, count in wanted), model, mig, where, other_edition=other_edition)
        return
    compute = sum(profile.compute * count for profile, count in wanted)
    memory = sum(profile.memory * count for profile, count in wanted)
    if compute > mig.compute or memory > mig.memory:
        raise MigError(
            f"Cannot divide {model.name} ({where}): {asked} takes {compute} compute slices and {memory} memory slices, "
            f"but the GPU has {mig.compute} and {mig.memory}. Take fewer or smaller instances."
        )
    if place([profile for profile, count in wanted for _copy in range(count)]) is None:
        raise MigError(f"Cannot divide {model.name} ({where}): {asked} has slices enough, but the instances cannot be placed side by side.")


def _check_memory(asked: str, gb: int, model: GpuModel, mig: Mig, where: str, *, other_edition: bool) -> None:
    """Check profiles that are not in the table as far as their names tell: the slices are known to the driver only."""
    if gb > (1 + MEMORY_DIFFERS) * _gb_of(mig) and not other_edition:
        raise MigError(f"Cannot divide {model.name} ({where}): {asked} takes {gb} GB, but the GPU has {_gb_of(mig)}. Take fewer or smaller instances.")


def place(profiles: t.Sequence[MigProfile]) -> list[int] | None:
    """The memory slice at which each instance can begin so that none overlaps another; None when there is no such way."""

    def search(rest: t.Sequence[MigProfile], taken: frozenset[int]) -> list[int] | None:
        if not rest:
            return []
        for start in reversed(rest[0].starts):
            slices = frozenset(range(start, start + rest[0].memory))
            if not slices & taken:
                found = search(rest[1:], taken | slices)
                if found is not None:
                    return [start, *found]
        return None

    return search(profiles, frozenset())


def document(entries: t.Sequence[Entry]) -> dict[str, t.Any]:
    """The layout as the program reads it that applies it on the machine."""
    return {
        "format": 1,
        "entries": [
            {
                "model": entry.model.name,
                "pci_ids": list(entry.pci_ids),
                "reset": entry.model.mig.reset if entry.model.mig else False,
                "devices": None if entry.devices is None else list(entry.devices),
                "instances": {profile.name: count for profile, count in entry.instances},
            }
            for entry in entries
        ],
    }


def slurm_type(model: GpuModel, profile: MigProfile) -> str:
    """A type that is part of the name that Slurm's NVML plugin gives an instance.

    That name ends with the compute slices and the memory that the driver reports in whole GiB, halves rounded up, which is not always what the name of the
    profile says. It begins with the name of the product, which is left out here where products of one model have different ones.
    """
    size = re.split(r"[+-]", profile.name)[0] if profile.gib is None else f"{profile.compute}g.{math.floor(profile.gib + 0.5)}gb"
    whole = whole_type(model)
    return f"{whole}_{size}" if model.slurm_name == f"nvidia_{whole}" else size


def slurm_gres(entries: t.Sequence[Entry], gpus: t.Mapping[str, int], types: t.Mapping[str, str]) -> list[dict[str, t.Any]]:
    """The generic resources of a node.

    ``gpus`` tells how many GPUs of each model the node has, in the order of their numbers; ``types`` replaces the type of a profile. A GPU that no entry
    divides is one resource by itself.
    """
    counts: dict[str, int] = {}
    exact: dict[str, bool] = {}
    for device, model in enumerate(model_of(name) for name, number in gpus.items() for _copy in range(number)):
        entry = next((entry for entry in entries if entry.model == model and entry.applies_to(device)), None)
        parts: list[tuple[MigProfile | None, int]] = [*entry.instances] if entry and entry.instances else [(None, 1)]
        for profile, count in parts:
            kind = whole_type(model) if profile is None else types.get(profile.name, slurm_type(model, profile))
            counts[kind] = counts.get(kind, 0) + count
            exact[kind] = profile is None or profile.name in types or profile.gib is not None
    return [{"name": "gpu", "type": kind, "count": count, "gres": f"gpu:{kind}:{count}", "exact": exact[kind]} for kind, count in counts.items()]


def whole_type(model: GpuModel) -> str:
    """A type that is part of the name that Slurm's NVML plugin gives a whole GPU."""
    name = model.family.replace("-", "_")
    return name if name in model.product.lower().replace(" ", "_") else name.partition("_")[0]
