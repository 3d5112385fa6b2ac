# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Tell from the serial console, the screen and the answers of SSH why a guest cannot be logged in to."""

from __future__ import annotations

import dataclasses
import re
import typing as t
from pathlib import Path

TAIL_LINES = 20
# A boot with a kernel panic in the middle of a long log still fits.
READ_LIMIT = 1 << 20
# The text mode of a PC: where it is in memory, and 25 lines of 80 characters with an attribute each.
SCREEN_ADDRESS = 0xB8000
SCREEN_COLUMNS = 80
SCREEN_BYTES = SCREEN_COLUMNS * 25 * 2

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][0-9A-Za-z]|[ -~])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What kind of failure it is, one sentence on it, the lines that show it, and what to do."""

    kind: str
    summary: str
    advice: str
    evidence: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Rule:
    """A kind of failure that shows on the console. A guest does not recover from a ``final`` one.

    The evidence is the line that matched with ``context`` lines before it, or the last lines of the console that match ``causes``.
    """

    kind: str
    patterns: tuple[str, ...]
    summary: str
    advice: str
    final: bool = False
    context: int = 0
    causes: str = ""


@dataclasses.dataclass(frozen=True)
class SshOutcome:
    """How far SSH came: ``stage`` is none, silent, closed, banner, refused or login."""

    stage: str = "none"
    message: str = ""


_GRUB_ADVICE = "Run update-grub for the image and make sure that the files that /boot/grub/grub.cfg names exist."

RULES: tuple[Rule, ...] = (
    Rule(
        "kernel_panic",
        (r"Kernel panic - not syncing", r"---\[ end Kernel panic"),
        "The kernel panicked.",
        "Look at the lines before the panic: a missing or damaged initramfs (rebuild it with update-initramfs) and a wrong root= are the usual causes. "
        "Under emulation, QEMU older than 10 is a cause of its own.",
        final=True,
        context=6,
    ),
    Rule(
        "root_not_found",
        (r"^\(initramfs\)", r"ALERT!\s+.* does not exist\.\s+Dropping to a shell"),
        "The initramfs did not find the root file system and stopped in its shell.",
        "Compare root= on the kernel command line and /etc/fstab with the UUID and PARTUUID of the image, "
        "and make sure that the initramfs has the driver of the disk.",
        final=True,
        context=4,
    ),
    Rule(
        "grub_prompt",
        (r"grub rescue>", r"^grub>", r"Entering rescue mode"),
        "GRUB started, but did not find its configuration or modules, and waits at its prompt.",
        "Run grub-install and update-grub for the image, and compare the partition that GRUB searches with the image's partitions.",
        final=True,
        context=3,
    ),
    Rule(
        "grub_error",
        (r"Failed to boot both default and fallback entries",),
        "GRUB could not load the kernel or the initramfs of any entry, and waits at its menu.",
        _GRUB_ADVICE,
        final=True,
        context=20,
    ),
    Rule(
        "grub_error",
        (r"^error: (?:file|no such|disk|symbol|unknown filesystem|you need to load|can't find|invalid).*", r"Press any key to continue\.\.\."),
        "GRUB could not load the kernel or the initramfs.",
        _GRUB_ADVICE,
        context=2,
    ),
    Rule(
        "no_boot_loader",
        (r"No bootable device", r"No bootable option or device was found", r"^UEFI Interactive Shell", r"^Shell>"),
        "The firmware found no boot loader on the disk.",
        "Install GRUB for this firmware: for BIOS in the boot sector and the BIOS boot partition (grub-install --target=i386-pc), for UEFI as "
        "EFI/BOOT/BOOTX64.EFI in the EFI system partition; or start the guest with the other firmware.",
        final=True,
        context=2,
    ),
    Rule(
        "emergency_mode",
        (
            r"You are in (?:emergency|rescue) mode",
            r"Cannot open access to console, the root account is locked",
            r"Reached target .*(?:emergency\.target|Emergency Mode)",
        ),
        "systemd gave up the boot and entered emergency mode.",
        "A file system of /etc/fstab that cannot be mounted is the usual cause: look at the units that failed. "
        "On a busy host, an emulated guest can also miss the time limits of systemd.",
        final=True,
        context=6,
        causes=r"^\[(?: TIME |DEPEND|FAILED)\]|Timed out waiting for device",
    ),
    Rule(
        "disk_full",
        (r"No space left on device", r"ENOSPC\b", r"EXT4-fs warning .*: ext4_end_bio.*\berror 3\b"),
        "The disk of the guest is full.",
        "Give the image a larger disk_size; make sure that its root partition is the last one and is grown at boot.",
        context=1,
    ),
    Rule(
        "dpkg_lock",
        (
            r"Could not get lock /var/lib/(?:dpkg|apt)\S*",
            r"Unable to (?:acquire the dpkg frontend lock|lock directory /var/lib/(?:apt|dpkg))",
            r"Failed to lock apt for exclusive operation",
            r"dpkg: error: dpkg (?:frontend|status database) (?:lock )?(?:is|was) locked by another process",
        ),
        "The package database is locked by another process of the guest.",
        "Let unattended-upgrades and the apt timers rest while the image is built, or wait for the lock (DPkg::Lock::Timeout).",
        context=1,
    ),
    Rule(
        "sshd_not_up",
        (
            r"Failed to start (?:ssh|sshd)(?:@\S*)?\.service",
            r"Failed to start .*OpenBSD Secure Shell server",
            r"Dependency failed for (?:ssh|sshd)(?:@\S*)?\.service",
        ),
        "The SSH server did not start.",
        "Check the configuration with `sshd -t` in the image and make sure that host keys are made on the first boot.",
    ),
    Rule(
        "cloud_init_error",
        (
            r"cloud-init\[\d+\]: .*(?:Traceback|\[ERROR\]|CRITICAL|failed running|Failed running|failed loading|Failed loading|Unhandled non-multipart)",
            r"Failed to start cloud-(?:init|config|final)\S*\.service",
            r"cloud-init\[\d+\]: .*(?:Used fallback datasource|Datasource DataSourceNone)",
        ),
        "cloud-init failed or did not use the seed.",
        "Check the user-data with `cloud-init schema`, and the seed: an ISO 9660 file system labelled cidata with the files user-data and meta-data.",
    ),
    Rule(
        "no_network",
        (
            r"Failed to start systemd-networkd-wait-online",
            r"Failed to start .*Wait for Network to be Configured",
            r"Failed to start (?:NetworkManager-wait-online|networking|systemd-networkd)\S*\.service",
            r"ci-info:\s*\|\s*(?!lo\b)\w+\s*\|\s*False\s*\|",
            r"ci-info:\s*!+.*(?:failed|down)",
        ),
        "The guest has no network: no interface got an address by DHCP.",
        "Make sure that exactly one network manager is enabled, that it configures the first Ethernet interface by DHCP, "
        "and that the kernel has the driver virtio_net.",
    ),
)

# What QEMU says when the accelerator that it was given does not work; a guest cannot write it.
NO_ACCELERATOR = Rule(
    "no_accelerator",
    (
        r"Could not access KVM kernel module",
        r"failed to initialize (?:kvm|xen|hvf|whpx)",
        r"KVM is not supported|KVM not supported|kvm not available",
        r"KVM internal error",
        r"error: failed to set MSR",
        r"ioctl\(KVM_\w+\) failed",
        r"Back to tcg accelerator|invalid accelerator",
    ),
    "The accelerator of the virtual machine does not work on this host.",
    "Use the accelerator that the probe found (accelerator: auto), choose tcg, or repair KVM: virtualisation in the firmware, nested virtualisation "
    "on the host of this machine, membership of the group kvm.",
    context=1,
)
# What shows in the output of QEMU and of provisioners, not on the console.
OUTPUT_KINDS = ("disk_full", "dpkg_lock")

_BOOTED = re.compile(r"(?:^|\s)\S+ login:\s*$|Reached target .*(?:multi-user\.target|Multi-User System)", re.MULTILINE)
_SEEDED = re.compile(r"Cloud-init v\.? ?\S+ finished at|Reached target .*cloud-init\.target")
_CLOUD_INIT = re.compile(r"cloud-init\[\d+\]: Cloud-init v|Cloud-init v\.? ?\S+ (?:running|finished)")
# cloud-init shows each new host key as a picture of 11 lines.
_PICTURE = re.compile(r"cloud-init\[\d+\]: (?:\|.{17}\||\+-+\[[^]]+\]-+\+)\s*$")
_KERNEL = re.compile(r"^\[\s+\d+\.\d+\] |Linux version \d", re.MULTILINE)


def read_console(path: Path) -> str:
    """The last part of a serial log as plain text; an empty text when there is no log."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - READ_LIMIT))
            return plain_text(stream.read())
    except OSError:
        return ""


