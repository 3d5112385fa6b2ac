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
        "Port": "7000",
        "CPUs": "32",
        "Sockets": "2",
        "CoresPerSocket": "8",
        "ThreadsPerCore": "2",
        "RealMemory": "58982",
        "State": "UNKNOWN",
    }
    assert (node["resources"], node["gres_lines"], node["gpus"]) == ([], [], False)


def test_processors_that_do_not_multiply_are_only_counted() -> None:
    (node,) = slurm_nodes([host(facts={"processor_vcpus": 31})])
    assert node["line"]["CPUs"] == "31"
    assert "Sockets" not in node["line"]


def test_host_variables_win_over_facts() -> None:
    options = {"RealMemory": 1000, "Weight": 5}
    variables = host(slurm_compute_node_name="big1", slurm_compute_address="192.0.2.1", slurm_compute_features=["ib", "avx"], slurm_compute_options=options)
    (node,) = slurm_nodes([variables])
    assert node["line"].items() >= {"NodeName": "big1", "NodeAddr": "192.0.2.1", "Feature": "ib,avx", "RealMemory": "1000", "Weight": "5"}.items()


def test_ipv6_address_is_taken_where_there_is_no_other() -> None:
    (node,) = slurm_nodes([host(facts={"default_ipv4": {}, "default_ipv6": {"address": "2001:db8::1"}})])
    assert node["line"]["NodeAddr"] == "2001:db8::1"


def test_options_appear_once() -> None:
    """Of two values Slurm takes the last one, which was once that of the role."""
    options = {"State": "DRAIN", "Reason": "burn in #2", "features": ["x", "y"], "REALMEMORY": 7, "Gres": "nic:2"}
    (node,) = slurm_nodes([host(slurm_compute_features=["ib"], slurm_compute_gres=[{"count": 1}], slurm_compute_options=options)])
    assert node["line"].items() >= {"State": "DRAIN", "Reason": r'"burn in \#2"', "Feature": "x,y", "RealMemory": "7", "Gres": "nic:2"}.items()
    assert len({key.lower() for key in node["line"]}) == len(node["line"])
    assert node["resources"] == ["nic"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"ThreadsPerCore": 1}, {"Sockets": "2", "CoresPerSocket": "8", "ThreadsPerCore": "1"}),
        ({"CPUs": 4}, {"CPUs": "4"}),
        ({"Procs": 4}, {"CPUs": "4"}),
        ({"CPUs": 16, "threadspercore": 1}, {"CPUs": "16", "Sockets": "2", "CoresPerSocket": "8", "ThreadsPerCore": "1"}),
        ({"Boards": 1, "SocketsPerBoard": 2}, {"CoresPerSocket": "8", "ThreadsPerCore": "2", "Boards": "1", "SocketsPerBoard": "2"}),
    ],
)
def test_processors_fit_what_a_user_says(options: dict[str, t.Any], expected: dict[str, str]) -> None:
    (node,) = slurm_nodes([host(slurm_compute_options=options)])
    shape = ("CPUs", "Sockets", "CoresPerSocket", "ThreadsPerCore", "Boards", "SocketsPerBoard")
    assert {key: text for key, text in node["line"].items() if key in shape} == expected


@pytest.mark.parametrize("features", ["skylake,ib", "skylake, ib", ["skylake", "ib"]])
def test_features_may_be_text(features: t.Any) -> None:
    (node,) = slurm_nodes([host(slurm_compute_features=features, slurm_compute_gres=[{"type": "a100", "count": 0}])])
    assert node["line"]["Feature"] == "skylake,ib"
    assert "Gres" not in node["line"]
    assert node["gres_lines"] == node["resources"] == []


def test_link_local_addresses_are_not_told() -> None:
    (node,) = slurm_nodes([host(facts={"default_ipv4": {}, "default_ipv6": {"address": "fe80::1"}}, slurm_compute_address="[2001:db8::2]")])
    assert node["line"]["NodeAddr"] == "2001:db8::2"


@pytest.mark.parametrize("address", ["node01.example.org", "node_1", "10.0.0.5", "2001:DB8::5", "fd00::5"])
def test_addresses_and_names_of_machines(address: str) -> None:
    (node,) = slurm_nodes([host(slurm_compute_address=address)])
    assert node["line"]["NodeAddr"] == address


