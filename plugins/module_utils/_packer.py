# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Run Packer: in folders of its own, followed line by line, ended with everything that it started."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import selectors
import shutil
import signal
import tempfile
import time
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, ToolError
from ansible_collections.hyperscaler.images.plugins.module_utils._guest_watch import watch
from ansible_collections.hyperscaler.images.plugins.module_utils._host_speed import grown
from ansible_collections.hyperscaler.images.plugins.module_utils._packer_requirements import view_of
from ansible_collections.hyperscaler.images.plugins.module_utils._packer_stream import Parser, Report, UiLine
from ansible_collections.hyperscaler.images.plugins.module_utils._process import ProcessIdentity

OLDEST = (1, 6, 6)
NEXT_MAJOR = (2,)
# ``packer init`` and the block required_plugins came together.
INIT_SINCE = (1, 7)
MARK = "HYPERSCALER_PACKER_RUN"
HEARTBEAT_SECONDS = 10.0
# Packer removes its output, ends its VM and waits for its plugins after the first signal.
CANCEL_SECONDS = 60.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class PackerError(ImageError):
    """Packer cannot be run, or what it was asked for failed."""


@dataclasses.dataclass(frozen=True)
class Folders:
    """The folders of one run. ``base`` is short, because Packer makes sockets in it, whose names may have 108 bytes at most."""

    base: Path
    plugins: Path

    @property
    def debug_log(self) -> Path:
        """Packer's own log, with what QEMU says."""
        return self.base / "packer.log"

    def environment(self) -> dict[str, str]:
        """Nothing of the user's Packer is read or changed, and nothing is reported to its vendor."""
        return {
            "CHECKPOINT_DISABLE": "1",
            "PACKER_NO_COLOR": "1",
            "PACKER_CONFIG": str(self.base / "config.json"),
            "PACKER_CONFIG_DIR": str(self.base / "config"),
            "PACKER_CACHE_DIR": str(self.base / "cache"),
            "PACKER_PLUGIN_PATH": str(self.plugins),
            "PACKER_LOG": "1",
            "PACKER_LOG_PATH": str(self.debug_log),
            "TMPDIR": str(self.base),
            MARK: str(self.base),
        }