def plain_text(data: bytes) -> str:
    """Console output without escape sequences and control characters, one line for each that was shown."""
    text = _ESCAPES.sub("", data.decode("utf-8", errors="replace").replace("\r\n", "\n"))
    return _CONTROL.sub("", text.replace("\r", "\n"))


def screen_text(memory: bytes) -> str:
    """The text on a screen in text mode; an empty text when it shows something else."""
    characters = memory[0:SCREEN_BYTES:2]
    printable = sum(1 for character in characters if character == 0 or 0x20 <= character < 0x7F)
    if printable < 0.9 * len(characters):
        return ""
    shown = characters.replace(b"\0", b" ").decode("cp437")
    lines = (shown[at : at + SCREEN_COLUMNS].rstrip() for at in range(0, len(shown), SCREEN_COLUMNS))
    return "\n".join(line for line in lines if line)


def kernel_started(text: str) -> bool:
    """Whether the kernel wrote to the console."""
    return _KERNEL.search(text) is not None


def tail(text: str, count: int = TAIL_LINES) -> list[str]:
    """The last lines that say something."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip() and not _PICTURE.search(line)]
    return lines[-count:]


def final_failure(text: str) -> Diagnosis | None:
    """The failure from which a guest does not recover, if the console shows one: no need to wait any longer."""
    return _first_match(text, [rule for rule in RULES if rule.final])


def output_failure(text: str) -> Diagnosis | None:
    """The failure that the output of QEMU or of a provisioner shows, if it is one that does not show on the console."""
    return _first_match(text, [NO_ACCELERATOR, *(rule for rule in RULES if rule.kind in OUTPUT_KINDS)])


def booted(text: str) -> bool:
    """Whether the guest shows its login prompt or has reached its target."""
    return _BOOTED.search(text) is not None


def seeded(text: str) -> bool:
    """Whether cloud-init is done: an account that is refused now stays refused."""
    return _SEEDED.search(text) is not None


def diagnose(text: str, ssh: SshOutcome, *, ended: str = "") -> Diagnosis:
    """The kind of failure. ``ended`` says how QEMU ended when it did."""
    found = final_failure(text)
    if found is not None:
        return found
    if ended:
        refused = _first_match(ended, [NO_ACCELERATOR])
        if refused is not None:
            return refused
        return Diagnosis(
            "guest_ended", f"The guest ended early: {ended}", "Look at the log of QEMU and at the last lines of the console.", tuple(tail(text, 6))
        )
    if ssh.stage == "refused":
        return _refused(text, ssh)
    return _first_match(text, RULES) or _unmatched(text, ssh)


def _refused(text: str, ssh: SshOutcome) -> Diagnosis:
    refusal = f"The SSH server refused the login ({ssh.message or 'permission denied'})"
    # A cloud-init that did not do its work is the cause, the refusal only its effect.
    failed = _first_match(text, [rule for rule in RULES if rule.kind == "cloud_init_error"])
    if failed is not None:
        return dataclasses.replace(failed, summary=f"{refusal}, because cloud-init failed or did not use the seed.")
    if not _CLOUD_INIT.search(text):
        advice = (
            "Make sure that cloud-init is installed and enabled, and that the seed is an ISO 9660 file system labelled cidata with user-data and meta-data."
        )
        return Diagnosis("cloud_init_error", f"{refusal}, and cloud-init did not run: it found no data source.", advice)
    return Diagnosis(
        "authentication_refused",
        f"{refusal}.",
        "Make sure that the seed creates this user with this public key, and that the SSH server accepts public keys.",
        _evidence(text, r"cloud-init.*(?:WARNING|DataSource)|ci-info:.*(?:Authorized|no authorized|ssh-)", 8),
    )


def _unmatched(text: str, ssh: SshOutcome) -> Diagnosis:
    lines = tuple(tail(text, 6))
    if not text.strip():
        return Diagnosis(
            "no_console_output",
            "Nothing was written to the serial console.",
            "The firmware found nothing to start, or the image has no console on ttyS0: add console=ttyS0,115200 to the kernel command line.",
        )
    if not booted(text):
        step = "The kernel started, but the boot did not end in time." if kernel_started(text) else "The boot stopped before the kernel wrote anything."
        return Diagnosis("boot_incomplete", step, "Look at the last lines of the console; give a slow host a longer timeout.", lines)
    if ssh.stage == "silent":
        return Diagnosis(
            "no_network",
            "The guest is up, but does not answer on its network interface.",
            "Make sure that exactly one network manager is enabled, that it configures the first Ethernet interface by DHCP, "
            "and that no firewall blocks port 22.",
            _evidence(text, r"ci-info:|network|Network", 8) or lines,
        )
    summary = f"The guest is up, but its SSH server is not{': ' + ssh.message.rstrip('.') if ssh.message else ''}."
    return Diagnosis("sshd_not_up", summary, "Make sure that the SSH server is installed, enabled and has host keys.", _evidence(text, r"ssh", 6) or lines)


def _first_match(text: str, rules: t.Sequence[Rule]) -> Diagnosis | None:
    lines = text.splitlines()
    for rule in rules:
        expression = re.compile("|".join(f"(?:{pattern})" for pattern in rule.patterns))
        for number, line in enumerate(lines):
            if expression.search(line.strip()):
                around = tuple(entry.rstrip() for entry in lines[max(0, number - rule.context) : number + 2] if entry.strip())
                causes = _evidence(text, rule.causes, 8) if rule.causes else ()
                return Diagnosis(rule.kind, rule.summary, rule.advice, causes or around)
    return None


def _evidence(text: str, pattern: str, count: int) -> tuple[str, ...]:
    expression = re.compile(pattern)
    return tuple(line.rstrip() for line in text.splitlines() if expression.search(line))[-count:]
