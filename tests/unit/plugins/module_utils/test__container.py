# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the arguments of systemd-nspawn."""

from __future__ import annotations

import os
import select
import shlex
import subprocess
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _container, _system_calls
from ansible_collections.hyperscaler.images.plugins.module_utils._container import arguments, handing_over
from ansible_collections.hyperscaler.images.plugins.module_utils._root_mounts import Bind
from ansible_collections.hyperscaler.images.plugins.module_utils._system_calls import Watch

SET_CLOCK = f"print STDERR syscall({_system_calls.number_of('settimeofday')}, 0, 0)"
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


def test_units_of_time_servers_start() -> None:
    argv = arguments(Path("/work/root"), "hyperscaler-1", 0x70000000, [], "systemd")
    assert "--capability=CAP_SYS_TIME" in argv
    assert "--system-call-filter=@clock @module @swap" in argv


def test_process_1_hands_over_its_system_calls_and_waits() -> None:
    script = handing_over((Watch("settimeofday"),), f"exec perl -e {shlex.quote(SET_CLOCK)}")
    with subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin and process.stdout and process.stderr
        found = _container.UP.search(os.read(process.stdout.fileno(), 100))
        assert found
        if found.group(1) is None:
            process.kill()
            pytest.skip("only root may load a filter")
        listener = _system_calls.take(process.pid, int(found.group(1)))
        process.stdin.write(b"go\n")
        process.stdin.flush()
        assert select.select([listener], [], [], 20)[0]
        call = _system_calls.receive(listener)
        assert call is not None
        assert call.number == _system_calls.number_of("settimeofday")
        _system_calls.reply(listener, call)
        assert process.stderr.read().endswith(b"0")
        process.wait()
        assert _system_calls.receive(listener) is None
        os.close(listener)


@pytest.mark.parametrize(("text", "number"), [(b"up\n", None), (b"a message\nup 3\n", b"3")])
def test_how_process_1_says_that_it_runs(text: bytes, number: bytes | None) -> None:
    found = _container.UP.search(text)
    assert found
    assert found.group(1) == number


@pytest.mark.parametrize(
    ("init", "present", "absent"), [("none", "/proc/1/comm", "/lib/systemd/systemd"), ("systemd", "exec /lib/systemd/systemd", "/proc/1/comm")]
)
def test_the_first_process_waits_and_then_becomes_what_is_asked_for(init: str, present: str, absent: str) -> None:
    script = arguments(Path("/work/root"), "hyperscaler-1", 0x70000000, [], init)[-1]
    assert "echo up; exec >&2; read -r go; " in script
    assert present in script
    assert absent not in script


def test_what_would_work_at_times_of_its_own_does_not_start(tmp_path: Path) -> None:
    script = arguments(Path("/work/root"), "hyperscaler-1", 0x70000000, [], "systemd")[-1]
    # It is one word of a command of its own.
    assert shlex.quote(_container.REST)[1:-1] in script
    subprocess.run(["sh", "-euc", _container.REST.replace("/run/systemd/system", str(tmp_path))], check=True)
    for unit in ("apt-daily.service", "man-db.service", "systemd-networkd-wait-online.service"):
        # No unit that is masked: the timer of one cannot be started.
        assert (tmp_path / f"{unit}.d" / "hyperscaler-build.conf").read_text() == "[Unit]\nConditionPathExists=!/\n"
    assert "systemd.mask=" not in script
    # A role may start a timer.
    assert ".timer" not in script
