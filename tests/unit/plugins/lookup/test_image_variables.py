# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the lookup that hands the variables of a host to another run of Ansible."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleUndefinedVariable
from ansible.template import trust_as_template
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
    later = trust_as_template("{{ ansible_facts['kernel'] }}")
    variables = {"b": "{{ cpus }}", "a": ["x"], "later": later, "ansible_user": "root", "secret": "s"}
    found = LookupModule(templar=Templar()).run(["secret"], variables)
    assert found == [{"a": ["x"], "b": 2, "later": "{{ ansible_facts['kernel'] }}"}]


def test_text_that_is_no_template_stays_as_it_is() -> None:
    """The second run would take the braces of another program for its own."""
    rules = [{"summary": "{{ $value }} nodes", "note": "{% raw", "expr": "up{job='node'} == 0"}]
    (found,) = LookupModule(templar=Plain()).run([], {"rules": rules, "kept": trust_as_template("{{ later }}")})
    assert found["rules"] == [{"summary": {"__ansible_unsafe": "{{ $value }} nodes"}, "note": {"__ansible_unsafe": "{% raw"}, "expr": "up{job='node'} == 0"}]
    assert found["kept"] == "{{ later }}"


class Plain:
    """Has nothing to resolve."""

    def template(self, raw: t.Any) -> t.Any:
        return raw
