# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of MIG layouts: what fits, what does not and why, and what Slurm calls the instances."""

from __future__ import annotations

import re
import typing as t

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._gpu_models import MODELS, model_of
from ansible_collections.hyperscaler.images.plugins.module_utils._mig import document, layout_from, place, slurm_gres, slurm_type, whole_type


def entry(model: str, instances: t.Any, **more: t.Any) -> dict[str, t.Any]:
    return {"model": model, "instances": instances, **more}


@pytest.mark.parametrize(
    ("model", "instances"),
    [
        ("a100-40gb", {"1g.5gb": 7}),
        ("a100-40gb", {"3g.20gb": 2}),
        ("a100-40gb", {"3g.20gb": 1, "4g.20gb": 1}),
        ("a100-80gb", {"1g.10gb": 2, "2g.20gb": 1, "3g.40gb": 1}),
        ("a100-80gb", {"1g.10gb": 4, "3g.40gb": 1}),
        ("h100-80gb", {"1g.20gb": 4}),
        ("h100-nvl", {"7g.94gb": 1}),
        ("h200", {"1g.18gb": 2, "2g.35gb": 1, "3g.71gb": 1}),
        ("h200", {"1g.18gb": 6, "1g.18gb+me": 1}),
        ("h200", {"2g.35gb": 3, "1g.18gb": 1}),
        ("h200", {"2g.35gb": 3, "1g.35gb": 1}),
        ("b200", {"2g.45gb": 1, "4g.90gb": 1, "1g.45gb": 1}),
        ("a30", {"1g.6gb": 2, "2g.12gb": 1}),
        ("a30", {"1g.6gb+me": 1, "1g.6gb": 3}),
        ("rtx-pro-6000", {"1g.24gb": 2, "2g.48gb": 1}),
        ("rtx-pro-6000", {"1g.24gb+gfx": 4}),
        ("rtx-pro-6000", {"1g.24gb+me.all": 1, "1g.24gb-me": 3}),
        ("rtx-pro-6000", {"2g.48gb+gfx": 1, "1g.24gb": 1, "1g.24gb+me": 1}),
        ("h200", {}),
    ],
)
def test_what_fits(model: str, instances: dict[str, int]) -> None:
    found = layout_from([entry(model, instances)])[0]
    assert {profile.name: count for profile, count in found.instances} == instances


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("h200", "must be a list with one entry"),
        (["h200"], "entry 1 of the MIG layout: it is 'h200', but must have the keys model and instances"),
        ([{"model": "h200"}], "It needs model and instances"),
        ([entry("h200", {}, gpus=1)], "it has the keys gpus, instances, model"),
        ([entry("h2000", {})], "'h2000': it is not known"),
        ([entry("a100", {})], "there are a100-40gb, a100-80gb"),
        ([entry("t4", {})], "t4 (entry 1 of the MIG layout): this GPU has no MIG"),
        ([entry("h200", ["1g.18gb"])], "Give profiles and how many of each, such as 1g.18gb: 2"),
        ([entry("h200", {"1g.5gb": 1})], "it has no profile '1g.5gb'. It has 1g.18gb, 1g.18gb+me, 1g.35gb"),
        ([entry("h200", {"1g.18gb": 0})], "the number of 1g.18gb is 0"),
        ([entry("h200", {"1g.18gb": "2"})], "the number of 1g.18gb is '2'"),
        ([entry("h200", {"1g.18gb": True})], "the number of 1g.18gb is True"),
        ([entry("h200", {"3g.71gb": 3})], "3 x 3g.71gb do not fit, at most 2 do"),
        ([entry("h200", {"3g.71gb": 2, "1g.18gb": 1})], "2 x 3g.71gb + 1 x 1g.18gb takes 7 compute slices and 9 memory slices, but the GPU has 7 and 8"),
        ([entry("h200", {"4g.71gb": 1, "2g.35gb": 2})], "takes 8 compute slices and 8 memory slices"),
        ([entry("h200", {"7g.141gb": 1, "1g.18gb": 1})], "takes 8 compute slices and 9 memory slices"),
        ([entry("a30", {"4g.24gb": 1, "1g.6gb": 1})], "but the GPU has 4 and 4"),
        ([entry("a30", {"1g.6gb+me": 1, "2g.12gb+me": 1})], "only one can have the media engines"),
        ([entry("rtx-pro-6000", {"1g.24gb+me.all": 1, "1g.24gb+gfx": 1})], "beside +me.all no instance has media engines, but 1g.24gb+gfx has some"),
        ([entry("rtx-pro-6000", {"1g.24gb+me.all": 1, "2g.48gb+me.all": 1})], "only one can have the media engines"),
        ([entry("gb200", {"3g.95gb": 3})], "3 x 3g.95gb takes 285 GB, but the GPU has 186"),
        ([entry("gb200", {"3g.60gb": 1})], "it has no profile '3g.60gb'"),
        ([entry("gb200", {"all": 1})], "it has no profile 'all'"),
        ([entry("gb200", {"3g.95gb": 0})], "the number of 3g.95gb is 0"),
        ([entry("h200", {}, pci_ids=[2330])], '2330 in pci_ids is no text, and YAML may have changed it. Write the id in quotes, such as "2330"'),
        ([entry("h200", {}, pci_ids=["10de"])], "'10de' in pci_ids is no PCI device id"),
        ([entry("h200", {}, pci_ids=["NVIDIA H200"])], "'NVIDIA H200' in pci_ids is no PCI device id"),
        ([entry("h200", {}, pci_ids=["2330"]), entry("h100-80gb", {})], "two entries are for the same GPU with the PCI id 2330"),
        ([{}], "it has the keys of an empty entry"),
        ([entry("h200", {}, devices=[])], "devices is []"),
        ([entry("h200", {}, devices=[-1])], "devices is [-1]"),
        ([entry("h200", {}, devices="0")], "devices is '0'"),
        ([entry("h200", {}), entry("h200", {}, devices=[0])], "two entries are for the same h200"),
        ([entry("h200", {}, devices=[0, 1]), entry("h200", {}, devices=[1])], "two entries are for the same h200"),
    ],
)
def test_what_is_refused(raw: t.Any, reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        layout_from(raw)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("model", "instances"),
    [
        ("gb200", {"7g.189gb": 1}),
        ("gb200", {"3g.95gb": 2}),
        ("gb200", {"1g.24gb": 7}),
        ("gb200", {"3g.95gb": 1, "2g.47gb": 1, "1g.24gb": 2}),
        ("b300", {"1g.34gb+gfx": 7}),
        ("h100-80gb", {"1g.10gb-me": 7}),
        ("rtx-pro-5000", {"1g.12gb": 1, "1g.12gb-me": 3}),
        ("rtx-pro-5000", {"4g.48gb+gfx": 1}),
    ],
)
def test_profiles_that_the_table_lacks_are_left_to_the_driver(model: str, instances: dict[str, int]) -> None:
    found = layout_from([entry(model, instances)])[0]
    assert document([found])["entries"][0]["instances"] == instances
    assert found.unknown
    assert not any(item["exact"] for item in slurm_gres([found], {model: 1}, {}) if item["type"].endswith(("95gb", "189gb")))


