# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Start systemd-nspawn on a mounted image.

It makes the namespaces (user, mount, pid, network, ipc, uts, cgroup), the id-mapped mounts and the device nodes. A shell is the first
process: it waits until the network and the private view are in place, then becomes systemd or stays as it is.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import signal
import socket
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils import _namespace, _system_calls, _user_range
from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._host_speed import readable
from ansible_collections.hyperscaler.images.plugins.module_utils._root_mounts import Bind

START_TIMEOUT = 60.0
UP = re.compile(rb"^up(?: (\d+))?$", re.MULTILINE)
# They belong to a machine: one would wait for a network, the others work on packages, disks and manual pages at times of their own. They are skipped, not
# masked: a role that starts a timer of one of them would fail, and on a machine it does not.
RESTING = (
    *("systemd-remount-fs", "apt-daily", "apt-daily-upgrade", "fstrim", "e2scrub_all", "e2scrub_reap", "man-db", "dpkg-db-backup"),
    *("systemd-networkd-wait-online", "NetworkManager-wait-online", "console-getty", "systemd-tmpfiles-clean", "systemd-boot-update"),
)
REST = (
    f"for unit in {' '.join(RESTING)}; do folder=/run/systemd/system/$unit.service.d; mkdir -p $folder; "
    "printf '[Unit]\\nConditionPathExists=!/\\n' >$folder/hyperscaler-build.conf; done; "
)
SYSTEMD = ("/lib/systemd/systemd", "cloud-init=disabled")
# A machine makes them at its first boot; sealing removes them. Without them the SSH server does not start, and checks of its configuration fail.
HOST_KEYS = "[ ! -x /usr/bin/ssh-keygen ] || /usr/bin/ssh-keygen -A >/dev/null; exec "
# Programs and Ansible tell by the name of process 1 which service manager the system has.
NO_INIT = "printf systemd >/proc/1/comm; while :; do sleep 86400 & wait; done"
WAIT = "echo up; exec >&2; read -r go; "
# What services ask of the kernel has to be answered as well, so process 1 gets the filter, which it can only load itself; Debian always has Perl.
# The numbers are SECCOMP_SET_MODE_FILTER and SECCOMP_FILTER_FLAG_NEW_LISTENER of linux/seccomp.h. The file descriptor behind "up" is the one
# through which calls are answered; the kernel closes it at the next exec.
LOAD_FILTER = """
my ($number, $code, $script) = @ARGV;
my $filter = pack("H*", $code);
my $program = pack("S x6 P", length($filter) / 8, $filter);
my $listener = syscall($number + 0, 1, 8, $program);
syswrite(STDOUT, $listener < 0 ? "up\\n" : "up $listener\\n");
open(STDOUT, ">&", \\*STDERR);
sysread(STDIN, my $go, 3);
exec("/bin/sh", "-c", $script);
"""
POWER_OFF = signal.SIGRTMIN + 4


@dataclasses.dataclass
class Container:
    """A running systemd-nspawn and process 1 of the image; ``go`` is the file descriptor on which the latter waits.

    ``calls`` is the file descriptor through which system calls of services are answered.
    """

    supervisor: int
    leader: int
    go: int
    calls: int | None = None

    def release(self) -> None:
        """Let process 1 go on."""
        os.write(self.go, b"go\n")
        os.close(self.go)


def arguments(root: Path, name: str, first_id: int, binds: t.Iterable[Bind], init: str, watches: tuple[_system_calls.Watch, ...] = ()) -> list[str]:
    """The arguments of systemd-nspawn. System calls of services are handed over as ``watches`` says."""
    return [
        f"--directory={root}",
        f"--machine={name}",
        "--settings=no",
        "--register=no",
        "--keep-unit",
        "--hostname=localhost",
        "--link-journal=no",
        "--timezone=off",
        "--resolv-conf=off",
        "--console=pipe",
        "--quiet",
        "--private-network",
        f"--private-users={first_id}:{_user_range.SIZE}",
        "--private-users-ownership=map",
        "--drop-capability=CAP_MKNOD,CAP_SYS_BOOT",
        # Units of time servers ask for it, and it is worth nothing in a user namespace. These calls are answered, or the kernel refuses them.
        "--capability=CAP_SYS_TIME",
        "--system-call-filter=@clock @module @swap",
        *(_bind(bind) for bind in binds),
        "/bin/sh",
        "-c",
        _script(init, watches),
    ]


def _script(init: str, watches: tuple[_system_calls.Watch, ...]) -> str:
    return handing_over(watches, REST + HOST_KEYS + shlex.join(SYSTEMD)) if init == "systemd" else WAIT + NO_INIT


def handing_over(watches: tuple[_system_calls.Watch, ...], then: str) -> str:
    """A shell script that hands its system calls over, waits, and goes on with another script."""
    number = _system_calls.number_of("seccomp")
    perl = shlex.join(("perl", "-e", LOAD_FILTER, str(number), _system_calls.compiled(watches).hex(), then))
    return f"! command -v perl >/dev/null || exec {perl}; {WAIT}{then}"


def _bind(bind: Bind) -> str:
    places = ":".join(str(place).replace("\\", "\\\\").replace(":", "\\:") for place in (bind.source, bind.target))
    return f"--bind{'-ro' if bind.read_only else ''}={places}{':idmap' if bind.mapped else ''}"


def start(argv: t.Sequence[str], folder: Path, cgroups: t.Sequence[Path], log: int) -> Container:
    """Start systemd-nspawn with these arguments in the control groups; its messages go to ``log``. Raises ImageError with the reason."""
    notify = folder / "notify.sock"
    notify.unlink(missing_ok=True)
    (go_read, go_write), (up_read, up_write) = os.pipe(), os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(notify))
        nspawn = Command(
            "systemd-nspawn",
            reason="open an image",
            package="systemd-container",
            environment={"NOTIFY_SOCKET": str(notify), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )
        supervisor = nspawn.spawn(*argv, stdin=go_read, stdout=up_write, stderr=log, prepare=lambda: _prepare(cgroups))
        os.close(go_read)
        os.close(up_write)
        try:
            leader, number = _await_leader(supervisor, told, up_read)
            calls = None if number is None else _system_calls.take(leader, number)
        finally:
            os.close(up_read)
            notify.unlink(missing_ok=True)
    return Container(supervisor, leader, go_write, calls)


def _prepare(cgroups: t.Iterable[Path]) -> None:
    _namespace.die_with_parent(signal.SIGKILL)
    for cgroup in cgroups:
        (cgroup / "cgroup.procs").write_text("0", encoding="ascii")


def _await_leader(supervisor: int, told: socket.socket, up: int) -> tuple[int, int | None]:
    """Wait until process 1 has said that it runs; return its pid, which systemd-nspawn tells, and the number that process 1 has said."""
    leader, said = 0, None
    pidfd = os.pidfd_open(supervisor)
    try:
        while not (leader and said):
            ready = readable([told.fileno(), up, pidfd], START_TIMEOUT)
            if told.fileno() in ready:
                fields = dict(line.split("=", 1) for line in told.recv(4096).decode("ascii", errors="replace").splitlines() if "=" in line)
                leader = int(fields.get("X_NSPAWN_LEADER_PID", leader))
            elif up in ready and (found := UP.search(os.read(up, 4096))):
                said = found
            elif pidfd in ready or not ready:
                raise ImageError("systemd-nspawn did not start the image. Its messages are in keeper.log beside the image.")
    finally:
        os.close(pidfd)
    return leader, int(said.group(1)) if said.group(1) else None
