# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the table of GPUs: its rows are sound, and facts that others publish are in it."""

from __future__ import annotations

import re

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._gpu_models import (
    FAMILIES,
    MODELS,
    GpuError,
    GpuModel,
    family_of,
    model_of,
)

DIVISIBLE = [model for model in MODELS if model.mig is not None]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_rows_are_sound(model: GpuModel) -> None:
    assert re.fullmatch(r"[a-z0-9-]+", model.name)
    assert model.pci_ids
    assert all(re.fullmatch(r"[0-9A-F]{4}", device) for device in model.pci_ids)
    assert model.open or model.proprietary
    assert model.host in ("amd64", "arm64")
    assert re.fullmatch(r"\d+\.\d", model.capability)


def test_names_and_pci_ids_are_unique() -> None:
    assert len({model.name for model in MODELS}) == len(MODELS)
    # A2 and A16 differ in the id of the board only, and are driven alike.
    devices = [device for model in MODELS if model.name != "a16" for device in model.pci_ids]
    assert len(set(devices)) == len(devices)


@pytest.mark.parametrize("model", DIVISIBLE, ids=lambda model: model.name)
def test_profiles_fit_the_slices(model: GpuModel) -> None:
    assert model.mig is not None
    for profile in model.mig.profiles:
        assert re.fullmatch(rf"{profile.compute}g\.\d+gb(\+me|\+gfx|\+me\.all|-me)?", profile.name)
        assert all(start + profile.memory <= model.mig.memory for start in profile.starts)
        assert profile.count <= len(profile.starts)
        assert profile.compute * profile.count <= model.mig.compute
        assert profile.memory * profile.count <= model.mig.memory
        assert profile.gib is None or profile.gib <= int(profile.name.partition(".")[2].partition("gb")[0])


@pytest.mark.parametrize("model", DIVISIBLE, ids=lambda model: model.name)
def test_identifiers_and_names_of_profiles_are_unique(model: GpuModel) -> None:
    assert model.mig is not None
    names = [profile.name for profile in model.mig.profiles]
    numbers = [profile.identifier for profile in model.mig.profiles if profile.identifier is not None]
    assert len(set(names)) == len(names)
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize(
    ("name", "profiles"),
    [
        ("a30", "1g.6gb x4, 1g.6gb+me x1, 2g.12gb x2, 2g.12gb+me x1, 4g.24gb x1"),
        ("a100-40gb", "1g.5gb x7, 1g.5gb+me x1, 1g.10gb x4, 2g.10gb x3, 3g.20gb x2, 4g.20gb x1, 7g.40gb x1"),
        ("a100-80gb", "1g.10gb x7, 1g.10gb+me x1, 1g.20gb x4, 2g.20gb x3, 3g.40gb x2, 4g.40gb x1, 7g.80gb x1"),
        ("h100-80gb", "1g.10gb x7, 1g.10gb+me x1, 1g.20gb x4, 2g.20gb x3, 3g.40gb x2, 4g.40gb x1, 7g.80gb x1"),
        ("h100-nvl", "1g.12gb x7, 1g.12gb+me x1, 1g.24gb x4, 2g.24gb x3, 3g.47gb x2, 4g.47gb x1, 7g.94gb x1"),
        ("h200", "1g.18gb x7, 1g.18gb+me x1, 1g.35gb x4, 2g.35gb x3, 3g.71gb x2, 4g.71gb x1, 7g.141gb x1"),
        ("b200", "1g.23gb x7, 1g.23gb+me x1, 1g.45gb x4, 2g.45gb x3, 3g.90gb x2, 4g.90gb x1, 7g.180gb x1"),
        (
            "rtx-pro-6000",
            "1g.24gb x4, 1g.24gb+me x1, 1g.24gb+gfx x4, 1g.24gb+me.all x1, 1g.24gb-me x4, 2g.48gb x2, 2g.48gb+gfx x2, 2g.48gb+me.all x1, 2g.48gb-me x2, "
            "4g.96gb x1, 4g.96gb+gfx x1",
        ),
        ("rtx-pro-5000", "1g.24gb x2, 1g.24gb+gfx x2, 1g.24gb-me x2, 1g.24gb+me x1, 1g.24gb+me.all x1, 2g.48gb x1, 2g.48gb+gfx x1"),
        ("b300", "1g.34gb x7, 1g.34gb+me x1, 1g.67gb x4, 2g.67gb x3, 3g.135gb x2, 4g.135gb x1, 7g.269gb x1"),
    ],
)
def test_published_profiles(name: str, profiles: str) -> None:
    mig = model_of(name).mig
    assert mig is not None
    assert ", ".join(f"{profile.name} x{profile.count}" for profile in mig.profiles) == profiles


@pytest.mark.parametrize(
    ("device", "model"),
    [
        ("2BB1", "rtx-pro-6000"),
        ("2BB4", "rtx-pro-6000"),
        ("2BB5", "rtx-pro-6000"),
        ("2BB3", "rtx-pro-5000"),
        ("20B8", "a100-80gb"),
        ("20B9", "a30"),
        ("2338", "h100-96gb"),
        ("2339", "h100-94gb"),
        ("2909", "b200"),
        ("31C3", "gb300"),
    ],
)
def test_editions_of_models(device: str, model: str) -> None:
    assert device in model_of(model).pci_ids


def test_only_volta_lacks_the_open_modules_and_ends_with_580() -> None:
    assert {model.family for model in MODELS if not model.open} == {"v100"}
    assert {model.last for model in MODELS if not model.open} == {580}


def test_only_ampere_needs_a_reset() -> None:
    assert {model.name for model in DIVISIBLE if model.mig is not None and model.mig.reset} == {"a30", "a100-40gb", "a100-80gb"}


def test_lookup() -> None:
    assert [model.name for model in family_of("A100")] == ["a100-40gb", "a100-80gb"]
    assert family_of("RTX PRO 6000")[0].name == "rtx-pro-6000"
    assert model_of("h200").pci_ids == ("2335",)
    assert {"v100", "t4", "a30", "a100", "h100", "h200", "b200"} <= set(FAMILIES)


def test_names_that_mean_nothing_or_too_much_are_refused() -> None:
    with pytest.raises(GpuError, match=r"'rx-7900': it is not known\. Known are v100, t4"):
        family_of("rx-7900")
    with pytest.raises(GpuError, match=r"there are a100-40gb, a100-80gb\. Name one of these"):
        model_of("a100")
