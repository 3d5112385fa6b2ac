# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module dkms_module as a whole."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._dkms import DkmsError, Places, Wanted
from ansible_collections.hyperscaler.images.plugins.modules import dkms_module

Runner = t.Callable[..., "dict[str, t.Any]"]
KERNEL = "6.12.117+deb13-cloud-amd64"


class FakeDkms:
    """A DKMS that compiles at once and makes a signing key while it does so."""

    def __init__(self, places: Places) -> None:
        self.places = places

    def missing(self, wanted: Wanted) -> list[str]:
        return [kernel for kernel in wanted.kernels if not (self.places.state / kernel).exists()]

    def compile(self, wanted: Wanted, kernel: str) -> None:
        (self.places.state / "mok.key").touch()
        if wanted.version == "bad":
            raise DkmsError("it does not compile", rc=10)
        (self.places.state / kernel).touch()

    def share(self, wanted: Wanted, kernel: str) -> None:
        assert (self.places.state / kernel).exists(), f"{wanted.name} is not compiled yet"

    def prove(self, wanted: Wanted) -> dict[str, dict[str, str]]:
        return {kernel: dict.fromkeys(wanted.modules, kernel) for kernel in wanted.kernels}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    found = Places(tmp_path / "modules", tmp_path / "src", tmp_path / "state")
    for folder in (found.kernels / KERNEL / "kernel", found.sources / "beegfs-8.3.1", found.state):
        folder.mkdir(parents=True)
    (found.sources / "beegfs-8.3.1/dkms.conf").touch()
    monkeypatch.setattr(dkms_module, "Dkms", FakeDkms)
    monkeypatch.setattr(dkms_module, "Places", lambda: found)
    return found


def test_check_real_check_real(run_module: Runner, places: Places) -> None:
    arguments: dict[str, t.Any] = {"name": "beegfs", "modules": ["beegfs"]}
    foreseen = run_module(dkms_module.main, check_mode=True, **arguments)
    assert (foreseen["changed"], foreseen["kernels"], foreseen["version"]) == (True, {}, "8.3.1")
    assert foreseen["msg"] == f"beegfs 8.3.1 has to be compiled for {KERNEL}."
    assert not (places.state / KERNEL).exists()
    done = run_module(dkms_module.main, **arguments)
    assert (done["changed"], done["kernels"]) == (True, {KERNEL: {"beegfs": KERNEL}})
    assert done["actions"] == foreseen["actions"] == [f"compiled beegfs 8.3.1 for {KERNEL}"]
    assert not (places.state / "mok.key").exists()
    for check_mode in (True, False):
        again = run_module(dkms_module.main, check_mode=check_mode, **arguments)
        assert (again["changed"], again["actions"], again["msg"]) == (False, [], f"beegfs 8.3.1 fits {KERNEL}.")


def test_signing_key_goes_even_when_nothing_is_compiled(run_module: Runner, places: Places) -> None:
    (places.state / KERNEL).touch()
    key = places.state / "mok.key"
    key.touch()
    assert run_module(dkms_module.main, check_mode=True, name="beegfs", modules=["beegfs"])["actions"] == [f"removed {key}"]
    assert key.exists()
    assert run_module(dkms_module.main, name="beegfs", modules=["beegfs"], keep_signing_key=True)["changed"] is False
    assert run_module(dkms_module.main, name="beegfs", modules=["beegfs"])["changed"] is True
    assert not key.exists()


def test_failure_is_one_message_and_leaves_no_key(run_module: Runner, places: Places) -> None:
    result = run_module(dkms_module.main, name="beegfs", modules=["beegfs"], version="bad")
    assert (result["failed"], result["msg"], result["rc"]) == (True, "it does not compile", 10)
    assert not (places.state / "mok.key").exists()


def test_check_mode_before_the_package_is_installed(run_module: Runner, places: Places) -> None:
    result = run_module(dkms_module.main, check_mode=True, name="other", modules=["other"])
    assert (result["changed"], result["msg"]) == (True, "other has to be installed first.")
    assert run_module(dkms_module.main, name="other", modules=["other"])["failed"] is True
    assert places.state.is_dir()