@pytest.mark.parametrize("written", ["20b3", "0x20B3", "10de:20b3", "0x20B310DE", " 20B3 "])
def test_another_edition_is_added_by_its_id(written: str) -> None:
    found = layout_from([entry("a100-80gb", {"1g.8gb": 7}, pci_ids=[written])])[0]
    assert found.pci_ids[-1] == "20B3"
    assert found.unknown == ("1g.8gb",)
    # The memory of an edition that was added is not that of the table, so it says nothing.
    with pytest.raises(ImageError, match=r"it has no profile '1g\.8gb'"):
        layout_from([entry("a100-80gb", {"1g.8gb": 7})])


def test_slices_alone_are_not_enough() -> None:
    """One slice at an odd place leaves no room for two: the search moves it."""
    small, double = (next(p for p in model_of("h200").mig.profiles if p.name == name) for name in ("1g.18gb", "1g.35gb"))
    assert place([double, double, double, small, small]) == [6, 4, 2, 1, 0]
    assert place([double, double, double, double, small]) is None


def test_every_single_profile_fits_as_often_as_it_says() -> None:
    for model in MODELS:
        for profile in model.mig.profiles if model.mig else ():
            assert place([profile] * profile.count) is not None, f"{model.name} {profile.name}"
            layout_from([entry(model.name, {profile.name: profile.count})])


def test_document() -> None:
    found = document(layout_from([entry("h200", {"1g.18gb": 2, "3g.71gb": 1}, devices=[1, 0]), entry("a100-80gb", {})]))
    assert found == {
        "format": 1,
        "entries": [
            {"model": "h200", "pci_ids": ["2335"], "reset": False, "devices": [0, 1], "instances": {"3g.71gb": 1, "1g.18gb": 2}},
            {"model": "a100-80gb", "pci_ids": list(model_of("a100-80gb").pci_ids), "reset": True, "devices": None, "instances": {}},
        ],
    }


