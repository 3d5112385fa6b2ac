# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this plugin util is private to the hyperscaler.images collection.
"""The generic resources of a node of Slurm, with everything filled in that gres.conf wants to know."""

from __future__ import annotations

import dataclasses
import re
import typing as t
from collections.abc import Mapping

from ansible_collections.hyperscaler.images.plugins.plugin_utils._slurm_values import refuse

FAKE_FOLDER = "/run/slurm-fake-gres"
DETECTIONS = ("nvml", "nvidia", "devices", "fake")
DETECTED = ("nvml", "nvidia")
# Parts of GPUs, which Slurm lays over the files of the GPUs themselves.
SHARED = ("shard", "mps")
WORD = re.compile(r"[a-z][a-z0-9_]*")
# Models may have hyphens (a100-sxm4-40gb), and MIG profiles bring points and a plus sign (h100_1g.10gb+me).
TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
HYPHEN_BEFORE_PROFILE = re.compile(r"-[0-9]+g\.[0-9]+gb", re.IGNORECASE)
# gres.conf(5), Count: the letters multiply by powers of 1024.
COUNT = re.compile(r"(\d+)([KMGTP]?)", re.IGNORECASE | re.ASCII)
RANGE = re.compile(r"(.*)\[([0-9,-]+)\](.*)")
# Those behind the first four are what the filter mig_gres returns beside them.
KEYS = ("name", "type", "count", "devices", "gres", "exact")


@dataclasses.dataclass(frozen=True)
class Gres:
    """One resource of a node: ``count`` is text, because it may have a suffix; ``devices`` has a file for each unit, or for a share of them.

    ``details`` are what gres.conf says of each device behind its file, with a blank before it; empty when there is nothing to say.
    """

    name: str
    type: str
    count: str
    devices: tuple[str, ...] = ()
    details: tuple[str, ...] = ()

    @property
    def node_text(self) -> str:
        """The resource as Gres= of a node wants it."""
        return ":".join(part for part in (self.name, self.type, self.count) if part)

    @property
    def lines(self) -> list[str]:
        """The parameters of its lines in gres.conf: one for each device file, or one with the count."""
        named = f"Name={self.name}{f' Type={self.type}' if self.type else ''}"
        if not self.devices:
            return [f"{named} Count={self.count}"]
        # A share of a GPU has a count on each file; a unit is a file.
        each = f" Count={int(self.count) // len(self.devices)}" if self.name in SHARED else ""
        files = [f"{'MultipleFiles' if ',' in device else 'File'}={device}" for device in self.devices]
        return [f"{named}{each} {file}{detail}" for file, detail in zip(files, self.details or ("",) * len(files))]


def gres_of(host: str, entries: t.Any, detect: str) -> list[Gres]:
    """Check the resources of a node; raises AnsibleFilterError for what Slurm would refuse or misread. Of a count of 0, nothing is left."""
    if detect not in DETECTIONS:
        refuse(host, f"slurm_compute_gres_detect is {detect!r}, which is none of {', '.join(DETECTIONS)}", "Choose one of them")
    if not isinstance(entries or [], (list, tuple)) or not all(isinstance(entry, Mapping) for entry in entries or []):
        refuse(host, f"slurm_compute_gres is {entries!r}", "Write a list of mappings, as in [{type: h100, count: 4}]")
    found = [gres for gres in (_entry(host, entry, detect) for entry in entries or []) if int(COUNT.sub(r"\1", gres.count))]
    gpus = [gres for gres in found if gres.name == "gpu"]
    for gres in found:
        if gres.name in SHARED:
            _check_share(host, gres, gpus, detect)
    _check_twice(host, found)
    return _fake(found) if detect == "fake" else found


def gres_lines(found: t.Sequence[Gres], detect: str, with_gpus: bool) -> list[str]:
    """What gres.conf says of a node, but for its name: who finds the GPUs, and the lines of everything else.

    A library is asked for GPUs only where there are some, because on other machines it only fills the log with errors. GPUs with files need no detection.
    """
    if not found:
        return []
    left = [gres for gres in found if gres.name == "gpu" and not gres.devices]
    detected = detect in DETECTED and with_gpus and bool(left)
    named = [line for gres in found if not (detect in DETECTED and gres in left) for line in gres.lines]
    return [f"AutoDetect={detect if detected else 'off'}", *named]


