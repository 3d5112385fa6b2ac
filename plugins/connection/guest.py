# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run tasks in a booted guest, whose console explains a lost connection."""

from __future__ import annotations

DOCUMENTATION = r"""
name: guest
short_description: Run tasks in a guest that M(hyperscaler.images.qemu_guest) has started
version_added: "1.0.0"
description:
  - Runs tasks over P(ansible.builtin.ssh#connection) in a guest that M(hyperscaler.images.qemu_guest) has started.
  - A connection that cannot be made or breaks is a failure of the task, with the kind of failure and the last lines of the serial console of the guest.
    With the ssh connection, the host would be unreachable, which skips C(rescue) and C(always), and nobody would end the guest.
author:
  - hyperscaler.images contributors (@hyperscaler)
options:
  ssh_variables:
    description: The variables that the ssh connection takes its options from, for instance C(ansible_host) and C(ansible_port).
    type: dict
    required: true
    vars:
      - name: image_guest_ssh_variables
  serial_log:
    description: The file with the serial console of the guest.
    type: str
    required: true
    vars:
      - name: image_guest_serial_log
  pipelining:
    description: Send modules through standard input instead of copying them first.
    type: bool
    default: true
    vars:
      - name: ansible_pipelining
"""

import contextlib
import os
import typing as t
from pathlib import Path

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.connection import ConnectionBase
from ansible.plugins.loader import connection_loader
from ansible_collections.hyperscaler.images.plugins.module_utils._serial_log import final_failure, read_console, tail


def explain_loss(reason: str, serial_log: Path) -> str:
    """The message on a lost connection: what failed, the kind of failure if the console shows one, and the last lines of the console."""
    console = read_console(serial_log)
    failure = final_failure(console)
    parts = [f"Cannot run a task in the guest: {reason.strip().rstrip('.')}."]
    if failure is not None:
        parts += [f"{failure.summary} {failure.advice}"]
    lines = tail(console)
    parts += [f"Last lines of the serial console ({serial_log}):", *(f"  {line}" for line in lines)] if lines else []
    return "\n".join(parts)


class Connection(ConnectionBase):
    """Wrap the ssh connection."""

    transport = "hyperscaler.images.guest"
    has_pipelining = True

    def __init__(self, play_context: t.Any, new_stdin: t.Any = None, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(play_context, new_stdin, *args, **kwargs)
        self._ssh: ConnectionBase | None = None

    @contextlib.contextmanager
    def _explained(self) -> t.Iterator[ConnectionBase]:
        if self._ssh is None:
            self._ssh = connection_loader.get("ansible.builtin.ssh", self._play_context, os.devnull)
            self._ssh.set_options(var_options=self.get_option("ssh_variables"))
        try:
            yield self._ssh
        except AnsibleConnectionFailure as error:
            # With the error as its cause, Ansible would see an unreachable host again.
            raise AnsibleError(explain_loss(str(error), Path(self.get_option("serial_log")))) from None

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Run a command in the guest; its exit code, output and errors are returned."""
        with self._explained() as ssh:
            result: tuple[int, bytes, bytes] = ssh.exec_command(cmd, in_data=in_data, sudoable=sudoable)
            return result

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file of the controller to the guest."""
        with self._explained() as ssh:
            ssh.put_file(in_path, out_path)

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file of the guest to the controller."""
        with self._explained() as ssh:
            ssh.fetch_file(in_path, out_path)

    def close(self) -> None:
        """Leave the guest."""
        if self._ssh is not None:
            self._ssh.close()
        self._connected = False
