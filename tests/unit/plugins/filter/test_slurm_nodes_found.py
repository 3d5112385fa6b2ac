# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the filter slurm_nodes for nodes whose slurmd was asked which GPUs it finds."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hyperscaler.images.plugins.filter.slurm_nodes import slurm_nodes

FACTS = {
    "hostname": "c1",
    "default_ipv4": {"address": "10.0.0.1"},
    "processor_vcpus": 32,
    "processor_count": 2,
    "processor_cores": 16,
    "processor_threads_per_core": 1,
    "memtotal_mb": 65536,
}
# What slurmd 24.11 prints around the GPUs when one of three is lost.
AROUND = """slurmd-node01: error: Failed to get device handle for GPU 1: GPU is lost
slurmd-node01: gpu/nvml: _get_system_gpu_list_nvml: 3 GPU system device(s) detected
slurmd-node01: error: Discarding the following config-only GPU due to lack of File specification:
slurmd-node01: error:     GRES[gpu] Type:h100 Count:1 Cores(2):(null)  Links:(null) Flags:HAS_TYPE,ENV_NVML,ENV_DEFAULT File:(null) UniqueId:(null)
slurmd-node01: warning: The following autodetected GPUs are being ignored:
slurmd-node01:     GRES[gpu] Type:(null) Count:1 Cores(2):(null)  Links:(null) Flags:ENV_NVML File:(null) UniqueId:(null)
"""


def printed(*gpus: str) -> str:
    """The output of slurmd -G; of each GPU its type, numbers of the device file, cores and links, with blanks between them."""
    lines = []
    for index, gpu in enumerate(gpus):
        kind, numbers, cores, links = gpu.split()
        first, *caps = numbers.split("+")
        file = ",".join([f"/dev/nvidia{first}", *(f"/dev/nvidia-caps/nvidia-cap{cap}" for cap in caps)])
        values = f"Type={kind} Count=1 Index={index} ID=7696487 File={file} Cores={cores} CoreCnt=32 Links={links} Flags=HAS_FILE,HAS_TYPE"
        lines.append(f"slurmd-node01: Gres Name=gpu {values}")
    return AROUND + "".join(f"{line}\r\n" for line in lines)


def node(gres: list[dict[str, t.Any]], found: str | None, busy: str = "", **variables: t.Any) -> dict[str, t.Any]:
    host = {"inventory_hostname": "node01", "ansible_facts": FACTS, "slurm_compute_gres": gres, **variables}
    (described,) = slurm_nodes([host], with_gpus=["node01"], found=None if found is None else {"node01": found}, busy={"node01": busy})
    return described


def test_a_lost_gpu_that_nvml_still_counts() -> None:
    """Each Links has a number for the lost GPU, too, and slurmctld would refuse more numbers than there are GPUs."""
    described = node(
        [{"type": "h100", "count": 3}, {"name": "shard", "count": 6}, {"name": "nic", "devices": ["/dev/infiniband/uverbs0"]}],
        printed("h100 0 0-15 -1,0,2", "h100 2 16-31 2,0,-1"),
    )
    assert described["line"]["Gres"] == "gpu:h100:2,shard:4,nic:1"
    assert described["gres_lines"] == [
        "AutoDetect=off",
        "Name=gpu Type=h100 File=/dev/nvidia0 Cores=0-15 Links=-1,2",
        "Name=gpu Type=h100 File=/dev/nvidia2 Cores=16-31 Links=2,-1",
        "Name=shard Count=4",
        "Name=nic File=/dev/infiniband/uverbs0",
    ]
    assert (described["less"], described["none"]) == (["2 of gpu:h100:3"], False)


def test_all_gpus_are_there() -> None:
    gpus = printed("h100 0 0-15 -1,1,2", "h100 1 0-15 1,-1,1", "h100 2 16-31 2,1,-1")
    described = node([{"type": "h100", "count": 3}], gpus)
    assert (described["line"]["Gres"], described["gres_lines"], described["less"]) == ("gpu:h100:3", ["AutoDetect=nvml"], [])


@pytest.mark.parametrize(
    ("gpus", "links"),
    [(["h100 0 0-15 -1,1,2", "h100 1 0-15 1,-1,1"], ["-1,1", "1,-1"]), (["h100 0 0-15 -1,0,2", "h100 2 0-15 2,0,-1"], ["-1,2", "2,-1"])],
)
def test_a_count_that_a_site_has_lowered(gpus: list[str], links: list[str]) -> None:
    """It is right, whether a GPU is lost or kept back, but detection would report too many links."""
    described = node([{"type": "h100", "count": 2}], printed(*gpus))
    assert [line.rpartition("Links=")[2] for line in described["gres_lines"][1:]] == links
    assert (described["line"]["Gres"], described["less"]) == ("gpu:h100:2", [])


def test_a_gpu_that_has_left_the_bus() -> None:
    """NVML no longer counts it, so detection works with the right count."""
    described = node([{"type": "h100", "count": 3}, {"name": "mps", "count": 300}], printed("h100 0 0-15 -1,2", "h100 1 16-31 2,-1"))
    assert (described["line"]["Gres"], described["gres_lines"]) == ("gpu:h100:2,mps:200", ["AutoDetect=nvml", "Name=mps Count=200"])


