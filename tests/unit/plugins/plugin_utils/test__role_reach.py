# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of following roles to the roles that they take."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.tests.unit.plugins.plugin_utils.image_site import Site

TAKE = "- ansible.builtin.include_role:\n    name: {name}\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with three roles that take none."""
    found = Site(tmp_path)
    for name in ("inner", "other", "third"):
        found.role(name)
    return found


@pytest.mark.parametrize(
    "tasks",
    [
        "- include_role: {name: inner}",
        "- import_role: name=inner",
        "- ansible.builtin.import_role: {role: inner}",
        "- ansible.builtin.include_role: {name: inner, tasks_from: more}",
        "- action: include_role name=inner",
        "- block: [{debug: {}}]\n  rescue:\n    - block: []\n      always: [{include_role: {name: inner}}]",
        "- include_role: {name: '{{ choice }}'}\n  vars: {choice: inner}",
        "- block: [{include_role: {name: '{{ choice }}'}}]\n  vars: {choice: inner}",
        "- include_role: {name: '{{ choice | default(\"inner\") }}'}",
        "- include_role: {name: '{{ site_choice }}'}",
        "- include_role: {name: '{{ default_choice }}'}",
        "- include_role: {name: '{{ role_choice }}'}",
    ],
)
def test_each_way_to_take_a_role(site: Site, tasks: str) -> None:
    site.variables = {"site_choice": "inner", "default_choice": "third", "role_choice": "third"}
    site.role("outer", tasks, defaults__main_yml="site_choice: third", vars__main_yml="role_choice: inner\n")
    if "default_choice" in tasks:
        del site.variables["default_choice"]
        site.role("outer", tasks, defaults__main_yml="default_choice: inner")
    reached = site.reach("outer")
    assert sorted(reached.roles) == ["inner", "outer"]
    assert reached.guessed == set()


@pytest.mark.parametrize("file", ["tasks/more/deep.yml", "handlers/main.yml"])
def test_all_task_files_and_handlers_are_read(site: Site, file: str) -> None:
    site.role("outer")
    site.write(f"roles/outer/{file}", TAKE.format(name="inner"))
    assert sorted(site.reach("outer").roles) == ["inner", "outer"]


@pytest.mark.parametrize("entry", ["inner", "{role: inner}", "{name: inner, vars: {a: 1}}", "{role: '{{ choice }}'}"])
def test_dependencies(site: Site, entry: str) -> None:
    site.variables = {"choice": "inner"}
    site.role("outer", meta__main_yml=f"dependencies:\n  - {entry}\n")
    assert sorted(site.reach("outer").roles) == ["inner", "outer"]


@pytest.mark.parametrize("loop", ["loop: [inner, other]", "with_items: [[inner], other]", 'loop: \'{{ ["inner"] + ["other"] }}\'', "with_list: '{{ chosen }}'"])
def test_each_item_of_a_loop_is_a_role(site: Site, loop: str) -> None:
    site.variables = {"chosen": ["inner", "other"]}
    site.role("outer", f"- include_role: {{name: '{{{{ which }}}}'}}\n  {loop}\n  loop_control: {{loop_var: which}}")
    assert sorted(site.reach("outer").roles) == ["inner", "other", "outer"]


def test_dictionary_loop(site: Site) -> None:
    site.role("outer", "- include_role: {name: '{{ item.value }}'}\n  with_dict: {a: inner, b: third}")
    assert sorted(site.reach("outer").roles) == ["inner", "outer", "third"]


def test_a_name_that_cannot_be_known_stands_for_every_role_beside_it(site: Site) -> None:
    site.role("other", TAKE.format(name="deep"))
    site.role("deep")
    site.role("outer", TAKE.format(name="'{{ ansible_facts[\"os_family\"] }}'"))
    reached = site.reach("outer")
    assert sorted(reached.roles) == ["deep", "inner", "other", "outer", "third"]
    assert reached.guessed == {"deep", "inner", "other", "third"}


@pytest.mark.parametrize(
    "tasks",
    [
        "- include_role: {name: \"{{ ansible_facts['x'] | default('inner') }}\"}",
        "- include_role: {name: \"{{ ansible_distribution | default('inner') }}\"}",
        '- include_role: {name: "{{ web_name }}"}',
        "- command: x\n  register: said\n- include_role: {name: \"{{ (said | default({})).stdout | default('inner') }}\"}",
        "- set_fact: {choice: third}\n- include_role: {name: \"{{ choice | default('inner') }}\"}",
        "- include_role: {name: \"{{ of_system | default('inner') }}\"}",
    ],
)
def test_a_default_does_not_hide_that_a_name_cannot_be_known(site: Site, tasks: str) -> None:
    site.role("outer", tasks, defaults__main_yml="web_name: \"{{ ansible_facts.x | default('inner') }}\"", vars__Debian_yml="of_system: third")
    assert sorted(site.reach("outer").roles) == ["inner", "other", "outer", "third"]


def test_a_fact_of_another_role_cannot_be_known(site: Site) -> None:
    site.role("first", "- set_fact: {choice: third}")
    site.role("outer", TAKE.format(name="\"{{ choice | default('inner') }}\""))
    assert "third" in site.reach("first", "outer").roles


def test_what_the_last_build_reached_takes_the_place_of_a_guess(site: Site) -> None:
    site.role("outer", TAKE.format(name="'{{ ansible_facts[\"os_family\"] }}'"))
    reached = site.reach("outer", recorded=[str(site.base / "roles/outer"), str(site.base / "roles/third"), str(site.base / "roles/removed")])
    assert sorted(reached.roles) == ["outer", "third"]
    assert reached.guessed == set()


def test_a_circle_ends(site: Site) -> None:
    site.role("outer", TAKE.format(name="inner"))
    site.role("inner", TAKE.format(name="outer"))
    assert sorted(site.reach("outer").roles) == ["inner", "outer"]


def test_a_role_under_a_condition_may_be_absent(site: Site) -> None:
    site.role("outer", TAKE.format(name="nowhere"))
    assert sorted(site.reach("outer").roles) == ["outer"]


def test_a_role_of_the_image_must_be_there(site: Site) -> None:
    for name in ("nowhere", "/nowhere/role"):
        with pytest.raises(ImageError, match=rf"Cannot find role {name} of the image"):
            site.reach(name)


def test_the_command_line_wins(site: Site) -> None:
    site.extra = {"choice": "other"}
    site.role("outer", TAKE.format(name="'{{ choice }}'"), vars__main_yml="choice: inner")
    assert sorted(site.reach("outer").roles) == ["other", "outer"]


def test_roles_in_task_files_elsewhere(site: Site) -> None:
    site.write("tasks/shared.yml", TAKE.format(name="inner") + "- include_tasks: shared.yml\n")
    site.role("outer", "- include_tasks: shared.yml")
    assert sorted(site.reach("outer").roles) == ["inner", "outer"]


def test_two_roles_of_one_name_are_both_there(site: Site) -> None:
    site.write("more/inner/tasks/main.yml")
    site.role("outer", TAKE.format(name=str(site.base / "more/inner")) + TAKE.format(name="inner"))
    assert {role.path for role in site.reach("outer").roles.values()} == {site.base / "more/inner", site.base / "roles/inner", site.base / "roles/outer"}