def test_detected_gpus_and_mig_instances() -> None:
    gres = [{"type": "a100-sxm4-40gb", "count": 1}, {"type": "a100_3g.20gb", "count": 2}]
    (node,) = slurm_nodes([host(slurm_compute_gres=gres)], with_gpus=["node01"])
    assert node["line"]["Gres"] == "gpu:a100-sxm4-40gb:1,gpu:a100_3g.20gb:2"
    assert (node["detect"], node["gpus"], node["gres_lines"]) == ("nvml", True, ["AutoDetect=nvml"])
    (node,) = slurm_nodes([host(slurm_compute_gres=gres)])
    assert node["gres_lines"] == ["AutoDetect=off"]


def test_fake_devices_are_numbered_through() -> None:
    gres = [{"type": "fake", "count": 2}, {"type": "other", "count": 1}, {"name": "nic", "count": 1}]
    (node,) = slurm_nodes([host(slurm_compute_gres=gres, slurm_compute_gres_detect="fake")])
    assert node["gres_lines"] == [
        "AutoDetect=off",
        "Name=gpu Type=fake File=/run/slurm-fake-gres/gpu0",
        "Name=gpu Type=fake File=/run/slurm-fake-gres/gpu1",
        "Name=gpu Type=other File=/run/slurm-fake-gres/gpu2",
        "Name=nic File=/run/slurm-fake-gres/nic0",
    ]
    assert node["line"]["Gres"] == "gpu:fake:2,gpu:other:1,nic:1"
    assert node["resources"] == ["gpu", "nic"]


def test_types_may_be_in_upper_case() -> None:
    gres = [{"type": "A100", "count": 2, "devices": ["/dev/nvidia0", "/dev/nvidia1"]}]
    (node,) = slurm_nodes([host(slurm_compute_gres=gres, slurm_compute_gres_detect="devices")])
    assert node["line"]["Gres"] == "gpu:A100:2"
    assert node["gres_lines"][1:] == ["Name=gpu Type=A100 File=/dev/nvidia0", "Name=gpu Type=A100 File=/dev/nvidia1"]


@pytest.mark.parametrize(
    ("hosts", "message"),
    [
        ([host(slurm_compute_gres=[{"type": "a100-1g.5gb"}])], "'a100-1g.5gb' can be no type"),
        ([host(slurm_compute_gres=[{"type": "A100-1G.5GB"}])], "'A100-1G.5GB' can be no type"),
        ([host(slurm_compute_features=["a", True])], "its member True is no text"),
        ([host(slurm_compute_options={"NodeName": "x"})], "Use slurm_compute_node_name"),
        ([host(slurm_compute_options={"Reason": 'a "b" c'})], "has blanks and quotes"),
        ([host(facts={"default_ipv4": {}, "default_ipv6": {"address": "fe80::1"}})], "the address fe80::1 holds on one link only"),
        ([host(slurm_compute_address="fe80::1%eth0")], "holds on one link only"),
        ([host(slurm_compute_gres=[{"name": "GPU"}])], "'GPU' is no name of a resource"),
        (
            [host(slurm_compute_gres=[{"count": 2, "devices": ["/dev/nvidia0"]}], slurm_compute_gres_detect="devices")],
            "of the resource gpu it has 2 but names 1 devices",
        ),
        ([host(slurm_compute_gres_detect="guess")], "'guess', which is none of nvml, nvidia, devices, fake"),
        ([host(slurm_compute_gres_detect=False)], "'off', which is none of nvml, nvidia, devices, fake"),
        ([host(slurm_compute_address="2001:db8::5/64")], "2001:db8::5/64 is no address"),
        ([host(slurm_compute_address="10.0.0.5:6818")], "10.0.0.5:6818 is no address"),
        ([host(slurm_compute_address=754)], "754 is no address"),
        ([host(slurm_compute_address="0.0.0.0")], "0.0.0.0 stands for all addresses"),
        ([host(slurm_compute_address="::")], ":: stands for all addresses"),
        ([host(slurm_compute_address="::ffff:127.0.0.1")], "address of the machine for itself"),
        ([host(slurm_compute_address="localhost.localdomain")], "address of the machine for itself"),
        ([host(slurm_compute_node_name="-x")], "'-x' is no name of a node"),
        ([host(slurm_compute_node_name=False)], "the node of node01 to Slurm: its name is False, and YAML makes"),
        ([host(slurm_compute_node_name=True)], "its name is True"),
        ([host(slurm_compute_node_name=1.5)], "its name is 1.5"),
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
