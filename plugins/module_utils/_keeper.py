# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""The process that keeps an image open.

It stays on the build host: it has the lock and the mounts, answers the system calls of tasks, watches the run that opened the image, and
cleans up when that run ends, however it ends. systemd-nspawn, pasta and the process that enters the image are its children. Its parent, the
guardian, does nothing but wait: when the keeper is killed it removes what is left, and when the guardian is killed the keeper ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import select
import shutil
import signal
import socket
import sys
import time
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils import (
    _capabilities,
    _cgroup,
    _container,
    _enter,
    _entrance,
    _namespace,
    _outgoing,
    _trim,
    _user_range,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_cache import collect
from ansible_collections.hyperscaler.images.plugins.module_utils._digest import document_digest
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, reason
from ansible_collections.hyperscaler.images.plugins.module_utils._files import write_atomic
from ansible_collections.hyperscaler.images.plugins.module_utils._host_speed import awaited
from ansible_collections.hyperscaler.images.plugins.module_utils._image_kernel import ImageKernel
from ansible_collections.hyperscaler.images.plugins.module_utils._kernel_answers import WATCHES, KernelAnswers
from ansible_collections.hyperscaler.images.plugins.module_utils._loop import release_disk
from ansible_collections.hyperscaler.images.plugins.module_utils._open_files import RESOLVER, inside
from ansible_collections.hyperscaler.images.plugins.module_utils._private_sysfs import INTERFACES, copied_settings
from ansible_collections.hyperscaler.images.plugins.module_utils._private_view import (
    PYTHON,
    REBOOT,
    UNITS,
    Machine,
    View,
    command_line,
    machine_texts,
    read_settings,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._process import ProcessIdentity, close_others
from ansible_collections.hyperscaler.images.plugins.module_utils._root_mounts import NSPAWN_STATE, mount_image
from ansible_collections.hyperscaler.images.plugins.module_utils._root_plan import RootPlan
from ansible_collections.hyperscaler.images.plugins.module_utils._sysfs_choices import Choices

ENTER, CONTROL, ACTS, LOG, NETWORK = "enter.sock", "control.sock", "acts.jsonl", "keeper.log", "hyperscaler-network"
# systemd-nspawn locks the folder that it is started on.
NSPAWN_LOCK = ".#root.lck"
POWER_OFF_TIMEOUT = 60.0
END_TIMEOUT = 3.0


def hold(plan: RootPlan, state_file: Path, owner: ProcessIdentity | None, lock: int, cache: tuple[Path, Path] | None) -> dict[str, t.Any]:
    """Open the image in processes that go on when this one ends; return the state that was written to ``state_file``.

    ``lock`` is the locked file descriptor that the keeper holds from now on. ``cache`` is the package folder of the image and the shared one.
    Raises ImageError with the reason when the image could not be opened.
    """
    reading, writing = os.pipe()
    log = state_file.with_name(LOG)
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        keeper = Keeper(plan, state_file, owner, cache)
        _become_daemon(log, keep={lock, writing})
        _guard(keeper, writing)
        _keep(keeper, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        answer = stream.read()
    os.waitpid(pid, 0)
    if not answer:
        raise ImageError(f"Cannot open {plan.disk}: the process that should hold it open ended without a word. Look at {log}.")
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
    close_others(keep)


def _guard(keeper: Keeper, writing: int) -> None:
    """Start the keeper: it returns from here. The guardian never does."""
    guardian = os.getpid()
    pid = os.fork()
    if pid == 0:
        _namespace.die_with_parent(signal.SIGTERM)
        keeper.guardian = guardian
        return
    os.close(writing)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: os.kill(pid, signal.SIGTERM))
    os.waitpid(pid, 0)
    keeper.remove_leftovers()
    os._exit(0)


def _keep(keeper: Keeper, writing: int) -> t.NoReturn:
    """Open, report, and keep open until the end."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        with contextlib.ExitStack() as stack:
            keeper.open(stack)
            with contextlib.suppress(BrokenPipeError):
                os.write(writing, json.dumps(keeper.state).encode("utf-8"))
            os.close(writing)
            keeper.watch()
    except (ImageError, OSError) as error:
        why = str(error) if isinstance(error, ImageError) else reason(error)
        sys.stderr.write(f"{why}\n")
        with contextlib.suppress(OSError):
            os.write(writing, json.dumps({"error": f"Cannot open {keeper.plan.disk}: {why}"}).encode("utf-8"))
    sys.stderr.flush()
    os._exit(0)


@dataclasses.dataclass
class Keeper:
    """What is needed to keep one image open."""

    plan: RootPlan
    state_file: Path
    owner: ProcessIdentity | None
    cache: tuple[Path, Path] | None
    guardian: int = 0
    state: dict[str, t.Any] = dataclasses.field(default_factory=dict)

    def open(self, stack: contextlib.ExitStack) -> None:
        """Bring everything up; ``stack`` gets what has to be undone."""
        first_id, _lock = _user_range.take()
        # The last of all: only then may the image be opened again.
        stack.callback(self._put_away)
        self._mounts = mount_image(self.plan, first_id)
        cgroups = _cgroup.make(self._name())
        stack.callback(_cgroup.remove, cgroups)
        argv = _container.arguments(self.plan.mount_point, self._name(), first_id, self._mounts.binds, self.plan.init, WATCHES)
        self._container = _container.start(argv, self._place(""), cgroups, 2)
        kernel, leader, calls = ImageKernel(self.plan.mount_point), self._container.leader, self._container.calls
        self._services = KernelAnswers(calls, leader, kernel) if calls else None
        stack.callback(self._end_container, signal.SIGKILL, 10.0)
        self._connect(stack)
        listener = self._listen(ENTER, stack)
        view = self._view()
        self._entrance, descriptor = _entrance.start(self._container.leader, _cgroup.tasks_of(cgroups, first_id), listener, view)
        listener.close()
        stack.callback(_end_child, self._entrance)
        # Only one mount of it can be written; some kernels let nobody but the root of the build host change the file system.
        _namespace.make_writable(Path(f"{self._root}{INTERFACES}"))
        self._choices = Choices(Path(f"{self._root}{folder}") for folder in copied_settings(self.plan.device))
        self._control = self._listen(CONTROL, stack)
        self._join_host_name()
        self._place(ACTS).write_text("", encoding="utf-8")
        self._place(_enter.PROGRAM).write_bytes(_source_of(_enter))
        self._answers = KernelAnswers(descriptor, leader, kernel, self._place(ACTS))
        # Open for writing too, so that it does not end when a writer does.
        self._reboots = os.open(f"{self._root}{REBOOT[self.plan.init]}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._settle()
        self._container.release()
        self._write_state()

    def _name(self) -> str:
        return f"hyperscaler-{document_digest(str(self.plan.disk))[:12]}"

    @property
    def _root(self) -> Path:
        """The root file system as process 1 of the image sees it."""
        return Path(f"/proc/{self._container.leader}/root")

    def _place(self, name: str) -> Path:
        return self.state_file.parent / name

    def _connect(self, stack: contextlib.ExitStack) -> None:
        """Give the network namespace a name that only this process sees, and start pasta on it."""
        # Not beside the image: pasta, which is root without privileges, cannot enter the private folder of a user.
        namespace = NSPAWN_STATE / NETWORK
        namespace.touch()
        stack.callback(namespace.unlink, missing_ok=True)
        _namespace.bind(Path(f"/proc/{self._container.leader}/ns/net"), namespace)
        stack.callback(_namespace.unmount_lazily, namespace)
        pasta = _outgoing.connect(namespace, self._container.leader, self.plan.ports, 2)
        if pasta:
            stack.callback(pasta.end)

    def _listen(self, name: str, stack: contextlib.ExitStack) -> socket.socket:
        path = self._place(name)
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # A socket's path may have 107 bytes; that of its folder's file descriptor is short.
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            listener.bind(f"/proc/self/fd/{folder}/{name}")
        finally:
            os.close(folder)
        path.chmod(0o600)
        listener.listen(64)
        stack.callback(path.unlink, missing_ok=True)
        return listener

    def _view(self) -> View:
        root = self.plan.mount_point
        release, version = ImageKernel(root).newest()
        menu = root / "boot/grub/grub.cfg"
        line = command_line(menu.read_text(encoding="utf-8", errors="replace")) if menu.is_file() else ""
        files = {"/run/systemd/network/10-hyperscaler.network": _outgoing.NETWORKD, **UNITS} if self.plan.init == "systemd" else {}
        if self._mounts.resolver is None:
            files[f"/{inside(root, RESOLVER).relative_to(root)}"] = self.plan.resolver
        texts = machine_texts(Machine(self.plan.cpus, self.plan.memory, line), release, version)
        return View(texts, files, REBOOT[self.plan.init], self.plan.device, self.plan.volumes)

    def _join_host_name(self) -> None:
        """Its own name is what tasks are told as that of the machine."""
        descriptor = os.open(f"/proc/{self._container.leader}/ns/uts", os.O_RDONLY)
        _namespace.join(descriptor)
        os.close(descriptor)

    def _write_state(self) -> None:
        first, keeper = ProcessIdentity.of(self._container.leader), ProcessIdentity.of(self.guardian)
        self.state = {
            "path": str(self.plan.disk),
            "device": self.plan.device,
            "init": self.plan.init,
            "cgroup": self._name(),
            "first": first.to_dict() if first else None,
            "keeper": keeper.to_dict() if keeper else None,
            "owner": self.owner.to_dict() if self.owner else None,
            "enter": str(self._place(ENTER)),
            "environment": self._environment(),
            "mounts": self._mounts.mounts,
            "hidden": self._mounts.hidden,
        }
        write_atomic(self.state_file, json.dumps(self.state, indent=1) + "\n")

    def _environment(self) -> dict[str, str]:
        """What commands inside are given besides the usual variables."""
        found = dict(self.plan.environment)
        found |= {"PYTHONPATH": str(PYTHON)} if (self._root / str(PYTHON).strip("/")).is_dir() else {}
        return found if self.plan.init == "systemd" else {**found, "SYSTEMD_OFFLINE": "1"}

    def watch(self) -> None:
        """Answer until the image is closed, its process 1 ends, or the owner or this process is told to end."""
        waker, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGTERM, lambda _number, _frame: None)
        children = [os.pidfd_open(pid) for pid in (self._container.supervisor, self._entrance)]
        ends = [waker, *children]
        if self.owner is not None and self.owner.local:
            descriptor = self.owner.open_pidfd()
            if descriptor is None:
                return
            ends.append(descriptor)
        answers = {each.descriptor: each for each in (self._answers, self._services) if each}
        watched: list[t.Any] = [*answers, self._control, self._reboots, self._choices.descriptor, *ends]
        while True:
            ready = select.select(watched, [], [])[0]
            # First: where nobody is left who could ask, answers are ready for ever.
            if not set(ends).isdisjoint(ready):
                return
            for descriptor in set(answers).intersection(ready):
                answers[descriptor].answer_next()
            if self._choices.descriptor in ready:
                self._choices.settle()
            if self._reboots in ready:
                os.read(self._reboots, 4096)
                self._answers.reboot()
            if self._control in ready and self._obey():
                return

    def _obey(self) -> bool:
        """Do what a caller asks for, and tell whether the image is closed now."""
        connection, _address = self._control.accept()
        asked: dict[str, t.Any] = {}
        with connection:
            try:
                asked = json.loads(connection.recv(4096))
                answer = self._finish(bool(asked["trim"])) if asked["action"] == "close" else self._settle()
            except (ImageError, OSError, ValueError, KeyError) as error:
                answer = {"error": str(error) if isinstance(error, ImageError) else reason(error)}
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps(answer).encode("utf-8"))
        return asked.get("action") == "close"

    def _settle(self) -> dict[str, t.Any]:
        """What has been set by now was set by the start of the image, and by no role."""
        self._settings = read_settings(self._root / "proc/sys")
        # systemd has read it, and facts are those of the virtual machine that will boot the image.
        (self._root / "run/systemd/container").unlink(missing_ok=True)
        return {}

    def _finish(self, trim: bool) -> dict[str, t.Any]:
        root = self.plan.mount_point
        settings = self._changed_settings()
        self._end_tasks()
        if self.plan.init == "systemd":
            self._end_container(_container.POWER_OFF, POWER_OFF_TIMEOUT)
        self._end_container(signal.SIGKILL, 10.0)
        if self._mounts.resolver:
            self._mounts.resolver.restore(root)
        for name in self._mounts.created:
            _remove(inside(root, name))
        for copy in self._mounts.copies:
            copy.store()
        for point in self._mounts.points:
            _capabilities.store_as_ordinary(point)
        trimmed = sum(_trim.discard_free_space(point) for point in self._mounts.points) if trim else 0
        for point in reversed(self._mounts.points):
            _namespace.unmount(point)
        return {"trimmed": trimmed, "settings": settings}

    def _changed_settings(self) -> list[dict[str, str]]:
        now = read_settings(self._root / "proc/sys")
        return [{"key": key, "value": value} for key, value in sorted(now.items()) if key in self._settings and self._settings[key] != value]

    def _end_tasks(self) -> None:
        """Give what tasks left running a moment to end by itself."""
        left = [identity for pid in _cgroup.processes_of_tasks(self._name()) if pid != self._entrance and (identity := ProcessIdentity.of(pid))]
        for identity in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(identity.pid, signal.SIGTERM)
        for identity in left:
            awaited(identity.wait, END_TIMEOUT)

    def _end_container(self, number: int, timeout: float) -> None:
        """End process 1 of the image with this signal and wait for systemd-nspawn."""
        supervisor = ProcessIdentity.of(self._container.supervisor)
        if supervisor is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._container.leader, number)
        descriptor = supervisor.open_pidfd()
        if descriptor is not None:
            while not awaited(functools.partial(self._ends, descriptor), timeout):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._container.leader, signal.SIGKILL)
            os.close(descriptor)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._container.supervisor, 0)

    def _ends(self, descriptor: int, timeout: float) -> bool:
        """Whether a process ends in time; services are answered meanwhile."""
        until = time.monotonic() + timeout
        while True:
            watched = [descriptor, *([self._services.descriptor] if self._services else [])]
            ready = select.select(watched, [], [], max(0.0, until - time.monotonic()))[0]
            if descriptor in ready or not ready or not self._services:
                return descriptor in ready
            self._services.answer_next()

    def remove_leftovers(self) -> None:
        """Remove what a keeper that was killed could not; after an orderly end there is nothing."""
        groups = [root / self._name() for root in _cgroup.hierarchies(_cgroup.MOUNTS.read_text(encoding="utf-8"))]
        _cgroup.remove(groups)
        for name in (ENTER, CONTROL, self.state_file.name, NSPAWN_LOCK):
            self._place(name).unlink(missing_ok=True)
        with contextlib.suppress(ImageError):
            release_disk(self.plan.disk)

    def _put_away(self) -> None:
        self.state_file.unlink(missing_ok=True)
        if self.cache:
            with contextlib.suppress(OSError):
                collect(*self.cache)


def _end_child(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _source_of(module: t.Any) -> bytes:
    """The text of a module, which may lie in an archive while Ansible runs."""
    return bytes(module.__loader__.get_data(module.__file__))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
