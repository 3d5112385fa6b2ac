# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the second try of a guest that stood still under KVM."""

from __future__ import annotations

import typing as t
from pathlib import Path
from unittest import mock

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _guest_fallback
from ansible_collections.hyperscaler.images.plugins.module_utils._accelerator import Accelerator
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ToolError
from ansible_collections.hyperscaler.images.plugins.module_utils._guest_fallback import boot_with_fallback
from ansible_collections.hyperscaler.images.plugins.module_utils._process import ProcessIdentity
from ansible_collections.hyperscaler.images.plugins.module_utils._qemu_guest import GuestError, GuestSettings
from ansible_collections.hyperscaler.images.plugins.module_utils._qemu_process import GuestRecord

CACHE = Path("/c/accelerator.json")


class Host:
    """A host whose guests end as ``kvm`` and ``tcg`` say: None is a boot, a text the kind of failure."""

    def __init__(self, kvm: str | None, tcg: str | None) -> None:
        self.kinds = {"kvm": kvm, "tcg": tcg}
        self.booted: list[Accelerator] = []

    def boot(self, accelerator: Accelerator) -> GuestRecord:
        self.booted.append(accelerator)
        kind = self.kinds[accelerator.name]
        if kind is not None:
            raise GuestError(f"The guest g failed ({accelerator.name}).\nLast lines", kind=kind, accelerator=accelerator.name)
        return GuestRecord(ProcessIdentity(1, 1, "b", "n"), {"name": "g"}, accelerator.name, accelerator.reason)


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    def select(wanted: str, *, cache: Path | None = None) -> Accelerator:
        assert cache == (None if wanted == "tcg" else CACHE)
        return Accelerator("tcg" if wanted == "tcg" else "kvm", "It was chosen.", "10.0.2")

    monkeypatch.setattr(_guest_fallback, "select", select)
    remember = mock.Mock()
    monkeypatch.setattr(_guest_fallback, "remember_failure", remember)
    return remember


def run(host: Host, accelerator: str = "auto") -> GuestRecord:
    settings = GuestSettings(name="g", work_dir=Path("/w"), image=Path("/i"), image_format="qcow2", serial_log=Path("/w/serial.log"), accelerator=accelerator)
    return boot_with_fallback(settings, CACHE, host.boot)


def names(host: Host) -> list[str]:
    return [accelerator.name for accelerator in host.booted]


@pytest.mark.parametrize("kind", ["boot_incomplete", "no_console_output", "guest_ended"])
def test_a_standstill_is_tried_with_emulation(kind: str, remembered: mock.Mock) -> None:
    host = Host(kind, None)
    record = run(host)
    assert names(host) == ["kvm", "tcg"]
    assert record.accelerator == "tcg"
    assert record.reason == "KVM passed the probe, but a guest stood still under it and was emulated: The guest g failed (kvm)."
    remembered.assert_called_once_with(CACHE, "KVM passed its probe, but the guest g came up only when it was emulated.")


def test_an_image_that_fails_with_both_is_blamed(remembered: mock.Mock) -> None:
    with pytest.raises(GuestError, match=r"The guest g failed \(tcg\)") as caught:
        run(Host("boot_incomplete", "kernel_panic"))
    assert str(caught.value).endswith("The guest was emulated, because it had failed under KVM as well: The guest g failed (kvm).")
    assert caught.value.details == {"kind": "kernel_panic", "accelerator": "tcg"}
    remembered.assert_not_called()


@pytest.mark.parametrize("kind", ["kernel_panic", "grub_prompt", "root_not_found", "sshd_not_up", "authentication_refused", "cloud_init_error"])
def test_what_the_console_explains_is_not_the_fault_of_kvm(kind: str, remembered: mock.Mock) -> None:
    host = Host(kind, None)
    with pytest.raises(GuestError, match=r"\(kvm\)"):
        run(host)
    assert names(host) == ["kvm"]
    remembered.assert_not_called()


@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize("chosen", ["kvm", "tcg"])
def test_a_chosen_accelerator_is_never_replaced(chosen: str) -> None:
    host = Host("boot_incomplete", "boot_incomplete")
    with pytest.raises(GuestError):
        boot_with_fallback(
            GuestSettings(name="g", work_dir=Path("/w"), image=Path("/i"), image_format="qcow2", serial_log=Path("/s"), accelerator=chosen),
            None if chosen == "tcg" else CACHE,
            host.boot,
        )
    assert names(host) == [chosen]


def test_a_qemu_that_is_too_old_to_emulate(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[t.Any] = [Accelerator("kvm", "It was chosen.", "7.2.22"), ToolError("QEMU 7.2.22 is too old.")]
    monkeypatch.setattr(_guest_fallback, "select", mock.Mock(side_effect=answers))
    with pytest.raises(GuestError, match=r"could not be tried without: QEMU 7\.2\.22 is too old\.$") as caught:
        run(Host("boot_incomplete", None))
    assert caught.value.details["kind"] == "boot_incomplete"
