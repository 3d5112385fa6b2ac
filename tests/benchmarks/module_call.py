# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what one module call costs inside an opened image and on this machine, in one run.

Both ways run a play with few and with many calls: the difference is the calls alone, without the start of Ansible and the opening of the image.
The collection has to be importable: PYTHONPATH=.venv/collections python tests/benchmarks/module_call.py base.raw --json result.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

FEW, MANY = 5, 45
INSIDE = {"ansible_connection": "hyperscaler.images.image", "ansible_python_interpreter": "/usr/bin/python3"}
OUTSIDE = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}


def play(calls: int, variables: t.Mapping[str, str]) -> dict[str, t.Any]:
    """A play that asks for the state of a file, again and again."""
    tasks = [{"name": f"Call {number}", "ansible.builtin.stat": {"path": "/etc/passwd"}} for number in range(calls)]
    return {"name": "Call a module", "hosts": "opened", "gather_facts": False, "vars": dict(variables), "tasks": tasks}


def run(plays: t.Sequence[t.Mapping[str, t.Any]], folder: Path) -> float:
    """The seconds of a run of ansible-playbook."""
    playbook = folder / "playbook.yml"
    playbook.write_text(json.dumps(plays), encoding="utf-8")
    program = Path(sys.executable).with_name("ansible-playbook")
    started = time.monotonic()
    subprocess.run([program, "--inventory", "opened,", playbook], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def image_play(folder: Path, base: Path, state: str) -> dict[str, t.Any]:
    """A play that opens or closes a copy of the base image."""
    options = {"path": str(folder / "disk.raw"), "state": state, **({"source": str(base)} if state == "open" else {"trim": False})}
    return {"name": f"Image {state}", "hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [{"hyperscaler.images.image_root": options}]}


def seconds_per_call(folder: Path, variables: t.Mapping[str, str], around: t.Sequence[t.Mapping[str, t.Any]], runs: int) -> float:
    """The seconds of one call: the best of several differences between many and few."""
    first, last = list(around[:1]), list(around[1:])
    few = min(run([*first, play(FEW, variables), *last], folder) for _count in range(runs))
    many = min(run([*first, play(MANY, variables), *last], folder) for _count in range(runs))
    return (many - few) / (MANY - FEW)


def measure(base: Path, folder: Path, runs: int) -> dict[str, t.Any]:
    """Both ways, one after the other."""
    opened = [image_play(folder, base, "open"), image_play(folder, base, "closed")]
    inside = seconds_per_call(folder, {**INSIDE, "image_root_state": str(folder / "root.json")}, opened, runs)
    outside = seconds_per_call(folder, OUTSIDE, [], runs)
    return {
        "image_seconds_per_call": round(inside, 3),
        "local_seconds_per_call": round(outside, 3),
        "added_seconds_per_call": round(inside - outside, 3),
        "ratio": round(inside / outside, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path, help="a raw disk image of Debian, such as build/cache/base/*.raw")
    parser.add_argument("--runs", type=int, default=2, help="how often each play is run; the best counts (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    os.environ.setdefault("ANSIBLE_LOCALHOST_WARNING", "false")
    with tempfile.TemporaryDirectory(prefix="hyperscaler-bench-", dir=options.base.absolute().parent) as folder:
        result = measure(options.base.absolute(), Path(folder), options.runs)
    print(f"a module call inside an opened image {result['image_seconds_per_call']} s")
    print(f"a module call on this machine {result['local_seconds_per_call']} s")
    print(f"ratio {result['ratio']} (less is better)")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