def test_mig_instances_keep_their_names() -> None:
    """They have no links, and only detection tells Slurm the UUID by which programs find them."""
    gpus = [f"a100_3g.20gb 0+{number}+{number + 1} 0-15 (null)" for number in (21, 30)]
    described = node([{"type": "a100_3g.20gb", "count": 4}], printed(*gpus))
    assert (described["line"]["Gres"], described["gres_lines"]) == ("gpu:a100_3g.20gb:2", ["AutoDetect=nvml"])
    assert described["less"] == ["2 of gpu:a100_3g.20gb:4"]


def test_types_and_mig_instances_beside_a_lost_gpu() -> None:
    gpus = ["a100_3g.20gb 3+21+22 0-15 (null)", "A100 0 0-15 -1,0,0,4", "h100 7 (null) 0,0,4,-1"]
    described = node([{"type": "A100", "count": 3}, {"type": "h100", "count": 1}, {"type": "a100_3g.20gb", "count": 2}], printed(*gpus))
    assert described["line"]["Gres"] == "gpu:A100:1,gpu:h100:1,gpu:a100_3g.20gb:1"
    assert described["gres_lines"][1:] == [
        "Name=gpu Type=A100 File=/dev/nvidia0 Cores=0-15 Links=-1,4,0",
        "Name=gpu Type=h100 File=/dev/nvidia7 Links=0,-1,0",
        "Name=gpu Type=a100_3g.20gb MultipleFiles=/dev/nvidia3,/dev/nvidia-caps/nvidia-cap21,/dev/nvidia-caps/nvidia-cap22 Cores=0-15",
    ]
    assert described["less"] == ["1 of gpu:A100:3", "1 of gpu:a100_3g.20gb:2"]


def test_shards_on_named_devices_go_with_their_gpu() -> None:
    shards = {"name": "shard", "count": 8, "devices": ["/dev/nvidia0", "/dev/nvidia1"]}
    described = node([{"count": 3}, shards], printed("(null) 0 0-15 -1,0,2", "(null) 2 0-15 2,0,-1"))
    assert described["line"]["Gres"] == "gpu:2,shard:4"
    assert described["gres_lines"][1:] == [
        "Name=gpu File=/dev/nvidia0 Cores=0-15 Links=-1,2",
        "Name=gpu File=/dev/nvidia2 Cores=0-15 Links=2,-1",
        "Name=shard Count=4 File=/dev/nvidia0",
    ]


@pytest.mark.parametrize("output", ["", AROUND, "slurmd: fatal: We were configured with nvml functionality, but that lib wasn't found on the system."])
def test_where_none_works_the_promise_stays(output: str) -> None:
    described = node([{"type": "h100", "count": 3}, {"name": "shard", "count": 6}], output)
    assert (described["line"]["Gres"], described["gres_lines"]) == ("gpu:h100:3,shard:6", ["AutoDetect=nvml", "Name=shard Count=6"])
    assert (described["less"], described["none"]) == (["0 of gpu:h100:3"], True)


def test_slurmd_is_asked_with_what_is_promised() -> None:
    """Not with what it found before, and with what decides about cores only."""
    options = {"ThreadsPerCore": 2, "Reason": "burn in", "State": "DRAIN"}
    gres = [{"type": "h100", "count": 3}, {"name": "shard", "count": 6}]
    described = node(gres, printed("h100 0 0-15 -1,0,2"), slurm_compute_options=options)
    assert described["probe"] == "NodeName=node01 NodeHostname=c1 Sockets=2 CoresPerSocket=16 ThreadsPerCore=2 Gres=gpu:h100:3"
    assert node([], None)["probe"] == node([{"name": "nic"}], None)["probe"] == ""
    assert node([{"devices": ["/dev/nvidia0"]}], None, slurm_compute_gres_detect="devices")["probe"] == ""


def test_a_node_whose_gpus_jobs_use_keeps_what_slurm_was_told() -> None:
    """Slurm ends these jobs when the count changes, whether a GPU is lost or works again."""
    gres = [{"type": "h100", "count": 3}]
    told = ["AutoDetect=off", "Name=gpu Type=h100 File=/dev/nvidia0 Links=-1,2", "Name=gpu Type=h100 File=/dev/nvidia2 Links=2,-1"]
    in_use = [
        "NodeName=node01 NodeHostname=c1 NodeAddr=10.0.0.1 Gres=gpu:h100:2 State=UNKNOWN",
        "NodeName=node010 AutoDetect=nvml",
        *(f"NodeName=node01 {line}" for line in told),
    ]
    found = printed("h100 0 0-15 -1,1,2", "h100 1 0-15 1,-1,1", "h100 2 16-31 2,1,-1")
    described = node(gres, found, "\n".join(in_use))
    assert (described["line"]["Gres"], described["gres_lines"], described["waits"]) == ("gpu:h100:2", told, True)
    assert described["probe"].endswith(" Gres=gpu:h100:3")
    same = node(gres, found, "NodeName=node01 NodeHostname=c1 Gres=gpu:h100:3\nNodeName=node01 AutoDetect=nvml")
    assert (same["line"]["Gres"], same["gres_lines"], same["waits"]) == ("gpu:h100:3", ["AutoDetect=nvml"], False)
