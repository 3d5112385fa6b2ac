# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Speak with a running QEMU over its QMP socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, reason


class QmpError(ImageError):
    """QEMU does not answer, or refuses a command."""


@contextlib.contextmanager
def short_path(path: Path) -> t.Iterator[str]:
    """A name of ``path`` that fits into a socket address (108 bytes) however deep the folder is."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def listen(path: Path) -> socket.socket:
    """A listening socket at ``path`` to be handed to QEMU, so that it can be connected to before QEMU is up."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(path) as name:
            server.bind(name)
        path.chmod(0o600)
        server.listen(1)
    except BaseException:
        server.close()
        raise
    return server


class Qmp:
    """One QMP session. It is a context manager; a QEMU serves one session at a time."""

    def __init__(self, path: Path, timeout: float = 10.0) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        self._stream = self._socket.makefile("rb")

    def __enter__(self) -> Qmp:
        try:
            with self._explained("connect"), short_path(self._path) as name:
                self._socket.connect(name)
                self._read("QMP")
            self.execute("qmp_capabilities")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *dummy: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session."""
        self._stream.close()
        self._socket.close()

    def execute(self, command: str, **arguments: t.Any) -> t.Any:
        """Run one command and return what it returned."""
        request = {"execute": command, **({"arguments": arguments} if arguments else {})}
        with self._explained(command):
            self._socket.sendall(json.dumps(request).encode("utf-8") + b"\n")
            reply = self._read("return", "error")
        if "error" in reply:
            raise QmpError(f"Cannot run {command} on the QEMU at {self._path}: {reply['error'].get('desc', reply['error'])}.", command=command)
        return reply["return"]

    def _read(self, *wanted: str) -> dict[str, t.Any]:
        """The next message that has one of the keys; events in between are passed over."""
        for line in self._stream:
            message: dict[str, t.Any] = json.loads(line)
            if any(key in message for key in wanted):
                return message
        raise EOFError("QEMU closed the connection")

    @contextlib.contextmanager
    def _explained(self, command: str) -> t.Iterator[None]:
        try:
            yield
        except (OSError, ValueError, EOFError) as error:
            raise QmpError(
                f"Cannot run {command} on the QEMU at {self._path}: {reason(error)}. "
                "It has ended, hangs or serves somebody else; look at its log beside the socket.",
                command=command,
            ) from error