@contextlib.contextmanager
def run_folders(plugins: Path | None) -> t.Iterator[Folders]:
    """Folders that exist for one run; only a plugin folder that the user named outlasts it."""
    base = Path(tempfile.mkdtemp(prefix="packer-"))
    folders = Folders(base, plugins or base / "plugins")
    try:
        for path in (base / "config", base / "cache", folders.plugins):
            path.mkdir(parents=True, exist_ok=True)
        yield folders
    finally:
        shutil.rmtree(base, ignore_errors=True)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run of Packer ended; ``seconds`` is wall time, ``stage`` the one in which it ended or was interrupted."""

    rc: int
    report: Report
    stderr: str
    debug: str
    seconds: float
    interrupted: str = ""
    stage: str = "prepare"


Listen = t.Callable[[UiLine], None]
# Called while Packer says nothing; a text that is not empty is the reason to end it.
Beat = t.Callable[[], str]


class Packer:
    """A Packer of a version that works, with the folders of one run."""

    def __init__(self, program: str, folders: Folders) -> None:
        self.folders = folders
        package = None if Path(program).is_absolute() else "packer (Debian 12), or a release of HashiCorp"
        self.command = Command(program, reason="build images with the packer backend", package=package, environment=folders.environment())
        self.version = read_version(self.command)

    @property
    def version_text(self) -> str:
        """The version as people write it."""
        return ".".join(str(part) for part in self.version)

    @property
    def has_init(self) -> bool:
        """Whether plugins are programs of their own that ``packer init`` provides."""
        return self.version >= INIT_SINCE

    def template(self, folder: Path) -> Path:
        """The folder to build, without the block required_plugins where Packer does not know it."""
        return folder if self.has_init else view_of(folder, self.view)

    @property
    def view(self) -> Path:
        """Where the view of a template is that differs from it."""
        return self.folders.base / "template"

    def run(self, *arguments: str, listen: Listen, beat: Beat, timeout: float, owner: int | None = None) -> Outcome:
        """Run Packer with machine-readable output to its end. ``timeout`` is in seconds; 0 is no limit.

        Everything is ended in good order when the time is up, when this process gets a signal, and when the process ``owner`` ends; at once
        when this process is killed. The outcome then says so in ``interrupted``.
        """
        return Run(self, timeout, owner, listen, beat).follow(arguments)


def read_version(command: Command) -> tuple[int, ...]:
    """The version of Packer. Raises ToolError for one that does not work, and for another program of the same name."""
    answer = command.run("-machine-readable", "version", attempt="read the version of Packer", accepted=range(256), timeout=60)
    parser = Parser()
    for line in answer.stdout.splitlines():
        parser.feed(line)
    text = parser.report.values.get("version", "")
    try:
        version = tuple(int(part) for part in text.partition("-")[0].split("."))
    except ValueError:
        said = (answer.stdout + answer.stderr).strip().splitlines()[:1]
        raise ToolError(
            f"Cannot use {command.path}: it is not HashiCorp's Packer (asked for its version, it said: {' '.join(said) or 'nothing'}). "
            "Another program has this name too; give the path of Packer as executable.",
            program=command.path,
        ) from None
    if not OLDEST <= version < NEXT_MAJOR:
        oldest = ".".join(str(part) for part in OLDEST)
        raise ToolError(
            f"Cannot use Packer {text} ({command.path}): versions from {oldest} up to, but not including, {NEXT_MAJOR[0]} work. Install one of these.",
            program=command.path,
            version=text,
        )
    return version


class Run:
    """One run of Packer that is being followed."""

    def __init__(self, packer: Packer, timeout: float, owner: int | None, listen: Listen, beat: Beat) -> None:
        self._packer = packer
        self._mark = str(packer.folders.base)
        self._timeout = timeout
        self._owner = ProcessIdentity.of(owner) if owner else None
        self._listen = listen
        self._beat = beat
        self._parser = Parser()
        self._selector = selectors.DefaultSelector()
        self._stderr: list[bytes] = []
        self._rest = b""
        self._interrupted = ""
        self._stage = ""

    def follow(self, arguments: t.Sequence[str]) -> Outcome:
        """Start Packer, hand over each line as it comes, and return how it ended."""
        started = time.monotonic()
        with self._selector, _signals() as caught, _Pipes() as pipes:
            pid = self._packer.command.spawn("-machine-readable", *arguments, stdout=pipes.out[1], stderr=pipes.err[1])
            pipes.close_writers()
            process, own = ProcessIdentity.of(pid), ProcessIdentity.of(os.getpid())
            if process is not None and own is not None:
                watch(own, process, lambda: _end_after_kill(self._mark))
            try:
                # Until it is waited for, the pid is that of Packer, also when it has ended already.
                handles = {"end": os.pidfd_open(pid), "owner": self._owner.open_pidfd() if self._owner else None}
                with self._registered({"out": pipes.out[0], "err": pipes.err[0], "signal": caught}, handles):
                    self._read_to_the_end(pid, started)
                if self._interrupted:
                    end_marked(self._mark)
                rc = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            except BaseException:
                end_marked(self._mark)
                raise
        debug = self._packer.folders.debug_log
        return Outcome(
            rc=rc,
            report=self._parser.report,
            stderr=b"".join(self._stderr).decode("utf-8", errors="replace"),
            debug=debug.read_text(encoding="utf-8", errors="replace") if debug.is_file() else "",
            seconds=time.monotonic() - started,
            interrupted=self._interrupted,
            stage=self._stage or self._parser.report.stage,
        )

    @contextlib.contextmanager
    def _registered(self, descriptors: t.Mapping[str, int], handles: t.Mapping[str, int | None]) -> t.Iterator[None]:
        """Listen to pipes and to handles of processes; the handles are closed in the end."""
        with contextlib.ExitStack() as stack:
            for name, descriptor in {**descriptors, **handles}.items():
                if descriptor is not None:
                    self._selector.register(descriptor, selectors.EVENT_READ, name)
            for handle in handles.values():
                if handle is not None:
                    stack.callback(os.close, handle)
            yield

    def _read_to_the_end(self, pid: int, started: float) -> None:
        """Read until Packer has ended. Programs that it leaves behind may hold the pipes open: its end counts, not theirs."""
        deadline = started + self._timeout if self._timeout else float("inf")
        while True:
            events = {key.data: key.fd for key, _mask in self._selector.select(min(HEARTBEAT_SECONDS, max(0.0, deadline - time.monotonic())))}
            reason = "" if events else self._beat()
            self._read(events)
            if "end" in events and "out" not in events:
                return
            reason = reason or self._reason_to_stop(events, deadline)
            if reason and not self._interrupted:
                self._interrupted, self._stage = reason, self._parser.report.stage
                _cancel(pid, self._mark)
                deadline = time.monotonic() + grown(CANCEL_SECONDS)
            elif self._interrupted and time.monotonic() >= deadline:
                return

    def _read(self, events: t.Mapping[str, int]) -> None:
        """Take in what Packer wrote; what has ended is not looked at again."""
        for name in ("err", "out"):
            if name not in events:
                continue
            data = os.read(events[name], 65536)
            if not data:
                self._selector.unregister(events[name])
            if name == "err":
                self._stderr.append(data)
            else:
                self._lines(data)
        if "owner" in events:
            self._selector.unregister(events["owner"])

    def _lines(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n") if data else [self._rest, b""]
        for line in lines:
            for shown in self._parser.feed(line.decode("utf-8", errors="replace")) if line else ():
                self._listen(shown)

    def _reason_to_stop(self, events: t.Mapping[str, int], deadline: float) -> str:
        if "signal" in events:
            return f"it was interrupted by {signal.Signals(os.read(events['signal'], 1)[0]).name}"
        if "owner" in events:
            return "the playbook that wanted it has ended"
        if time.monotonic() >= deadline:
            return f"it did not end within {self._timeout:g} s"
        return ""


class _Pipes:
    """Two pipes for the output of a program."""

    def __enter__(self) -> _Pipes:
        self.out, self.err = os.pipe(), os.pipe()
        self._open = {*self.out, *self.err}
        return self

    def close_writers(self) -> None:
        """The program has them now."""
        for descriptor in (self.out[1], self.err[1]):
            os.close(descriptor)
            self._open.discard(descriptor)

    def __exit__(self, *dummy: object) -> None:
        for descriptor in self._open:
            os.close(descriptor)


@contextlib.contextmanager
def _signals() -> t.Iterator[int]:
    """A file descriptor that gets the number of each signal that asks for the end; the signals do nothing else meanwhile."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = {number: signal.signal(number, lambda *_arguments: None) for number in SIGNALS}
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


