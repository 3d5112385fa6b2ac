# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Find out by trying whether this host runs guests under KVM, or has to emulate them (TCG)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import tempfile
import time
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command, CommandResult, explain
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, ToolError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import write_atomic
from ansible_collections.hyperscaler.images.plugins.module_utils._host_speed import grown, slowness
from ansible_collections.hyperscaler.images.plugins.module_utils._process import boot_id

QEMU_PROGRAM = "qemu-system-x86_64"
QEMU_PACKAGE = "qemu-system-x86"
KVM_DEVICE = Path("/dev/kvm")
# KVM has to get through the probe this often, each time in at most this part of the time that emulation takes.
PROBE_TRIES = 3
QUICK_SHARE = 0.5
# For a probe guest that nothing is compared with: many times what emulation takes on a quick and idle host.
PROBE_SECONDS = 30.0
# How long an outcome counts: a host that was busy, or whose own host was repaired, is asked again after a day.
KEPT_SECONDS = 24 * 3600
# isa-debug-exit ends QEMU with (value << 1) | 1, which no failure of QEMU itself does for this value.
PROBE_VALUE = 0x10
PROBE_RC = (PROBE_VALUE << 1) | 1
# QEMU 7.2 emulates 6.12 kernels so badly that they panic at random.
TCG_MINIMUM = 10
# A guest under TCG needs about this many times as long to boot as one under KVM.
TCG_PATIENCE = 6

# Rounds of the loop: a second or so when emulated, a twentieth of that on a processor.
PROBE_ROUNDS = 20_000_000

# The guest: from real mode to 64-bit code with paging, because some hosts only fail there, and then a loop of floating point, which emulation is slow at.
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
    "0f0116747c"  # lgdt [0x7c74]
    "0f20c0 660d01000080 0f22c0"  # cr0.PE and cr0.PG
    "ea7a7c0800"  # jmp 8:0x7c7a, the 64-bit code
    "0000000000000000 00000000009a2000"  # GDT at 0x7c64: nothing, 64-bit code
    "0f00 647c0000"  # GDT register at 0x7c74: limit, address
    f"dbe3 d9e8 b9{PROBE_ROUNDS.to_bytes(4, 'little').hex()}"  # fninit; fld1; mov ecx, rounds
    "d8c8 ffc9 75fa"  # fmul st0, st0; dec ecx; jnz to the fmul
    f"b0{PROBE_VALUE:02x} e6f4"  # mov al, value; out 0xf4, al
    "f4 ebfd"  # hlt, for ever
)


class Accelerator(t.NamedTuple):
    """How guests run on this host: ``name`` is kvm or tcg, ``reason`` a sentence, ``slowness`` how slow the host is (1 is a quick and idle one)."""

    name: str
    reason: str
    qemu_version: str
    slowness: float = 1.0

    @property
    def patience(self) -> int:
        """The factor by which time limits grow: for emulation, and for a host that is slow or busy."""
        return math.ceil((TCG_PATIENCE if self.name == "tcg" else 1) * self.slowness)


@dataclasses.dataclass(frozen=True)
class Probe:
    """What the tries with KVM showed."""

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
    probe = _cached_probe(qemu, version, wanted, cache)
    if probe.works:
        return Accelerator("kvm", probe.reason, version, slowness())
    if wanted == "kvm":
        raise ToolError(f"Cannot run a guest under KVM: {probe.reason} Repair KVM on this host, or set accelerator to auto or tcg.", qemu_version=version)
    return _emulated(f"{probe.reason} Guests are emulated (TCG) and take about {TCG_PATIENCE} times as long.", version)


def probe_kvm(qemu: Command, wanted: str = "auto") -> Probe:
    """Run guests under KVM: a device that opens proves nothing, and neither does a guest that runs more slowly than an emulated one.

    KVM that the user insists on (``wanted`` is kvm) has to work, but is not compared with emulation.
    """
    refusal = _device_refusal()
    if refusal:
        return Probe(False, refusal)
    with tempfile.NamedTemporaryFile(prefix="hyperscaler-probe-", suffix=".raw") as disk:
        disk.write(boot_sector())
        disk.flush()
        emulated = _emulated_seconds(qemu, disk.name) if wanted == "auto" else None
        limit = grown(PROBE_SECONDS) if emulated is None else emulated
        tries = []
        for _count in range(PROBE_TRIES):
            try:
                tries.append(_run_probe(qemu, "kvm", disk.name, limit))
            except CommandError:
                compared = "" if emulated is None else ", in which an emulated one does"
                return Probe(False, f"{KVM_DEVICE} opens, but a probe guest did not get through its boot sector under KVM within {limit:.1f} s{compared}.")
            if tries[-1].rc != PROBE_RC:
                break
    return judge_probe(tries, emulated)


