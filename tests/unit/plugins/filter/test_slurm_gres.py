# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the filter slurm_gres and of the lines of gres.conf."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.hyperscaler.images.plugins.filter.slurm_gres import FilterModule, slurm_gres
from ansible_collections.hyperscaler.images.plugins.plugin_utils._slurm_gres import gres_lines, gres_of

TWO_GPUS = {"count": 2, "devices": ["/dev/nvidia0", "/dev/nvidia1"]}


def lines(entries: list[dict[str, t.Any]], detect: str, with_gpus: bool = True) -> list[str]:
    return gres_lines(gres_of("node01", entries, detect), detect, with_gpus)


@pytest.mark.parametrize(
    ("entry", "devices"),
    [
        ({"type": "A100", "count": 2, "devices": ["/dev/nvidia0", "/dev/nvidia1"]}, ["/dev/nvidia0", "/dev/nvidia1"]),
        (
            {"type": "a100-1g.5gb", "devices": ["/dev/nvidia-caps/nvidia-cap1,/dev/nvidia-caps/nvidia-cap2"]},
            ["/dev/nvidia-caps/nvidia-cap1,/dev/nvidia-caps/nvidia-cap2"],
        ),
        ({"devices": "/dev/nvidia0"}, ["/dev/nvidia0"]),
        ({"devices": "/dev/a,/dev/b"}, ["/dev/a,/dev/b"]),
        ({"count": 2, "devices": "/dev/a, /dev/b"}, ["/dev/a", "/dev/b"]),
        ({"count": 4, "devices": "/dev/nvidia[0-1,4-5]"}, ["/dev/nvidia0", "/dev/nvidia1", "/dev/nvidia4", "/dev/nvidia5"]),
        ({"count": "2", "devices": ["/dev/x[08-09]p"]}, ["/dev/x08p", "/dev/x09p"]),
        ({"name": "nic", "count": 1, "devices": ["/dev/infiniband/uverbs0"]}, ["/dev/infiniband/uverbs0"]),
    ],
)
def test_devices(entry: dict[str, t.Any], devices: list[str]) -> None:
    (found,) = slurm_gres([entry], "devices")
    assert found["devices"] == devices


@pytest.mark.parametrize("count", [0, "0", "0G"])
def test_nothing_is_left_of_a_count_of_zero(count: t.Any) -> None:
    for detect in ("nvml", "devices", "fake"):
        assert slurm_gres([{"type": "a100", "count": count}], detect) == []


@pytest.mark.parametrize(("count", "text"), [(None, "1"), (4, "4"), ("4", "4"), ("10G", "10G"), ("10g", "10G"), ("1p", "1P")])
def test_counts(count: t.Any, text: str) -> None:
    (found,) = slurm_gres([{"name": "bandwidth", "count": count}], "nvml")
    assert (found["count"], found["devices"]) == (text, [])
    assert lines([{"name": "bandwidth", "count": count}], "fake")[1:] == (
        [f"Name=bandwidth Count={text}"] if text[-1].isalpha() else [f"Name=bandwidth File=/run/slurm-fake-gres/bandwidth{index}" for index in range(int(text))]
    )


@pytest.mark.parametrize(
    ("detect", "gpus", "expected"),
    [
        ("nvml", {"count": 2}, ["AutoDetect=nvml", "Name=shard Count=8"]),
        ("nvidia", {"count": 2}, ["AutoDetect=nvidia", "Name=shard Count=8"]),
        ("devices", TWO_GPUS, ["AutoDetect=off", "Name=gpu File=/dev/nvidia0", "Name=gpu File=/dev/nvidia1", "Name=shard Count=8"]),
        (
            "fake",
            {"count": 2},
            ["AutoDetect=off", "Name=gpu File=/run/slurm-fake-gres/gpu0", "Name=gpu File=/run/slurm-fake-gres/gpu1", "Name=shard Count=8"],
        ),
    ],
)
def test_shards_are_on_the_files_of_the_gpus(detect: str, gpus: dict[str, t.Any], expected: list[str]) -> None:
    assert lines([gpus, {"name": "shard", "count": 8}], detect) == expected
    assert lines([gpus, {"name": "mps", "count": 200}], detect)[-1] == "Name=mps Count=200"


def test_shards_on_named_devices() -> None:
    shards = {"name": "shard", "count": 8, "devices": ["/dev/nvidia0", "/dev/nvidia1"]}
    expected = ["Name=shard Count=4 File=/dev/nvidia0", "Name=shard Count=4 File=/dev/nvidia1"]
    assert lines([TWO_GPUS, shards], "devices")[-2:] == expected
    assert lines([{"count": 2}, shards], "nvml")[-2:] == expected
    assert lines([{"count": 2}, shards], "fake")[-1] == "Name=shard Count=8"


