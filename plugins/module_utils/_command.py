# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Run programs: the only place of the collection that does so."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, ToolError

ADMIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TAIL_LINES = 12


@dataclasses.dataclass(frozen=True)
class CommandResult:
    """What a finished program left behind; ``seconds`` is wall time."""

    argv: tuple[str, ...]
    rc: int
    stdout: str
    stderr: str
    seconds: float


class Command:
    """A program that was found once and is run with argument lists, a fixed locale and no shell."""

    def __init__(
        self,
        program: str,
        *,
        reason: str,
        package: str | None = None,
        environment: t.Mapping[str, str] | None = None,
        prefix: t.Sequence[str] = (),
    ) -> None:
        """Find ``program`` on PATH and in the system folders.

        ``reason`` completes the sentence "<program> is required to <reason>". ``package`` is the Debian package that has it.
        ``prefix`` is put before every call, for instance an ``nsenter`` call; the program is then found by that call.
        """
        self.program = program
        self._prefix = tuple(prefix)
        self._environment = dict(environment or {})
        path = program if prefix else shutil.which(program, path=os.environ.get("PATH", "") + ":" + ADMIN_PATH)
        if path is None:
            remedy = f"install the package {package}" if package else "install it or add its folder to PATH"
            raise ToolError(f"{program} is required to {reason}, but it was not found; {remedy}.", program=program)
        self.path = path

    def argv(self, *args: str | os.PathLike[str]) -> list[str]:
        """The full argument list of a call."""
        return [*self._prefix, self.path, *(os.fspath(arg) for arg in args)]

    def environment(self) -> dict[str, str]:
        """The environment of a call: small, with a fixed locale."""
        kept = {key: os.environ[key] for key in ("HOME", "TMPDIR", "SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy") if key in os.environ}
        return {
            "HOME": "/root",
            **kept,
            "PATH": os.environ.get("PATH", "") + ":" + ADMIN_PATH,
            "LC_ALL": "C.UTF-8",
            "LANGUAGE": "C",
            **self._environment,
        }

    def run(
        self,
        *args: str | os.PathLike[str],
        attempt: str,
        accepted: t.Collection[int] = (0,),
        stdin: bytes | None = None,
        timeout: float | None = None,
        remedy: str = "",
        cwd: str | os.PathLike[str] | None = None,
        pass_fds: t.Sequence[int] = (),
    ) -> CommandResult:
        """Run the program to its end.

        ``attempt`` completes "Cannot <attempt>: …" and names the object. ``timeout`` is in seconds.
        Raises CommandError when the exit code is not in ``accepted``.
        """
        argv = self.argv(*args)
        started = time.monotonic()
        try:
            done = subprocess.run(
                argv,
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                env=self.environment(),
                cwd=cwd,
                timeout=timeout,
                pass_fds=pass_fds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CommandError(
                f"Cannot {attempt}: {self.program} did not end within {timeout:g} s. {remedy}".strip(),
                cmd=argv,
                stdout=_text(error.stdout),
                stderr=_text(error.stderr),
            ) from error
        except OSError as error:
            raise CommandError(f"Cannot {attempt}: {shlex.join(argv)} could not be started: {error.strerror}. {remedy}".strip(), cmd=argv) from error
        result = CommandResult(tuple(argv), done.returncode, _text(done.stdout), _text(done.stderr), time.monotonic() - started)
        if result.rc not in accepted:
            raise CommandError(
                f"Cannot {attempt}: {explain(self.program, result)} {remedy}".strip(),
                cmd=argv,
                rc=result.rc,
                stdout=result.stdout,
                stderr=result.stderr,
            )
        return result

    def run_json(self, *args: str | os.PathLike[str], attempt: str, accepted: t.Collection[int] = (0,), timeout: float | None = None) -> t.Any:
        """Run the program and parse its output as JSON."""
        result = self.run(*args, attempt=attempt, accepted=accepted, timeout=timeout)
        try:
            return json.loads(result.stdout)
        except ValueError as error:
            raise CommandError(
                f"Cannot {attempt}: {self.program} printed something that is not JSON.",
                cmd=list(result.argv),
                rc=result.rc,
                stdout=result.stdout,
                stderr=result.stderr,
            ) from error

    def spawn(
        self,
        *args: str | os.PathLike[str],
        stdout: int,
        stderr: int,
        stdin: int = subprocess.DEVNULL,
        pass_fds: t.Sequence[int] = (),
        prepare: t.Callable[[], None] | None = None,
    ) -> int:
        """Start the program in a session of its own and return its pid; file descriptors are handed over for its input and output.

        ``prepare`` runs in the new process before the program does.
        """
        child = subprocess.Popen(  # pylint: disable=consider-using-with
            self.argv(*args),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=self.environment(),
            cwd="/" if prepare else None,
            start_new_session=True,
            pass_fds=pass_fds,
            preexec_fn=prepare,
        )
        child.returncode = 0
        return child.pid

    def version(self, *args: str, pattern: str = r"(\d+)\.(\d+)(?:\.(\d+))?") -> tuple[int, ...]:
        """The first version number that the program prints."""
        arguments = args or ("--version",)
        found = re.search(pattern, self.run(*arguments, attempt=f"read the version of {self.program}").stdout)
        if found is None:
            raise ToolError(f"Cannot read the version of {self.program}: it printed no version number.", program=self.program)
        return tuple(int(part) for part in found.groups() if part is not None)


def explain(program: str, result: CommandResult) -> str:
    """One sentence on how a program ended, with the last lines that it wrote."""
    if result.rc < 0:
        ended = f"{program} was ended by signal {signal.Signals(-result.rc).name}"
    elif result.rc == 127:
        ended = f"{program} was not found"
    else:
        ended = f"{program} ended with exit code {result.rc}"
    lines = (result.stderr.strip() or result.stdout.strip()).splitlines()[-TAIL_LINES:]
    return f"{ended}: {' | '.join(line.strip() for line in lines)}." if lines else f"{ended} without a message."


def _text(data: bytes | str | None) -> str:
    if data is None:
        return ""
    return data if isinstance(data, str) else data.decode("utf-8", errors="replace")
