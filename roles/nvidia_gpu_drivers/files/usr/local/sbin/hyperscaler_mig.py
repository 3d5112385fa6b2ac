# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Divide the GPUs of this machine with MIG as /etc/hyperscaler/mig.json says.

Runs at each boot, because instances never survive one. The mode survives on Ampere only, where changing it needs a reset of the GPU; where the reset is not
possible, as in a virtual machine, the machine is restarted, once.
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
PROGRAM_SECONDS = 300


class MigError(Exception):
    """Something that a user of the machine can act on."""


@dataclasses.dataclass(frozen=True)
class Gpu:
    """A GPU as nvidia-smi lists it; the modes are Enabled, Disabled, or [N/A] without MIG."""

    index: int
    device: str
    mode: str
    pending: str
    name: str


@dataclasses.dataclass(frozen=True)
class Profile:
    """A profile that a GPU offers now: number, memory in GiB."""

    identifier: int
    gib: float


@dataclasses.dataclass(frozen=True)
class Job:
    """A GPU and the instances that it is to have; none of them means that MIG is off."""

    gpu: Gpu
    instances: dict[str, int]

    @property
    def mode(self) -> str:
        """The mode that the GPU is to have."""
        return "Enabled" if self.instances else "Disabled"


class Smi:
    """nvidia-smi, the only program that touches GPUs here."""

    def __init__(self, program: str = "nvidia-smi") -> None:
        self.program = program

    def run(self, *args: str, attempt: str, required: bool = True) -> str:
        """Run it and return what it printed; raises MigError when it ends badly and that is not expected."""
        try:
            done = subprocess.run(
                [self.program, *args],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, "LC_ALL": "C.UTF-8"},
                timeout=PROGRAM_SECONDS,
                check=False,
            )
        except FileNotFoundError as error:
            raise MigError(f"Cannot {attempt}: {self.program} was not found. Install the NVIDIA driver.") from error
        except subprocess.TimeoutExpired as error:
            raise MigError(f"Cannot {attempt}: {self.program} did not end within {PROGRAM_SECONDS} s. Look for Xid messages in the kernel's log.") from error
        text = done.stdout.decode("utf-8", errors="replace")
        if done.returncode and required:
            last = " | ".join(line.strip() for line in text.strip().splitlines()[-6:]) or "no message"
            raise MigError(f"Cannot {attempt}: {self.program} {' '.join(args)} ended with exit code {done.returncode}: {last}.")
        return text

    def gpus(self) -> list[Gpu]:
        """All GPUs."""
        fields = "index,pci.device_id,mig.mode.current,mig.mode.pending,name"
        text = self.run(f"--query-gpu={fields}", "--format=csv,noheader", attempt="list the GPUs")
        found = []
        for line in text.strip().splitlines():
            parts = [part.strip() for part in line.split(",", 4)]
            if len(parts) != 5 or not re.fullmatch(r"\d+", parts[0]) or not re.fullmatch(r"0x[0-9A-Fa-f]{8}", parts[1]):
                raise MigError(f"Cannot list the GPUs: {self.program} printed {line!r}, which is not index, PCI id, two modes and name.")
            found.append(Gpu(int(parts[0]), parts[1][2:6].upper(), parts[2], parts[3], parts[4]))
        return found

    def profiles(self, index: int) -> dict[str, Profile]:
        """The profiles of a GPU whose MIG mode is on."""
        text = self.run("mig", "-i", str(index), "-lgip", attempt=f"list the profiles of GPU {index}")
        rows = re.findall(r"\|\s+\d+\s+MIG (\S+)\s+(\d+)\s+\d+/\d+\s+([\d.]+)\s", text)
        return {name: Profile(int(identifier), float(gib)) for name, identifier, gib in rows}

    def placements(self, index: int) -> dict[int, tuple[tuple[int, ...], int]]:
        """For each profile number the memory slices at which it may begin, and how many it takes."""
        text = self.run("mig", "-i", str(index), "-lgipp", attempt=f"list the placements of GPU {index}", required=False)
        rows = re.findall(r"Profile ID\s+(\d+)\s+Placements?\s*:\s*\{([\d,]+)\}:(\d+)", text)
        return {int(identifier): (tuple(int(start) for start in starts.split(",")), int(size)) for identifier, starts, size in rows}

    def instances(self, index: int) -> list[tuple[str, int]]:
        """Profile name and number of each GPU instance."""
        text = self.run("mig", "-i", str(index), "-lgi", attempt=f"list the instances of GPU {index}", required=False)
        return [(name, int(number)) for name, number in re.findall(r"\|\s+\d+\s+MIG (\S+)\s+\d+\s+(\d+)\s+\d+:\d+", text)]

    def compute_instances(self, index: int) -> list[int]:
        """For each compute instance the number of its GPU instance."""
        text = self.run("mig", "-i", str(index), "-lci", attempt=f"list the compute instances of GPU {index}", required=False)
        return [int(number) for number in re.findall(r"\|\s+\d+\s+(\d+)\s+MIG \S+\s+\d+\s+\d+\s+\d+:\d+", text)]


