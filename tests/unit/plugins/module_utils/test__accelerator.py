# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the choice between KVM and emulation."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import typing as t
from pathlib import Path
from unittest import mock

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _accelerator
from ansible_collections.hyperscaler.images.plugins.module_utils._accelerator import (
    Probe,
    boot_sector,
    judge_probe,
    probe_arguments,
    probe_kvm,
    remember_failure,
    select,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command, CommandResult
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, ToolError

# Captured from QEMU 10.0.2 on a host whose KVM lacks an MSR.
MSR_FAILURE = (
    "qemu-system-x86_64: error: failed to set MSR 0x10a to 0xc000069\n"
    "qemu-system-x86_64: target/i386/kvm/kvm.c:3849: kvm_buf_set_msrs: Assertion `ret == cpu->kvm_msr_buf->nmsrs' failed.\n"
)


class FakeQemu:
    """A QEMU that ends in given ways under KVM, the last one again and again, and takes ``emulated`` seconds without (None: does not end)."""

    path = "/usr/bin/qemu-system-x86_64"

    def __init__(self, *outcomes: CommandResult | None, version: tuple[int, ...] = (10, 0, 2), emulated: float | None = 1.1) -> None:
        self.outcomes = outcomes or (None,)
        self.emulated = emulated
        self.calls: list[str] = []
        self.limits: list[float] = []
        self._version = version

    def version(self) -> tuple[int, ...]:
        return self._version

    def run(self, *arguments: str, **options: t.Any) -> CommandResult:
        name = arguments[arguments.index("-accel") + 1]
        outcome = self.outcomes[min(self.calls.count("kvm"), len(self.outcomes) - 1)]
        if name == "tcg":
            outcome = None if self.emulated is None else ended(33, seconds=self.emulated)
        self.calls.append(name)
        self.limits.append(options["timeout"])
        if outcome is None:
            raise CommandError("did not end")
        return outcome


def ended(rc: int, stderr: str = "", seconds: float = 0.31) -> CommandResult:
    return CommandResult(("qemu-system-x86_64",), rc, "", stderr, seconds)


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_accelerator, "slowness", lambda: 1.0)
    monkeypatch.setattr(_accelerator, "grown", lambda seconds: seconds)


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
    assert disk[0x5F:0x64] == bytes.fromhex("ea7a7c0800")
    assert disk[0x74:0x7A] == bytes.fromhex("0f00647c0000")
    assert disk[0x6C:0x74] == bytes.fromhex("00000000009a2000")
    assert disk[0x7A:0x7C] == bytes.fromhex("dbe3")


@pytest.mark.parametrize(("name", "processor"), [("kvm", "host"), ("tcg", "max")])
def test_probe_arguments(name: str, processor: str) -> None:
    arguments = probe_arguments(name, "/x/a,b.raw")
    assert arguments[arguments.index("-accel") + 1] == name
    assert arguments[arguments.index("-cpu") + 1] == processor
    assert json.loads(arguments[arguments.index("-blockdev") + 1])["file"]["filename"] == "/x/a,b.raw"
    assert "isa-debug-exit,iobase=0xf4,iosize=0x04" in arguments


def test_the_boot_sector_runs_in_the_real_qemu() -> None:
    if shutil.which(_accelerator.QEMU_PROGRAM) is None:
        pytest.skip("this machine has no QEMU")
    qemu = Command(_accelerator.QEMU_PROGRAM, reason="run a guest")
    with tempfile.NamedTemporaryFile(suffix=".raw") as disk:
        disk.write(boot_sector())
        disk.flush()
        result = qemu.run(*probe_arguments("tcg", disk.name), attempt="run a probe guest", accepted=range(-64, 256), timeout=120)
    assert result.rc == _accelerator.PROBE_RC
    # The loop has to count for more than the firmware, or a comparison would say nothing.
    assert result.seconds > 0.4


def test_guests_that_report_quickly_prove_kvm() -> None:
    tries = [ended(33), ended(33, seconds=0.42), ended(33)]
    assert judge_probe(tries, 1.1) == Probe(True, "3 probe guests ran 64-bit code under KVM in 0.4 s or less, an emulated one took 1.1 s.")
    assert judge_probe(tries, None) == Probe(True, "3 probe guests ran 64-bit code under KVM in 0.4 s or less.")


@pytest.mark.parametrize(
    ("seconds", "emulated"),
    [
        # Exits to the host of the host take long: every try is slow.
        ((4.9, 4.7, 5.1), 5.5),
        # One try stalls.
        ((0.3, 0.3, 0.9), 1.1),
        # As quick as emulation.
        ((1.1, 1.1, 1.1), 1.1),
        # A little quicker on a slow host.
        ((6.1, 6.0, 6.2), 9.0),
    ],
)
def test_guests_that_are_not_clearly_quicker_do_not(seconds: tuple[float, ...], emulated: float) -> None:
    probe = judge_probe([ended(33, seconds=number) for number in seconds], emulated)
    assert not probe.works
    assert f"a probe guest took {max(seconds):.1f} s under KVM and {emulated:.1f} s without" in probe.reason


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.usefixtures("kvm_device")
def test_each_try_counts(number: int) -> None:
    for bad in (ended(-6, MSR_FAILURE), None, ended(33, seconds=1.0)):
        outcomes = [bad if count == number else ended(33) for count in range(3)]
        assert not probe_kvm(t.cast(t.Any, FakeQemu(*outcomes))).works


