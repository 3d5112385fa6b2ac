# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the explanation of failed builds, on streams of Packer 1.6.6 and 1.16.0 and on consoles of real boots."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._packer import Outcome
from ansible_collections.hyperscaler.images.plugins.module_utils._packer_failure import explain_failure, refusals, ssh_outcome
from ansible_collections.hyperscaler.images.plugins.module_utils._packer_stream import parse
from ansible_collections.hyperscaler.images.plugins.module_utils._serial_log import plain_text
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils import serial_log_captures as captures

STREAMS = Path(__file__).parent / "fixtures/packer"
VERSIONS = ("1.6.6", "1.16.0")
# As Packer 1.6.6 and 1.16.0 write them.
REFUSED = (
    "2026/11/21 06:00:01 packer-builder-qemu plugin: [INFO] Attempting SSH connection to 127.0.0.1:4431...\n"
    "2026/11/21 06:00:02 packer-builder-qemu plugin: [DEBUG] SSH handshake err: ssh: handshake failed: ssh: unable to authenticate, "
    "attempted methods [none publickey], no supported methods remain\n"
)
# The line that follows, of Packer 1.6.6.
REFUSED_AGAIN = "2026/11/21 06:00:02 packer-builder-qemu plugin: [DEBUG] Detected authentication error. Increasing handshake attempts.\n"
CLOSED = "2026/11/21 06:00:02 [DEBUG] SSH handshake err: ssh: handshake failed: read tcp 127.0.0.1:60200->127.0.0.1:4431: read: connection reset by peer\n"
QEMU_KVM = "2026/11/21 06:00:02 Qemu stderr: qemu-system-x86_64: error: failed to set MSR 0x10a to 0x0\n"
QEMU_ARGUMENT = "2026/11/21 06:00:02 Qemu stderr: qemu-system-x86_64: -cpu nonsense: unable to find CPU model 'nonsense'\n"


def outcome(name: str = "", *, text: str = "", debug: str = "", stderr: str = "", interrupted: str = "") -> Outcome:
    stream = (STREAMS / f"{name}.txt").read_text(encoding="utf-8") if name else text
    report = parse(stream)
    return Outcome(1, report, stderr, debug, 1.0, interrupted, report.stage)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("name", "kind", "summary", "evidence"),
    [
        ("output-exists", "output_exists", "The folder /build/out5 for the result exists already.", "* Output directory '/build/out5' already exists."),
        ("variable-not-set", "variable_not_set", "The variable must of the template has no value.", 'Error: Unset variable "must"'),
        ("syntax-error", "template_error", "The template or a variable file is wrong: ", "on f4/a.pkr.hcl line 3"),
        ("qemu-fails-to-start", "qemu_failed", "QEMU did not start.", "Error launching VM: Qemu failed to start."),
        ("provisioner-fails", "provisioner_failed", "Ansible ended with exit code 2: a task failed in TASK [", "fatal: [default]: FAILED!"),
    ],
)
def test_each_failure_is_told_apart(version: str, name: str, kind: str, summary: str, evidence: str) -> None:
    found = explain_failure(outcome(f"{version}-{name}"), "", "build")
    assert found.kind == kind
    assert found.summary.startswith(summary)
    assert found.summary.endswith(".")
    assert found.advice
    assert any(evidence in line for line in found.evidence)


@pytest.mark.parametrize(
    ("name", "kind", "named"),
    [("1.16.0-plugin-missing", "plugin_missing", "plugin_folder"), ("1.16.0-init-offline", "init_failed", "github.com/hashicorp/ansible")],
)
def test_plugins(name: str, kind: str, named: str) -> None:
    found = explain_failure(outcome(name), "", "init")
    assert found.kind == kind
    assert named in found.summary + found.advice


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("console", "debug", "kind"),
    [
        (captures.KERNEL_PANIC, "", "kernel_panic"),
        (captures.ROOT_NOT_FOUND, "", "root_not_found"),
        (captures.UEFI_SHELL, "", "no_boot_loader"),
        (captures.NO_NETWORK, CLOSED, "no_network"),
        (captures.SSHD_NOT_UP, CLOSED, "sshd_not_up"),
        (captures.OTHER_KEY, REFUSED, "authentication_refused"),
        (captures.BROKEN_SEED, REFUSED, "cloud_init_error"),
        (b"", "", "no_console_output"),
    ],
)
def test_what_kept_ssh_from_coming_up(version: str, console: bytes, debug: str, kind: str) -> None:
    assert explain_failure(outcome(f"{version}-ssh-timeout", debug=debug), plain_text(console), "build").kind == kind


def test_the_console_can_end_a_build_early() -> None:
    stopped = outcome(
        text="1,,ui,say,==> q.x: Waiting for SSH to become available...", interrupted="the console shows that it will not come up (The kernel panicked)"
    )
    assert explain_failure(stopped, plain_text(captures.KERNEL_PANIC), "build").kind == "kernel_panic"
    assert explain_failure(stopped, "", "build").kind == "interrupted"


