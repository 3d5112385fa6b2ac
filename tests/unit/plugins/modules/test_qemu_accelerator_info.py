# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module qemu_accelerator_info."""

from __future__ import annotations

import typing as t
from pathlib import Path
from unittest import mock

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._accelerator import Accelerator
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ToolError
from ansible_collections.hyperscaler.images.plugins.modules import qemu_accelerator_info

Run = t.Callable[..., "dict[str, t.Any]"]


def test_the_choice_is_returned(run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    select = mock.Mock(return_value=Accelerator("tcg", "There is no KVM.", "10.0.2"))
    monkeypatch.setattr(qemu_accelerator_info, "select", select)
    result = run_module(qemu_accelerator_info.main, cache="/c/a.json")
    assert not result["changed"]
    assert result["msg"] == "tcg: There is no KVM."
    assert (result["accelerator"], result["reason"], result["patience"], result["qemu_version"]) == ("tcg", "There is no KVM.", 6, "10.0.2")
    select.assert_called_once_with("auto", cache=Path("/c/a.json"))


def test_check_mode_writes_no_cache(run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    select = mock.Mock(return_value=Accelerator("kvm", "It ran.", "10.0.2"))
    monkeypatch.setattr(qemu_accelerator_info, "select", select)
    assert run_module(qemu_accelerator_info.main, cache="/c/a.json", check_mode=True)["patience"] == 1
    select.assert_called_once_with("auto", cache=None)


def test_a_failure_is_explained(run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu_accelerator_info, "select", mock.Mock(side_effect=ToolError("KVM does not work.", qemu_version="10.0.2")))
    result = run_module(qemu_accelerator_info.main, accelerator="kvm")
    assert (result["failed"], result["msg"], result["qemu_version"]) == (True, "KVM does not work.", "10.0.2")