@pytest.mark.usefixtures("kvm_device")
def test_kvm_gets_as_long_as_emulation_takes() -> None:
    qemu = FakeQemu(ended(33), emulated=7.5)
    probe_kvm(t.cast(t.Any, qemu))
    assert qemu.calls == ["tcg", "kvm", "kvm", "kvm"]
    assert qemu.limits[1:] == [7.5, 7.5, 7.5]


@pytest.mark.usefixtures("kvm_device")
def test_kvm_that_is_insisted_on_may_be_slow() -> None:
    qemu = FakeQemu(ended(33, seconds=4.9))
    assert probe_kvm(t.cast(t.Any, qemu), "kvm").works
    assert qemu.calls == ["kvm", "kvm", "kvm"]
    assert not probe_kvm(t.cast(t.Any, FakeQemu(ended(33, seconds=4.9)))).works


@pytest.mark.usefixtures("kvm_device")
def test_a_qemu_that_cannot_emulate_has_nothing_to_compare_with() -> None:
    assert probe_kvm(t.cast(t.Any, FakeQemu(ended(33, seconds=4.9), emulated=None))).works


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (ended(-6, MSR_FAILURE), "qemu-system-x86_64 was ended by signal SIGABRT: error: failed to set MSR 0x10a to 0xc000069."),
        (ended(0), "qemu-system-x86_64 ended with exit code 0 without a message."),
        (ended(1, "KVM: no such thing.\n"), "qemu-system-x86_64 ended with exit code 1: KVM: no such thing."),
    ],
)
def test_any_other_end_does_not(result: CommandResult, said: str) -> None:
    probe = judge_probe([result], 1.1)
    assert not probe.works
    assert probe.reason == f"/dev/kvm opens, but a probe guest does not run under KVM: {said}"


def test_a_guest_that_hangs_does_not(kvm_device: Path) -> None:
    probe = probe_kvm(t.cast(t.Any, FakeQemu()))
    assert probe == Probe(
        False, f"{kvm_device} opens, but a probe guest did not get through its boot sector under KVM within 1.1 s, in which an emulated one does."
    )


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
    assert qemu.calls == ["tcg", "kvm", "kvm", "kvm"]


@pytest.mark.parametrize("change", ["version", "boot", "damaged", "device", "kernel", "age", "clock", "format"])
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
    if change == "kernel":
        monkeypatch.setattr(_accelerator.os, "uname", lambda: mock.Mock(release="6.99"))
    now = time.time()
    if change in ("age", "clock"):
        monkeypatch.setattr(_accelerator.time, "time", lambda: now + (25 * 3600 if change == "age" else -60))
    if change == "format":
        kept = json.loads(cache.read_text(encoding="utf-8"))
        del kept["time"]
        cache.write_text(json.dumps(kept), encoding="utf-8")
    assert select("auto", cache=cache).name == "tcg"
    assert qemu.calls == ["tcg", "kvm"]


@pytest.mark.usefixtures("kvm_device")
def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path: Path, use: t.Callable[[FakeQemu], FakeQemu]) -> None:
    use(FakeQemu(ended(33)))
    (tmp_path / "file").write_bytes(b"")
    assert select("auto", cache=tmp_path / "file" / "accelerator.json").name == "kvm"


@pytest.mark.usefixtures("kvm_device")
def test_what_was_found_without_comparison_does_not_answer_for_auto(tmp_path: Path, use: t.Callable[[FakeQemu], FakeQemu]) -> None:
    cache = tmp_path / "accelerator.json"
    use(FakeQemu(ended(33, seconds=4.9)))
    assert select("kvm", cache=cache).name == "kvm"
    assert select("auto", cache=cache).name == "tcg"


@pytest.mark.usefixtures("kvm_device")
def test_a_guest_that_stood_still_is_remembered(tmp_path: Path, use: t.Callable[[FakeQemu], FakeQemu]) -> None:
    cache = tmp_path / "accelerator.json"
    qemu = use(FakeQemu(ended(33)))
    assert select("auto", cache=cache).name == "kvm"
    remember_failure(cache, "A guest stood still.")
    found = select("auto", cache=cache)
    assert (found.name, found.reason) == ("tcg", "A guest stood still. Guests are emulated (TCG) and take about 6 times as long.")
    # Who insists on KVM gets it.
    assert select("kvm", cache=cache).name == "kvm"
    assert qemu.calls.count("kvm") == 6


def test_time_limits_grow_on_a_slow_host(monkeypatch: pytest.MonkeyPatch, use: t.Callable[[FakeQemu], FakeQemu]) -> None:
    use(FakeQemu())
    monkeypatch.setattr(_accelerator, "slowness", lambda: 2.4)
    assert select("tcg").patience == 15
