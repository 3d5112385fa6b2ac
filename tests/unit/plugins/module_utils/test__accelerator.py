# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the choice between KVM and emulation."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path
from unittest import mock

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _accelerator
from ansible_collections.hyperscaler.images.plugins.module_utils._accelerator import Probe, boot_sector, judge_probe, probe_arguments, probe_kvm, select
from ansible_collections.hyperscaler.images.plugins.module_utils._command import CommandResult
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, ToolError

# Captured from QEMU 10.0.2 on a host whose KVM lacks an MSR.
MSR_FAILURE = (
    "qemu-system-x86_64: error: failed to set MSR 0x10a to 0xc000069\n"
    "qemu-system-x86_64: target/i386/kvm/kvm.c:3849: kvm_buf_set_msrs: Assertion `ret == cpu->kvm_msr_buf->nmsrs' failed.\n"
)


class FakeQemu:
    """A QEMU that ends in a given way."""

    path = "/usr/bin/qemu-system-x86_64"

    def __init__(self, outcome: CommandResult | None = None, version: tuple[int, ...] = (10, 0, 2)) -> None:
        self.outcome = outcome
        self.calls: list[list[str]] = []
        self._version = version

    def version(self) -> tuple[int, ...]:
        return self._version

    def run(self, *arguments: str, **options: t.Any) -> CommandResult:
        self.calls.append(list(arguments))
        assert options["timeout"] == 5.0
        if self.outcome is None:
            raise CommandError("did not end")
        return self.outcome


def ended(rc: int, stderr: str = "", seconds: float = 0.31) -> CommandResult:
    return CommandResult(("qemu-system-x86_64",), rc, "", stderr, seconds)


@pytest.fixture
def kvm_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    device = tmp_path / "kvm"
    device.write_bytes(b"")
    monkeypatch.setattr(_accelerator, "KVM_DEVICE", device)
    return device


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> t.Callable[[FakeQemu], FakeQemu]:
    def use_qemu(qemu: FakeQemu) -> FakeQemu:
        monkeypatch.setattr(_accelerator, "Command", mock.Mock(return_value=qemu))
        return qemu

    return use_qemu


def test_the_boot_sector_is_one() -> None:
    disk = boot_sector()
    assert len(disk) == 1 << 20
    assert disk[510:512] == b"\x55\xaa"
    # The far jump, the load of the GDT and the GDT register agree with where the code lies.
    assert disk[0x5F:0x64] == bytes.fromhex("ea647c0800")
    assert disk[0x7B:0x81] == bytes.fromhex("0f006b7c0000")
    assert disk[0x73:0x7B] == bytes.fromhex("00000000009a2000")


@pytest.mark.parametrize(("name", "processor"), [("kvm", "host"), ("tcg", "max")])
def test_probe_arguments(name: str, processor: str) -> None:
    arguments = probe_arguments(name, "/x/a,b.raw")
    assert arguments[arguments.index("-accel") + 1] == name
    assert arguments[arguments.index("-cpu") + 1] == processor
    assert json.loads(arguments[arguments.index("-blockdev") + 1])["file"]["filename"] == "/x/a,b.raw"
    assert "isa-debug-exit,iobase=0xf4,iosize=0x04" in arguments


def test_a_guest_that_reports_proves_kvm() -> None:
    assert judge_probe(ended(33)) == Probe(True, "A probe guest ran 64-bit code under KVM in 0.3 s.")


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (ended(-6, MSR_FAILURE), "qemu-system-x86_64 was ended by signal SIGABRT: error: failed to set MSR 0x10a to 0xc000069."),
        (ended(0), "qemu-system-x86_64 ended with exit code 0 without a message."),
        (ended(1, "KVM: no such thing.\n"), "qemu-system-x86_64 ended with exit code 1: KVM: no such thing."),
    ],
)
def test_any_other_end_does_not(result: CommandResult, said: str) -> None:
    probe = judge_probe(result)
    assert not probe.works
    assert probe.reason == f"/dev/kvm opens, but a probe guest does not run under KVM: {said}"


def test_a_guest_that_hangs_does_not(kvm_device: Path) -> None:
    probe = probe_kvm(t.cast(t.Any, FakeQemu()))
    assert probe == Probe(False, f"{kvm_device} opens, but a probe guest did not get through its boot sector under KVM within 5 s.")


