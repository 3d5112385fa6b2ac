# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""What the module packer_build does: check the inputs, run Packer in a staging folder, put the result in its place or explain the failure."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import shutil
import time
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._digest import changes, document_digest
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import BusyError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import file_digest, write_atomic
from ansible_collections.hyperscaler.images.plugins.module_utils._output import exchange
from ansible_collections.hyperscaler.images.plugins.module_utils._packer import (
    Folders,
    Outcome,
    Packer,
    PackerError,
    arguments_of,
    end_marked,
    program_of,
    run_folders,
    write_variables,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._packer_console import Console
from ansible_collections.hyperscaler.images.plugins.module_utils._packer_failure import explain_failure
from ansible_collections.hyperscaler.images.plugins.module_utils._packer_stream import Report, UiLine, stage_of
from ansible_collections.hyperscaler.images.plugins.module_utils._process import ProcessIdentity
from ansible_collections.hyperscaler.images.plugins.module_utils._serial_log import Diagnosis, tail

RECORD = "packer_build.json"
SECRET = re.compile(r"pass(word|wd|phrase)?$|secret|token|private_key|credential", re.IGNORECASE)
NO_INIT = "Packer {0} has its plugins built in and no init (that came with 1.7): nothing had to be fetched."

NOT_BUILT_IN = "Packer {0} has its plugins built in and takes no others. Use one that it has, which the evidence may list, or install Packer 1.7 or newer."


@dataclasses.dataclass(frozen=True)
class Job:
    """What a user asks for; ``timeout`` is in seconds."""

    command: str
    executable: str
    template: Path
    var_files: tuple[Path, ...] = ()
    variables: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    only: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    inputs: tuple[Path, ...] = ()
    output: Path | None = None
    output_variable: str = "output_directory"
    force: bool = False
    on_error: str = "cleanup"
    parallel_builds: int = 0
    timeout: int = 0
    init: bool = True
    plugin_folder: Path | None = None
    log: Path | None = None
    debug: bool = False
    serial_log: Path | None = None
    monitor_variable: str = ""
    ssh_username: str = ""
    ssh_private_key_file: str = ""

    @property
    def staging(self) -> Path | None:
        """Where the result is made before it is put in its place."""
        return self.output.with_name(f".{self.output.name}.packer") if self.output else None


class Work:
    """One job being done. ``show`` gets a line for each thing that happens; ``owner`` is the pid of the playbook."""

    def __init__(self, job: Job, show: t.Callable[[str], None], owner: int | None) -> None:
        self.job = job
        self._show = show
        self._owner = owner
        self._started = time.monotonic()
        self._stage = "prepare"
        self._console: Console | None = None
        self._hopeless: Diagnosis | None = None
        self._last_line = ""

    def do(self) -> dict[str, t.Any]:
        """Do it and return the result of the module. Raises PackerError with the diagnosis."""
        job = self.job
        _require_files(job)
        with run_folders(job.plugin_folder) as folders:
            packer = Packer(job.executable, folders)
            result: dict[str, t.Any] = {"changed": False, "version": packer.version_text}
            if job.command == "format":
                return {**result, **self._format(packer)}
            if job.command == "build" and not job.force:
                document = inputs_of(job, packer.version_text)
                reason = stale_reason(job, document)
                if not reason:
                    return {**result, "msg": f"{job.output} is up to date.", "artifacts": recorded_artifacts(job), "warnings_of_packer": []}
                self._say(f"Building, because {reason}.")
            with self._log(), self._locked():
                return {**result, **self._prepared(packer, folders)}

    def _prepared(self, packer: Packer, folders: Folders) -> dict[str, t.Any]:
        monitor = folders.base / "monitor" if self.job.monitor_variable else None
        self._console = Console(self.job.serial_log, monitor, folders.debug_log)
        plugins = set(packer.folders.plugins.rglob("*"))
        init = self._init(packer)
        if self.job.command == "init":
            return {"msg": init, "changed": set(packer.folders.plugins.rglob("*")) != plugins}
        variables = dict(self.job.variables)
        if self.job.staging is not None:
            variables[self.job.output_variable] = str(self.job.staging)
        if monitor is not None:
            variables[self.job.monitor_variable] = str(monitor)
        arguments = [
            *(f"-{name}={','.join(values)}" for name, values in (("only", self.job.only), ("except", self.job.excluded)) if values),
            *(f"-var-file={path}" for path in self.job.var_files),
            f"-var-file={write_variables(folders.base, variables)}",
            str(packer.template(self.job.template)),
        ]
        if self.job.command == "validate":
            outcome = self._run(packer, "validate", *arguments)
            return {"msg": f"{self.job.template} is valid for Packer {packer.version_text}.", "warnings_of_packer": outcome.report.warnings, "init": init}
        return {**self._build(packer, arguments), "init": init, "changed": True}

    def _init(self, packer: Packer) -> str:
        if not packer.has_init:
            return NO_INIT.format(packer.version_text)
        if not self.job.init:
            return "init was switched off."
        self._run(packer, "init", str(self.job.template))
        return f"The plugins that {self.job.template} needs are in {packer.folders.plugins}."

    def _format(self, packer: Packer) -> dict[str, t.Any]:
        """Ask only; exit code 3 says that a file would be written differently."""
        done = packer.command.run(
            "fmt", "-check", "-diff", str(self.job.template), attempt=f"check the format of {self.job.template}", accepted=(0, 3), timeout=60
        )
        text = done.stdout.strip()
        if done.rc == 3:
            raise PackerError(
                f"The format of {self.job.template} is not Packer's. Run `packer fmt {self.job.template}` and look at what it changes.\n{text}",
                kind="not_formatted",
                version=packer.version_text,
            )
        return {"msg": f"The format of {self.job.template} is Packer's."}

    def _build(self, packer: Packer, arguments: t.Sequence[str]) -> dict[str, t.Any]:
        job, staging = self.job, self.job.staging
        if staging is not None:
            _remove_former_staging(staging)
            staging.parent.mkdir(parents=True, exist_ok=True)
        if job.serial_log is not None:
            # What a former machine wrote says nothing of this one.
            job.serial_log.unlink(missing_ok=True)
        mode = {"cleanup": "cleanup", "abort": "abort", "keep": "abort"}[job.on_error]
        options = [f"-on-error={mode}", *(["-force"] if job.force else []), *([f"-parallel-builds={job.parallel_builds}"] if job.parallel_builds else [])]
        try:
            outcome = self._run(packer, "build", *options, *arguments)
        except PackerError as error:
            if job.on_error != "keep":
                end_marked(str(packer.folders.base))
            if staging is not None and job.on_error == "cleanup":
                shutil.rmtree(staging, ignore_errors=True)
            kept = self._kept_machines(packer) if job.on_error == "keep" else []
            raise PackerError("\n".join([str(error), *kept]), **{**error.details, "kept": kept}) from error
        end_marked(str(packer.folders.base))
        artifacts = [artifact.to_dict() for artifact in outcome.report.artifacts]
        if job.output is not None and staging is not None:
            artifacts = json.loads(json.dumps(artifacts).replace(json.dumps(str(staging))[1:-1], json.dumps(str(job.output))[1:-1]))
            document = inputs_of(job, packer.version_text)
            staging.mkdir(exist_ok=True)
            record = {"digest": document_digest(document), "inputs": document, "artifacts": artifacts, "version": packer.version_text}
            write_atomic(staging / RECORD, json.dumps(record, indent=1, sort_keys=True) + "\n")
            put_in_place(staging, job.output)
        return {
            "msg": f"Packer {packer.version_text} built {', '.join(sorted({artifact['build'] for artifact in artifacts}))} in {outcome.seconds:.0f} s.",
            "artifacts": artifacts,
            "stages": outcome.report.seconds(_last_time(outcome.report)),
            "seconds": round(outcome.seconds, 1),
            "warnings_of_packer": outcome.report.warnings,
        }

    def _run(self, packer: Packer, command: str, *arguments: str) -> Outcome:
        self._stage = command
        outcome = packer.run(command, *arguments, listen=self._listen, beat=self._beat, timeout=self.job.timeout, owner=self._owner)
        self._keep_debug_log(packer)
        built = command != "build" or bool(outcome.report.artifacts)
        if outcome.rc != 0 or outcome.interrupted or not built:
            raise self._failure(packer, outcome, command)
        return outcome

    def _failure(self, packer: Packer, outcome: Outcome, command: str) -> PackerError:
        console = self._console.text() if self._console else ""
        found = self._hopeless or explain_failure(outcome, console, command)
        # An older Packer reads a view of the template; people know its files by the places of their own.
        view = str(packer.view)
        found = dataclasses.replace(found, evidence=tuple(line.replace(view, str(self.job.template)) for line in found.evidence))
        if found.kind == "plugin_missing" and not packer.has_init:
            found = dataclasses.replace(found, advice=NOT_BUILT_IN.format(packer.version_text))
        lines = tail(console)
        parts = [f"Cannot {command} {self.job.template} with Packer: {found.summary}", found.advice]
        parts += ["Evidence:", *(f"  {line}" for line in found.evidence)] if found.evidence else []
        parts += [f"Last lines of the console ({self.job.serial_log}):", *(f"  {line}" for line in lines)] if lines and command == "build" else []
        parts += [f"The whole log: {self.job.log}"] if self.job.log else []
        return PackerError(
            "\n".join(parts),
            kind=found.kind,
            evidence=list(found.evidence),
            advice=found.advice,
            serial_tail=lines,
            rc=outcome.rc,
            stage=outcome.stage,
            errors=dict(outcome.report.errors),
        )

    def _listen(self, line: UiLine) -> None:
        self._stage = stage_of(line) or self._stage
        if line.text.strip():
            self._say(line.text, line.build)

    def _beat(self) -> str:
        """Packer says nothing: show what the console says, and give up when it shows a failure that a guest does not recover from."""
        if self._console is None:
            return ""
        console = self._console.text()
        last = (tail(console, 1) or [""])[0].strip()
        self._say(last if last != self._last_line else "…")
        self._last_line = last
        # One that is to be kept is left to Packer, which waits for SSH in vain and then leaves it running.
        if self._stage == "boot" and self.job.on_error != "keep":
            self._hopeless = self._console.lasting_failure(console)
        return f"it cannot be logged in to ({self._hopeless.summary.rstrip('.')})" if self._hopeless else ""

    def _say(self, text: str, build: str = "") -> None:
        self._show(f"[{time.monotonic() - self._started:5.0f} s] {self._stage}{' ' + build if build else ''}: {text}")

    @contextlib.contextmanager
    def _log(self) -> t.Iterator[None]:
        """The lines go to the log as well, whoever else looks at them."""
        if self.job.log is None:
            yield
            return
        self.job.log.parent.mkdir(parents=True, exist_ok=True)
        with self.job.log.open("w", encoding="utf-8") as stream:
            show = self._show

            def both(line: str) -> None:
                stream.write(f"{line}\n")
                stream.flush()
                show(line)

            self._show = both
            try:
                yield
            finally:
                self._show = show

    def _keep_debug_log(self, packer: Packer) -> None:
        log = packer.folders.debug_log
        if self.job.debug and self.job.log is not None and log.is_file():
            kept = self.job.log.with_name(f"{self.job.log.name}.debug")
            shutil.copyfile(log, kept)
            kept.chmod(0o600)

    @contextlib.contextmanager
    def _locked(self) -> t.Iterator[None]:
        if self.job.output is None or self.job.command != "build":
            yield
            return
        lock = self.job.output.with_name(f".{self.job.output.name}.packer.lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("w", encoding="ascii") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BusyError(f"Cannot build {self.job.output}: another run of Packer builds it now. Wait for its end.") from error
            yield

    def _kept_machines(self, packer: Packer) -> list[str]:
        kept = end_marked(str(packer.folders.base), spare=is_machine)
        if not kept:
            return ["No virtual machine was left to be kept."]
        lines = []
        for machine in kept:
            port = ssh_port(arguments_of(machine.pid))
            key = f" -i {self.job.ssh_private_key_file}" if self.job.ssh_private_key_file else ""
            user = f"{self.job.ssh_username}@" if self.job.ssh_username else ""
            if port:
                lines.append(f"The virtual machine was kept. Log in: ssh -p {port}{key} -o UserKnownHostsFile=/dev/null {user}127.0.0.1")
            folder = f"; rm -r {self.job.staging}" if self.job.staging else ""
            lines.append(f"End it: kill {machine.pid}{folder}")
        return lines


def _require_files(job: Job) -> None:
    if not job.template.is_dir() or not [*job.template.glob("*.pkr.hcl"), *job.template.glob("*.pkr.json")]:
        raise PackerError(f"Cannot use the template {job.template}: it is no folder with files *.pkr.hcl. Name the folder of the template.")
    for option, paths in (("var_files", job.var_files), ("inputs", job.inputs)):
        for path in paths:
            if not path.is_file():
                raise PackerError(f"Cannot {job.command} {job.template}: the file {path} does not exist. Correct {option}.")


def without_secrets(name: str, value: t.Any) -> t.Any:
    """The value of a variable of Packer as it may be written down: of a secret only a digest, so that a change is still seen."""
    return f"sha256:{document_digest(value)}" if value and SECRET.search(name) else value


def inputs_of(job: Job, version: str) -> dict[str, t.Any]:
    """What shapes the result; of values that look like secrets only a digest."""
    names = sorted(path for path in job.template.rglob("*") if path.is_file())
    return {
        "template": {path.relative_to(job.template).as_posix(): file_digest(path) for path in names},
        "files": {str(path): file_digest(path) for path in (*job.var_files, *job.inputs)},
        "variables": {name: without_secrets(name, value) for name, value in sorted(job.variables.items())},
        "builds": {"only": list(job.only), "except": list(job.excluded)},
        "packer": version,
    }


def stale_reason(job: Job, document: t.Mapping[str, t.Any]) -> str:
    """Why there is something to build; empty when the output was built from the same inputs and its files are there."""
    if job.output is None:
        return "no output was named that could be up to date"
    try:
        record = json.loads((job.output / RECORD).read_text(encoding="utf-8"))
        before, files = record["inputs"], [path for artifact in record["artifacts"] for path in artifact["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return f"{job.output} was not built yet"
    missing = [path for path in files if not Path(path).exists()]
    if missing:
        return f"{missing[0]} is missing"
    return ", ".join(changes(before, json.loads(json.dumps(document, default=str)))[:3])


def recorded_artifacts(job: Job) -> list[dict[str, t.Any]]:
    """The artifacts of the build that is there."""
    artifacts: list[dict[str, t.Any]] = json.loads((t.cast(Path, job.output) / RECORD).read_text(encoding="utf-8"))["artifacts"]
    return artifacts


def put_in_place(staging: Path, output: Path) -> None:
    """Make the staging folder the output in one step; what was there is removed."""
    if output.exists():
        exchange(staging, output)
        shutil.rmtree(staging)
    else:
        staging.rename(output)


def _remove_former_staging(staging: Path) -> None:
    """A build that was killed leaves its folder; a machine that was kept still uses it."""
    if not staging.exists():
        return
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and any(str(staging) in argument for argument in arguments_of(int(folder.name))[1:]) and int(folder.name) != os.getpid():
            identity = ProcessIdentity.of(int(folder.name))
            if identity is not None and is_machine(identity):
                raise BusyError(f"Cannot build in {staging}: the virtual machine of a former build still uses it. End it with: kill {identity.pid}")
    shutil.rmtree(staging)


def is_machine(process: ProcessIdentity) -> bool:
    """Whether a process is a QEMU."""
    return program_of(process).startswith("qemu-system")


def ssh_port(arguments: t.Sequence[str]) -> int:
    """The port of this host that a QEMU forwards to SSH; 0 when there is none."""
    found = re.search(r"hostfwd=tcp:[^:,]*:(\d+)-[^:,]*:22\b", " ".join(arguments))
    return int(found.group(1)) if found else 0


def _last_time(report: Report) -> int:
    return max((line.time for line in report.lines), default=0)
