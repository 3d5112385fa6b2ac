# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What slurm.conf and gres.conf say of the nodes of a cluster."""

from __future__ import annotations

import re
import typing as t

from ansible.errors import AnsibleFilterError

FAKE_FOLDER = "/run/slurm-fake-gres"
DETECTIONS = ("nvml", "nvidia", "devices", "fake")
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?")
WORD = re.compile(r"[a-z][a-z0-9_]*")
# Models may have hyphens (a100-sxm4-40gb), and MIG profiles bring points and a plus sign (h100_1g.10gb+me).
TYPE = re.compile(r"[a-z0-9][a-z0-9_.+-]*")
HYPHEN_BEFORE_PROFILE = re.compile(r"-[0-9]+g\.[0-9]+gb")


def _refuse(host: str, why: str) -> t.NoReturn:
    raise AnsibleFilterError(f"Cannot describe {host} to Slurm: {why}")


def _gres(host: str, entry: t.Mapping[str, t.Any], detect: str) -> dict[str, t.Any]:
    """One entry of slurm_compute_gres with everything filled in; devices of fake ones are named by the caller."""
    found: dict[str, t.Any] = {
        "name": entry.get("name") or "gpu",
        "type": entry.get("type") or "",
        "count": int(entry.get("count") or 1),
        "devices": list(entry.get("devices") or []),
    }
    if not WORD.fullmatch(found["name"]):
        _refuse(host, f"{found['name']!r} is no name of a resource. Use lower-case letters, digits and underscores.")
    if found["type"] and (not TYPE.fullmatch(found["type"]) or HYPHEN_BEFORE_PROFILE.search(found["type"])):
        _refuse(
            host,
            f"{found['type']!r} can be no type of a resource, because Slurm compares it with the name that the driver gives, "
            "in lower case and with underscores. Write a100_1g.5gb, for instance, where the driver says NVIDIA A100 MIG 1g.5gb.",
        )
    if detect == "devices" and found["name"] == "gpu" and len(found["devices"]) != found["count"]:
        _refuse(
            host,
            f"it has {found['count']} GPUs but names {len(found['devices'])} devices. "
            "Name one in devices for each, or let slurm_compute_gres_detect find them.",
        )
    return found


def _all_gres(host: str, variables: t.Mapping[str, t.Any], detect: str) -> list[dict[str, t.Any]]:
    """The generic resources of one node."""
    found = [_gres(host, entry, detect) for entry in variables.get("slurm_compute_gres") or []]
    if detect == "fake":
        used: dict[str, int] = {}
        for entry in found:
            first = used.get(entry["name"], 0)
            used[entry["name"]] = first + entry["count"]
            entry["devices"] = [f"{FAKE_FOLDER}/{entry['name']}{index}" for index in range(first, used[entry["name"]])]
    elif detect in ("nvml", "nvidia"):
        # Detection finds the devices itself, and an own list would only be compared with it.
        found = [{**entry, "devices": []} if entry["name"] == "gpu" else entry for entry in found]
    return found


def _hardware(host: str, facts: t.Mapping[str, t.Any], memory_percent: int) -> dict[str, int]:
    """Processors and memory (MiB) in the words of slurm.conf."""
    try:
        processors, memory = int(facts["processor_vcpus"]), int(facts["memtotal_mb"])
        sockets, cores, threads = int(facts["processor_count"]), int(facts["processor_cores"]), int(facts["processor_threads_per_core"])
    except (KeyError, TypeError, ValueError) as error:
        _refuse(host, f"its facts lack processors or memory ({error}). Gather them with the subsets hardware and network.")
    found = {"CPUs": processors}
    # Machines whose sockets differ, and some virtual ones, do not multiply; Slurm then takes each processor for a core.
    if sockets * cores * threads == processors:
        found |= {"Sockets": sockets, "CoresPerSocket": cores, "ThreadsPerCore": threads}
    return {**found, "RealMemory": memory * memory_percent // 100}


def _address(host: str, variables: t.Mapping[str, t.Any], facts: t.Mapping[str, t.Any]) -> str:
    routes = [(facts.get(family) or {}).get("address") for family in ("default_ipv4", "default_ipv6")]
    address = str(next((found for found in (variables.get("slurm_compute_address"), *routes) if found), ""))
    if not address:
        _refuse(host, "it has no default route, so its address is not known. Set slurm_compute_address for it.")
    if address.startswith("127.") or address in ("::1", "localhost"):
        _refuse(host, f"{address} is an address of the machine for itself. Set slurm_compute_address to one that the other machines reach.")
    return address


def _node(variables: t.Mapping[str, t.Any], memory_percent: int, port: int, with_gpus: t.Container[str]) -> dict[str, t.Any]:
    """One node."""
    host = str(variables["inventory_hostname"])
    facts = variables.get("ansible_facts") or {}
    name = str(variables.get("slurm_compute_node_name") or host.split(".", maxsplit=1)[0])
    if not NAME.fullmatch(name):
        _refuse(host, f"{name!r} is no name of a node. Use letters, digits and hyphens in slurm_compute_node_name.")
    detect = str(variables.get("slurm_compute_gres_detect") or "nvml")
    if detect not in DETECTIONS:
        _refuse(host, f"slurm_compute_gres_detect is {detect!r}, which is none of {', '.join(DETECTIONS)}.")
    gres = _all_gres(host, variables, detect)
    line: dict[str, t.Any] = {
        "NodeName": name,
        "NodeHostname": facts.get("hostname") or _refuse(host, "its facts lack hostname. Gather them first."),
        "NodeAddr": _address(host, variables, facts),
        "Port": port,
        **_hardware(host, facts, memory_percent),
    }
    if gres:
        line["Gres"] = ",".join(":".join(part for part in (entry["name"], entry["type"], str(entry["count"])) if part) for entry in gres)
    if variables.get("slurm_compute_features"):
        line["Feature"] = ",".join(variables["slurm_compute_features"])
    line.update(variables.get("slurm_compute_options") or {})
    return {"host": host, "line": line, "gres": gres, "detect": detect, "gpus": host in with_gpus}


def slurm_nodes(
    hosts: t.Iterable[t.Mapping[str, t.Any]], memory_percent: int = 95, port: int = 6818, with_gpus: t.Container[str] = ()
) -> list[dict[str, t.Any]]:
    """Turn variables and facts of hosts into nodes; raise AnsibleFilterError for what Slurm would refuse or misread.

    Source of the syntax: slurm.conf(5) and gres.conf(5) of Slurm 24.11.
    """
    nodes = [_node(variables, memory_percent, port, with_gpus) for variables in hosts]
    for key, remedy in (
        ("NodeName", "slurm_compute_node_name"),
        ("NodeHostname", "the machine's own name (hostnamectl)"),
        ("NodeAddr", "slurm_compute_address"),
    ):
        seen: dict[str, str] = {}
        for node in nodes:
            other = seen.setdefault(str(node["line"][key]), node["host"])
            if other != node["host"]:
                _refuse(node["host"], f"its {key} {node['line'][key]} is also that of {other}. Change {remedy} of one of them.")
    return nodes


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Names and functions."""
        return {"slurm_nodes": slurm_nodes}
