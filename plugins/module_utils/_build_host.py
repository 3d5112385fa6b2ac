# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""What a build host has: programs, free disk space, memory."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ToolError

MEBI = 1 << 20


def find_tools(wanted: t.Iterable[t.Mapping[str, t.Any]], libraries: t.Iterable[t.Mapping[str, t.Any]] = ()) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Path and version of each program, and a sentence for each program or library of Python that is missing or too old, with the packages to install last."""
    found: dict[str, dict[str, str]] = {}
    problems: list[str] = []
    packages: list[str] = []
    for tool in wanted:
        try:
            command = Command(tool["program"], reason=tool["reason"], package=tool["package"])
        except ToolError:
            problems.append(f"{tool['program']} is required to {tool['reason']}, but it was not found.")
            packages.append(tool["package"])
            continue
        found[tool["program"]] = {"path": command.path}
        minimum = tool.get("minimum")
        version = command.version() if minimum else ()
        if minimum and version < parse_version(minimum):
            problems.append(f"{tool['program']} has version {_dotted(version)}, but {minimum} or newer is required to {tool['reason']}.")
            packages.append(tool["package"])
        if minimum:
            found[tool["program"]]["version"] = _dotted(version)
    for library in libraries:
        if importlib.util.find_spec(library["name"]) is None:
            problems.append(f"The library {library['name']} of Python is required to {library['reason']}, but {sys.executable} does not have it.")
            packages.append(library["package"])
    if packages:
        problems.append(f"Install them: apt-get install {' '.join(sorted(set(packages)))}")
    return found, problems


def shortage(folder: str, free: int, space: int, available: int, memory: int) -> list[str]:
    """A sentence for each of disk space and memory that is short; all figures in MiB."""
    problems = []
    if free < space:
        problems.append(
            f"{space} MiB of disk space are required in {folder}, {free} MiB are free. Free space, or set image_build_root to a larger file system."
        )
    if available < memory:
        problems.append(f"{memory} MiB of memory are required, {available} MiB are available. Build fewer images at once (--forks 1), or end other programs.")
    return problems


def free_space(folder: Path) -> int:
    """The free space, in MiB, where a folder is or would be made."""
    existing = folder
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free // MEBI


def available_memory(meminfo: str | None = None) -> int:
    """The memory that programs can still get, in MiB, from the text of /proc/meminfo."""
    text = meminfo if meminfo is not None else Path("/proc/meminfo").read_text(encoding="ascii")
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(found.group(1)) // 1024 if found else 0


def parse_version(text: str) -> tuple[int, ...]:
    """The numbers of a version such as ``5.1``."""
    return tuple(int(part) for part in re.findall(r"\d+", text))


def _dotted(version: t.Iterable[int]) -> str:
    return ".".join(str(part) for part in version)
