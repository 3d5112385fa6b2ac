# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Tell from what Packer, QEMU, the provisioner and the serial console said why a build failed."""

from __future__ import annotations

import itertools
import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._packer import Outcome
from ansible_collections.hyperscaler.images.plugins.module_utils._serial_log import Diagnosis, SshOutcome, diagnose, final_failure, output_failure, seeded, tail

EVIDENCE_LINES = 12

_QEMU = re.compile(r"Qemu stderr: (.*)")
_FATAL = re.compile(r"^(?:fatal|failed): \[")
# From the first to the second, ansible-core 2.19 and newer tell what a task said.
_TOLD = re.compile(r"^\[ERROR\]: Task failed")
_PLACE = re.compile(r"^(?:Origin: |fatal: \[|TASK \[|PLAY )")
_STATUS = re.compile(r"[Nn]on-zero exit status: (?:exit status )?(\d+)")
_SSH_STAGES = (
    ("refused", re.compile(r"unable to authenticate")),
    ("closed", re.compile(r"connection reset|connection refused|handshake failed: EOF")),
    ("silent", re.compile(r"i/o timeout|handshaking with SSH|Attempting SSH connection")),
)
# What Packer says, what kind of failure that is, the sentence, and what to do.
_RULES: tuple[tuple[str, str, str, str], ...] = (
    (
        r"Output directory '([^']*)' already exists",
        "output_exists",
        "The folder {0} for the result exists already.",
        "Remove or rename it, or set force to true to replace it.",
    ),
    (
        r'Failed getting the "([^"]*)" plugin',
        "init_failed",
        "The plugin {0} could not be fetched.",
        "Where its server cannot be reached, put the plugins into a folder and name it as plugin_folder; docs/packer.md says how to fill it.",
    ),
    (
        r"Missing plugins|Did you run packer init|[Uu]nknown (?:source|builder|provisioner) type|Unknown (?:source|provisioner)",
        "plugin_missing",
        "Packer does not have a plugin that the template needs.",
        "Set init to true so that it is fetched, or name a folder that has it as plugin_folder.",
    ),
    (r'Unset variable "([^"]*)"', "variable_not_set", "The variable {0} of the template has no value.", "Set it in vars or in one of the var_files."),
    (
        r"Error: (.+)",
        "template_error",
        "The template or a variable file is wrong: {0}.",
        "Correct it at the place that the evidence names, and check it with `packer validate`.",
    ),
    (
        r"Qemu failed to start",
        "qemu_failed",
        "QEMU did not start.",
        "Look at the lines of QEMU in the evidence: an argument in qemuargs, the memory, the firmware or the accelerator is the usual cause.",
    ),
    (
        r"[Tt]imeout while waiting for machine to shut ?down",
        "shutdown_timeout",
        "The virtual machine did not shut down in time.",
        "Look at the last lines of the console for what held it up, or allow more time (shutdown_timeout).",
    ),
    (
        r"(?:checksum|Checksum)s? did not match|ISO download failed|Error downloading|[Ee]rror (?:downloading|retrieving) ISO",
        "base_image",
        "The base image is missing or is not what its checksum says.",
        "Correct its path and checksum in the variables.",
    ),
)
_ANSIBLE = {"2": "a task failed", "4": "the virtual machine could not be reached", "1": "the playbook could not be run", "99": "it was interrupted"}


def explain_failure(outcome: Outcome, console: str, command: str) -> Diagnosis:
    """The kind of failure, a sentence on it, the lines that show it and what to do."""
    if outcome.interrupted:
        return (lasting_failure(console, outcome.debug) if outcome.stage == "boot" else None) or _interrupted(outcome, console)
    said = "\n".join((outcome.report.text(), outcome.stderr))
    qemu = _QEMU.findall(outcome.debug)
    machine = output_failure("\n".join(qemu))
    if machine is not None:
        return machine
    if "Timeout waiting for SSH" in said:
        return diagnose(console, ssh_outcome(outcome.debug))
    provisioner = _provisioner(outcome)
    if provisioner is not None:
        return provisioner
    for pattern, kind, summary, advice in _RULES:
        found = re.search(pattern, said)
        if found is not None:
            return Diagnosis(kind, summary.format(*(group.rstrip(".") for group in found.groups())), advice, _evidence(outcome, qemu))
    if command == "build" and not outcome.report.artifacts and not outcome.report.errors:
        return Diagnosis(
            "no_artifact",
            "Packer built nothing.",
            "Make sure that only and except leave a build over; a name is that of the build, the type and the source, joined by dots.",
            _evidence(outcome, qemu),
        )
    reasons = "; ".join(f"{build}: {message}" for build, message in outcome.report.errors)
    return Diagnosis("packer_failed", reasons.rstrip(".") + "." if reasons else "Packer failed.", "Look at the log.", _evidence(outcome, qemu))


