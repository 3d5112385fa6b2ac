# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the diagnosis of a boot, on consoles of real boots."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._serial_log import (
    SCREEN_BYTES,
    SshOutcome,
    booted,
    diagnose,
    final_failure,
    kernel_started,
    output_failure,
    plain_text,
    read_console,
    screen_text,
    seeded,
    tail,
)
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils import serial_log_captures as captures

SILENT = SshOutcome("silent", "no answer on port 22 of the guest")
CLOSED = SshOutcome("closed", "nothing listens on port 22 of the guest")
REFUSED = SshOutcome("refused", "admin@127.0.0.1: Permission denied (publickey).")
# Captured from the text screen of QEMU 10.0.2 with SeaBIOS 1.16.3.
NO_BOOT_LOADER = "SeaBIOS (version 1.16.3-debian-1.16.3-2~bpo12+1)\nBooting from Hard Disk...\nBoot failed: not a bootable disk\nNo bootable device.\n"
GRUB_RESCUE = "Booting from Hard Disk...\nGRUB loading.\nWelcome to GRUB!\nerror: file `/boot/grub/i386-pc/normal.mod' not found.\ngrub rescue>\n"
GRUB_PROMPT = 'GNU GRUB  version 2.12-9+deb13u2\n   device or file completions. To enable less(1)-like paging, "set\n   pager=1".\ngrub>\n'


@pytest.mark.parametrize(
    ("console", "ssh", "kind", "evidence"),
    [
        (NO_BOOT_LOADER.encode(), SILENT, "no_boot_loader", "No bootable device."),
        (captures.UEFI_SHELL, SILENT, "no_boot_loader", "UEFI Interactive Shell v2.2"),
        (GRUB_RESCUE.encode(), SILENT, "grub_prompt", "error: file `/boot/grub/i386-pc/normal.mod' not found."),
        (GRUB_PROMPT.encode(), SILENT, "grub_prompt", "grub>"),
        (captures.GRUB_NO_KERNEL, SILENT, "grub_error", "error: file `/boot/vmlinuz-6.12.117+deb13-cloud-amd64' not found."),
        (captures.KERNEL_PANIC, SILENT, "kernel_panic", "[    4.916743] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"),
        (captures.ROOT_NOT_FOUND, SILENT, "root_not_found", "ALERT!  PARTUUID=11111111-2222-3333-4444-555555555555 does not exist.  Dropping to a shell!"),
        (captures.EMERGENCY_MODE, SILENT, "emergency_mode", "[DEPEND] Dependency failed for data.mount - /data."),
        (captures.NO_NETWORK, SILENT, "no_network", "ci-info: | enp0s3 | False |     .     |     .     |   .   | 52:54:00:12:34:56 |"),
        (captures.NO_NETWORK, CLOSED, "no_network", "enp0s3 | False"),
        (captures.SSHD_NOT_UP, CLOSED, "sshd_not_up", "Failed to start ssh.service"),
        (captures.NO_SEED, CLOSED, "sshd_not_up", "Failed to start ssh.service"),
        (captures.OTHER_KEY, REFUSED, "authentication_refused", "Authorized keys from /home/admin/.ssh/authorized_keys for user admin"),
        (captures.BROKEN_SEED, REFUSED, "cloud_init_error", "Failed loading yaml blob"),
        (captures.BOOTED, SILENT, "no_network", ""),
        (captures.BOOTED, CLOSED, "sshd_not_up", ""),
    ],
)
def test_each_failure_is_told_apart(console: bytes, ssh: SshOutcome, kind: str, evidence: str) -> None:
    diagnosis = diagnose(plain_text(console), ssh)
    assert diagnosis.kind == kind
    assert any(evidence in line for line in diagnosis.evidence)
    assert diagnosis.summary.endswith(".")
    assert diagnosis.advice.endswith(".")


@pytest.mark.parametrize(
    ("console", "final"),
    [
        (NO_BOOT_LOADER.encode(), True),
        (captures.UEFI_SHELL, True),
        (GRUB_RESCUE.encode(), True),
        (GRUB_PROMPT.encode(), True),
        (captures.GRUB_NO_KERNEL, True),
        (captures.KERNEL_PANIC, True),
        (captures.ROOT_NOT_FOUND, True),
        (captures.EMERGENCY_MODE, True),
        (captures.NO_NETWORK, False),
        (captures.SSHD_NOT_UP, False),
        (captures.NO_SEED, False),
        (captures.OTHER_KEY, False),
        (captures.BROKEN_SEED, False),
        (captures.BOOTED, False),
    ],
)
def test_only_some_failures_end_the_wait(console: bytes, final: bool) -> None:
    assert (final_failure(plain_text(console)) is not None) is final


def test_a_guest_that_ended() -> None:
    diagnosis = diagnose(plain_text(captures.BOOTED), SILENT, ended="QEMU ended with exit code 0.")
    assert (diagnosis.kind, diagnosis.summary) == ("guest_ended", "The guest ended early: QEMU ended with exit code 0.")


def test_a_panic_explains_a_guest_that_ended() -> None:
    assert diagnose(plain_text(captures.KERNEL_PANIC), SILENT, ended="QEMU ended.").kind == "kernel_panic"