def _entry(host: str, entry: Mapping[str, t.Any], detect: str) -> Gres:
    strange = [str(key) for key in entry if key not in KEYS]
    if strange:
        refuse(host, f"an entry of slurm_compute_gres has {', '.join(strange)}", f"It may have {', '.join(KEYS[:4])}, in lower case")
    name, kind = entry.get("name") or "gpu", entry.get("type")
    if not isinstance(name, str) or not WORD.fullmatch(name):
        refuse(host, f"{name!r} is no name of a resource", "Use lower-case letters, digits and underscores")
    if isinstance(kind, bool) or (kind not in (None, "") and not TYPE.fullmatch(str(kind))):
        refuse(host, f"{kind!r} can be no type of a resource", "Use letters, digits and the characters _.+-, in quotes")
    if kind and name == "gpu" and detect in DETECTED and HYPHEN_BEFORE_PROFILE.search(str(kind)):
        refuse(
            host,
            f"{kind!r} can be no type of a resource, because Slurm compares it with the name that the driver gives, in lower case and with underscores",
            "Write a100_1g.5gb, for instance, where the driver says NVIDIA A100 MIG 1g.5gb",
        )
    count = _count(host, name, entry.get("count"))
    # Detection finds the devices of GPUs itself, and an own list would only be compared with it; fake ones are made.
    ignored = detect == "fake" or (name == "gpu" and detect in DETECTED)
    devices = () if ignored else tuple(_devices(host, name, entry.get("devices"), count))
    if name == "gpu" and not count.isdigit():
        refuse(host, f"{entry.get('count')!r} is no count of GPUs", "Write a whole number")
    if name not in SHARED and count != "0" and (devices or (detect == "devices" and name == "gpu")) and str(len(devices)) != count:
        refuse(
            host,
            f"of the resource {name} it has {count} but names {len(devices)} devices",
            "Name one in devices for each" + (", or let slurm_compute_gres_detect find them" if name == "gpu" else ", or none"),
        )
    return Gres(name, str(kind or ""), count, devices if count != "0" else ())


def _count(host: str, name: str, value: t.Any) -> str:
    text = "1" if value in (None, "") and not isinstance(value, bool) else str(value).strip()
    match = COUNT.fullmatch(text)
    if isinstance(value, (bool, float)) or not match:
        refuse(
            host, f"{value!r} is no count of the resource {name}", 'Write a whole number, or for one without devices a number with K, M, G, T or P, as in "4G"'
        )
    return f"{int(match.group(1))}{match.group(2).upper()}" if int(match.group(1)) else "0"


def _devices(host: str, name: str, value: t.Any, count: str) -> list[str]:
    """The device files, of which text may name several; a range such as /dev/nvidia[0-3] stands for all of them."""
    if isinstance(value, str):
        # With commas, text is either the files of one unit or a file for each.
        value = [value] if count == "1" else [part.strip() for part in re.split(r",(?![^\[]*\])", value)]
    if not isinstance(value or [], (list, tuple)) or not all(isinstance(device, str) for device in value or []):
        refuse(host, f"the devices of the resource {name} are {value!r}", "Write a list of paths")
    found = [expanded for device in value or [] for expanded in _expanded(host, device.strip())]
    for device in found:
        if not all(re.fullmatch(r"/[^\s,#\"\[\]]+", path) for path in device.split(",")):
            refuse(host, f"{device!r} is no path of a device of the resource {name}", "Write absolute paths")
    return found


def _expanded(host: str, device: str) -> list[str]:
    match = RANGE.fullmatch(device)
    if not match:
        return [device]
    numbers: list[str] = []
    for part in match.group(2).split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or len(last) > 4:
            refuse(host, f"{device!r} is no range of devices", "Write it as in /dev/nvidia[0-3]")
        numbers += [str(number).zfill(len(first)) for number in range(int(first), int(last if dash else first) + 1)]
    return [f"{match.group(1)}{number}{match.group(3)}" for number in numbers]


def _check_share(host: str, gres: Gres, gpus: t.Sequence[Gres], detect: str) -> None:
    if not gpus:
        refuse(host, f"it has the resource {gres.name}, which is a part of GPUs, but no GPU", "Add the GPUs to slurm_compute_gres")
    if gres.devices and detect == "devices":
        known = {device for gpu in gpus for device in gpu.devices}
        strange = [device for device in gres.devices if device not in known]
        if strange:
            refuse(host, f"the resource {gres.name} is on {', '.join(strange)}, which is the file of no GPU", "Leave out its devices, or name those of GPUs")
    total = sum(int(gpu.count) for gpu in gpus if gpu.count.isdigit())
    if not gres.devices and (not gres.count.isdigit() or int(gres.count) % total):
        refuse(host, f"{gres.count} of the resource {gres.name} do not spread evenly over {total} GPUs", "Choose a multiple, or name devices for it")
    if gres.devices and (not gres.count.isdigit() or int(gres.count) % len(gres.devices)):
        refuse(host, f"{gres.count} of the resource {gres.name} do not spread evenly over {len(gres.devices)} devices", "Choose a multiple, or name no devices")


def _check_twice(host: str, found: t.Sequence[Gres]) -> None:
    """A file is one unit of one resource: Slurm would give it to two jobs. Shares lie on the files of GPUs, each once."""
    for kept in ({gres.name for gres in found} - set(SHARED), *({name} for name in SHARED)):
        files = [device for gres in found if gres.name in kept for device in gres.devices]
        twice = sorted({device for device in files if files.count(device) > 1})
        if twice:
            refuse(host, f"the devices of its resources name {', '.join(twice)} more than once", "Name each file once")


def _fake(found: t.Iterable[Gres]) -> list[Gres]:
    """Give each unit a file of its own. Parts of GPUs are on the files of these, and a count with a suffix is an amount and no number of devices."""
    used: dict[str, int] = {}
    made = []
    for gres in found:
        if gres.name in SHARED or not gres.count.isdigit():
            made.append(gres)
            continue
        first = used.get(gres.name, 0)
        used[gres.name] = first + int(gres.count)
        made.append(dataclasses.replace(gres, devices=tuple(f"{FAKE_FOLDER}/{gres.name}{index}" for index in range(first, used[gres.name]))))
    return made
