# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What slurm.conf and gres.conf say of the nodes of a cluster."""

from __future__ import annotations

import ipaddress
import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.plugin_utils._slurm_detected import working
from ansible_collections.hyperscaler.images.plugins.plugin_utils._slurm_gres import DETECTED, Gres, gres_lines, gres_of
from ansible_collections.hyperscaler.images.plugins.plugin_utils._slurm_values import merge, name_of, quoted, refuse, words_of

NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?")
HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?\.?")
# Other names of the same parameters, in lower case; slurm.conf(5).
ALIASES = {"features": "feature", "procs": "cpus"}
TOPOLOGY = ("Sockets", "CoresPerSocket", "ThreadsPerCore")
# What slurmd must know of its node to find GPUs and the cores next to them, in lower case.
PROBED = frozenset({"nodename", "nodehostname", "cpus", "boards", "socketsperboard"}) | {key.lower() for key in TOPOLOGY}


def _hardware(host: str, facts: t.Mapping[str, t.Any], memory_percent: int) -> dict[str, int]:
    """Processors and memory (MiB) in the words of slurm.conf."""
    try:
        processors, memory = int(facts["processor_vcpus"]), int(facts["memtotal_mb"])
        sockets, cores, threads = int(facts["processor_count"]), int(facts["processor_cores"]), int(facts["processor_threads_per_core"])
    except (KeyError, TypeError, ValueError) as error:
        refuse(host, f"its facts lack processors or memory ({error})", "Gather them with the subsets hardware and network")
    found = {"CPUs": processors}
    # Machines whose sockets differ, and some virtual ones, do not multiply; Slurm then takes each processor for a core.
    if sockets * cores * threads == processors:
        found |= {"Sockets": sockets, "CoresPerSocket": cores, "ThreadsPerCore": threads}
    return {**found, "RealMemory": memory * memory_percent // 100}


def _address(host: str, variables: t.Mapping[str, t.Any], facts: t.Mapping[str, t.Any]) -> str:
    given = name_of(variables.get("slurm_compute_address") or "", f"the address of {host}")
    routes = [str((facts.get(family) or {}).get("address") or "") for family in ("default_ipv4", "default_ipv6")]
    # A link-local address says nothing without the name of an interface, which other machines do not know.
    address = (given or next((found for found in routes if found and not is_link_local(found)), "")).strip("[]")
    if not address:
        linked = f", and the address {''.join(routes)} holds on one link only" if any(routes) else ""
        refuse(host, f"it has no default route{linked}, so its address is not known", "Set slurm_compute_address for it")
    reason = _unfit(address)
    if reason:
        refuse(host, f"{address} {reason}", "Set slurm_compute_address to one that the other machines reach")
    return address


def _unfit(address: str) -> str:
    """Why other machines cannot reach an address, or nothing; a name is asked for later."""
    if is_link_local(address):
        return "is an address that holds on one link only"
    try:
        plain = ipaddress.ip_address(address)
    except ValueError:
        # A network, an address with a port, and a number that YAML made of 12:34 look like a name to Slurm.
        if not HOST.fullmatch(address) or address.isdigit():
            return "is no address and no name of a machine"
        return "is an address of the machine for itself" if address.partition(".")[0] == "localhost" else ""
    mapped = getattr(plain, "ipv4_mapped", None) or plain
    if mapped.is_unspecified:
        return "stands for all addresses of a machine"
    return "is an address of the machine for itself" if mapped.is_loopback else ""


def is_link_local(address: str) -> bool:
    """Whether an address holds on one link only; names hold everywhere."""
    try:
        return ipaddress.ip_address(address.strip("[]").partition("%")[0]).is_link_local
    except ValueError:
        return False


def _topology(line: dict[str, t.Any], options: t.Any) -> dict[str, t.Any]:
    """Leave out what facts say of processors where a user says otherwise: Slurm would take the one that does not fit."""
    given = {ALIASES.get(str(key).lower(), str(key).lower()) for key in options or {}}
    shape = {key.lower() for key in TOPOLOGY} | {"boards", "socketsperboard"}
    dropped = set()
    if given & shape and "cpus" not in given:
        dropped.add("CPUs")
    if "cpus" in given and not given & shape:
        dropped.update(TOPOLOGY)
    if "socketsperboard" in given:
        dropped.add("Sockets")
    return {key: value for key, value in line.items() if key not in dropped}


def _probe(line: t.Mapping[str, str], promised: t.Sequence[Gres], detect: str) -> str:
    """The line with which slurmd of the node can be asked for the GPUs that it is to find; empty when it is to find none."""
    gpus = ",".join(gres.node_text for gres in promised if gres.name == "gpu")
    known = [f"{key}={text}" for key, text in line.items() if key.lower() in PROBED]
    return " ".join([*known, f"Gres={gpus}"]) if gpus and detect in DETECTED else ""


def _in_use(name: str, configuration: str) -> tuple[str, list[str]]:
    """What the files in use say of a node: its Gres, and its lines of gres.conf."""
    lines = [line.partition(" ")[2] for line in configuration.splitlines() if line.startswith(f"NodeName={name} ")]
    gres = next((match.group(1) for match in (re.search(r"(?:^| )Gres=(\S+)", line) for line in lines) if match), "")
    return gres, [line for line in lines if not line.startswith("NodeHostname=")]


def _node(
    variables: t.Mapping[str, t.Any], memory_percent: int, port: int, with_gpus: t.Container[str], found: str | None, busy: t.Mapping[str, str]
) -> dict[str, t.Any]:
    """One node; ``found`` is what its slurmd prints of GPUs, None when it was not asked."""
    host = str(variables["inventory_hostname"])
    facts = variables.get("ansible_facts") or {}
    given = variables.get("slurm_compute_node_name")
    name = host.split(".", maxsplit=1)[0] if given is None or given == "" else name_of(given, f"the node of {host}")
    if not NAME.fullmatch(name):
        refuse(host, f"{name!r} is no name of a node", "Use letters, digits and hyphens in slurm_compute_node_name")
    given_detect = variables.get("slurm_compute_gres_detect")
    # YAML makes a boolean of off, which is a word of gres.conf.
    detect = "nvml" if given_detect is None or given_detect == "" else "off" if given_detect is False else str(given_detect)
    promised = gres_of(host, variables.get("slurm_compute_gres"), detect)
    gres, less = (promised, []) if found is None else working(promised, found)
    options = variables.get("slurm_compute_options") or {}
    if any(str(key).lower() == "nodename" for key in options):
        refuse(host, "slurm_compute_options names the node", "Use slurm_compute_node_name for that")
    line: dict[str, t.Any] = {
        "NodeName": name,
        "NodeHostname": facts.get("hostname") or refuse(host, "its facts lack hostname", "Gather them first"),
        "NodeAddr": _address(host, variables, facts),
        "Port": port,
        **_hardware(host, facts, memory_percent),
        "Gres": ",".join(entry.node_text for entry in gres),
        "Feature": ",".join(words_of(variables.get("slurm_compute_features"), f"the features of {host}")),
        "State": "UNKNOWN",
    }
    merged = merge(_topology(line, options), options, f"slurm_compute_options of {host}", aliases=ALIASES)
    probe = _probe(merged, promised, detect)
    lines = gres_lines(gres, detect, host in with_gpus)
    # Slurm ends the jobs that use GPUs of a node when their number changes.
    used, used_lines = _in_use(name, busy.get(host, ""))
    waits = bool(used) and used != merged.get("Gres", "")
    if waits:
        merged, lines = {**merged, "Gres": used}, used_lines
    return {
        "host": host,
        "line": {key: quoted(key, text, host) for key, text in merged.items()},
        "gres": [entry.name for entry in gres],
        "resources": sorted({entry.partition(":")[0] for entry in merged.get("Gres", "").strip('"').split(",") if entry}),
        "gres_lines": lines,
        "detect": detect,
        "gpus": host in with_gpus,
        "probe": probe,
        "less": less,
        "waits": waits,
        "none": bool(less) and gres == promised,
    }


def slurm_nodes(
    hosts: t.Iterable[t.Mapping[str, t.Any]],
    memory_percent: int = 95,
    port: int = 6818,
    with_gpus: t.Container[str] = (),
    found: t.Mapping[str, str] | None = None,
    busy: t.Mapping[str, str] | None = None,
) -> list[dict[str, t.Any]]:
    """Turn variables and facts of hosts into nodes; raise AnsibleFilterError for what Slurm would refuse or misread.

    Source of the syntax: slurm.conf(5) and gres.conf(5) of Slurm 24.11.
    """
    printed = found or {}
    nodes = [_node(variables, memory_percent, port, with_gpus, printed.get(str(variables["inventory_hostname"])), busy or {}) for variables in hosts]
    for key, remedy in (
        ("NodeName", "slurm_compute_node_name"),
        ("NodeHostname", "the machine's own name (hostnamectl)"),
        ("NodeAddr", "slurm_compute_address"),
    ):
        seen: dict[str, str] = {}
        for node in nodes:
            other = seen.setdefault(str(node["line"][key]), node["host"])
            if other != node["host"]:
                refuse(node["host"], f"its {key} {node['line'][key]} is also that of {other}", f"Change {remedy} of one of them")
    return nodes


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Names and functions."""
        return {"slurm_nodes": slurm_nodes}
