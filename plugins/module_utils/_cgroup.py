# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""A control group of its own for each open image."""

from __future__ import annotations

import contextlib
import os
import signal
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._host_speed import Deadline

MOUNTS = Path("/proc/self/mounts")
# What systemd-nspawn makes below the group that it is started in: one group for itself, one for what runs inside.
SUPERVISOR, PAYLOAD = "supervisor", "payload"
TASKS = "hyperscaler-tasks"
REMOVE_TIMEOUT = 10.0


def hierarchies(mounts: str) -> list[Path]:
    """Where the hierarchies that systemd uses are mounted: version 2, and on a hybrid host the named one too."""
    found = []
    for line in mounts.splitlines():
        _source, target, kind, options = line.split(" ")[:4]
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            found.append(Path(target.replace("\\040", " ")))
    return found


def make(name: str) -> list[Path]:
    """Make the group of an image in each hierarchy; one that a killed run left is used. Raises ImageError where there is no version 2."""
    roots = hierarchies(MOUNTS.read_text(encoding="utf-8"))
    if not any((root / "cgroup.controllers").exists() for root in roots):
        raise ImageError("Cannot open an image: control groups of version 2 are not mounted on this machine. Mount them, or use a system with systemd.")
    groups = [root / name for root in roots]
    for group in groups:
        try:
            group.mkdir(exist_ok=True)
        except OSError as error:
            raise ImageError(f"Cannot make the control group {group}: {error.strerror}. In a container, give it its own writable control groups.") from error
    return groups


def tasks_of(groups: t.Iterable[Path], owner: int) -> list[Path]:
    """Make the groups for the commands that enter an image, which belong to the root of its user namespace."""
    made = [group / PAYLOAD / TASKS for group in groups if (group / PAYLOAD).is_dir()]
    for group in made:
        group.mkdir(exist_ok=True)
        for path in (group, *(group / f"cgroup.{name}" for name in ("procs", "threads", "subtree_control"))):
            with contextlib.suppress(FileNotFoundError):
                os.chown(path, owner, owner)
    return made


def remove(groups: t.Iterable[Path]) -> None:
    """End what still runs in the groups of an image, and remove them."""
    deadline = Deadline(REMOVE_TIMEOUT)
    for group in groups:
        while group.is_dir() and not deadline.over():
            for folder, _folders, _files in os.walk(group, topdown=False):
                _end_processes(Path(folder))
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
            # A process that was killed leaves its group a moment later, and no event tells of it.
            if group.is_dir():
                signal.sigtimedwait([signal.SIGUSR2], 0.01)


def _end_processes(group: Path) -> None:
    with contextlib.suppress(OSError):
        for pid in (group / "cgroup.procs").read_text(encoding="ascii").split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def processes_of_tasks(name: str) -> list[int]:
    """The processes that tasks started and that still run."""
    found = []
    for root in hierarchies(MOUNTS.read_text(encoding="utf-8")):
        file = root / name / PAYLOAD / TASKS / "cgroup.procs"
        if file.is_file():
            found += [int(pid) for pid in file.read_text(encoding="ascii").split()]
    return sorted(set(found))