def lasting_failure(console: str, debug: str) -> Diagnosis | None:
    """Why it makes no sense to wait for SSH any longer, if that is so; ``debug`` is Packer's own log."""
    found = final_failure(console)
    if found is None and seeded(console) and refusals(debug):
        found = diagnose(console, ssh_outcome(debug))
    return found


def refusals(debug: str) -> int:
    """How often the SSH server refused the login, from Packer's own log."""
    return len(_SSH_STAGES[0][1].findall(debug))


def ssh_outcome(debug: str) -> SshOutcome:
    """How far Packer came with SSH, from its own log."""
    for stage, pattern in _SSH_STAGES:
        found = [line for line in debug.splitlines() if pattern.search(line)]
        if found:
            return SshOutcome(stage, found[-1].rpartition("] ")[2].strip() if stage == "refused" else "")
    return SshOutcome()


def _interrupted(outcome: Outcome, console: str) -> Diagnosis:
    timed_out = "did not end within" in outcome.interrupted
    return Diagnosis(
        "timeout" if timed_out else "interrupted",
        f"Packer was ended in the stage {outcome.stage}: {outcome.interrupted}.",
        "Allow more time (timeout), or look at the last lines for what hangs." if timed_out else "Everything that it started has been ended. Run it again.",
        tuple(tail(console, 6)) or _evidence(outcome, []),
    )


def _provisioner(outcome: Outcome) -> Diagnosis | None:
    lines = [line.text for line in outcome.report.lines if line.build]
    told = _told(lines)
    # A program that ended with an error told it in its output, which only the other line has.
    failed = told if len(told) > 1 else [text for text in lines if _FATAL.match(text)][-3:]
    statuses = [(message, found.group(1)) for _build, message in outcome.report.errors for found in [_STATUS.search(message)] if found]
    if not statuses:
        return None
    cause = output_failure("\n".join(lines))
    evidence = tuple(failed or lines[-EVIDENCE_LINES:])
    message, status = statuses[-1]
    if cause is not None:
        return Diagnosis(cause.kind, f"The provisioner failed. {cause.summary}", cause.advice, cause.evidence)
    if "nsible" in message:
        meaning = _ANSIBLE.get(status, "see the log")
        task = next((text for text in reversed(lines) if text.startswith("TASK [")), "").rstrip(" *")
        where = f" in {task}" if task and status == "2" else ""
        advice = "Correct the task, or keep the virtual machine to look around in it (on_error: keep)."
        return Diagnosis("provisioner_failed", f"Ansible ended with exit code {status}: {meaning}{where}.", advice, evidence)
    return Diagnosis("provisioner_failed", f"A provisioner failed: {message.rstrip('.')}.", "Look at the lines before it in the log.", evidence)


def _told(lines: t.Sequence[str]) -> list[str]:
    """What the last task that failed said."""
    starts = [number for number, text in enumerate(lines) if _TOLD.match(text)]
    if not starts:
        return []
    said = itertools.takewhile(lambda text: not _PLACE.match(text), lines[starts[-1] :])
    return [text for text in said if text.strip()][:EVIDENCE_LINES]


def _evidence(outcome: Outcome, qemu: t.Sequence[str]) -> tuple[str, ...]:
    report = outcome.report
    if qemu:
        return tuple(line for line in qemu if line.strip())[-EVIDENCE_LINES:]
    if report.diagnostics:
        return tuple(line for block in report.diagnostics for line in block.splitlines() if line.strip())[:EVIDENCE_LINES]
    errors = [line.text for line in report.lines if line.level in ("error", "stray") and line.text.strip()]
    return tuple((errors or outcome.stderr.strip().splitlines())[-EVIDENCE_LINES:])