def test_time_limit() -> None:
    found = explain_failure(outcome(text="1,,ui,say,==> q.x: Provisioning with Ansible...", interrupted="it did not end within 5 s"), "", "build")
    assert (found.kind, found.summary) == ("timeout", "Packer was ended in the stage provision: it did not end within 5 s.")


def test_no_accelerator() -> None:
    found = explain_failure(outcome("1.6.6-qemu-fails-to-start", debug=QEMU_KVM), "", "build")
    assert found.kind == "no_accelerator"
    assert "failed to set MSR" in found.evidence[0]


def test_qemu_says_why() -> None:
    found = explain_failure(outcome("1.6.6-qemu-fails-to-start", debug=QEMU_ARGUMENT), "", "build")
    assert (found.kind, found.evidence) == ("qemu_failed", ("qemu-system-x86_64: -cpu nonsense: unable to find CPU model 'nonsense'",))


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ('fatal: [x]: FAILED! => {"msg": "[Errno 28] No space left on device"}', "disk_full"),
        # As a full disk was reported by the task that installs packages.
        (
            "[WARNING]: Failed to update cache after 3 retries due to W:Failed to fetch "
            "mirror+file:/etc/apt/mirrors/debian.list/dists/trixie-updates/InRelease  Error writing to file - write (28: No space left on device), retrying",
            "disk_full",
        ),
        ("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812 (unattended-upgr)", "dpkg_lock"),
        ("E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?", "dpkg_lock"),
    ],
)
def test_causes_in_the_machine(line: str, kind: str) -> None:
    text = f"1,,ui,message,    q.x: {line.replace(',', '%!(PACKER_COMMA)')}\n2,q.x,error,Error executing Ansible: Non-zero exit status: exit status 2"
    found = explain_failure(outcome(text=text), "", "build")
    assert found.kind == kind
    assert found.summary.startswith("The provisioner failed. ")


def test_the_evidence_is_what_the_task_said() -> None:
    said = (
        "[ERROR]: Task failed: Action failed: Cannot update the package lists of node: its package archives cannot be reached or do not verify.",
        "E: Failed to fetch mirror+file:/etc/apt/mirrors/debian.list/dists/trixie/main/binary-amd64/Packages  404  Not Found",
        "Check the network, the proxy and the package sources of the build host.",
    )
    lines = ["TASK [Update the package lists] ****", *said, "Origin: /c/roles/image/tasks/package_lists.yml:16:3", "", "fatal: [node]: FAILED! => {", "x", '"}']
    text = "\n".join(f"1,,ui,message,    q.x: {line.replace(',', '%!(PACKER_COMMA)')}" for line in lines)
    found = explain_failure(outcome(text=f"{text}\n2,q.x,error,Error executing Ansible: Non-zero exit status: exit status 2"), "", "build")
    assert (found.kind, found.evidence) == ("provisioner_failed", said)


def test_unreachable() -> None:
    text = "2,q.x,error,Error executing Ansible: Non-zero exit status: exit status 4"
    assert explain_failure(outcome(text=text), "", "build").summary == "Ansible ended with exit code 4: the virtual machine could not be reached."


def test_a_shell_provisioner() -> None:
    found = explain_failure(outcome(text="1,q.x,error,Script exited with non-zero exit status: 7. Allowed exit codes are: [0]"), "", "build")
    assert (found.kind, found.summary) == (
        "provisioner_failed",
        "A provisioner failed: Script exited with non-zero exit status: 7. Allowed exit codes are: [0].",
    )


def test_nothing_was_built() -> None:
    found = explain_failure(outcome(text="1,,ui,say,\\n==> Builds finished but no artifacts were created."), "", "build")
    assert (found.kind, found.summary) == ("no_artifact", "Packer built nothing.")
    assert "only" in found.advice


def test_the_words_of_a_refusal() -> None:
    found = ssh_outcome(REFUSED + REFUSED_AGAIN)
    assert found.stage == "refused"
    assert found.message.endswith("unable to authenticate, attempted methods [none publickey], no supported methods remain")
    assert refusals((REFUSED + REFUSED_AGAIN) * 2) == 2


def test_anything_else() -> None:
    assert explain_failure(outcome(text="1,q.x,error,strange"), "", "build").summary == "q.x: strange."
    assert explain_failure(outcome(stderr="oops"), "", "validate").evidence == ("oops",)


@pytest.mark.parametrize(("debug", "stage"), [(REFUSED, "refused"), (CLOSED, "closed"), (REFUSED.splitlines()[0], "silent"), ("", "none")])
def test_how_far_ssh_came(debug: str, stage: str) -> None:
    assert ssh_outcome(debug).stage == stage
