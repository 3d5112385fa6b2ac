# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Collect groups and other hosts of the inventory for another run of Ansible."""

from __future__ import annotations

DOCUMENTATION = r"""
name: other_hosts
short_description: The inventory without the variables of one host, for a second run of Ansible
version_added: "1.0.0"
description:
  - Returns all groups and hosts of the inventory in the form of Ansible's inventory plugin C(ansible.builtin.yaml), so that tasks of a second run can be
    delegated to the same hosts, and can read C(groups) and C(hostvars).
  - The host of the task is a member of its groups and has no variables there, because the second run reaches it in another way.
  - Other hosts have the variables of their inventory, as they are written, those of the connection included. Facts are left out.
author:
  - hyperscaler.images contributors (@hyperscaler)
options:
  _terms:
    description: Not used.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Write an inventory that Ansible reads as it is
  ansible.builtin.copy:
    content: "{{ lookup('hyperscaler.images.other_hosts') | to_nice_json }}"
    dest: /srv/others.json
    mode: "0600"
"""

RETURN = r"""
_raw:
  description: 'One inventory, C({"all": {"hosts": …, "children": …}}).'
  type: list
  elements: dict
"""

import typing as t

from ansible.constants import INTERNAL_STATIC_VARS
from ansible.plugins.lookup import LookupBase
from ansible_collections.hyperscaler.images.plugins.lookup.image_variables import OWN, marked

# These two are in every inventory by themselves.
IMPLIED = frozenset({"all", "ungrouped"})


def of_inventory(variables: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The variables that come from an inventory: neither facts nor what Ansible sets itself."""
    facts = {f"ansible_{name}" for name in variables.get("ansible_facts", {})}
    left_out = OWN | facts | {"ansible_local"} | set(INTERNAL_STATIC_VARS)
    return {name: marked(value) for name, value in variables.items() if not (name in left_out or name.startswith("_"))}


class LookupModule(LookupBase):
    """The lookup ``other_hosts``."""

    def run(self, terms: list[str], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[dict[str, t.Any]]:  # noqa: ARG002 (Ansible gives it)
        """The inventory."""
        self.set_options(var_options=variables, direct=kwargs)
        known = variables or {}
        groups, own = known["groups"], known["inventory_hostname"]
        return [
            {
                "all": {
                    "hosts": {name: {} if name == own else of_inventory(known["hostvars"].raw_get(name)) for name in groups["all"]},
                    "children": {group: {"hosts": {name: {} for name in names}} for group, names in groups.items() if group not in IMPLIED},
                }
            }
        ]
