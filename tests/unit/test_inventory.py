# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second inventory changes the shipped images from every place that an inventory has for variables."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.vars.manager import VariableManager

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "playbooks/inventory/images.yml"
CHANGED = {"disk_size": "60G", "memory": 8192, "cpus": 8, "ssh_username": "ops", "image_kernel_modules": ["own"], "image_roles": ["own"]}
SHORT_NAMES = {
    "image_disk_size": "disk_size",
    "image_boot_memory": "memory",
    "image_boot_cpus": "cpus",
    "image_ssh_username": "ssh_username",
    "image_file_name": "vm_name",
}


def variables(host: str, *sources: Path) -> dict[str, t.Any]:
    loader = DataLoader()
    inventory = InventoryManager(loader=loader, sources=[str(source) for source in sources])
    found: dict[str, t.Any] = VariableManager(loader=loader, inventory=inventory).get_vars(host=inventory.get_host(host), include_hostvars=False)
    return found


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("own.yml", {"images": {"hosts": {"hpc-compute": CHANGED}}}),
        ("own.yml", {"images": {"vars": CHANGED}}),
        ("own.yml", {"hpc": {"vars": CHANGED}}),
        ("own.yml", {"site": {"hosts": {"hpc-compute": None}, "vars": CHANGED}}),
        ("group_vars/images.yml", CHANGED),
        ("group_vars/hpc.yml", CHANGED),
        ("group_vars/all.yml", CHANGED),
        ("host_vars/hpc-compute.yml", CHANGED),
    ],
    ids=["host", "images", "hpc", "group of the user", "group_vars images", "group_vars hpc", "group_vars all", "host_vars"],
)
def test_the_value_of_the_user_wins(tmp_path: Path, file: str, content: dict[str, t.Any]) -> None:
    (tmp_path / "own.yml").write_text("images:\n", encoding="utf-8")
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(yaml.safe_dump(content), encoding="utf-8")
    found = variables("hpc-compute", SHIPPED, tmp_path / "own.yml")
    assert {name: found[name] for name in CHANGED} == CHANGED


def test_settings_of_the_image_can_come_from_the_group_all(tmp_path: Path) -> None:
    """What stands in an inventory file for all hosts is weaker than any group: the shipped inventory must not use these names at all."""
    settings = {name: value for name, value in CHANGED.items() if name in SHORT_NAMES.values()}
    (tmp_path / "own.yml").write_text(yaml.safe_dump({"all": {"vars": settings}}), encoding="utf-8")
    found = variables("hpc-compute", SHIPPED, tmp_path / "own.yml")
    assert {name: found[name] for name in settings} == settings


def test_nothing_beside_the_shipped_inventory_outranks_other_inventories() -> None:
    assert [path.name for path in SHIPPED.parent.iterdir()] == ["images.yml"]


def test_each_shipped_image_has_roles_and_a_disk() -> None:
    for host in ("hpc-controller", "hpc-compute", "cloud-base", "cloud-gpu-worker"):
        found = variables(host, SHIPPED)
        assert found["image_roles"]
        assert found["image_default_disk_size"]
        assert bool(found.get("image_kernel_modules")) == ("gpu" in found["group_names"])


def test_every_short_name_is_only_the_default_of_the_long_one() -> None:
    defaults = yaml.safe_load((ROOT / "roles/image/defaults/main.yml").read_text(encoding="utf-8"))
    for long, short in SHORT_NAMES.items():
        assert defaults[long].startswith(f"{{{{ {short} | default(")
    for path in (ROOT / "roles/image").rglob("*"):
        if path.suffix in (".yml", ".j2") and path.parent.name not in ("defaults", "meta"):
            text = path.read_text(encoding="utf-8")
            assert not [short for short in SHORT_NAMES.values() if f"{{{{ {short} " in text or f"({short} " in text], path
