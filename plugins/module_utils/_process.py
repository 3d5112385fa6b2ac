# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Processes that are known beyond doubt: a pid alone may have been given to another process since."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._errors import BusyError
from ansible_collections.hyperscaler.images.plugins.module_utils._host_speed import awaited


@dataclasses.dataclass(frozen=True)
class ProcessIdentity:
    """A process of one boot of one machine; ``start`` is its start time in clock ticks since that boot.

    A container of the same machine has pids of its own, hence the namespace.
    """

    pid: int
    start: int
    boot: str
    namespace: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """The identity of a process that runs now, or None."""
        start = _start_ticks(pid)
        return None if start is None else cls(pid, start, boot_id(), pid_namespace())

    @classmethod
    def from_dict(cls, data: t.Mapping[str, t.Any] | None) -> ProcessIdentity | None:
        """The identity that ``to_dict`` wrote, or None when the data are not one."""
        try:
            return cls(int(data["pid"]), int(data["start"]), str(data["boot"]), str(data["namespace"])) if data else None
        except (KeyError, TypeError, ValueError):
            return None

    def to_dict(self) -> dict[str, t.Any]:
        """The identity as plain data."""
        return dataclasses.asdict(self)

    @property
    def local(self) -> bool:
        """Whether the pid means the same process here: the same boot of the same machine, the same pid namespace."""
        return (self.boot, self.namespace) == (boot_id(), pid_namespace())

    def alive(self) -> bool:
        """Whether exactly this process still runs (a zombie does not)."""
        return self.local and _start_ticks(self.pid) == self.start

    def open_pidfd(self) -> int | None:
        """A file descriptor that becomes readable when the process ends, or None when it has ended."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            return None
        if self.alive():
            return descriptor
        os.close(descriptor)
        return None

    def wait(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the end of the process; tell whether it has ended."""
        descriptor = self.open_pidfd()
        if descriptor is None:
            return True
        try:
            return bool(select.select([descriptor], [], [], timeout)[0])
        finally:
            os.close(descriptor)

    def end(self, grace: float = 10.0) -> None:
        """End the process: SIGTERM, then SIGKILL after ``grace`` seconds. Raises BusyError when it survives that."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.alive():
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
            if awaited(self.wait, grace):
                return
        raise BusyError(
            f"Cannot end process {self.pid}: it is still there {grace:g} s after SIGKILL. It hangs in the kernel; look at its open files.", pid=self.pid
        )


def boot_id() -> str:
    """The identifier that the kernel makes at each boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def pid_namespace() -> str:
    """The namespace that the pids of this process belong to, for instance ``pid:[4026531836]``."""
    return str(Path("/proc/self/ns/pid").readlink())


def _start_ticks(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def close_others(keep: t.Collection[int]) -> None:
    """Close the file descriptors that this process inherited, but for input, output, errors and those to keep."""
    for descriptor in [int(name) for name in os.listdir("/proc/self/fd")]:  # noqa: PTH208 (plain numbers are wanted)
        if descriptor > 2 and descriptor not in keep:
            with contextlib.suppress(OSError):
                os.close(descriptor)