@pytest.mark.parametrize(
    ("model", "profile", "expected"),
    [
        ("a100-40gb", "1g.5gb", "a100_1g.5gb"),
        ("a100-40gb", "3g.20gb", "a100_3g.20gb"),
        ("a100-40gb", "7g.40gb", "a100_7g.39gb"),
        ("a100-80gb", "3g.40gb", "a100_3g.39gb"),
        ("h100-80gb", "1g.10gb", "1g.10gb"),
        ("h200", "1g.18gb+me", "h200_1g.16gb"),
        ("h200", "2g.35gb", "h200_2g.33gb"),
        ("h200-nvl", "1g.18gb", "h200_nvl_1g.18gb"),
        ("b200", "1g.23gb", "b200_1g.23gb"),
    ],
)
def test_types_of_slurm(model: str, profile: str, expected: str) -> None:
    found = model_of(model)
    assert found.mig is not None
    assert slurm_type(found, next(item for item in found.mig.profiles if item.name == profile)) == expected


def test_types_of_whole_gpus_are_part_of_the_product_name() -> None:
    for model in MODELS:
        assert whole_type(model) in model.product.lower().replace(" ", "_")


def test_resources_of_a_node() -> None:
    layout = layout_from([entry("a100-40gb", {"1g.5gb": 2, "3g.20gb": 1}, devices=[0, 1]), entry("b200", {"1g.23gb": 7})])
    assert slurm_gres(layout, {"a100-40gb": 3}, {}) == [
        {"name": "gpu", "type": "a100_3g.20gb", "count": 2, "gres": "gpu:a100_3g.20gb:2", "exact": True},
        {"name": "gpu", "type": "a100_1g.5gb", "count": 4, "gres": "gpu:a100_1g.5gb:4", "exact": True},
        {"name": "gpu", "type": "a100", "count": 1, "gres": "gpu:a100:1", "exact": True},
    ]
    assert slurm_gres(layout, {"b200": 1}, {})[0]["exact"] is False
    assert slurm_gres(layout, {"b200": 1}, {"1g.23gb": "b200_1g.22gb"})[0] == {
        "name": "gpu",
        "type": "b200_1g.22gb",
        "count": 7,
        "gres": "gpu:b200_1g.22gb:7",
        "exact": True,
    }
    assert [item["gres"] for item in slurm_gres([], {"h100-80gb": 8}, {})] == ["gpu:h100:8"]
    # Numbers go on from model to model.
    mixed = layout_from([entry("h200", {"7g.141gb": 1}, devices=[1])])
    assert [item["gres"] for item in slurm_gres(mixed, {"a30": 1, "h200": 2}, {})] == ["gpu:a30:1", "gpu:h200_7g.140gb:1", "gpu:h200:1"]


@pytest.mark.parametrize(
    ("model", "instances"),
    [
        ("gb200", {"1g.24gb": 7}),
        ("gb200", {"1g.24gb+me": 1, "1g.24gb": 6}),
        ("gb200", {"4g.95gb": 1, "3g.95gb": 1}),
        ("gb200", {"7g.189gb": 1}),
        ("gb300", {"7g.279gb": 1}),
        ("rtx-pro-6000", {"2g.48gb+gfx": 1, "1g.24gb+gfx": 2}),
        ("rtx-pro-6000", {"1g.24gb+me.all": 1, "1g.24gb-me": 3}),
        ("rtx-pro-6000", {"4g.96gb+gfx": 1}),
    ],
)
def test_layouts_of_further_models_and_editions(model: str, instances: dict[str, int]) -> None:
    (entry,) = layout_from([{"model": model, "instances": instances}])
    assert {profile.name: count for profile, count in entry.instances} == instances


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"model": "", "instances": {}}, "entry 1 of the MIG layout: its model is empty"),
        ({"model": None, "instances": {}}, "entry 1 of the MIG layout: its model is empty"),
        ({"model": "h200", "instances": {}, "pci_ids": [""]}, "an entry of pci_ids is empty"),
    ],
)
def test_empty_names_are_refused(raw: dict[str, t.Any], told: str) -> None:
    with pytest.raises(ImageError, match=re.escape(told)):
        layout_from([raw])
