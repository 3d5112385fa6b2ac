# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the lookup that hands the other hosts of the inventory to another run of Ansible."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from ansible_collections.hyperscaler.images.plugins.lookup.other_hosts import LookupModule

INVENTORY = """
images:
  hosts: {node: {disk_size: 4G, ansible_connection: local}}
others:
  hosts:
    neighbour: {ansible_connection: local, ansible_port: 2222, own: text, written: "{{ own }}", rule: !unsafe "{{ $value }}"}
    second: {}
  vars: {of_group: 1}
"""


def read(path: Path) -> tuple[InventoryManager, VariableManager, DataLoader]:
    loader = DataLoader()
    inventory = InventoryManager(loader=loader, sources=[str(path)])
    return inventory, VariableManager(loader=loader, inventory=inventory), loader


def handed_over(folder: Path, facts: dict[str, t.Any]) -> dict[str, t.Any]:
    (folder / "inventory.yml").write_text(INVENTORY, encoding="utf-8")
    inventory, manager, loader = read(folder / "inventory.yml")
    manager.set_host_facts("neighbour", facts)
    variables = manager.get_vars(host=inventory.get_host("node")) | {"hostvars": HostVars(inventory, manager, loader)}
    (found,) = LookupModule().run([], variables)
    return found


def test_the_second_run_knows_the_same_hosts_and_groups(tmp_path: Path) -> None:
    (tmp_path / "others.json").write_text(json.dumps(handed_over(tmp_path, {})), encoding="utf-8")
    inventory, manager, loader = read(tmp_path / "others.json")
    assert inventory.get_groups_dict() == {"all": ["node", "neighbour", "second"], "images": ["node"], "others": ["neighbour", "second"], "ungrouped": []}
    hosts = HostVars(inventory, manager, loader)
    assert (hosts["neighbour"]["written"], hosts["neighbour"]["rule"], hosts["neighbour"]["ansible_port"]) == ("text", "{{ $value }}", 2222)
    assert (hosts["neighbour"]["ansible_connection"], hosts["second"]["of_group"]) == ("local", 1)


def test_the_image_itself_has_no_variables_and_nobody_has_facts(tmp_path: Path) -> None:
    hosts = handed_over(tmp_path, {"ansible_kernel": "6.12"})["all"]["hosts"]
    assert hosts["node"] == {}
    assert hosts["neighbour"].keys() == {"ansible_connection", "ansible_port", "own", "written", "rule", "of_group"}
