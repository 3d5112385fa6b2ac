# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays nvidia-smi for GPUs that a JSON document describes ($FAKE_GPUS, else /etc/fake-gpus.json), with the output format of the real one.

Each GPU has name, device, mode, pending, profiles ({name: [number, how many, memory slices, starts, GiB]}), instances ([name, number, start]) and
computes (numbers of GPU instances). "reset" is what a change of the mode needs: none, reset, or reboot. "in_use" has a removal fail, with "held"
after the first compute instance is gone. "room" is after how many instances the next one fails. "sick" is printed in place of a row, and whatever is
asked of such a GPU fails. With "warning" every call prints it and ends with 14 instead of 0. With "all_or_nothing" one sick GPU keeps a list of all
from being made.
"""

from __future__ import annotations

import json
import os
import sys
import typing as t
from pathlib import Path

STATE = Path(os.environ.get("FAKE_GPUS", "/etc/fake-gpus.json"))


def refuse(text: str, code: int = 6) -> t.NoReturn:
    print(text)
    sys.exit(code)


def free(gpu: dict[str, t.Any], size: int, starts: list[int]) -> list[int]:
    """The starts at which a profile still fits, in the order in which the driver tries them."""
    taken = {piece for name, _number, start in gpu["instances"] for piece in range(start, start + gpu["profiles"][name][2])}
    return [start for start in starts if not taken & set(range(start, start + size))]


def create(gpu: dict[str, t.Any], tuples: str) -> None:
    for item in tuples.split(","):
        wanted, _colon, place = item.partition(":")
        found = [(name, row) for name, row in gpu["profiles"].items() if wanted in (name, str(row[0]))]
        if not found:
            refuse(f"Unable to create a GPU instance on GPU {gpu['index']} using profile {wanted}: Invalid Argument", 2)
        name, (number, _count, size, starts, _gib) = found[0]
        places = free(gpu, size, [int(place)] if place else starts)
        if not places or len(gpu["instances"]) >= gpu.get("room", 8):
            refuse(f"Unable to create a GPU instance on GPU {gpu['index']} using profile {number}: Insufficient Resources\nFailed to create GPU instances", 19)
        identifier = max((number for _name, number, _start in gpu["instances"]), default=0) + 1
        gpu["instances"].append([name, identifier, places[0]])
        gpu["computes"].append(identifier)
        print(f"Successfully created GPU instance ID {identifier:2} on GPU {gpu['index']} using profile MIG {name} (ID {number:2})")


def list_profiles(gpu: dict[str, t.Any]) -> None:
    for name, (number, count, size, starts, gib) in gpu["profiles"].items():
        left = min(count, len(free(gpu, size, starts)))
        print(f"|   {gpu['index']}  MIG {name:<14} {number:2}     {left}/{count}        {gib:<6.2f}     No     16     1     0   |")
        print("|                                                               1     1     0   |")


def list_placements(gpu: dict[str, t.Any]) -> None:
    for number, _count, size, starts, _gib in gpu["profiles"].values():
        label = "Placements:" if len(starts) > 1 else "Placement :"
        print(f"GPU  {gpu['index']} Profile ID {number:2} {label} {{{','.join(map(str, starts))}}}:{size}")


def list_instances(gpu: dict[str, t.Any]) -> None:
    if not gpu["instances"]:
        refuse("No GPU instances found: Not Found")
    for name, number, start in gpu["instances"]:
        row = gpu["profiles"][name]
        print(f"|   {gpu['index']}  MIG {name:<14} {row[0]:3}       {number:2}          {start}:{row[2]}     |")


def list_computes(gpu: dict[str, t.Any]) -> None:
    if not gpu["computes"]:
        refuse("No compute instances found: Not Found")
    names = {number: name for name, number, _start in gpu["instances"]}
    for number in gpu["computes"]:
        print(f"|   {gpu['index']}     {number:2}       MIG {names[number]:<14}   0         0          0:1     |")


def destroy(gpu: dict[str, t.Any], what: str) -> None:
    if gpu.get("in_use"):
        gpu["computes"] = gpu["computes"][1:] if gpu.get("held") else gpu["computes"]
        refuse("Unable to destroy GPU instance: In use by another client", 15)
    gpu["computes"] = []
    if what == "-dgi":
        gpu["instances"] = []


LISTS = {"-lgip": list_profiles, "-lgipp": list_placements, "-lgi": list_instances, "-lci": list_computes}


def mig(gpu: dict[str, t.Any], args: list[str]) -> None:
    if gpu["mode"] != "Enabled":
        refuse("No MIG-enabled devices found.")
    if args[0] in LISTS:
        LISTS[args[0]](gpu)
    elif args[0] in ("-dci", "-dgi"):
        destroy(gpu, args[0])
    elif args[0] == "-cgi" and args[2:] == ["-C"]:
        create(gpu, args[1])
    elif args[0] == "-gi" and args[2:] == ["-cci"] and int(args[1]) not in gpu["computes"]:
        gpu["computes"].append(int(args[1]))
    else:
        refuse(f"Invalid combination of input arguments: {args}", 2)


def set_mode(gpu: dict[str, t.Any], mode: str) -> None:
    if mode == "Disabled" and gpu["instances"]:
        refuse("Unable to disable MIG Mode: In use by another client", 15)
    gpu["pending"] = mode
    if gpu["reset"] == "none":
        gpu["mode"] = mode
    else:
        print(f"Warning: MIG mode is in pending enable state for GPU {gpu['index']}: Reset Required")


def reset(gpus: list[dict[str, t.Any]]) -> None:
    for gpu in gpus:
        if gpu["reset"] == "reboot":
            refuse(f"GPU {gpu['index']} could not be reset: Not Supported", 3)
    for gpu in gpus:
        gpu["mode"] = gpu["pending"]


def healthy(gpu: dict[str, t.Any]) -> dict[str, t.Any]:
    if "sick" in gpu:
        refuse(f"Unable to determine the device handle for GPU {gpu['index']}: GPU is lost. Reboot the system to recover this GPU", 15)
    return gpu


def listing(state: dict[str, t.Any], only: list[str]) -> None:
    """The rows of all GPUs, or of the one that is named by number or place."""
    for gpu in state["gpus"]:
        if only and only != ["-i", str(gpu["index"])] and only != ["-i", gpu.get("place")]:
            continue
        if "sick" not in gpu:
            print(f"{gpu['index']}, 0x{gpu['device']}10DE, {gpu['mode']}, {gpu['pending']}, {gpu['name']}")
        elif state.get("all_or_nothing"):
            refuse(gpu["sick"], 15)
        else:
            print(gpu["sick"])


def main(args: list[str]) -> None:
    state = json.loads(STATE.read_text())
    gpus = state["gpus"]
    for index, gpu in enumerate(gpus):
        gpu["index"] = index
    state.setdefault("calls", []).append(args)
    try:
        if "--format=csv,noheader" in args:
            listing(state, args[:-2])
        elif args[0] == "mig":
            mig(healthy(gpus[int(args[2])]), args[3:])
        elif args[0] == "-i" and args[2] == "-mig":
            set_mode(healthy(gpus[int(args[1])]), "Enabled" if args[3] == "1" else "Disabled")
        elif args[0] == "--gpu-reset":
            reset([gpus[int(index)] for index in args[2].split(",")])
        else:
            refuse(f"Invalid combination of input arguments: {args}", 2)
    finally:
        STATE.write_text(json.dumps(state))
        if "warning" in state:
            print(state["warning"])
    if "warning" in state:
        sys.exit(14)


if __name__ == "__main__":
    main(sys.argv[1:])
