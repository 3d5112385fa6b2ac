# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hyperscaler.images.plugins.plugin_utils._role_promises import action_of, refusal, refused_arguments, roles_of, tasks_of

ENDS: list[dict[str, t.Any]] = [
    {"meta": "end_host"},
    {"ansible.builtin.meta": "end_play"},
    {"ansible.legacy.meta": "end_batch"},
    {"action": "meta end_host"},
    {"ansible.builtin.meta": {"_raw_params": "end_host"}},
]


@pytest.mark.parametrize("task", ENDS)
def test_an_end_is_refused_with_another_strategy(task: dict[str, t.Any]) -> None:
    assert "strategy: hyperscaler.images.per_image" in refusal(task, independent=False)
    assert refusal(task, independent=True) == ""


@pytest.mark.parametrize("task", [{"meta": "end_role"}, {"meta": "flush_handlers"}, {"copy": {"content": "end_host"}}, {"name": "end_host"}])
def test_other_tasks_pass(task: dict[str, t.Any]) -> None:
    assert refusal(task, independent=False) == ""


@pytest.mark.parametrize(
    "task",
    [
        {"synchronize": {"src": "a", "dest": "/b"}},
        {"ansible.posix.synchronize": {"src": "a", "dest": "/b"}, "delegate_to": "localhost"},
        {"local_action": {"module": "ansible.posix.synchronize", "src": "a"}},
        {"local_action": "synchronize src=a dest=b"},
    ],
)
def test_synchronize_is_refused(task: dict[str, t.Any]) -> None:
    assert "ansible.builtin.copy" in refusal(task, independent=True)


def test_synchronize_inside_the_image_passes() -> None:
    assert refusal({"synchronize": {"src": "/a", "dest": "/b"}, "delegate_to": "{{ inventory_hostname }}"}, independent=True) == ""


def test_a_local_connection_is_refused() -> None:
    assert "delegate_to: localhost" in refusal({"command": "id", "connection": "local"}, independent=True)
    assert refusal({"command": "id", "connection": "ssh"}, independent=True) == ""


def test_tasks_in_blocks_are_found() -> None:
    document = [{"block": [{"meta": "noop"}], "rescue": [{"block": [{"command": "a"}]}], "always": [{"command": "b"}]}, "no task", {"fail": None}]
    assert [task.get("command") for task in tasks_of(document) if "command" in task] == ["a", "b"]
    assert list(tasks_of(None)) == []
    assert action_of({"fail": None}, "fail") == {}


def test_roles_that_are_taken() -> None:
    tasks = [{"include_role": {"name": "inner"}}, {"ansible.builtin.import_role": {"role": "site.x.y"}}, {"include_role": {"name": "{{ choice }}"}}]
    assert roles_of(tasks, {"dependencies": ["a", {"role": "b"}, {"name": "c"}]}) == ["a", "b", "c", "inner", "site.x.y"]
    assert roles_of([], None) == []


def test_arguments_of_the_command_line() -> None:
    assert refused_arguments({"tags": ("all",), "skip_tags": ("x",), "start_at_task": None}) == ""
    assert "--skip-tags" in refused_arguments({"tags": ("some",)})
    assert "'Here'" in refused_arguments({"tags": ("all",), "start_at_task": "Here"})
