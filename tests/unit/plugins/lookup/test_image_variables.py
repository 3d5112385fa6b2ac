# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the lookup that hands the variables of a host to another run of Ansible."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleUndefinedVariable
from ansible_collections.hyperscaler.images.plugins.lookup.image_variables import LookupModule, handed_over


class Templar:
    """Resolves names in double braces; what it does not know is an error, as with Ansible."""

    def template(self, raw: t.Any) -> t.Any:
        if raw == "{{ cpus }}":
            return 2
        if isinstance(raw, str) and "{{" in raw:
            raise AnsibleUndefinedVariable("no such variable")
        return raw


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("kubernetes_node_profile", True),
        ("disk_size", True),
        ("ansible_connection", False),
        ("hostvars", False),
        ("inventory_hostname", False),
        ("__image_marks", False),
        ("left_out", False),
    ],
)
def test_which_variables(name: str, wanted: bool) -> None:
    assert handed_over(name, ["left_out"]) == wanted


def test_values_are_resolved_where_they_can_be() -> None:
    variables = {"b": "{{ cpus }}", "a": ["x"], "later": "{{ ansible_facts['kernel'] }}", "ansible_user": "root", "secret": "s"}
    found = LookupModule(templar=Templar()).run(["secret"], variables)
    assert found == [{"a": ["x"], "b": 2, "later": "{{ ansible_facts['kernel'] }}"}]
