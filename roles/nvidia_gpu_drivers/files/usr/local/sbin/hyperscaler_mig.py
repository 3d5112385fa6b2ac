# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Divide the GPUs of this machine with MIG as /etc/hyperscaler/mig.json says.

Runs at each boot, because instances never survive one. The mode survives on Ampere only, where changing it needs a reset of the GPU; where the reset is not
possible, as in a virtual machine, the machine is restarted, once. Each GPU is looked at by itself: one that is sick is named, the others are divided. A GPU
that cannot be divided gets its former instances back or becomes whole, because slurmd does not start where MIG is on without instances.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import re
import subprocess
import sys
import typing as t
from pathlib import Path

NVIDIA = "0x10de"
DISPLAY_CLASSES = ("0x0300", "0x0302")
MODES = ("Enabled", "Disabled")
# What nvidia-smi gives for something that a GPU does not have, as MIG of a virtual GPU.
ABSENT = ("[N/A]", "N/A", "[Not Supported]", "Not Supported")
PROGRAM_SECONDS = 300
QUERY_SECONDS = 60
# Exit codes of nvidia-smi: the infoROM of some GPU is corrupted, which hinders nothing; what was asked for does not exist.
CORRUPTED_INFOROM = 14
NOT_FOUND = 6


class MigError(Exception):
    """Something that a user of the machine can act on."""


