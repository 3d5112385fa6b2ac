# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Slurm roles write for the values that sites have."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.hyperscaler.images.plugins.filter import slurm_gres, slurm_nodes, slurm_parameters, slurm_partitions

ROLES = Path(__file__).resolve().parents[3] / "roles"
FACTS = {
    "hostname": "head",
    "processor_vcpus": 2,
    "processor_count": 1,
    "processor_cores": 2,
    "processor_threads_per_core": 1,
    "memtotal_mb": 1000,
}
IPV4 = {"default_ipv4": {"address": "192.0.2.1"}, "default_ipv6": {"address": "fe80::1"}}
IPV6 = {"default_ipv4": {}, "default_ipv6": {"address": "2001:db8::1"}}


def templar(role: str, controller: dict[str, t.Any], node: dict[str, t.Any], facts: dict[str, t.Any]) -> Templar:
    """The variables of a role on its host, in a cluster of a controller and one node."""
    loader = DataLoader()
    known = [loader.load_from_file(str(ROLES / role / name), trusted_as_template=True) for name in ("defaults/main.yml", "vars/main.yml")]
    far = {name: {"address": str(value.get("address", "")).replace("::1", "::2").replace("2.1", "2.2")} for name, value in facts.items()}
    hosts = {
        "head": {"inventory_hostname": "head", "ansible_facts": {**FACTS, **facts}, **controller},
        "node": {"inventory_hostname": "node", "ansible_facts": {**FACTS, **far, "hostname": "far"}, **node},
    }
    groups = {"slurm_controller": ["head"], "slurm_compute": ["node"]}
    mine = hosts["head" if role == "slurm_controller" else "node"]
    expressions = Templar(loader=loader, variables={**known[0], **known[1], "hostvars": hosts, "groups": groups, "ansible_managed": "managed", **mine})
    for module in (slurm_gres, slurm_nodes, slurm_parameters, slurm_partitions):
        for name, function in module.FilterModule().filters().items():
            # Outside of a run of Ansible, plugins of collections are not found by their names.
            expressions._engine.environment.filters[f"hyperscaler.images.{name}"] = function
    return expressions


def render(name: str, controller: str = "{}", node: str = "{}", facts: dict[str, t.Any] | None = None, role: str = "slurm_controller") -> list[str]:
    """The lines of a file but for its comments; the variables are YAML, as a user writes them."""
    expressions = templar(role, yaml.safe_load(controller), yaml.safe_load(node), facts or IPV4)
    text = (ROLES / role / "templates/etc" / f"{name}.j2").read_text(encoding="utf-8")
    return [line for line in expressions.template(trust_as_template(text)).splitlines() if line and not line.startswith("#")]


def value(lines: list[str], key: str) -> list[str]:
    """The values that a file gives a parameter that stands alone on its line."""
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


def test_words_that_yaml_takes_for_booleans() -> None:
    options = "slurm_controller_options: {EnforcePartLimits: NO}\n"
    partitions = "slurm_controller_partitions: [{name: main, default: true, options: {PreemptMode: OFF, OverSubscribe: NO}}]\n"
    lines = render("slurm/slurm.conf", options + partitions)
    assert value(lines, "EnforcePartLimits") == ["NO"]
    assert lines[-1] == "PartitionName=main Nodes=node Default=YES MaxTime=INFINITE State=UP PreemptMode=OFF OverSubscribe=NO"


def test_a_drained_node_stays_drained() -> None:
    lines = render("slurm/slurm.conf", node="slurm_compute_options: {State: DRAIN, Reason: burn-in}")
    (line,) = [line for line in lines if line.startswith("NodeName=")]
    assert line.endswith(" State=DRAIN Reason=burn-in")
    assert line.count("State=") == 1


def test_configless_mode_is_kept() -> None:
    assert value(render("slurm/slurm.conf"), "SlurmctldParameters") == ["enable_configless"]
    lines = render("slurm/slurm.conf", "slurm_controller_options: {SlurmctldParameters: idle_on_node_suspend}")
    assert value(lines, "SlurmctldParameters") == ["enable_configless,idle_on_node_suspend"]


def test_times_that_yaml_made_numbers_are_refused() -> None:
    partitions = "slurm_controller_partitions: [{name: short, default: true, max_time: 24:00:00}, {name: debug, max_time: 30:00}]"
    with pytest.raises(AnsibleError, match='Write "24:00:00" in quotes for 1 day'):
        render("slurm/slurm.conf", partitions)
    with pytest.raises(AnsibleError, match="PriorityMaxAge of slurm_controller_options to Slurm: the number 604800"):
        render("slurm/slurm.conf", "slurm_controller_options: {PriorityMaxAge: 168:00:00}")


def test_resources() -> None:
    gres = "slurm_compute_gres: [{type: A100, count: 2, devices: [/dev/nvidia0, /dev/nvidia1]}, {name: shard, count: 4}, {name: bandwidth, count: 4G}]\n"
    node = gres + "slurm_compute_gres_detect: devices\n"
    lines = render("slurm/slurm.conf", node=node)
    assert value(lines, "GresTypes") == ["bandwidth,gpu,shard"]
    assert [line for line in lines if " Gres=gpu:A100:2,shard:4,bandwidth:4G " in line]
    assert render("slurm/gres.conf", node=node) == [
        "NodeName=node AutoDetect=off",
        "NodeName=node Name=gpu Type=A100 File=/dev/nvidia0",
        "NodeName=node Name=gpu Type=A100 File=/dev/nvidia1",
        "NodeName=node Name=shard Count=4",
        "NodeName=node Name=bandwidth Count=4G",
    ]


