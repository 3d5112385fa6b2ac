# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Find out by trying whether this host runs guests under KVM, or has to emulate them (TCG)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command, CommandResult, explain
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, ToolError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import write_atomic
from ansible_collections.hyperscaler.images.plugins.module_utils._process import boot_id

QEMU_PROGRAM = "qemu-system-x86_64"
QEMU_PACKAGE = "qemu-system-x86"
KVM_DEVICE = Path("/dev/kvm")
PROBE_SECONDS = 5.0
# isa-debug-exit ends QEMU with (value << 1) | 1, which no failure of QEMU itself does for this value.
PROBE_VALUE = 0x10
PROBE_RC = (PROBE_VALUE << 1) | 1
# QEMU 7.2 emulates 6.12 kernels so badly that they panic at random.
TCG_MINIMUM = 10
# A guest under TCG needs about this many times as long to boot as one under KVM.
TCG_PATIENCE = 6

# The guest: from real mode to 64-bit code with paging, because some hosts only fail there.
PROBE_CODE = bytes.fromhex(
    "fa"  # cli
    "31c0 8ed8 8ec0"  # xor ax, ax; mov ds, ax; mov es, ax
    "66bf00100000 0f22df"  # mov edi, 0x1000; mov cr3, edi
    "6631c0 66b9000c0000 fc 6766f3ab"  # clear three page tables
    "66c706001003200000"  # level 4 at 0x1000: entry 0 is the table at 0x2000
    "66c706002003300000"  # level 3 at 0x2000: entry 0 is the table at 0x3000
    "66c706003083000000"  # level 2 at 0x3000: the first 2 MiB, mapped to themselves
    "0f20e0 0c20 0f22e0"  # cr4.PAE
    "66b9800000c0 0f32 80cc01 0f30"  # EFER.LME
    "0f01167b7c"  # lgdt [0x7c7b]
    "0f20c0 660d01000080 0f22c0"  # cr0.PE and cr0.PG
    "ea647c0800"  # jmp 8:0x7c64, the next instruction, now in 64-bit mode
    f"b0{PROBE_VALUE:02x} e6f4"  # mov al, value; out 0xf4, al
    "f4 ebfd"  # hlt, for ever
    "0000000000000000 00000000009a2000"  # GDT at 0x7c6b: nothing, 64-bit code
    "0f00 6b7c0000"  # GDT register at 0x7c7b: limit, address
)


class Accelerator(t.NamedTuple):
    """How guests run on this host: ``name`` is kvm or tcg, ``reason`` a sentence."""

    name: str
    reason: str
    qemu_version: str

    @property
    def patience(self) -> int:
        """The factor by which time limits grow."""
        return TCG_PATIENCE if self.name == "tcg" else 1


@dataclasses.dataclass(frozen=True)
class Probe:
    """What one try with KVM showed."""

    works: bool
    reason: str


