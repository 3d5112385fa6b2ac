# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Collect the variables of a host for another run of Ansible."""

from __future__ import annotations

DOCUMENTATION = r"""
name: image_variables
short_description: The variables of a host, for a second run of Ansible
version_added: "1.0.0"
description:
  - Returns the variables that the host of the task has, with their values, so that a second run of Ansible can be given them as C(--extra-vars).
  - Variables of Ansible itself, of the connection and those whose name begins with an underscore are left out.
  - Text that looks like a template and is none, because it is marked with C(!unsafe) or is the result of one, is marked in the way that Ansible reads from
    JSON, so that the second run leaves it as it is.
  - A variable whose value cannot be resolved yet, for instance because it needs facts of a machine that does not run, is returned as it is written.
author:
  - hyperscaler.images contributors (@hyperscaler)
options:
  _terms:
    description: Names of variables to leave out.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Write the variables of this host
  ansible.builtin.copy:
    content: "{{ lookup('hyperscaler.images.image_variables') | to_nice_json }}"
    dest: /srv/node.vars.json
    mode: "0600"
"""

RETURN = r"""
_raw:
  description: One dictionary from the names to the values.
  type: list
  elements: dict
"""

import re
import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible.template import is_trusted_as_template

TEMPLATE = re.compile(r"\{[{%#]")
# What Ansible sets itself for every host; nothing that a user writes down has these names.
OWN = frozenset(
    {
        *("environment", "group_names", "groups", "hostvars", "inventory_dir", "inventory_file", "inventory_hostname", "inventory_hostname_short", "item"),
        *("omit", "play_hosts", "playbook_dir", "role_name", "role_names", "role_path", "role_uuid", "vars"),
    }
)


def handed_over(name: str, left_out: t.Collection[str]) -> bool:
    """Whether a variable belongs to the user and not to this run of Ansible."""
    return not (name in OWN or name in left_out or name.startswith(("_", "ansible_")))


def marked(value: t.Any) -> t.Any:
    """A value in which text that must not become a template is marked; JSON has no other way to tell the two apart."""
    if isinstance(value, dict):
        return {key: marked(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [marked(item) for item in value]
    if isinstance(value, str) and TEMPLATE.search(value) and not is_trusted_as_template(value):
        return {"__ansible_unsafe": value}
    return value


class LookupModule(LookupBase):
    """The lookup ``image_variables``."""

    def run(self, terms: list[str], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[dict[str, t.Any]]:
        """The variables in one dictionary."""
        self.set_options(var_options=variables, direct=kwargs)
        wanted = sorted(name for name in variables or {} if handed_over(name, terms))
        return [{name: marked(self._value((variables or {})[name])) for name in wanted}]

    def _value(self, raw: t.Any) -> t.Any:
        if self._templar is None:
            return raw
        try:
            return self._templar.template(raw)
        except AnsibleError:
            return raw
