# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module nvidia_driver_info."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._dkms import Places
from ansible_collections.hyperscaler.images.plugins.modules import nvidia_driver_info

Run = t.Callable[..., "dict[str, t.Any]"]
KERNEL = "6.12.117+deb13-cloud-amd64"


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(nvidia_driver_info, "Places", lambda: Places(kernels=tmp_path))
    return tmp_path


def test_default_is_the_driver_of_debian_for_the_kernels_that_are_there(run_module: Run, kernels: Path) -> None:
    (kernels / KERNEL / "kernel").mkdir(parents=True)
    (kernels / "6.1.0-removed").mkdir()
    result = run_module(nvidia_driver_info.main)
    assert (result["changed"], result["kernels"], result["rejected"]) == (False, [KERNEL], {})
    assert result["msg"] == f"debian 550.163.01 proprietary serves any GPU that it knows on {KERNEL}."
    assert result["driver"]["modules"] == ["nvidia-current", "nvidia-current-uvm"]
    assert (result["driver"]["source"], result["driver"]["branch"], result["driver"]["title"]) == ("debian", 550, "debian 550.163.01 proprietary")
    assert len(result["warnings_of_choice"]) == 1


def test_choice_for_gpus(run_module: Run) -> None:
    result = run_module(nvidia_driver_info.main, gpus=["a100", "b200"], mig=["a100-80gb"], kernels=[KERNEL], check_mode=True)
    assert result["driver"]["title"] == "nvidia 595 open"
    assert result["rejected"]["debian 550.163.01 proprietary"] == ["b200 works with the open kernel modules only", "b200 needs branch 570 or newer"]
    assert result["msg"] == f"nvidia 595 open serves a100, b200 on {KERNEL}."


def test_refusal_is_one_message_with_the_table_as_data(run_module: Run) -> None:
    result = run_module(nvidia_driver_info.main, gpus=["v100", "b200"], kernels=[KERNEL])
    assert result["failed"]
    assert result["msg"].startswith("No NVIDIA driver serves v100, b200")
    assert "580 is the last branch with v100" in result["rejected"]["nvidia 595 proprietary"]


def test_own_repository(run_module: Run) -> None:
    result = run_module(nvidia_driver_info.main, gpus=["v100"], source="local", branch=580, kernels=[KERNEL])
    assert (result["driver"]["title"], result["driver"]["kernel_package"]) == ("local 580 proprietary", "nvidia-kernel-dkms")
    assert "Name the branch" in run_module(nvidia_driver_info.main, source="local", kernels=[KERNEL])["msg"]


def test_no_kernel(run_module: Run, kernels: Path) -> None:
    result = run_module(nvidia_driver_info.main)
    assert result["failed"]
    assert f"{kernels} holds no kernel" in result["msg"]