def test_no_device_needs_no_probe(kvm_device: Path) -> None:
    kvm_device.unlink()
    qemu = FakeQemu(ended(33))
    probe = probe_kvm(t.cast(t.Any, qemu))
    assert not probe.works
    assert "does not exist on this host" in probe.reason
    assert qemu.calls == []


@pytest.mark.usefixtures("kvm_device")
def test_a_device_that_may_not_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_accelerator.os, "open", mock.Mock(side_effect=PermissionError(13, "Permission denied")))
    assert "add the user to the group kvm" in probe_kvm(t.cast(t.Any, FakeQemu(ended(33)))).reason


@pytest.mark.usefixtures("kvm_device")
def test_auto_takes_kvm_where_it_works(use: t.Callable[[FakeQemu], FakeQemu]) -> None:
    use(FakeQemu(ended(33)))
    found = select("auto")
    assert (found.name, found.patience, found.qemu_version) == ("kvm", 1, "10.0.2")


@pytest.mark.usefixtures("kvm_device")
def test_auto_emulates_elsewhere_and_says_why(use: t.Callable[[FakeQemu], FakeQemu]) -> None:
    use(FakeQemu(ended(-6, MSR_FAILURE)))
    found = select("auto")
    assert (found.name, found.patience) == ("tcg", 6)
    assert "failed to set MSR 0x10a" in found.reason
    assert found.reason.endswith("Guests are emulated (TCG) and take about 6 times as long.")


def test_tcg_does_not_probe(use: t.Callable[[FakeQemu], FakeQemu]) -> None:
    qemu = use(FakeQemu())
    assert select("tcg").reason == "Emulation (TCG) was asked for."
    assert qemu.calls == []


@pytest.mark.usefixtures("kvm_device")
def test_kvm_that_does_not_work_is_an_error(use: t.Callable[[FakeQemu], FakeQemu]) -> None:
    use(FakeQemu(ended(-6, MSR_FAILURE)))
    with pytest.raises(ToolError, match=r"Cannot run a guest under KVM: .*failed to set MSR.* set accelerator to auto or tcg\."):
        select("kvm")


@pytest.mark.usefixtures("kvm_device")
@pytest.mark.parametrize("wanted", ["auto", "tcg"])
def test_an_old_qemu_does_not_emulate(wanted: str, use: t.Callable[[FakeQemu], FakeQemu]) -> None:
    use(FakeQemu(ended(1, "no"), version=(7, 2, 22)))
    with pytest.raises(ToolError, match=r"QEMU 7\.2\.22 was found, but 10 or newer is needed to emulate guests.*bookworm-backports"):
        select(wanted)


@pytest.mark.usefixtures("kvm_device")
def test_an_old_qemu_may_use_kvm(use: t.Callable[[FakeQemu], FakeQemu]) -> None:
    use(FakeQemu(ended(33), version=(7, 2, 22)))
    assert select("auto").name == "kvm"


@pytest.mark.usefixtures("kvm_device")
def test_the_outcome_is_kept(tmp_path: Path, use: t.Callable[[FakeQemu], FakeQemu]) -> None:
    cache = tmp_path / "cache" / "accelerator.json"
    qemu = use(FakeQemu(ended(33)))
    first = select("auto", cache=cache)
    assert select("auto", cache=cache) == first
    assert len(qemu.calls) == 1


@pytest.mark.parametrize("change", ["version", "boot", "damaged", "device"])
def test_the_outcome_is_not_kept_when_the_host_changes(
    change: str, tmp_path: Path, kvm_device: Path, use: t.Callable[[FakeQemu], FakeQemu], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "accelerator.json"
    use(FakeQemu(ended(33)))
    select("auto", cache=cache)
    qemu = use(FakeQemu(ended(1, "no"), version=(11, 0, 0) if change == "version" else (10, 0, 2)))
    if change == "boot":
        monkeypatch.setattr(_accelerator, "boot_id", lambda: "another")
    if change == "damaged":
        cache.write_text("{", encoding="utf-8")
    if change == "device":
        kvm_device.chmod(0o600)
        kvm_device.chmod(0o666)
    assert select("auto", cache=cache).name == "tcg"
    assert len(qemu.calls) == 1


@pytest.mark.usefixtures("kvm_device")
def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path: Path, use: t.Callable[[FakeQemu], FakeQemu]) -> None:
    use(FakeQemu(ended(33)))
    (tmp_path / "file").write_bytes(b"")
    assert select("auto", cache=tmp_path / "file" / "accelerator.json").name == "kvm"
