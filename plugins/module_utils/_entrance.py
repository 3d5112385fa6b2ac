# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Run commands inside an open image: the side that has entered it.

One process enters all namespaces of the image once, gives up every privilege over the build host, and then starts a shell for each
command. It stays in the process table of the build host, so nothing inside can see or end it.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils import _namespace, _system_calls
from ansible_collections.hyperscaler.images.plugins.module_utils._enter import LENGTH
from ansible_collections.hyperscaler.images.plugins.module_utils._kernel_answers import WATCHES
from ansible_collections.hyperscaler.images.plugins.module_utils._private_view import View, show
from ansible_collections.hyperscaler.images.plugins.module_utils._process import close_others

# The user namespace comes first: whoever enters the others needs the privileges that it gives there.
NAMESPACES = ("user", "cgroup", "ipc", "uts", "net", "pid", "mnt")


def enter(leader: int, cgroups: t.Iterable[Path]) -> None:
    """Move the calling process into the image; only its children get pids there."""
    _system_calls.library()
    descriptors = [os.open(f"/proc/{leader}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in NAMESPACES]
    for cgroup in cgroups:
        (cgroup / "cgroup.procs").write_text("0", encoding="ascii")
    _namespace.leave_session_keyring()
    for descriptor in descriptors:
        _namespace.join(descriptor)
        os.close(descriptor)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    os.chdir("/")
    os.umask(0o022)


class Entrance:
    """Serves the commands that come over a socket."""

    def __init__(self, listener: socket.socket) -> None:
        """``listener`` is bound on the build host before the image is entered."""
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._running: dict[int, tuple[int, socket.socket]] = {}

    def serve(self) -> t.NoReturn:
        """Start commands and report their exit codes until this process is ended."""
        self._selector.register(self._listener, selectors.EVENT_READ)
        while True:
            for key, _events in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._report(key.fd)

    def _accept(self) -> None:
        connection, _address = self._listener.accept()
        descriptors: list[int] = []
        try:
            head, descriptors, _flags, _from = socket.recv_fds(connection, LENGTH.size, 3)
            message = json.loads(connection.recv(LENGTH.unpack(head)[0], socket.MSG_WAITALL))
            pid = os.fork()
            if pid == 0:
                _become_command(descriptors, message["command"], message["environment"])
            pidfd = os.pidfd_open(pid)
            self._running[pidfd] = (pid, connection)
            self._selector.register(pidfd, selectors.EVENT_READ)
        except (OSError, ValueError, KeyError):
            connection.close()
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _report(self, pidfd: int) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        pid, connection = self._running.pop(pidfd)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with connection, contextlib.suppress(OSError):
            connection.sendall(LENGTH.pack(status if status >= 0 else 128 - status))


def _become_command(descriptors: t.Sequence[int], command: str, environment: t.Mapping[str, str]) -> t.NoReturn:
    try:
        # Without a terminal of the build host, nothing can type into it.
        os.setsid()
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
        os.closerange(3, 1024)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execve("/bin/sh", ["/bin/sh", "-c", command], dict(environment))
    except OSError as error:
        os.write(2, f"/bin/sh: {error.strerror}\n".encode())
    os._exit(127)


def start(
    leader: int,
    cgroups: t.Sequence[Path],
    listener: socket.socket,
    view: View,
) -> tuple[int, int]:
    """Start the process that runs commands; return its pid and the file descriptor on which system calls wait for answers.

    The private view is in place when this returns. Raises OSError with the reason when the image cannot be entered.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        ours.close()
        _run(leader, cgroups, listener, view, theirs)
    theirs.close()
    with ours:
        message, descriptors, _flags, _from = socket.recv_fds(ours, 4096, 1)
    if not descriptors:
        os.waitpid(pid, 0)
        raise OSError(0, message.decode("utf-8", errors="replace") or "the process that enters it ended early")
    return pid, descriptors[0]


def _run(
    leader: int,
    cgroups: t.Sequence[Path],
    listener: socket.socket,
    view: View,
    report: socket.socket,
) -> t.NoReturn:
    try:
        _namespace.die_with_parent(signal.SIGKILL)
        # A lock that stayed open here would outlive the image.
        close_others({listener.fileno(), report.fileno()})
        enter(leader, cgroups)
        # Changing the user clears it.
        _namespace.die_with_parent(signal.SIGKILL)
        child = os.fork()
        if child == 0:
            _show_view(view, report)
        if os.waitpid(child, 0)[1] != 0:
            os._exit(1)
        descriptor = _system_calls.install(WATCHES)
        socket.send_fds(report, [b"ready"], [descriptor])
        os.close(descriptor)
        report.close()
        Entrance(listener).serve()
    except OSError as error:
        with contextlib.suppress(OSError):
            report.send(f"{error.strerror}{f' ({error.filename})' if error.filename else ''}".encode())
    os._exit(1)


def _show_view(view: View, report: socket.socket) -> t.NoReturn:
    """A child, because only a process with a pid of the image sees its /proc/self."""
    try:
        show(view)
    except OSError as error:
        report.send(f"{error.strerror}{f' ({error.filename})' if error.filename else ''}".encode())
        os._exit(1)
    os._exit(0)
