# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the filter slurm_nodes."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.hyperscaler.images.plugins.filter.slurm_nodes import FilterModule, slurm_nodes


def host(name: str = "node01", **variables: t.Any) -> dict[str, t.Any]:
    """Variables of a host with 2 sockets of 8 cores and 2 threads, and 64 GiB."""
    number = name[-1]
    facts = {
        "hostname": f"c{number}",
        "default_ipv4": {"address": f"10.0.0.{number}"},
        "processor_vcpus": 32,
        "processor_count": 2,
        "processor_cores": 8,
        "processor_threads_per_core": 2,
        "memtotal_mb": 65536,
    }
    return {"inventory_hostname": name, "ansible_facts": {**facts, **variables.pop("facts", {})}, **variables}


def test_node_is_described_by_its_facts() -> None:
    (node,) = slurm_nodes([host("node01.example.org")], memory_percent=90, port=7000)
    assert node["line"] == {
        "NodeName": "node01",
        "NodeHostname": "cg",
        "NodeAddr": "10.0.0.g",
        "Port": 7000,
        "CPUs": 32,
        "Sockets": 2,
        "CoresPerSocket": 8,
        "ThreadsPerCore": 2,
        "RealMemory": 58982,
    }
    assert (node["gres"], node["gpus"]) == ([], False)


def test_processors_that_do_not_multiply_are_only_counted() -> None:
    (node,) = slurm_nodes([host(facts={"processor_vcpus": 31})])
    assert node["line"]["CPUs"] == 31
    assert "Sockets" not in node["line"]


def test_host_variables_win_over_facts() -> None:
    options = {"RealMemory": 1000, "Weight": 5}
    variables = host(slurm_compute_node_name="big1", slurm_compute_address="192.0.2.1", slurm_compute_features=["ib", "avx"], slurm_compute_options=options)
    (node,) = slurm_nodes([variables])
    assert node["line"].items() >= {"NodeName": "big1", "NodeAddr": "192.0.2.1", "Feature": "ib,avx", **options}.items()


def test_ipv6_address_is_taken_where_there_is_no_other() -> None:
    (node,) = slurm_nodes([host(facts={"default_ipv4": {}, "default_ipv6": {"address": "2001:db8::1"}})])
    assert node["line"]["NodeAddr"] == "2001:db8::1"


def test_detected_gpus_and_mig_instances() -> None:
    gres = [{"type": "a100-sxm4-40gb", "count": 1}, {"type": "a100_3g.20gb", "count": 2}]
    (node,) = slurm_nodes([host(slurm_compute_gres=gres)], with_gpus=["node01"])
    assert node["line"]["Gres"] == "gpu:a100-sxm4-40gb:1,gpu:a100_3g.20gb:2"
    assert (node["detect"], node["gpus"]) == ("nvml", True)
    assert [entry["devices"] for entry in node["gres"]] == [[], []]


def test_fake_devices_are_numbered_through() -> None:
    gres = [{"type": "fake", "count": 2}, {"type": "other", "count": 1}, {"name": "nic", "count": 1}]
    (node,) = slurm_nodes([host(slurm_compute_gres=gres, slurm_compute_gres_detect="fake")])
    assert [entry["devices"] for entry in node["gres"]] == [
        ["/run/slurm-fake-gres/gpu0", "/run/slurm-fake-gres/gpu1"],
        ["/run/slurm-fake-gres/gpu2"],
        ["/run/slurm-fake-gres/nic0"],
    ]
    assert node["line"]["Gres"] == "gpu:fake:2,gpu:other:1,nic:1"


def test_named_devices_are_kept() -> None:
    (node,) = slurm_nodes([host(slurm_compute_gres=[{"count": 2, "devices": ["/dev/nvidia0", "/dev/nvidia1"]}], slurm_compute_gres_detect="devices")])
    assert node["gres"][0]["devices"] == ["/dev/nvidia0", "/dev/nvidia1"]


@pytest.mark.parametrize(
    ("hosts", "message"),
    [
        ([host(slurm_compute_gres=[{"type": "a100-1g.5gb"}])], "'a100-1g.5gb' can be no type"),
        ([host(slurm_compute_gres=[{"type": "A100"}])], "'A100' can be no type"),
        ([host(slurm_compute_gres=[{"name": "GPU"}])], "'GPU' is no name of a resource"),
        ([host(slurm_compute_gres=[{"count": 2, "devices": ["/dev/nvidia0"]}], slurm_compute_gres_detect="devices")], "has 2 GPUs but names 1 devices"),
        ([host(slurm_compute_gres_detect="guess")], "'guess', which is none of nvml, nvidia, devices, fake"),
        ([host(slurm_compute_node_name="-x")], "'-x' is no name of a node"),
        ([host(facts={"default_ipv4": {}})], "no default route"),
        ([host(facts={"default_ipv4": {"address": "127.0.1.1"}})], "address of the machine for itself"),
        ([host(slurm_compute_address="::1")], "address of the machine for itself"),
        ([host(facts={"memtotal_mb": None})], "facts lack"),
        ([host(facts={"hostname": ""})], "facts lack hostname"),
        ([host("node1"), host("other2", slurm_compute_node_name="node1")], "NodeName node1 is also that of node1"),
        ([host("node1"), host("node2", facts={"hostname": "c1"})], "NodeHostname c1 is also that of node1"),
        ([host("node1"), host("node2", slurm_compute_address="10.0.0.1")], "NodeAddr 10.0.0.1 is also that of node1"),
    ],
)
def test_what_slurm_would_misread_is_refused(hosts: list[dict[str, t.Any]], message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        slurm_nodes(hosts)


def test_the_filter_has_its_name() -> None:
    assert FilterModule().filters() == {"slurm_nodes": slurm_nodes}
