# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""The two processes that hold an image open.

The *keeper* stays on the build host: it has the lock, watches the run that opened the image and cleans up when that run ends, however
it ends. Its child is process 1 of the image: all mounts exist only in its mount namespace, so they cannot outlive it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils import _namespace, _root_mounts
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_cache import collect
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import write_atomic
from ansible_collections.hyperscaler.images.plugins.module_utils._process import ProcessIdentity
from ansible_collections.hyperscaler.images.plugins.module_utils._root_plan import RootPlan


def hold(plan: RootPlan, state_file: Path, owner: ProcessIdentity | None, lock: int, cache: tuple[Path, Path] | None) -> dict[str, t.Any]:
    """Open the image in processes that go on when this one ends; return the state that was written to ``state_file``.

    ``lock`` is the locked file descriptor that the keeper holds from now on. ``cache`` is the package folder of the image and the shared one.
    Raises ImageError with the reason when the image could not be mounted.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _become_daemon(state_file.with_name("keeper.log"), keep={lock, writing})
        _keep(plan, state_file, owner, writing, cache)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        answer = stream.read()
    os.waitpid(pid, 0)
    if not answer:
        raise ImageError(f"Cannot open {plan.disk}: the process that should hold it open ended without a word. Look at {state_file.with_name('keeper.log')}.")
    state: dict[str, t.Any] = json.loads(answer)
    if "error" in state:
        raise ImageError(state["error"])
    return state


def _become_daemon(log: Path, keep: set[int]) -> None:
    """Detach from the module: own session, own output, no other open file."""
    if os.fork() != 0:
        os._exit(0)
    os.setsid()
    os.chdir("/")
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for descriptor in [int(name) for name in os.listdir("/proc/self/fd")]:  # noqa: PTH208 (plain numbers are wanted)
        if descriptor > 2 and descriptor not in keep:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _keep(plan: RootPlan, state_file: Path, owner: ProcessIdentity | None, writing: int, cache: tuple[Path, Path] | None) -> t.NoReturn:
    """Start process 1, report, and wait for its end or for the end of the owner."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    reading, child_writing = os.pipe()
    _namespace.unshare(_namespace.CLONE_NEWPID)
    first = os.fork()
    if first == 0:
        os.close(reading)
        os.close(writing)
        _root_mounts.run_first_process(plan, child_writing)
    os.close(child_writing)
    with os.fdopen(reading, "rb") as stream:
        report = json.loads(stream.read() or b'{"error": "process 1 of the image ended early"}')
    if "error" not in report:
        report = {**report, **_state(plan, first, owner)}
        write_atomic(state_file, json.dumps(report, indent=1) + "\n")
    with contextlib.suppress(BrokenPipeError):
        os.write(writing, json.dumps(report).encode("utf-8"))
    os.close(writing)
    _wait(first, owner)
    with contextlib.suppress(FileNotFoundError):
        state_file.unlink()
    with contextlib.suppress(OSError):
        if cache:
            collect(*cache)
    sys.stderr.flush()
    os._exit(0)


def _state(plan: RootPlan, first: int, owner: ProcessIdentity | None) -> dict[str, t.Any]:
    identity, keeper = ProcessIdentity.of(first), ProcessIdentity.of(os.getpid())
    return {
        "path": str(plan.disk),
        "device": plan.device,
        "first": identity.to_dict() if identity else None,
        "keeper": keeper.to_dict() if keeper else None,
        "owner": owner.to_dict() if owner else None,
        "mount_namespace": _namespace.namespace_of(first, "mnt"),
        "pid_namespace": _namespace.namespace_of(first, "pid"),
    }


def _wait(first: int, owner: ProcessIdentity | None) -> None:
    """Block until process 1 ends; end it when the owner or the keeper is told to end first."""
    waker, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    watched = {os.pidfd_open(first), waker}
    watching = owner is not None and owner.local
    owner_descriptor = owner.open_pidfd() if watching and owner else None
    if owner_descriptor is not None:
        watched.add(owner_descriptor)
    if not watching or owner_descriptor is not None:
        select.select(list(watched), [], [])
    with contextlib.suppress(ProcessLookupError):
        os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
