# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Hand some system calls of a process and its children to another process, which answers them.

A filter of the kernel (seccomp) stops the call; the supervisor reads what is asked and says what the caller gets. libseccomp, which
systemd needs too, knows the numbers of the calls on each architecture.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import fcntl
import os
import select
import struct
import tempfile
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ToolError

LIBRARY = "libseccomp.so.2"
ACT_ALLOW = 0x7FFF0000
ACT_NOTIFY = 0x7FC00000
ATTRIBUTE_OTHER_ARCHITECTURES = 2
ATTRIBUTE_NO_NEW_PRIVILEGES = 3
COMPARE_MASKED = 7
# From linux/seccomp.h: the requests, struct seccomp_notif and struct seccomp_notif_resp.
RECEIVE, SEND, STILL_VALID = 0xC0502100, 0xC0182101, 0x40082102
NOTIFICATION = struct.Struct("=QIIiIQ6Q")
RESPONSE = struct.Struct("=QqiI")
CONTINUE = 1


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp: which argument, how, and with what it is compared."""

    _fields_ = (("argument", ctypes.c_uint), ("operator", ctypes.c_int), ("mask", ctypes.c_uint64), ("value", ctypes.c_uint64))


@dataclasses.dataclass(frozen=True)
class Watch:
    """A system call to hand over; with ``mask``, only when argument number ``argument`` has ``value`` below the mask."""

    name: str
    argument: int = 0
    mask: int = 0
    value: int = 0


@dataclasses.dataclass(frozen=True)
class Call:
    """A system call that waits for its answer. ``pid`` is as the supervisor sees it."""

    identifier: int
    pid: int
    number: int
    arguments: tuple[int, ...]


def library() -> ctypes.CDLL:
    """libseccomp. Raises ToolError where it is missing; load it before the namespaces are entered."""
    try:
        return ctypes.CDLL(LIBRARY, use_errno=True)
    except OSError as error:
        raise ToolError(f"{LIBRARY} is required to open an image, but it was not found; install the package libseccomp2.", program=LIBRARY) from error


def number_of(name: str) -> int:
    """The number of a system call on this machine; negative where it does not exist."""
    return int(library().seccomp_syscall_resolve_name(name.encode("ascii")))


def install(watches: tuple[Watch, ...]) -> int:
    """Hand these calls of the calling process and of all that it starts to whoever reads the file descriptor that is returned."""
    with _filter(watches) as context:
        _require(library().seccomp_load(context))
        return int(library().seccomp_notify_fd(context))


def compiled(watches: tuple[Watch, ...]) -> bytes:
    """The filter of these calls as the kernel takes it."""
    with _filter(watches) as context, tempfile.TemporaryFile() as stream:
        _require(library().seccomp_export_bpf(context, stream.fileno()))
        stream.seek(0)
        return stream.read()


@contextlib.contextmanager
def _filter(watches: tuple[Watch, ...]) -> t.Iterator[ctypes.c_void_p]:
    seccomp = library()
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(ACT_ALLOW)))
    try:
        # Programs of another architecture are not watched, but they run.
        _require(seccomp.seccomp_attr_set(context, ATTRIBUTE_OTHER_ARCHITECTURES, ctypes.c_uint32(ACT_ALLOW)))
        # sudo and su inside need the privileges that their files give.
        _require(seccomp.seccomp_attr_set(context, ATTRIBUTE_NO_NEW_PRIVILEGES, ctypes.c_uint32(0)))
        for watch in watches:
            number = number_of(watch.name)
            if number >= 0:
                comparisons = (Comparison * 1)(Comparison(watch.argument, COMPARE_MASKED, watch.mask, watch.value))
                count = 1 if watch.mask else 0
                _require(seccomp.seccomp_rule_add_array(context, ctypes.c_uint32(ACT_NOTIFY), number, ctypes.c_uint(count), comparisons))
        yield context
    finally:
        seccomp.seccomp_release(context)


def take(pid: int, number: int) -> int:
    """A copy of a file descriptor of another process; raises OSError when that is not possible."""
    pidfd = os.pidfd_open(pid)
    try:
        taken = int(ctypes.CDLL(None, use_errno=True).syscall(number_of("pidfd_getfd"), pidfd, number, 0))
        if taken < 0:
            error = ctypes.get_errno()
            raise OSError(error, f"take a file descriptor: {os.strerror(error)}")
        os.set_inheritable(taken, False)
        return taken
    finally:
        os.close(pidfd)


def _require(result: int) -> None:
    if result < 0:
        raise OSError(-result, f"filter system calls: {os.strerror(-result)}")


def receive(descriptor: int) -> Call | None:
    """The next call that waits; None when its process was interrupted meanwhile or no process is left."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    # When the last process with the filter has ended, there is nothing to read, and reading would wait for ever.
    if not any(event & select.POLLIN for _number, event in poll.poll(0)):
        return None
    buffer = bytearray(NOTIFICATION.size)
    try:
        fcntl.ioctl(descriptor, RECEIVE, buffer)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    identifier, pid, _flags, number, _architecture, _pointer, *arguments = NOTIFICATION.unpack(buffer)
    return Call(identifier, pid, number, tuple(arguments))


def reply(descriptor: int, call: Call, *, error: int = 0) -> None:
    """Let the call return 0, or fail with an error number."""
    _send(descriptor, RESPONSE.pack(call.identifier, 0, -error, 0))


def let_kernel_answer(descriptor: int, call: Call) -> None:
    """Let the call go on to the kernel."""
    _send(descriptor, RESPONSE.pack(call.identifier, 0, 0, CONTINUE))


def _send(descriptor: int, response: bytes) -> None:
    try:
        fcntl.ioctl(descriptor, SEND, bytearray(response))
    except OSError as error:
        # The process ended while it waited.
        if error.errno != errno.ENOENT:
            raise


def still_waits(descriptor: int, call: Call) -> bool:
    """Whether the call still waits, so that its pid still is the process that asked."""
    try:
        fcntl.ioctl(descriptor, STILL_VALID, struct.pack("=Q", call.identifier))
    except OSError:
        return False
    return True


def read_memory(call: Call, address: int, size: int) -> bytes:
    """Read from the memory of the process that asked; raises OSError when it has ended."""
    descriptor = os.open(f"/proc/{call.pid}/mem", os.O_RDONLY)
    try:
        return os.pread(descriptor, size, address)
    finally:
        os.close(descriptor)


def read_text(call: Call, address: int, limit: int = 4096) -> str:
    """Read a text that ends with a zero byte; a text may end right before memory that cannot be read, so it is read page by page."""
    found = b""
    while address and b"\0" not in found and len(found) < limit:
        found += read_memory(call, address + len(found), 4096 - (address + len(found)) % 4096)
    return found.split(b"\0", 1)[0].decode("utf-8", errors="surrogateescape")


def write_memory(call: Call, address: int, data: bytes) -> None:
    """Write into the memory of the process that asked."""
    descriptor = os.open(f"/proc/{call.pid}/mem", os.O_WRONLY)
    try:
        os.pwrite(descriptor, data, address)
    finally:
        os.close(descriptor)
