# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Answer what tasks ask of the kernel while an image is open.

The kernel that runs is that of the build host. What a role asks of a kernel (load a module, switch swap on, set the clock, reboot)
would change the build host or is refused there, and a live machine would do it: so it is accepted, written down, and told to the user.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import re
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils import _system_calls
from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._image_kernel import ImageKernel
from ansible_collections.hyperscaler.images.plugins.module_utils._private_view import BOOT_ID, LIST, MODULES
from ansible_collections.hyperscaler.images.plugins.module_utils._system_calls import Call, Watch

FORMAT_MASK, BLOCK_NODE, CHARACTER_NODE = 0o170000, 0o060000, 0o020000
FIELD = 65
# Mount flags of sys/mount.h: what changes a mount that is there, and needs no file system.
REMOUNT, BIND = 0x20, 0x1000
CHANGES = REMOUNT | BIND | 0x2000 | 0x20000 | 0x40000 | 0x80000 | 0x100000
MOUNT_OPTIONS = {0x1: "ro", 0x2: "nosuid", 0x4: "nodev", 0x8: "noexec", 0x400: "noatime", 0x800: "nodiratime", 0x200000: "relatime"}
# What the root of a user namespace may mount; any other file system needs a device, a server or a kernel of its own.
MOUNTABLE = frozenset({"", "tmpfs", "ramfs", "proc", "sysfs", "devpts", "mqueue", "overlay", "cgroup", "cgroup2", "bpf", "fuse", "fuseblk", "none"})
CLOCK_REALTIME = 0
TASK = re.compile(rb"(?:^|\0)HYPERSCALER_TASK=([^\0]*)")
MODULE_NAME = re.compile(rb"\0name=([\w-]+)\0")
WATCHES = (
    *(Watch(name) for name in ("uname", "init_module", "finit_module", "delete_module", "swapon", "swapoff", "settimeofday", "adjtimex")),
    *(Watch(name) for name in ("clock_adjtime", "reboot", "kexec_load", "kexec_file_load", "syslog", "mount", "fsopen")),
    # libmount asks whether the call exists, on no file.
    Watch("mount_setattr", 0, 0xFFFFFFFF, 0xFFFFFFFF),
    Watch("clock_settime", 0, 0xFFFFFFFF, CLOCK_REALTIME),
    *(Watch("mknod", 1, FORMAT_MASK, kind) for kind in (BLOCK_NODE, CHARACTER_NODE)),
    *(Watch("mknodat", 2, FORMAT_MASK, kind) for kind in (BLOCK_NODE, CHARACTER_NODE)),
)