def test_other_resources_keep_their_devices_beside_detection() -> None:
    entries = [{"count": 2}, {"name": "nic", "devices": ["/dev/infiniband/uverbs0"]}, {"name": "bandwidth", "count": "4G"}]
    others = ["Name=nic File=/dev/infiniband/uverbs0", "Name=bandwidth Count=4G"]
    assert lines(entries, "nvml") == ["AutoDetect=nvml", *others]
    assert lines(entries, "nvml", with_gpus=False) == ["AutoDetect=off", *others]
    assert lines(entries[1:], "nvml") == ["AutoDetect=off", *others]
    assert lines([], "nvml") == []


@pytest.mark.parametrize(
    ("entries", "detect", "message"),
    [
        ([{"name": "shard", "count": 4}], "nvml", "it has the resource shard, which is a part of GPUs, but no GPU"),
        ([TWO_GPUS, {"name": "mps", "count": 4, "devices": ["/dev/nvidia7"]}], "devices", "is on /dev/nvidia7, which is the file of no GPU"),
        ([TWO_GPUS, {"name": "shard", "count": 3, "devices": ["/dev/nvidia[0-1]"]}], "devices", "3 of the resource shard do not spread evenly over 2"),
        ([{"count": 2}, {"name": "shard", "count": 7}], "nvml", "7 of the resource shard do not spread evenly over 2 GPUs"),
        ([{"count": "4K"}], "nvml", "'4K' is no count of GPUs"),
        ([{"name": "nic", "count": 2, "devices": ["/dev/a"]}], "nvml", "of the resource nic it has 2 but names 1 devices"),
        ([{"name": "nic", "count": 2, "devices": ["/dev/a"]}], "devices", "of the resource nic it has 2 but names 1 devices"),
        ([{"name": "nic", "count": "2K", "devices": ["/dev/a"]}], "devices", "it has 2K but names 1 devices"),
        ([{"count": 2}], "devices", "of the resource gpu it has 2 but names 0 devices"),
        ([{"count": "two"}], "nvml", "'two' is no count of the resource gpu"),
        ([{"count": True}], "nvml", "True is no count"),
        ([{"count": -1}], "nvml", "-1 is no count"),
        ([{"count": 1.5}], "nvml", "1.5 is no count"),
        ([{"type": "a b"}], "nvml", "'a b' can be no type"),
        ([{"type": False}], "nvml", "False can be no type"),
        ([{"name": "my nic"}], "nvml", "'my nic' is no name of a resource"),
        ([{"devices": ["nvidia0"]}], "devices", "'nvidia0' is no path of a device"),
        ([{"devices": ["/dev/x[a-b]"]}], "devices", "'/dev/x[a-b]' is no path of a device"),
        ([{"devices": ["/dev/x[1-]"]}], "devices", "is no range of devices"),
        ([{"devices": {"a": 1}}], "devices", "the devices of the resource gpu are"),
        ([{"count": 2, "devices": ["/dev/nvidia0", "/dev/nvidia0"]}], "devices", "name /dev/nvidia0 more than once"),
        ([{"type": "a", "devices": ["/dev/nvidia0"]}, {"type": "b", "devices": ["/dev/nvidia0"]}], "devices", "name /dev/nvidia0 more than once"),
        ([{"name": "nic", "devices": ["/dev/a"]}, {"name": "hca", "devices": ["/dev/a"]}], "nvml", "name /dev/a more than once"),
        ([{"count": 2}, {"name": "shard", "count": 4, "devices": ["/dev/nvidia0", "/dev/nvidia0"]}], "nvml", "name /dev/nvidia0 more than once"),
        ([{"Count": 8, "Type": "a100"}], "nvml", "an entry of slurm_compute_gres has Count, Type. It may have name, type, count, devices, in lower case"),
        ([{"count": 1, "file": "/dev/nvidia0"}], "devices", "an entry of slurm_compute_gres has file"),
        ("gpu:a100:2", "nvml", "slurm_compute_gres is 'gpu:a100:2'"),
        (["gpu:a100:2"], "nvml", "slurm_compute_gres is ['gpu:a100:2']"),
    ],
)
def test_what_slurm_would_misread_is_refused(entries: t.Any, detect: str, message: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        slurm_gres(entries, detect)
    assert message in str(caught.value)


def test_the_filter_has_its_name() -> None:
    assert FilterModule().filters() == {"slurm_gres": slurm_gres}
