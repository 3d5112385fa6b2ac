# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the arguments of systemd-nspawn."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._container import arguments
from ansible_collections.hyperscaler.images.plugins.module_utils._root_mounts import Bind

BINDS = [
    Bind(Path("/work/a:b"), "/var/cache/apt", mapped=True),
    Bind(Path("/work/apt.conf"), "/run/hyperscaler/apt.conf", read_only=True),
    Bind(Path("/work/loop0"), "/dev/loop0"),
]


def test_each_kind_of_bind() -> None:
    argv = arguments(Path("/work/root"), "hyperscaler-1", 0x70000000, BINDS, "none")
    assert "--bind=/work/a\\:b:/var/cache/apt:idmap" in argv
    assert "--bind-ro=/work/apt.conf:/run/hyperscaler/apt.conf" in argv
    assert "--bind=/work/loop0:/dev/loop0" in argv


def test_all_that_separates_is_asked_for() -> None:
    argv = arguments(Path("/work/root"), "hyperscaler-1", 0x70000000, [], "none")
    wanted = {
        "--private-network",
        "--private-users=1879048192:16777216",
        "--private-users-ownership=map",
        "--settings=no",
        "--register=no",
        "--link-journal=no",
    }
    assert wanted <= set(argv)
    assert "--drop-capability=CAP_MKNOD,CAP_SYS_BOOT" in argv


@pytest.mark.parametrize(
    ("init", "present", "absent"), [("none", "/proc/1/comm", "/lib/systemd/systemd"), ("systemd", "exec /lib/systemd/systemd", "/proc/1/comm")]
)
def test_the_first_process_waits_and_then_becomes_what_is_asked_for(init: str, present: str, absent: str) -> None:
    script = arguments(Path("/work/root"), "hyperscaler-1", 0x70000000, [], init)[-1]
    assert script.startswith("echo up; exec >&2; read -r go; ")
    assert present in script
    assert absent not in script


def test_what_would_work_at_times_of_its_own_does_not_start() -> None:
    script = arguments(Path("/work/root"), "hyperscaler-1", 0x70000000, [], "systemd")[-1]
    for unit in ("apt-daily.service", "man-db.service", "systemd-networkd-wait-online.service"):
        assert f"systemd.mask={unit}" in script
    # A role may start a timer.
    assert ".timer" not in script