def read_layout(path: Path) -> dict[str, t.Any]:
    """The layout; raises MigError when it cannot be read or is of another format."""
    try:
        document: dict[str, t.Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MigError(f"Cannot read the MIG layout {path}: {error.strerror}. Apply the role nvidia_gpu_drivers with a layout.") from error
    except ValueError as error:
        raise MigError(f"Cannot read the MIG layout {path}: it is not JSON ({error}). Apply the role nvidia_gpu_drivers again.") from error
    if not isinstance(document, dict) or document.get("format") != 1 or not isinstance(document.get("entries"), list):
        raise MigError(f"Cannot use the MIG layout {path}: it is not of format 1. Apply the role nvidia_gpu_drivers again.")
    return document


def jobs_of(document: t.Mapping[str, t.Any], gpus: t.Sequence[Gpu]) -> list[Job]:
    """The GPUs that the layout is about."""
    found = []
    for gpu in gpus:
        for entry in document["entries"]:
            if gpu.device in entry["pci_ids"] and (entry["devices"] is None or gpu.index in entry["devices"]):
                found.append(Job(gpu, dict(entry["instances"])))
    return found


def has_gpu(devices: Path) -> bool:
    """Whether the PCI bus has a GPU of NVIDIA."""
    for device in devices.glob("*"):
        try:
            if (device / "vendor").read_text().strip() == NVIDIA and (device / "class").read_text().strip()[:6] in DISPLAY_CLASSES:
                return True
        except OSError:
            continue
    return False


def settled(smi: Smi, job: Job) -> bool:
    """Whether a GPU has its instances, each with a compute instance."""
    present = smi.instances(job.gpu.index)
    counts: dict[str, int] = {}
    for name, _number in present:
        counts[name] = counts.get(name, 0) + 1
    return counts == job.instances and sorted(number for _name, number in present) == sorted(smi.compute_instances(job.gpu.index))


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
    """Give a GPU its instances; returns what was done."""
    index, wanted = job.gpu.index, ", ".join(f"{count} x {name}" for name, count in job.instances.items())
    if settled(smi, job):
        return f"GPU {index} ({job.gpu.name}) has {wanted} already."
    profiles = smi.profiles(index)
    missing = [name for name in job.instances if name not in profiles]
    if missing:
        raise MigError(f"Cannot divide GPU {index} ({job.gpu.name}): it has no profile {', '.join(missing)}. It has {', '.join(profiles) or 'none'}.")
    clear(smi, index)
    placements = smi.placements(index)
    names = [name for name, count in job.instances.items() for _copy in range(count)]
    # The largest first: they have the fewest places.
    names.sort(key=lambda name: -placements.get(profiles[name].identifier, ((), profiles[name].gib))[1])
    tuples = choose_placements(names, profiles, placements)
    smi.run("mig", "-i", str(index), "-cgi", ",".join(tuples), "-C", attempt=f"divide GPU {index} into {wanted}")
    if not settled(smi, job):
        found = ", ".join(name for name, _number in smi.instances(index)) or "none"
        raise MigError(f"Cannot divide GPU {index} ({job.gpu.name}) into {wanted}: afterwards it has {found}. See nvidia-smi mig -lgi.")
    return f"GPU {index} ({job.gpu.name}) was divided into {wanted}."


def change_modes(smi: Smi, jobs: t.Sequence[Job]) -> list[Job]:
    """Turn MIG on or off, resetting GPUs that need it; returns those that only a restart of the machine can change."""
    for job in jobs:
        if job.gpu.mode not in ("Enabled", "Disabled"):
            raise MigError(f"Cannot divide GPU {job.gpu.index} ({job.gpu.name}): the driver says that it has no MIG ({job.gpu.mode}). Update the driver.")
        if job.gpu.pending != job.mode:
            if job.mode == "Disabled" and job.gpu.mode == "Enabled":
                clear(smi, job.gpu.index)
            flag = "1" if job.mode == "Enabled" else "0"
            smi.run("-i", str(job.gpu.index), "-mig", flag, attempt=f"change the MIG mode of GPU {job.gpu.index}")
    waiting = unchanged(smi, jobs)
    if waiting:
        # GPUs that are linked must be reset together, hence one call.
        indexes = ",".join(str(job.gpu.index) for job in waiting)
        smi.run("--gpu-reset", "-i", indexes, attempt=f"reset GPU {indexes}", required=False)
        waiting = unchanged(smi, jobs)
    return waiting


def unchanged(smi: Smi, jobs: t.Sequence[Job]) -> list[Job]:
    """The GPUs that do not have their mode yet."""
    modes = {gpu.index: gpu.mode for gpu in smi.gpus()}
    return [job for job in jobs if modes.get(job.gpu.index) != job.mode]


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
    """Bring all GPUs of the layout into their state; returns what was done."""
    gpus = smi.gpus()
    jobs = jobs_of(document, gpus)
    if not jobs:
        return [f"No GPU here is in the layout. Here are {', '.join(f'{gpu.name} ({gpu.device})' for gpu in gpus) or 'none'}."]
    waiting = change_modes(smi, jobs)
    if waiting:
        return [restart(waiting, bool(document.get("reboot", True)), stamp, reboot)]
    done = [divide(smi, job) if job.instances else f"GPU {job.gpu.index} ({job.gpu.name}) is whole." for job in jobs]
    stamp.unlink(missing_ok=True)
    return done


def differences(smi: Smi, document: t.Mapping[str, t.Any]) -> list[str]:
    """What is not as the layout says."""
    found = []
    for job in jobs_of(document, smi.gpus()):
        if job.gpu.mode != job.mode:
            found.append(f"The MIG mode of GPU {job.gpu.index} ({job.gpu.name}) is {job.gpu.mode}, not {job.mode}.")
        elif job.instances and not settled(smi, job):
            present = ", ".join(name for name, _number in smi.instances(job.gpu.index)) or "no instance"
            found.append(f"GPU {job.gpu.index} ({job.gpu.name}) has {present}, not {', '.join(f'{n} x {p}' for p, n in job.instances.items())}.")
    return found


def slurm_types(smi: Smi) -> dict[str, int]:
    """The names that Slurm's NVML plugin gives the GPUs and instances that there are now."""
    counts: dict[str, int] = {}
    for gpu in smi.gpus():
        product = gpu.name.lower().replace(" ", "_")
        names = [product]
        if gpu.mode == "Enabled":
            profiles = smi.profiles(gpu.index)
            sizes = [(name, profiles[name].gib) for name, _number in smi.instances(gpu.index) if name in profiles]
            names = [f"{product.partition('-')[0]}_{name.partition('.')[0]}.{math.floor(gib + 0.5)}gb" for name, gib in sizes]
        for name in names:
            counts[name] = counts.get(name, 0) + 1
    return counts


def reboot_machine() -> None:
    """Have systemd restart the machine without waiting for it."""
    subprocess.run(["systemctl", "--no-block", "reboot"], check=True)


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
    smi = Smi()
    try:
        if options.action == "gate":
            return 0 if has_gpu(options.pci) else 1
        if options.action == "slurm":
            print(",".join(f"gpu:{name}:{count}" for name, count in slurm_types(smi).items()))
            return 0
        document = read_layout(options.layout)
        if options.action == "check":
            lines = differences(smi, document)
            print("\n".join(lines or ["All GPUs are as the layout says."]))
            return 1 if lines else 0
        print("\n".join(apply(smi, document, options.stamp, reboot_machine)))
    except (MigError, OSError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