def judge_probe(tries: t.Sequence[CommandResult], emulated: float | None) -> Probe:
    """What the ends of the probe guests mean; ``emulated`` is how many seconds an emulated one took, None when nothing is to be compared."""
    last = tries[-1]
    if last.rc != PROBE_RC:
        # The first line is the cause; assertions and register dumps follow.
        first = dataclasses.replace(last, stderr="\n".join(last.stderr.strip().splitlines()[:1]))
        said = explain(QEMU_PROGRAM, first).replace(f": {QEMU_PROGRAM}: ", ": ").rstrip(".")
        return Probe(False, f"{KVM_DEVICE} opens, but a probe guest does not run under KVM: {said}.")
    slowest = max(result.seconds for result in tries)
    took = f"{len(tries)} probe guests ran 64-bit code under KVM in {slowest:.1f} s or less"
    if emulated is None:
        return Probe(True, f"{took}.")
    if slowest > emulated * QUICK_SHARE:
        return Probe(
            False,
            f"{KVM_DEVICE} opens, but KVM is not clearly quicker here than emulation: a probe guest took {slowest:.1f} s under KVM and {emulated:.1f} s "
            "without (KVM inside a virtual machine can be like this).",
        )
    return Probe(True, f"{took}, an emulated one took {emulated:.1f} s.")


def _run_probe(qemu: Command, accelerator: str, disk: str, limit: float) -> CommandResult:
    attempt = f"run a probe guest ({accelerator})"
    return qemu.run(*probe_arguments(accelerator, disk), attempt=attempt, accepted=range(-64, 256), timeout=limit)


def _emulated_seconds(qemu: Command, disk: str) -> float | None:
    """How long an emulated probe guest takes; None when this QEMU cannot emulate, so that there is nothing to compare with."""
    try:
        result = _run_probe(qemu, "tcg", disk, grown(PROBE_SECONDS))
    except CommandError:
        return None
    return result.seconds if result.rc == PROBE_RC else None


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
    return Accelerator("tcg", reason, version, slowness())


def cache_key(qemu: Command, version: str, wanted: str) -> dict[str, t.Any]:
    """Everything that can change the outcome of the probe."""
    try:
        device: list[int] | None = [KVM_DEVICE.stat().st_mode, KVM_DEVICE.stat().st_gid]
    except OSError:
        device = None
    host = {"boot": boot_id(), "kernel": os.uname().release, "user": os.geteuid(), "groups": sorted(os.getgroups())}
    return {**host, "qemu": qemu.path, "version": version, "device": device, "wanted": wanted}


def remember_failure(cache: Path | None, reason: str) -> None:
    """Keep that KVM did not do for a guest although the probe had passed, so that the next guest is emulated at once; for as long as any outcome is kept."""
    qemu = Command(QEMU_PROGRAM, reason="run a guest", package=QEMU_PACKAGE)
    version = ".".join(str(part) for part in qemu.version())
    if cache is not None:
        _keep(cache, cache_key(qemu, version, "auto"), Probe(False, reason))


def _cached_probe(qemu: Command, version: str, wanted: str, cache: Path | None) -> Probe:
    if cache is None:
        return probe_kvm(qemu, wanted)
    key = cache_key(qemu, version, wanted)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        document = json.loads(cache.read_text(encoding="utf-8"))
        # A clock that was set back makes a file of the future, which is not believed either.
        if document["key"] == key and 0 <= time.time() - float(document["time"]) < KEPT_SECONDS:
            return Probe(bool(document["works"]), str(document["reason"]))
    probe = probe_kvm(qemu, wanted)
    _keep(cache, key, probe)
    return probe


def _keep(cache: Path, key: dict[str, t.Any], probe: Probe) -> None:
    # Losing the cache costs seconds only, so a folder that is missing or read-only is no failure.
    with contextlib.suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        document = {"key": key, "time": time.time(), "works": probe.works, "reason": probe.reason}
        write_atomic(cache, json.dumps(document, indent=1) + "\n")