def _cancel(pid: int, mark: str) -> None:
    """Ask Packer to clean up. It waits for its provisioners, so these are ended; its plugins and machines are left to it."""
    # The process that was started only wraps Packer: it passes SIGTERM on and ignores SIGINT, which a terminal sends to both.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    for process in marked(mark):
        if process.pid != pid and not program_of(process).startswith(("packer", "qemu-system")) and process.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)


def _end_after_kill(mark: str) -> None:
    end_marked(mark)
    shutil.rmtree(mark, ignore_errors=True)


def marked(mark: str) -> list[ProcessIdentity]:
    """The processes that a run of Packer started, directly or not: they have its mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    identity = ProcessIdentity.of(int(folder.name))
                    found += [identity] if identity else []
    return found


def arguments_of(pid: int) -> list[str]:
    """The arguments of a process; none when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", errors="replace").split("\0")
    except OSError:
        return []


def program_of(process: ProcessIdentity) -> str:
    """The name of the program of a process; empty when it has ended."""
    return Path((arguments_of(process.pid) or [""])[0]).name


def end_marked(mark: str, spare: t.Callable[[ProcessIdentity], bool] = lambda _process: False) -> list[ProcessIdentity]:
    """End what a run of Packer started and return what was spared."""
    processes = marked(mark)
    kept = [process for process in processes if spare(process)]
    for process in processes:
        if process not in kept:
            process.end(grace=5.0)
    return kept


def write_variables(folder: Path, variables: t.Mapping[str, t.Any]) -> Path:
    """A variable file in JSON that only its owner can read: values do not show up in the list of processes."""
    path = folder / "variables.pkrvars.json"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        json.dump({name: value for name, value in variables.items() if value is not None}, stream)
    return path