def boot_sector() -> bytes:
    """A disk of 1 MiB (firmware refuses smaller ones) whose boot sector reports through the debug exit port."""
    return (PROBE_CODE.ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0")


def probe_arguments(accelerator: str, disk: str) -> list[str]:
    """The arguments of QEMU for a probe guest."""
    blockdev = {"driver": "raw", "node-name": "disk", "read-only": True, "file": {"driver": "file", "filename": disk, "read-only": True}}
    return [
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        *("-display", "none"),
        *("-machine", "q35,graphics=off"),
        *("-accel", accelerator),
        *("-cpu", "host" if accelerator == "kvm" else "max"),
        *("-m", "64"),
        *("-blockdev", json.dumps(blockdev)),
        *("-device", "virtio-blk-pci,drive=disk,bootindex=0"),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"),
    ]


def select(wanted: str, *, cache: Path | None = None) -> Accelerator:
    """The accelerator to use: ``wanted`` is auto, kvm or tcg. Raises ToolError when the wanted one does not work."""
    qemu = Command(QEMU_PROGRAM, reason="run a guest", package=QEMU_PACKAGE)
    version = ".".join(str(part) for part in qemu.version())
    if wanted == "tcg":
        return _emulated("Emulation (TCG) was asked for.", version)
    probe = _cached_probe(qemu, version, cache)
    if probe.works:
        return Accelerator("kvm", probe.reason, version)
    if wanted == "kvm":
        raise ToolError(f"Cannot run a guest under KVM: {probe.reason} Repair KVM on this host, or set accelerator to auto or tcg.", qemu_version=version)
    return _emulated(f"{probe.reason} Guests are emulated (TCG) and take about {TCG_PATIENCE} times as long.", version)


def probe_kvm(qemu: Command) -> Probe:
    """Run a guest under KVM: a device that opens proves nothing."""
    refusal = _device_refusal()
    if refusal:
        return Probe(False, refusal)
    with tempfile.NamedTemporaryFile(prefix="hyperscaler-probe-", suffix=".raw") as disk:
        disk.write(boot_sector())
        disk.flush()
        try:
            result = qemu.run(*probe_arguments("kvm", disk.name), attempt="run a probe guest under KVM", accepted=range(-64, 256), timeout=PROBE_SECONDS)
        except CommandError:
            return Probe(False, f"{KVM_DEVICE} opens, but a probe guest did not get through its boot sector under KVM within {PROBE_SECONDS:g} s.")
    return judge_probe(result)


def judge_probe(result: CommandResult) -> Probe:
    """What the end of the probe guest means."""
    if result.rc == PROBE_RC:
        return Probe(True, f"A probe guest ran 64-bit code under KVM in {result.seconds:.1f} s.")
    # The first line is the cause; assertions and register dumps follow.
    first = dataclasses.replace(result, stderr="\n".join(result.stderr.strip().splitlines()[:1]))
    said = explain(QEMU_PROGRAM, first).replace(f": {QEMU_PROGRAM}: ", ": ").rstrip(".")
    return Probe(False, f"{KVM_DEVICE} opens, but a probe guest does not run under KVM: {said}.")


def _device_refusal() -> str:
    try:
        os.close(os.open(KVM_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"{KVM_DEVICE} does not exist on this host (no virtualisation, or the module kvm_intel or kvm_amd is not loaded)."
    except PermissionError:
        return f"{KVM_DEVICE} may not be opened by user id {os.geteuid()} (add the user to the group kvm)."
    except OSError as error:
        return f"{KVM_DEVICE} cannot be opened: {error.strerror}."
    return ""


def _emulated(reason: str, version: str) -> Accelerator:
    if int(version.partition(".")[0]) < TCG_MINIMUM:
        raise ToolError(
            f"Cannot run a guest: {reason} QEMU {version} was found, but {TCG_MINIMUM} or newer is needed to emulate guests, because older ones make current "
            f"kernels panic at random. Make KVM work on this host, or install a newer {QEMU_PACKAGE} (Debian 12 has it in bookworm-backports).",
            qemu_version=version,
        )
    return Accelerator("tcg", reason, version)


def cache_key(qemu: Command, version: str) -> dict[str, t.Any]:
    """Everything that can change the outcome of the probe."""
    try:
        device: list[int] | None = [KVM_DEVICE.stat().st_mode, KVM_DEVICE.stat().st_gid]
    except OSError:
        device = None
    return {"boot": boot_id(), "qemu": qemu.path, "version": version, "device": device, "user": os.geteuid(), "groups": sorted(os.getgroups())}


def _cached_probe(qemu: Command, version: str, cache: Path | None) -> Probe:
    if cache is None:
        return probe_kvm(qemu)
    key = cache_key(qemu, version)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        document = json.loads(cache.read_text(encoding="utf-8"))
        if document["key"] == key:
            return Probe(bool(document["works"]), str(document["reason"]))
    probe = probe_kvm(qemu)
    # Losing the cache costs seconds only, so a folder that is missing or read-only is no failure.
    with contextlib.suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(cache, json.dumps({"key": key, "works": probe.works, "reason": probe.reason}, indent=1) + "\n")
    return probe