def test_features_as_text_and_no_gpu() -> None:
    node = "slurm_compute_features: skylake,ib\nslurm_compute_gres: [{type: a100, count: 0}]\n"
    lines = render("slurm/slurm.conf", node=node)
    assert [line for line in lines if " Feature=skylake,ib " in line and "Gres" not in line]
    assert value(lines, "GresTypes") == value(lines, "AccountingStorageTRES") == []
    assert render("slurm/gres.conf", node=node) == []


def test_fake_devices_are_those_of_gres_conf() -> None:
    node = (
        "slurm_compute_gres_detect: fake\nslurm_compute_gres: [{count: 2}, {type: x, count: 0}, {name: shard, count: 4}, {name: nic}, {name: io, count: 2M}]\n"
    )
    made = [line.split()[1] for line in render("tmpfiles.d/slurm-fake-gres.conf", node=node, role="slurm_compute") if line.startswith("c ")]
    assert made == [f"/run/slurm-fake-gres/{name}" for name in ("gpu0", "gpu1", "nic0")]
    assert [line.partition("File=")[2] for line in render("slurm/gres.conf", node=node) if "File=" in line] == made


def test_a_cluster_with_ipv6_only() -> None:
    lines = render("slurm/slurm.conf", facts=IPV6)
    assert value(lines, "SlurmctldHost") == ["head(2001:db8::1)"]
    assert value(lines, "CommunicationParameters") == ["EnableIPv6"]
    assert [line for line in lines if " NodeAddr=2001:db8::2 " in line]
    added = render("slurm/slurm.conf", "slurm_controller_options: {CommunicationParameters: NoInAddrAny}", facts=IPV6)
    assert value(added, "CommunicationParameters") == ["EnableIPv6,NoInAddrAny"]
    assert render("default/slurmd", facts=IPV6, role="slurm_compute") == ['SLURMD_OPTIONS="--conf-server [2001:db8::1]:6817"']
    given = "slurm_controller_address: '[2001:db8::9]'"
    assert value(render("slurm/slurm.conf", given), "SlurmctldHost") == ["head(2001:db8::9)"]
    assert render("default/slurmd", given, role="slurm_compute") == ['SLURMD_OPTIONS="--conf-server [2001:db8::9]:6817"']


def test_a_cluster_with_ipv4_tells_no_link_local_address() -> None:
    lines = render("slurm/slurm.conf")
    assert value(lines, "SlurmctldHost") == ["head(192.0.2.1)"]
    assert value(lines, "CommunicationParameters") == []
    assert render("default/slurmd", role="slurm_compute") == ['SLURMD_OPTIONS="--conf-server 192.0.2.1:6817"']
    lonely = {"default_ipv4": {}, "default_ipv6": {"address": "fe80::1"}}
    expressions = templar("slurm_controller", {}, {}, lonely)
    assert expressions.template(expressions.available_variables["__slurm_controller_reached"]) == ""
    expressions = templar("slurm_compute", {}, {}, lonely)
    assert expressions.template(expressions.available_variables["__slurm_compute_servers"]) == []
    zeroconf = {"default_ipv4": {"address": "169.254.3.4"}, "default_ipv6": {"address": "2001:db8::1"}}
    lines = render("slurm/slurm.conf", facts=zeroconf)
    assert value(lines, "SlurmctldHost") == ["head(2001:db8::1)"]
    assert [line for line in lines if " NodeAddr=2001:db8::2 " in line]
    assert render("default/slurmd", facts=zeroconf, role="slurm_compute") == ['SLURMD_OPTIONS="--conf-server [2001:db8::1]:6817"']


@pytest.mark.parametrize(
    ("address", "reached"),
    [
        *((name, True) for name in ("192.0.2.9", "[2001:db8::9]", "head.example.org", "fd00::9", "localhouse")),
        *((name, False) for name in ("127.0.1.1", "::1", "::", "0.0.0.0", "::ffff:127.0.0.1", "localhost.localdomain", "localhost")),
        *((name, False) for name in ("2001:db8::9/64", "192.0.2.9/24", "192.0.2.9:6817", "head:6817", "fe80::1%eth0", "169.254.0.1", "head1,head2")),
    ],
)
def test_addresses_at_which_nodes_reach_a_controller(address: str, reached: bool) -> None:
    tasks = yaml.safe_load((ROLES / "slurm_controller/tasks/configure_check.yml").read_text(encoding="utf-8"))
    (conditions,) = [task["ansible.builtin.assert"]["that"] for task in tasks if "an address" in task["name"]]
    expressions = templar("slurm_controller", {"slurm_controller_address": address}, {}, IPV4)
    assert all(expressions.evaluate_conditional(trust_as_template(condition)) for condition in conditions) is reached


def test_given_controllers_with_addresses_of_ipv6_are_in_brackets() -> None:
    servers = "slurm_compute_conf_servers: ['2001:db8::9', '[2001:db8::8]:6800', 'head.example.org:6817', 192.0.2.7]"
    written = "[2001:db8::9],[2001:db8::8]:6800,head.example.org:6817,192.0.2.7"
    assert render("default/slurmd", node=servers, role="slurm_compute") == [f'SLURMD_OPTIONS="--conf-server {written}"']
    unit = render("systemd/system/slurmd.service.d/10-configured.conf", node=servers, role="slurm_compute")
    assert value(unit, "Environment") == [f"SLURM_CONF_SERVER={written}"]
