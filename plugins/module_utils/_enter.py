# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Run a command inside an open image: the caller's side.

The build host may be another machine than the controller. There this very file runs as a program, so it uses nothing but Python's own library.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import struct
import sys
import typing as t

# The name of this file beside the socket, and what runs it: Python without anything that is not its own.
PROGRAM = "enter.py"
PYTHON = ("/usr/bin/python3", "-I", "-S")
NOT_OPEN = 97
LENGTH = struct.Struct("!I")
BLOCK = 65536


def request(path: str, command: str, environment: t.Mapping[str, str], descriptors: t.Sequence[int]) -> socket.socket:
    """Have a shell command started inside, with the three file descriptors as its input, output and errors; return the connection.

    Raises OSError when nothing listens at ``path``, because the image is not open.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _connect(connection, path)
        message = json.dumps({"command": command, "environment": dict(environment)}).encode("utf-8")
        socket.send_fds(connection, [LENGTH.pack(len(message))], list(descriptors))
        connection.sendall(message)
    except OSError:
        connection.close()
        raise
    return connection


def _connect(connection: socket.socket, path: str) -> None:
    """A socket's path may have 107 bytes; that of its folder's file descriptor is short."""
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)  # noqa: PTH120 (this file starts at every task)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")  # noqa: PTH119
    finally:
        os.close(folder)


def answer(connection: socket.socket) -> int:
    """The exit code of the command; NOT_OPEN when the image was closed while it ran."""
    with connection:
        data = connection.recv(LENGTH.size, socket.MSG_WAITALL)
    return LENGTH.unpack(data)[0] if len(data) == LENGTH.size else NOT_OPEN


def run(path: str, command: str, environment: t.Mapping[str, str], stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    """Run a shell command inside to its end; its exit code, output and errors are returned.

    What it left running in the background may keep the output open: that is not waited for.
    """
    (in_read, in_write), (out_read, out_write), (err_read, err_write) = os.pipe(), os.pipe(), os.pipe()
    ours = [in_write, out_read, err_read]
    try:
        try:
            connection = request(path, command, environment, (in_read, out_write, err_write))
        finally:
            for descriptor in (in_read, out_write, err_write):
                os.close(descriptor)
        return _converse(connection, ours, stdin)
    finally:
        for descriptor in ours:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _converse(connection: socket.socket, ours: list[int], stdin: bytes) -> tuple[int, bytes, bytes]:
    in_write, out_read, err_read = ours
    collected: dict[int, list[bytes]] = {out_read: [], err_read: []}
    waiting = memoryview(stdin)
    with selectors.DefaultSelector() as selector:
        for descriptor in collected:
            os.set_blocking(descriptor, False)
            selector.register(descriptor, selectors.EVENT_READ)
        os.set_blocking(in_write, False)
        selector.register(in_write, selectors.EVENT_WRITE)
        selector.register(connection, selectors.EVENT_READ)
        ended = False
        while not ended:
            for key, _events in selector.select():
                if key.fd == in_write:
                    waiting = _write(in_write, waiting)
                    if not waiting:
                        selector.unregister(in_write)
                        os.close(in_write)
                        ours.remove(in_write)
                elif key.fd in collected:
                    if not _read(key.fd, collected[key.fd]):
                        selector.unregister(key.fd)
                else:
                    ended = True
    for descriptor, blocks in collected.items():
        while _read(descriptor, blocks):
            pass
    return answer(connection), b"".join(collected[out_read]), b"".join(collected[err_read])


def _write(descriptor: int, data: memoryview) -> memoryview:
    try:
        return data[os.write(descriptor, data[:BLOCK]) :] if data else data
    except BlockingIOError:
        return data
    except BrokenPipeError:
        return data[len(data) :]


def _read(descriptor: int, blocks: list[bytes]) -> bool:
    """Take what is there; tell whether there was something."""
    try:
        block = os.read(descriptor, BLOCK)
    except (BlockingIOError, OSError):
        return False
    if block:
        blocks.append(block)
    return bool(block)


def main(arguments: t.Sequence[str]) -> int:
    """``enter.py SOCKET ENVIRONMENT COMMAND``, the environment as JSON."""
    path, environment, command = arguments
    try:
        return answer(request(path, command, json.loads(environment), (0, 1, 2)))
    except OSError:
        return NOT_OPEN


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
