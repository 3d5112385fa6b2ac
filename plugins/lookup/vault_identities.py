# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell where this run of Ansible has the passwords of its vaults from, for another run."""

from __future__ import annotations

DOCUMENTATION = r"""
name: vault_identities
short_description: The vault identities of this run, for a second run of Ansible
version_added: "1.0.0"
description:
  - Returns the identities that the configuration, C(--vault-id) and C(--vault-password-file) name, in the form of the setting E(ANSIBLE_VAULT_IDENTITY_LIST),
    with absolute paths. The passwords themselves are not read.
  - Passwords that were typed are left out, because a second run would have to ask for them again.
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
- name: Read an encrypted file in a second run
  ansible.builtin.command:
    argv: [ansible-playbook, second.yml]
  environment:
    ANSIBLE_VAULT_IDENTITY_LIST: "{{ lookup('hyperscaler.images.vault_identities', wantlist=true) | join(',') }}"
"""

RETURN = r"""
_raw:
  description: Identities, C(NAME@PATH).
  type: list
  elements: str
"""

import typing as t
from pathlib import Path

from ansible import context
from ansible.constants import config
from ansible.plugins.lookup import LookupBase

TYPED = frozenset({"prompt", "prompt_ask_vault_pass"})


def identity_of(text: str, default: str) -> str:
    """An identity with its name and the absolute path of its password; empty when the password is typed."""
    name, _at, path = text.rpartition("@")
    return "" if path in TYPED else f"{name or default}@{Path.cwd() / Path(path).expanduser()}"


class LookupModule(LookupBase):
    """The lookup ``vault_identities``."""

    def run(self, terms: list[str], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[str]:  # noqa: ARG002 (Ansible gives it)
        """The identities, in the order in which Ansible tries them."""
        self.set_options(var_options=variables, direct=kwargs)
        default = config.get_config_value("DEFAULT_VAULT_IDENTITY")
        named = [*config.get_config_value("DEFAULT_VAULT_IDENTITY_LIST"), *(context.CLIARGS.get("vault_ids") or ())]
        files = list(context.CLIARGS.get("vault_password_files") or ()) or [config.get_config_value("DEFAULT_VAULT_PASSWORD_FILE")]
        found = [identity_of(str(text), default) for text in [*named, *(file for file in files if file)]]
        return list(dict.fromkeys(identity for identity in found if identity))