class UnfinishedError(MigError):
    """What is wrong with some GPUs; ``done`` tells what was done with the others."""

    def __init__(self, problems: t.Sequence[str], done: t.Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.done = list(done)


@dataclasses.dataclass(frozen=True)
class Gpu:
    """A GPU as nvidia-smi lists it; ``device`` is empty when it cannot be read, the modes are one of MODES, one of ABSENT, or why they cannot be read."""

    index: int
    device: str
    mode: str
    pending: str
    name: str

    def __str__(self) -> str:
        return f"GPU {self.index} ({self.name})"

    @property
    def has_mig(self) -> bool:
        """Whether the driver offers MIG for it."""
        return self.mode in MODES

    @property
    def readable(self) -> bool:
        """Whether the driver can say what it is and whether MIG is on."""
        return bool(self.device) and (self.has_mig or self.mode in ABSENT)


@dataclasses.dataclass(frozen=True)
class Profile:
    """A profile that a GPU offers now: number, memory in GiB."""

    identifier: int
    gib: float


@dataclasses.dataclass(frozen=True)
class Instance:
    """A GPU instance: name and number of its profile, its own number, the memory slice at which it begins."""

    name: str
    profile: int
    number: int
    start: int


@dataclasses.dataclass(frozen=True)
class Job:
    """A GPU and the instances that it is to have; none of them means that MIG is off."""

    gpu: Gpu
    instances: dict[str, int]

    @property
    def mode(self) -> str:
        """The mode that the GPU is to have."""
        return "Enabled" if self.instances else "Disabled"

    @property
    def text(self) -> str:
        """The instances as people write them."""
        return ", ".join(f"{count} x {name}" for name, count in self.instances.items())


class Smi:
    """nvidia-smi, the only program that touches GPUs here. ``warnings`` are what it warned of, ``lost`` what it said of GPUs that it cannot name."""

    def __init__(self, program: str = "nvidia-smi", devices: Path = Path("/sys/bus/pci/devices")) -> None:
        self.program = program
        self.devices = devices
        self.warnings: list[str] = []
        self.lost: list[str] = []

    def warn(self, text: str) -> None:
        """Note a warning, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def start(self, *args: str, attempt: str, seconds: int) -> subprocess.CompletedProcess[str]:
        """Run it to its end, whatever its exit code is; raises MigError when it cannot be run or does not end."""
        try:
            done = subprocess.run(
                [self.program, *args],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                env={**os.environ, "LC_ALL": "C.UTF-8"},
                timeout=seconds,
                check=False,
            )
        except FileNotFoundError as error:
            raise MigError(f"Cannot {attempt}: {self.program} was not found. Install the NVIDIA driver.") from error
        except OSError as error:
            raise MigError(f"Cannot {attempt}: {self.program} cannot be run: {error.strerror}. Install the NVIDIA driver again.") from error
        except subprocess.TimeoutExpired as error:
            raise MigError(f"Cannot {attempt}: {self.program} did not end within {seconds} s. Look for Xid messages in the kernel's log.") from error
        for line in (done.stdout + "\n" + done.stderr).splitlines():
            if is_warning(line):
                self.warn(line.strip())
        return done

    def run(self, *args: str, attempt: str, accepted: t.Collection[int] = (), seconds: int = PROGRAM_SECONDS) -> str:
        """Run it and return what it printed; raises MigError when it ends with a code that says that nothing was done."""
        done = self.start(*args, attempt=attempt, seconds=seconds)
        if done.returncode not in (0, CORRUPTED_INFOROM, *accepted):
            raise MigError(f"Cannot {attempt}: {self.program} {' '.join(args)} {ending(done)}.")
        return done.stdout

    def gpus(self) -> list[Gpu]:
        """All GPUs that can be named. When one keeps nvidia-smi from listing any, each is asked for by its place on the PCI bus."""
        self.lost = []
        first: subprocess.CompletedProcess[str] | MigError
        try:
            first = self._list()
            found = self._read(first.stdout + "\n" + first.stderr)
        except MigError as error:
            first, found = error, []
        places = nvidia_gpus(self.devices) if not found else []
        if len(places) > 1:
            self.lost = []
            for place in places:
                try:
                    answer = self._list("-i", place)
                    found += self._read(answer.stdout + "\n" + answer.stderr)
                except MigError as error:
                    self.lost.append(f"{place}: {error}")
        if found:
            return sorted(set(found), key=lambda gpu: gpu.index)
        if isinstance(first, MigError):
            raise first
        if first.returncode not in (0, CORRUPTED_INFOROM):
            raise MigError(f"Cannot list the GPUs: {self.program} {ending(first)}.")
        if not self.lost:
            raise MigError(f"Cannot list the GPUs: {self.program} printed nothing. Look for messages of the NVIDIA driver in the kernel's log.")
        raise MigError(f"Cannot list the GPUs: {self.program} printed {self.lost[0]!r}, which is not index, PCI id, two modes and name.")

    def _list(self, *only: str) -> subprocess.CompletedProcess[str]:
        fields = "index,pci.device_id,mig.mode.current,mig.mode.pending,name"
        return self.start(*only, f"--query-gpu={fields}", "--format=csv,noheader", attempt="list the GPUs", seconds=QUERY_SECONDS)

    def _read(self, text: str) -> list[Gpu]:
        """The rows of a list; a line that is none is about a GPU that cannot be named."""
        found = []
        for line in text.splitlines():
            parts = [part.strip() for part in line.split(",", 4)]
            if len(parts) == 5 and parts[0].isdecimal():
                device = parts[1][2:6].upper() if re.fullmatch(r"0x[0-9A-Fa-f]{8}", parts[1]) else ""
                found.append(Gpu(int(parts[0]), device, parts[2], parts[3], parts[4]))
            elif line.strip() and not is_warning(line):
                self.lost.append(line.strip().rstrip("."))
        return found

    def _list_of(self, index: int, flag: str, what: str) -> str:
        """A list about one GPU, empty when there is nothing to list."""
        return self.run("mig", "-i", str(index), flag, attempt=f"list the {what} of GPU {index}", accepted=(NOT_FOUND,), seconds=QUERY_SECONDS)

    def profiles(self, index: int) -> dict[str, Profile]:
        """The profiles of a GPU whose MIG mode is on."""
        rows = re.findall(r"\|\s+\d+\s+MIG (\S+)\s+(\d+)\s+\d+/\d+\s+([\d.]+)\s", self._list_of(index, "-lgip", "profiles"))
        return {name: Profile(int(identifier), float(gib)) for name, identifier, gib in rows}

    def placements(self, index: int) -> dict[int, tuple[tuple[int, ...], int]]:
        """For each profile number the memory slices at which it may begin, and how many it takes; empty where the driver cannot say."""
        try:
            text = self._list_of(index, "-lgipp", "placements")
        except MigError as error:
            self.warn(str(error))
            return {}
        rows = re.findall(r"Profile ID\s+(\d+)\s+Placements?\s*:\s*\{([\d,]+)\}:(\d+)", text)
        return {int(identifier): (tuple(int(start) for start in starts.split(",")), int(size)) for identifier, starts, size in rows}

    def instances(self, index: int) -> list[Instance]:
        """Each GPU instance."""
        rows = re.findall(r"\|\s+\d+\s+MIG (\S+)\s+(\d+)\s+(\d+)\s+(\d+):\d+", self._list_of(index, "-lgi", "instances"))
        return [Instance(name, int(profile), int(number), int(start)) for name, profile, number, start in rows]

    def compute_instances(self, index: int) -> list[int]:
        """For each compute instance the number of its GPU instance."""
        text = self._list_of(index, "-lci", "compute instances")
        return [int(number) for number in re.findall(r"\|\s+\d+\s+(\d+)\s+MIG \S+\s+\d+\s+\d+\s+\d+:\d+", text)]

    def set_mode(self, index: int, mode: str) -> None:
        """Ask for MIG to be on or off."""
        self.run("-i", str(index), "-mig", "1" if mode == "Enabled" else "0", attempt=f"change the MIG mode of GPU {index}")

    def reset(self, gpus: t.Sequence[Gpu]) -> None:
        """Reset GPUs where that is possible; whether it helped is asked afterwards."""
        indexes = ",".join(str(gpu.index) for gpu in gpus)
        self.start("--gpu-reset", "-i", indexes, attempt=f"reset GPU {indexes}", seconds=PROGRAM_SECONDS)

    def create(self, index: int, tuples: t.Iterable[str], attempt: str) -> None:
        """Make instances, each with a compute instance."""
        self.run("mig", "-i", str(index), "-cgi", ",".join(tuples), "-C", attempt=attempt)


def is_warning(line: str) -> bool:
    """Whether nvidia-smi warns with this line; it writes the word in several ways."""
    return line.strip().lower().startswith("warning:")


def ending(done: subprocess.CompletedProcess[str]) -> str:
    """How nvidia-smi ended, with the last lines that it wrote."""
    lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
    return f"ended with exit code {done.returncode}: {(' | '.join(lines[-6:]) or 'no message').rstrip('.')}"


def read_layout(path: Path) -> dict[str, t.Any]:
    """The layout; raises MigError when it cannot be read or is of another format."""
    try:
        document: dict[str, t.Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MigError(f"Cannot read the MIG layout {path}: {error.strerror}. Apply the role nvidia_gpu_drivers with a layout.") from error
    except ValueError as error:
        raise MigError(f"Cannot read the MIG layout {path}: it is not JSON. Apply the role nvidia_gpu_drivers again.") from error
    if not isinstance(document, dict) or document.get("format") != 1 or not isinstance(document.get("entries"), list):
        raise MigError(f"Cannot use the MIG layout {path}: it is not of format 1. Apply the role nvidia_gpu_drivers again.")
    return document


def jobs_of(document: t.Mapping[str, t.Any], gpus: t.Sequence[Gpu]) -> list[Job]:
    """The GPUs that the layout is about and that can be read."""
    found = []
    for gpu in gpus:
        for entry in document["entries"]:
            if gpu.readable and gpu.device in entry["pci_ids"] and (entry["devices"] is None or gpu.index in entry["devices"]):
                found.append(Job(gpu, dict(entry["instances"])))
    return found


def troubles(smi: Smi, document: t.Mapping[str, t.Any], gpus: t.Sequence[Gpu]) -> list[str]:
    """The GPUs that the layout may be about, but that cannot be read or are not there."""
    known = {device for entry in document["entries"] for device in entry["pci_ids"]}
    found = [f"A GPU cannot be read: {text}. Look for Xid messages in the kernel's log." for text in smi.lost]
    for gpu in gpus:
        if not gpu.readable and (not gpu.device or gpu.device in known):
            said = f"for its MIG mode {gpu.mode}" if gpu.device else "nothing that tells its model"
            found.append(f"{gpu} cannot be read: nvidia-smi gives {said}. Look for Xid messages in the kernel's log.")
    for entry in document["entries"]:
        here = {gpu.index for gpu in gpus if gpu.device in entry["pci_ids"]}
        others = {gpu.index: gpu for gpu in gpus if gpu.device not in entry["pci_ids"]}
        for index in sorted(set(entry["devices"] or ()) - here) if here else ():
            if index not in others:
                found.append(f"GPU {index} of the layout is not here: {entry['model']} has the numbers {', '.join(map(str, sorted(here)))}.")
            elif others[index].device:
                found.append(f"GPU {index} of the layout is no {entry['model']}: it is {others[index].name} ({others[index].device}).")
    return found


def nothing_fits(document: t.Mapping[str, t.Any], gpus: t.Sequence[Gpu]) -> str:
    """Why none of the GPUs is divided."""
    wanted = "; ".join(f"{entry['model']} ({' '.join(entry['pci_ids'])})" for entry in document["entries"]) or "no GPU"
    text = f"No GPU here is in the layout. Here are {', '.join(f'{gpu.name} ({gpu.device})' for gpu in gpus) or 'none'}."
    if not any(gpu.has_mig for gpu in gpus):
        return text
    return f"{text} The layout is for {wanted}. Add an entry, or add the PCI id to pci_ids of the entry whose model the GPU is."


def nvidia_gpus(devices: Path) -> list[str]:
    """The places of NVIDIA's GPUs on the PCI bus."""
    found = []
    for device in sorted(devices.glob("*")):
        try:
            if (device / "vendor").read_text().strip() == NVIDIA and (device / "class").read_text().strip()[:6] in DISPLAY_CLASSES:
                found.append(device.name)
        except OSError:
            continue
    return found


def settled(smi: Smi, job: Job) -> bool:
    """Whether a GPU has its instances, each with a compute instance."""
    present = smi.instances(job.gpu.index)
    counts: dict[str, int] = {}
    for instance in present:
        counts[instance.name] = counts.get(instance.name, 0) + 1
    return counts == job.instances and sorted(instance.number for instance in present) == sorted(smi.compute_instances(job.gpu.index))


def choose_placements(names: t.Sequence[str], profiles: t.Mapping[str, Profile], placements: t.Mapping[int, tuple[tuple[int, ...], int]]) -> list[str]:
    """What -cgi takes: profile numbers, with the slice to begin at where the driver says which there are.

    Left to itself the driver places one instance after the other, and the order decides whether the last one still fits.
    """
    numbers = [profiles[name].identifier for name in names]
    if not all(number in placements for number in numbers):
        return [str(number) for number in numbers]

    def search(rest: t.Sequence[int], taken: frozenset[int]) -> list[str] | None:
        if not rest:
            return []
        starts, size = placements[rest[0]]
        for start in reversed(starts):
            slices = frozenset(range(start, start + size))
            further = None if slices & taken else search(rest[1:], taken | slices)
            if further is not None:
                return [f"{rest[0]}:{start}", *further]
        return None

    found = search(numbers, frozenset())
    if found is None:
        raise MigError(f"Cannot place {', '.join(names)} side by side: the GPU has no room for them. Change the layout.")
    return found


def clear(smi: Smi, index: int) -> None:
    """Remove all instances of a GPU."""
    if smi.compute_instances(index):
        smi.run("mig", "-i", str(index), "-dci", attempt=f"remove the compute instances of GPU {index} (stop what uses them)")
    if smi.instances(index):
        smi.run("mig", "-i", str(index), "-dgi", attempt=f"remove the instances of GPU {index} (stop what uses them)")


def divide(smi: Smi, job: Job) -> str:
    """Give a GPU its instances; returns what was done. When that fails it is again what it was."""
    # Where MIG was off there were no instances.
    former: list[Instance] | None = [] if job.gpu.mode == "Disabled" else None
    try:
        if settled(smi, job):
            return f"{job.gpu} has {job.text} already."
        former = smi.instances(job.gpu.index)
        tuples = plan(smi, job)
        clear(smi, job.gpu.index)
        create(smi, job, tuples)
    except MigError as error:
        now = "It was left as it is." if former is None else give_back(smi, job.gpu.index, former)
        raise MigError(f"{error} {now}") from error
    return f"{job.gpu} was divided into {job.text}."


def plan(smi: Smi, job: Job) -> list[str]:
    """What -cgi takes for the instances of a GPU."""
    profiles = smi.profiles(job.gpu.index)
    missing = [name for name in job.instances if name not in profiles]
    if missing:
        raise MigError(f"Cannot divide {job.gpu}: it has no profile {', '.join(missing)}. It has {', '.join(profiles) or 'none'}.")
    placements = smi.placements(job.gpu.index)
    names = [name for name, count in job.instances.items() for _copy in range(count)]
    # The largest first: they have the fewest places.
    names.sort(key=lambda name: -placements.get(profiles[name].identifier, ((), profiles[name].gib))[1])
    return choose_placements(names, profiles, placements)


def create(smi: Smi, job: Job, tuples: t.Sequence[str]) -> None:
    """Make the instances. What the GPU has afterwards counts, not the exit code."""
    problem = ""
    try:
        smi.create(job.gpu.index, tuples, f"divide GPU {job.gpu.index} into {job.text}")
    except MigError as error:
        problem = str(error)
    if not settled(smi, job):
        found = ", ".join(instance.name for instance in smi.instances(job.gpu.index)) or "none"
        raise MigError(problem or f"Cannot divide {job.gpu} into {job.text}: afterwards it has {found}. See nvidia-smi mig -lgi.")
    if problem:
        smi.warn(problem)


def give_back(smi: Smi, index: int, former: t.Sequence[Instance]) -> str:
    """Make a GPU again what it was before: with its former instances, or whole; returns what it is now."""
    try:
        if not former:
            clear(smi, index)
            stays = "MIG stays on without instances, and slurmd does not start with that: remove its entry, and restart."
            return "It is whole." if turn_off(smi, index) else stays
        bring_back(smi, index, former)
    except MigError as error:
        return f"It could not be made what it was before, either. {error}"
    return "It has its former instances."


def bring_back(smi: Smi, index: int, former: t.Sequence[Instance]) -> None:
    """Make the former instances of a GPU again, as far as they are missing."""
    present = smi.instances(index)
    kept = {instance.number for instance in present if instance in former}
    if len(kept) < len(present):
        clear(smi, index)
        kept = set()
    missing = [f"{instance.profile}:{instance.start}" for instance in former if instance.number not in kept]
    if missing:
        smi.create(index, missing, f"give GPU {index} its former instances")
    for number in sorted(kept - set(smi.compute_instances(index))):
        smi.run("mig", "-i", str(index), "-gi", str(number), "-cci", attempt=f"give GPU {index} its former compute instances")


def turn_off(smi: Smi, index: int) -> bool:
    """Turn MIG off where that does not take a restart of the machine."""

    def off() -> bool:
        return any(gpu.index == index and gpu.mode == "Disabled" for gpu in smi.gpus())

    smi.set_mode(index, "Disabled")
    if not off():
        smi.reset([gpu for gpu in smi.gpus() if gpu.index == index])
    if not off():
        smi.set_mode(index, "Enabled")
        return False
    return True


def change_modes(smi: Smi, jobs: t.Sequence[Job], problems: list[str]) -> tuple[list[Job], list[Job]]:
    """Turn MIG on or off, resetting GPUs that need it.

    Returns the GPUs that have their mode, and those that only a restart of the machine can change; of others ``problems`` gets the reason.
    """
    failed: dict[int, str] = {}
    for job in jobs:
        if not job.gpu.has_mig and job.instances:
            failed[job.gpu.index] = f"Cannot divide {job.gpu}: the driver says that it has no MIG ({job.gpu.mode}). Update the driver, or remove its entry."
        elif job.gpu.has_mig and job.gpu.pending != job.mode:
            try:
                if job.mode == "Disabled" and job.gpu.mode == "Enabled":
                    clear(smi, job.gpu.index)
                smi.set_mode(job.gpu.index, job.mode)
            except MigError as error:
                failed[job.gpu.index] = str(error)
    waiting = [job for job in unchanged(smi, jobs) if job.gpu.index not in failed]
    if waiting:
        # GPUs that are linked must be reset together, hence one call.
        smi.reset([job.gpu for job in waiting])
        still = [job for job in unchanged(smi, jobs) if job.gpu.index not in failed]
        for job in still if len(waiting) > 1 else ():
            smi.reset([job.gpu])
    late = {job.gpu.index for job in unchanged(smi, jobs)}
    for job in jobs:
        if job.gpu.index in failed and job.gpu.index not in late:
            smi.warn(failed.pop(job.gpu.index))
    problems += failed.values()
    rest = [job for job in jobs if job.gpu.index not in failed]
    return [job for job in rest if job.gpu.index not in late], [job for job in rest if job.gpu.index in late]


def unchanged(smi: Smi, jobs: t.Sequence[Job]) -> list[Job]:
    """The GPUs that do not have their mode yet. One without MIG is as wanted when MIG is to be off."""
    modes = {gpu.index: gpu.mode for gpu in smi.gpus()}
    return [job for job in jobs if modes.get(job.gpu.index) != job.mode and (job.gpu.has_mig or job.instances)]


def restart(waiting: t.Sequence[Job], allowed: bool, stamp: Path, reboot: t.Callable[[], None]) -> str:
    """Restart the machine, unless that was done before for the same reason; returns what was done."""
    indexes = ", ".join(str(job.gpu.index) for job in waiting)
    if not allowed:
        raise MigError(f"Cannot change the MIG mode of GPU {indexes}: a reset did not help, and the layout does not allow a restart. Restart the machine.")
    if stamp.exists():
        raise MigError(
            f"Cannot change the MIG mode of GPU {indexes}: neither a reset nor a restart of the machine helped. "
            f"Stop what uses the GPU, or give the virtual machine a reset of it; then remove {stamp} and restart."
        )
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(f"GPU {indexes}\n", encoding="utf-8")
    reboot()
    return f"GPU {indexes} changes its MIG mode only at a restart: restarting once."


def apply(smi: Smi, document: t.Mapping[str, t.Any], stamp: Path, reboot: t.Callable[[], None]) -> list[str]:
    """Bring all GPUs of the layout into their state; returns what was done. Raises UnfinishedError for those that could not be, after all others."""
    gpus = smi.gpus()
    jobs, problems = jobs_of(document, gpus), troubles(smi, document, gpus)
    if not jobs:
        text = nothing_fits(document, gpus)
        if problems or any(gpu.has_mig for gpu in gpus):
            raise UnfinishedError([*problems, text], [])
        return [text]
    ready, waiting = change_modes(smi, jobs, problems)
    if waiting:
        try:
            return [restart(waiting, bool(document.get("reboot", True)), stamp, reboot)]
        except MigError as error:
            problems.append(str(error))
    done = []
    for job in ready:
        try:
            done.append(divide(smi, job) if job.instances else f"{job.gpu} is whole.")
        except MigError as error:
            problems.append(str(error))
    if not waiting:
        stamp.unlink(missing_ok=True)
    if problems:
        raise UnfinishedError(problems, done)
    return done


def differences(smi: Smi, document: t.Mapping[str, t.Any]) -> list[str]:
    """What is not as the layout says."""
    gpus = smi.gpus()
    jobs, found = jobs_of(document, gpus), troubles(smi, document, gpus)
    for job in jobs:
        try:
            found += difference(smi, job)
        except MigError as error:
            found.append(str(error))
    return found if jobs else [*found, nothing_fits(document, gpus)]


def difference(smi: Smi, job: Job) -> list[str]:
    """What is not as wanted with one GPU."""
    if not job.gpu.has_mig and not job.instances:
        return []
    if job.gpu.mode != job.mode:
        return [f"The MIG mode of {job.gpu} is {job.gpu.mode}, not {job.mode}."]
    if not job.instances or settled(smi, job):
        return []
    present = ", ".join(instance.name for instance in smi.instances(job.gpu.index)) or "no instance"
    return [f"{job.gpu} has {present}, not {job.text}."]


def slurm_types(smi: Smi) -> dict[str, int]:
    """The names that Slurm's NVML plugin gives the GPUs and instances that work now."""
    counts: dict[str, int] = {}
    for gpu in smi.gpus():
        try:
            names = slurm_names(smi, gpu)
        except MigError as error:
            smi.warn(str(error))
            continue
        for name in names:
            counts[name] = counts.get(name, 0) + 1
    for text in smi.lost:
        smi.warn(f"A GPU cannot be read: {text}.")
    return counts


def slurm_names(smi: Smi, gpu: Gpu) -> list[str]:
    """The names of one GPU: its own, or one for each of its instances that has a compute instance."""
    if not gpu.readable:
        raise MigError(f"{gpu} cannot be read, and does not count.")
    product = gpu.name.lower().replace(" ", "_")
    if gpu.mode != "Enabled":
        return [product]
    profiles, computing = smi.profiles(gpu.index), set(smi.compute_instances(gpu.index))
    present = [instance.name for instance in smi.instances(gpu.index) if instance.name in profiles and instance.number in computing]
    return [f"{product.partition('-')[0]}_{name.partition('.')[0]}.{math.floor(profiles[name].gib + 0.5)}gb" for name in present]


def reboot_machine() -> None:
    """Have systemd restart the machine without waiting for it."""
    try:
        subprocess.run(["systemctl", "--no-block", "reboot"], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise MigError("Cannot restart the machine, which the MIG mode needs: systemctl reboot failed. Restart it.") from error


def act(smi: Smi, options: argparse.Namespace) -> int:
    """Do what was asked for and return the exit code."""
    if options.action == "slurm":
        print(",".join(f"gpu:{name}:{count}" for name, count in slurm_types(smi).items()))
        return 0
    document = read_layout(options.layout)
    if options.action == "check":
        lines = differences(smi, document)
        print("\n".join(lines or ["All GPUs are as the layout says."]))
        return 1 if lines else 0
    print("\n".join(apply(smi, document, options.stamp, reboot_machine)))
    return 0


def main(arguments: t.Sequence[str] | None = None) -> int:
    """Run an action and return the exit code: 0 when all is well, 1 when not."""
    parser = argparse.ArgumentParser(prog="hyperscaler-mig", description="Divide the GPUs of this machine with MIG.")
    actions = {
        "apply": "bring the GPUs into the state of the layout",
        "check": "tell what is not as in the layout",
        "gate": "end with 0 when this machine has a GPU of NVIDIA",
        "slurm": "print the types of GPUs as Slurm names them",
    }
    parser.add_argument("action", choices=actions, help="; ".join(f"{name}: {text}" for name, text in actions.items()))
    parser.add_argument("--layout", type=Path, default=Path("/etc/hyperscaler/mig.json"))
    parser.add_argument("--stamp", type=Path, default=Path("/var/lib/hyperscaler/mig-restarted"))
    parser.add_argument("--pci", type=Path, default=Path("/sys/bus/pci/devices"))
    options = parser.parse_args(arguments)
    if options.action == "gate":
        return 0 if nvidia_gpus(options.pci) else 1
    smi = Smi(devices=options.pci)
    try:
        return act(smi, options)
    except UnfinishedError as error:
        print("\n".join(error.done), end="\n" if error.done else "")
        print(error, file=sys.stderr)
    except MigError as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(f"Cannot divide the GPUs: {error.filename or options.stamp}: {error.strerror}. Make room there, or correct its permissions.", file=sys.stderr)
    finally:
        for warning in smi.warnings:
            print(warning if is_warning(warning) else f"Warning: {warning}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