@dataclasses.dataclass
class KernelAnswers:
    """Answers the system calls of an open image. ``leader`` is its process 1, ``log`` the file that gets one JSON line for each act.

    Services have no log: they do the same again when the image is booted.
    """

    descriptor: int
    leader: int
    kernel: ImageKernel
    log: Path | None = None

    def __post_init__(self) -> None:
        """Learn the numbers of the watched calls."""
        self._noted: set[str] = set()
        handlers = {
            "uname": self._uname,
            "init_module": self._init_module,
            "finit_module": self._finit_module,
            "delete_module": self._delete_module,
            "swapon": self._swapon,
            "swapoff": self._swapoff,
            "clock_settime": self._clock,
            "settimeofday": self._clock,
            "adjtimex": self._adjtimex,
            "clock_adjtime": self._adjtimex,
            "reboot": self._reboot,
            "kexec_load": self._kexec,
            "kexec_file_load": self._kexec,
            "syslog": self._kernel_log,
            "mount": self._mount,
            "fsopen": self._fsopen,
            "mount_setattr": self._mount_setattr,
            "mknod": self._mknod,
            "mknodat": self._mknod,
        }
        self._handlers: dict[int, t.Callable[[Call], int | None]] = {_system_calls.number_of(name): handler for name, handler in handlers.items()}

    def answer_next(self) -> None:
        """Answer the next call; a handler returns the error number, 0 for success, or None to let the kernel answer."""
        call = _system_calls.receive(self.descriptor)
        if call is None:
            return
        try:
            error = self._handlers[call.number](call)
        except (OSError, KeyError):
            error = None
        if error is None:
            _system_calls.let_kernel_answer(self.descriptor, call)
        else:
            _system_calls.reply(self.descriptor, call, error=error)

    def _note(self, kind: str, what: str, pid: int) -> None:
        """Write down an act that takes effect at boot only, or that was refused."""
        if self.log is None:
            return
        line = json.dumps({"kind": kind, "what": what, "task": _task_of(pid)})
        if line not in self._noted:
            self._noted.add(line)
            with self.log.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")

    def reboot(self, pid: int = 0) -> None:
        """Accept a reboot: it waits until the image is booted, but whoever looks for it sees a new boot."""
        self._file(str(BOOT_ID)).write_bytes(Path("/proc/sys/kernel/random/uuid").read_bytes())
        self._note("reboot", "reboot", pid)

    def _file(self, path: str) -> Path:
        return Path(f"/proc/{self.leader}/root{path}")

    def _uname(self, call: Call) -> int | None:
        release, version = self.kernel.newest()
        if not release:
            return None
        here = os.uname()
        fields = (here.sysname, here.nodename, release, version or here.version, here.machine, "(none)")
        data = b"".join(field.encode("utf-8")[: FIELD - 1].ljust(FIELD, b"\0") for field in fields)
        if not _system_calls.still_waits(self.descriptor, call):
            return errno.EINTR
        _system_calls.write_memory(call, call.arguments[0], data)
        return 0

    def _init_module(self, call: Call) -> int:
        found = MODULE_NAME.search(_system_calls.read_memory(call, call.arguments[0], min(call.arguments[1], 64 << 20)))
        return self._load(found.group(1).decode("ascii") if found else "unknown", call)

    def _finit_module(self, call: Call) -> int:
        return self._load(Path(f"/proc/{call.pid}/fd/{call.arguments[0]}").readlink().name.split(".")[0], call)

    def _load(self, name: str, call: Call) -> int:
        name = name.replace("-", "_")
        modules = self._modules()
        if any(line.split(" ", 1)[0] == name for line in modules.read_text(encoding="ascii").splitlines()):
            return errno.EEXIST
        with modules.open("a", encoding="ascii") as stream:
            stream.write(f"{name} 16384 0 - Live 0x0000000000000000\n")
        self.kernel.settings_of_module(name, self._file("/proc/sys"))
        self._note("module", name, call.pid)
        return 0

    def _modules(self) -> Path:
        listed = self._file(MODULES)
        return listed if listed.exists() else self._file(str(LIST))

    def _delete_module(self, call: Call) -> int:
        name = _system_calls.read_text(call, call.arguments[0]).replace("-", "_")
        modules = self._modules()
        lines = modules.read_text(encoding="ascii").splitlines(keepends=True)
        kept = [line for line in lines if line.split(" ", 1)[0] != name]
        if kept == lines:
            return errno.ENOENT
        modules.write_text("".join(kept), encoding="ascii")
        self._note("module", f"{name} (removed)", call.pid)
        return 0

    def _swapon(self, call: Call) -> int:
        path = self._path(call, call.arguments[0])
        size = self._file(path).stat().st_size // 1024
        with self._file("/proc/swaps").open("a", encoding="utf-8") as stream:
            stream.write(f"{path}\tfile\t\t{max(size - 4, 0)}\t\t0\t\t-2\n")
        self._note("swap", path, call.pid)
        return 0

    def _swapoff(self, call: Call) -> int:
        path = self._path(call, call.arguments[0])
        swaps = self._file("/proc/swaps")
        lines = swaps.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.split("\t", 1)[0] != path]
        if kept == lines:
            return errno.EINVAL
        swaps.write_text("".join(kept), encoding="utf-8")
        self._note("swap", f"{path} (off)", call.pid)
        return 0

    def _path(self, call: Call, address: int) -> str:
        text = _system_calls.read_text(call, address)
        return text if text.startswith("/") else os.path.normpath(Path(f"/proc/{call.pid}/cwd").readlink() / text)

    def _clock(self, call: Call) -> int:
        self._note("clock", "set", call.pid)
        return 0

    def _adjtimex(self, call: Call) -> int | None:
        address = call.arguments[0] if call.number == _system_calls.number_of("adjtimex") else call.arguments[1]
        modes = int.from_bytes(_system_calls.read_memory(call, address, 4), "little")
        if not modes:
            return None
        self._note("clock", "adjusted", call.pid)
        return 0

    def _reboot(self, call: Call) -> int:
        self.reboot(call.pid)
        return 0

    def _kexec(self, call: Call) -> int:
        self._note("kexec", "another kernel", call.pid)
        return 0

    def _kernel_log(self, _call: Call) -> int:
        """The log is empty: that of the build host is nobody's business."""
        return 0

    def _mount(self, call: Call) -> int | None:
        # systemd itself copes with what it cannot mount. Mount units use a program.
        if call.pid == self.leader:
            return None
        flags = call.arguments[3]
        if flags & (REMOUNT | BIND) == REMOUNT:
            return self._remount(call, self._path(call, call.arguments[1]), flags)
        kind = _system_calls.read_text(call, call.arguments[2]) if not flags & CHANGES else ""
        if kind.split(".")[0] in MOUNTABLE:
            return None
        source, target = _system_calls.read_text(call, call.arguments[0]), self._path(call, call.arguments[1])
        try:
            # As on a live machine, what is written there now does not get into the image.
            self._mount_program("-t", "tmpfs", "--", source or "none", target, attempt=f"cover {target}")
        except ImageError:
            return None
        self._note("mount", f"{source} at {target}", call.pid)
        return 0

    def _remount(self, call: Call, target: str, flags: int) -> int | None:
        """Change the mount alone: file systems below it belong to the build host, and keep their own options."""
        if not os.path.ismount(self._file(target)):
            return None
        options = ["rw", *(name for bit, name in MOUNT_OPTIONS.items() if flags & bit)]
        # Options that the build host requires, such as nodev, cannot be taken away.
        with contextlib.suppress(ImageError):
            self._mount_program("--options", f"remount,bind,{','.join(options)}", "--", target, attempt=f"remount {target}")
        self._note("mount", f"{target} with {','.join(options[1:]) or 'rw'}", call.pid)
        return 0

    def _mount_program(self, *arguments: str, attempt: str) -> None:
        enter = ("nsenter", f"--target={self.leader}", "--user", "--mount", "--root", "--wd")
        Command("mount", reason="mount file systems", prefix=enter).run(*arguments, attempt=attempt)

    def _mount_setattr(self, _call: Call) -> int:
        """Without the newer calls, programs use mount, which says in one piece what is wanted."""
        return errno.ENOSYS

    def _fsopen(self, call: Call) -> int | None:
        """As with mount_setattr."""
        return None if _system_calls.read_text(call, call.arguments[0]).split(".")[0] in MOUNTABLE else errno.ENOSYS

    def _mknod(self, call: Call) -> None:
        device = call.arguments[2] if call.number == _system_calls.number_of("mknod") else call.arguments[3]
        # The white-out of an overlay is a node of device 0, which is harmless and allowed.
        if not device:
            return
        path = self._path(call, call.arguments[0] if call.number == _system_calls.number_of("mknod") else call.arguments[1])
        # Programs of the device mapper try to make it whenever they start.
        if path != "/dev/mapper/control":
            self._note("refused", f"device node {path}: an image must not hold one; let udev or systemd-tmpfiles make it at boot", call.pid)


def _task_of(pid: int) -> str:
    try:
        found = TASK.search(Path(f"/proc/{pid}/environ").read_bytes())
    except OSError:
        return ""
    return found.group(1).decode("ascii", errors="replace") if found else ""