def test_a_refusal_without_cloud_init_is_the_fault_of_the_seed() -> None:
    diagnosis = diagnose("base-test login: ", REFUSED)
    assert diagnosis.kind == "cloud_init_error"
    assert "did not run: it found no data source" in diagnosis.summary
    assert "Permission denied (publickey)" in diagnosis.summary


def test_nothing_at_all() -> None:
    diagnosis = diagnose("", SILENT)
    assert diagnosis.kind == "no_console_output"
    assert "console=ttyS0,115200" in diagnosis.advice


@pytest.mark.parametrize(
    ("console", "summary"),
    [
        ("Booting `Debian GNU/Linux'\n", "The boot stopped before the kernel wrote anything."),
        ("[    0.000000] Linux version 6.12\n[    1.2] virtio\n", "The kernel started, but the boot did not end in time."),
    ],
)
def test_a_boot_that_does_not_end(console: str, summary: str) -> None:
    diagnosis = diagnose(console, SILENT)
    assert (diagnosis.kind, diagnosis.summary) == ("boot_incomplete", summary)


def test_an_error_of_grub_is_named() -> None:
    assert diagnose("error: file `/boot/vmlinuz-6.12' not found.\nPress any key to continue...\n", SILENT).kind == "grub_error"


def test_how_far_a_boot_came() -> None:
    consoles = {name: plain_text(getattr(captures, name)) for name in ("UEFI_SHELL", "KERNEL_PANIC", "NO_NETWORK", "OTHER_KEY", "NO_SEED", "EMERGENCY_MODE")}
    assert {name: (kernel_started(text), booted(text), seeded(text)) for name, text in consoles.items()} == {
        "UEFI_SHELL": (False, False, False),
        "KERNEL_PANIC": (True, False, False),
        "NO_NETWORK": (True, True, True),
        "OTHER_KEY": (True, True, True),
        "NO_SEED": (True, True, False),
        "EMERGENCY_MODE": (True, False, False),
    }


def test_escape_sequences_are_removed() -> None:
    assert (
        plain_text(b"[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mssh\x1b[0m.\r\n\x1b[!p\x1b]104\x07\x1b[?7hx login: \x00")
        == "[  OK  ] Started ssh.\nx login: "
    )


def test_no_log_is_an_empty_console(tmp_path: Path) -> None:
    assert read_console(tmp_path / "gone") == ""


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "serial.log"
    log.write_bytes(b"first\n" + b"x" * (1 << 20) + b"\nlast\n")
    text = read_console(log)
    assert "first" not in text
    assert tail(text, 1) == ["last"]


def test_tail_leaves_empty_lines_out() -> None:
    assert tail("a\n\n  b  \n\nc\n", 2) == ["  b", "c"]


def test_tail_leaves_pictures_of_keys_out() -> None:
    picture = "[   42.1] cloud-init[461]: +--[ED25519 256]--+\n[   42.1] cloud-init[461]: |o.o o .          |\n[   42.1] cloud-init[461]: +----[SHA256]-----+\n"
    assert tail(f"before\n{picture}after\n") == ["before", "after"]


def test_the_text_on_a_screen() -> None:
    lines = ("SeaBIOS (version 1.16.3)", "", "No bootable device.")
    characters = "".join(line.ljust(80) for line in lines).ljust(2000).encode("ascii")
    memory = bytes(value for character in characters for value in (character, 7))
    assert len(memory) == SCREEN_BYTES
    assert screen_text(memory) == "SeaBIOS (version 1.16.3)\nNo bootable device."


@pytest.mark.parametrize("memory", [bytes(range(256)) * 16, b"\xff" * SCREEN_BYTES])
def test_a_screen_that_shows_pictures_has_no_text(memory: bytes) -> None:
    assert screen_text(memory) == ""


def test_a_blank_screen() -> None:
    assert screen_text(bytes(SCREEN_BYTES)) == ""


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("[   61.2] cloud-init[512]: OSError: [Errno 28] No space left on device", "disk_full"),
        ("[   61.2] cloud-init[512]: E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812 (unattended-upgr)", "dpkg_lock"),
        ("E: Unable to lock directory /var/lib/apt/lists/", "dpkg_lock"),
    ],
)
def test_a_cause_comes_before_its_effects(line: str, kind: str) -> None:
    """A full disk and a locked package database make services fail: these are told, not the services."""
    console = f"{line}\n[FAILED] Failed to start ssh.service - OpenBSD Secure Shell server.\n[   62.0] cloud-init[512]: Traceback (most recent call last):\n"
    found = diagnose(console, CLOSED)
    assert found.kind == kind
    assert line in found.evidence


@pytest.mark.parametrize(
    "said",
    [
        "QEMU was ended by signal SIGABRT: qemu-system-x86_64: error: failed to set MSR 0x10a to 0xc000069.",
        "QEMU ended with exit code 1: Could not access KVM kernel module: No such file or directory | qemu-system-x86_64: failed to initialize kvm.",
        "QEMU ended with exit code 1: qemu-system-x86_64: invalid accelerator xen.",
        "QEMU holds the guest in the state internal-error. KVM internal error. Suberror: 1",
    ],
)
def test_an_accelerator_that_does_not_work(said: str) -> None:
    assert diagnose("", SILENT, ended=said).kind == "no_accelerator"
    found = output_failure(said)
    assert found is not None
    assert found.kind == "no_accelerator"


def test_output_that_shows_nothing() -> None:
    assert output_failure("ok: [node]\nFailed to start ssh.service") is None
