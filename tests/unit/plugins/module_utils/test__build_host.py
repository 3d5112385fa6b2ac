# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the check of a build host."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._build_host import available_memory, find_tools, free_space, parse_version, shortage


def test_everything_that_is_missing_is_told_at_once() -> None:
    found, problems = find_tools(
        [
            {"program": "sh", "package": "dash", "reason": "run"},
            {"program": "no-such-a", "package": "b-package", "reason": "write"},
            {"program": "no-such-b", "package": "a-package", "reason": "read"},
        ]
    )
    assert list(found) == ["sh"]
    assert problems == [
        "no-such-a is required to write, but it was not found.",
        "no-such-b is required to read, but it was not found.",
        "Install them: apt-get install a-package b-package",
    ]


def test_missing_libraries_of_python_are_told() -> None:
    wanted = [{"name": name, "package": f"python3-{name}", "reason": "read"} for name in ("json", "no_such_library")]
    assert find_tools([], wanted) == (
        {},
        [
            f"The library no_such_library of Python is required to read, but {sys.executable} does not have it.",
            "Install them: apt-get install python3-no_such_library",
        ],
    )


def test_old_version_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho tool 7.2.22\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    wanted = {"program": "tool", "package": "tools", "reason": "boot", "minimum": "10"}
    assert find_tools([wanted])[1][0] == "tool has version 7.2.22, but 10 or newer is required to boot."
    found, problems = find_tools([{**wanted, "minimum": "7.2"}])
    assert (found["tool"]["version"], problems) == ("7.2.22", [])


def test_shortage_of_space_and_memory() -> None:
    assert shortage("/srv", 10, 10, 20, 20) == []
    problems = shortage("/srv", 9, 10, 19, 20)
    assert problems[0].startswith("10 MiB of disk space are required in /srv, 9 MiB are free.")
    assert problems[1].startswith("20 MiB of memory are required, 19 MiB are available.")


def test_memory_is_read_from_meminfo() -> None:
    assert available_memory("MemTotal: 9 kB\nMemAvailable:   24117248 kB\n") == 23552
    assert available_memory("") == 0


def test_folder_that_does_not_exist_yet_counts_as_its_parent(tmp_path: Path) -> None:
    assert free_space(tmp_path / "a/b/c") == free_space(tmp_path)


def test_parse_version() -> None:
    assert parse_version("5.1") == (5, 1)
