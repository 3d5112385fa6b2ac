# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run tasks inside an opened image."""

from __future__ import annotations

DOCUMENTATION = r"""
name: image
short_description: Run tasks inside an opened disk image
version_added: "1.0.0"
description:
  - Runs tasks inside a disk image that M(hyperscaler.images.image_root) has opened.
  - The build host is reached with P(ansible.builtin.local#connection) or P(ansible.builtin.ssh#connection).
  - A process there that has entered the image runs the tasks.
  - When the image is not open, every task fails. Nothing is ever run on the build host instead.
  - Tasks run as root inside. On the build host, C(sudo) is used when its user is not root, with the password that Ansible was given if it asks for one.
  - When no systemd runs inside, C(SYSTEMD_OFFLINE=1) is set, so that units can be enabled but none is started.
author:
  - hyperscaler.images contributors (@hyperscaler)
options:
  state_file:
    description: The file on the build host that describes the open image, as given to M(hyperscaler.images.image_root).
    type: str
    required: true
    vars:
      - name: image_root_state
  build_host_connection:
    description: How the build host is reached.
    type: str
    choices: [local, ssh]
    default: local
    vars:
      - name: image_build_host_connection
  build_host_variables:
    description: The variables of the build host, which the ssh connection takes its options from.
    type: dict
    default: {}
    vars:
      - name: image_build_host_variables
  become_password:
    description:
      - The password that C(sudo) asks for on the build host.
      - Without one, that of C(--ask-become-pass) or C(--become-password-file) is used.
    type: str
    vars:
      - name: ansible_become_pass
      - name: ansible_become_password
      - name: image_build_host_become_password
  delegate_to:
    description:
      - The host that the task is delegated to, which Ansible says.
      - A task that is delegated to the controller fails when C(ansible_connection) is a variable of the task and not of its host, because it would run inside.
    type: str
    keyword:
      - name: delegate_to
  pipelining:
    description: Send modules through standard input instead of copying them first.
    type: bool
    default: true
    vars:
      - name: ansible_pipelining
"""

import json
import os
import shlex
import typing as t
from pathlib import Path

from ansible import constants
from ansible.errors import AnsibleConnectionFailure, AnsibleFileNotFound
from ansible.plugins.connection import ConnectionBase
from ansible.plugins.loader import connection_loader
from ansible.utils.display import Display
from ansible_collections.hyperscaler.images.plugins.module_utils import _enter

display = Display()

ENVIRONMENT = {
    "APT_CONFIG": "/run/hyperscaler/apt.conf",
    "DEBIAN_FRONTEND": "noninteractive",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "LOGNAME": "root",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TERM": "dumb",
    "USER": "root",
}


_NO_ROOT = (
    "Cannot enter the image of {state_file}: sudo did not make the user of the build root ({said}). Give its password to Ansible "
    "(--ask-become-pass, --become-password-file or ansible_become_password), or let sudo ask for none; nothing was run."
)


class Connection(ConnectionBase):
    """Wrap the connection to the build host and enter the image with every command."""

    transport = "hyperscaler.images.image"
    has_pipelining = True

    def __init__(self, play_context: t.Any, new_stdin: t.Any = None, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(play_context, new_stdin, *args, **kwargs)
        self._build_host: ConnectionBase | None = None
        self._state: dict[str, t.Any] = {}
        self._sudo: list[str] = []
        self._password = b""
        self._direct = False
        self._task = str(kwargs.get("task_uuid") or "")

    def _connect(self) -> Connection:
        if self._connected:
            return self
        self._refuse_delegated()
        kind = self.get_option("build_host_connection")
        host = connection_loader.get(f"ansible.builtin.{kind}", self._play_context, os.devnull)
        host.set_options(var_options=self.get_option("build_host_variables") if kind == "ssh" else {})
        self._build_host = host
        state_file = self.get_option("state_file")
        why = ""
        try:
            self._state = json.loads(self._read_state(kind, state_file))
            if not isinstance(self._state, dict) or not {"path", "enter", "environment"} <= self._state.keys():
                why = "that file does not describe an open image"
        except OSError as error:
            why = f"the image is not open ({error.strerror})"
        except ValueError:
            why = "that file does not describe an open image"
        if why:
            # With another error as its cause, Ansible would add the text of that.
            raise AnsibleConnectionFailure(
                f"Cannot run a task inside the image of {state_file}: {why}. Open it with hyperscaler.images.image_root first; nothing was run."
            )
        self._connected = True
        return self

    def _refuse_delegated(self) -> None:
        """Fail for a task that belongs on the controller; Ansible gives it the variables of the task, also its connection."""
        delegate_to = self.get_option("delegate_to")
        if delegate_to in constants.LOCALHOST:
            raise AnsibleConnectionFailure(
                f"Cannot run a task that is delegated to {delegate_to}: it would run inside the image, because ansible_connection is a variable of the task. "
                "Make it a variable of the host, in the inventory or by set_fact; nothing was run."
            )

    def _read_state(self, kind: str, state_file: str) -> bytes:
        """The content of the state file; OSError when it cannot be read."""
        self._direct = kind == "local" and os.geteuid() == 0
        if self._direct:
            # Every task reads it: this way none starts processes for that.
            return Path(state_file).read_bytes()
        if self._on_build_host(["id", "-u"])[1].strip() != b"0":
            self._choose_sudo()
        rc, out, err = self._on_build_host([*self._sudo, "cat", "--", state_file], self._password or None)
        text = err.decode("utf-8", errors="replace").strip()
        if rc != 0 and self._sudo and "cat: " not in text:
            raise AnsibleConnectionFailure(_NO_ROOT.format(state_file=state_file, said=" | ".join(text.splitlines()) or "it said nothing"))
        if rc != 0:
            raise OSError(rc, text)
        return out

    def _choose_sudo(self) -> None:
        """How sudo is called: a password is only handed over where it asks for one, as what runs would read it otherwise."""
        password = self.get_option("become_password") or self._play_context.become_pass or ""
        # With -k, it does not matter that it was asked for a moment ago.
        if password and self._on_build_host(["sudo", "-k", "-n", "true"])[0] != 0:
            self._sudo, self._password = ["sudo", "-k", "-S", "-p", ""], f"{password}\n".encode()
        else:
            self._sudo = ["sudo", "-n"]

    def _on_build_host(self, argv: list[str], stdin: bytes | None = None) -> tuple[int, bytes, bytes]:
        if self._build_host is None:
            raise AnsibleConnectionFailure("The connection to the build host has not been made.")
        result: tuple[int, bytes, bytes] = self._build_host.exec_command(shlex.join(argv), in_data=stdin, sudoable=False)
        return result

    def _environment(self) -> dict[str, str]:
        own = {"HYPERSCALER_TASK": self._task} if self._task else {}
        return {**ENVIRONMENT, **self._state["environment"], **own}

    def _run(self, command: str, stdin: bytes | None) -> tuple[int, bytes, bytes]:
        """Run a shell command inside: at once as root of this machine, else by the same program on the build host."""
        socket = self._state["enter"]
        if self._direct:
            try:
                return _enter.run(socket, command, self._environment(), stdin or b"")
            except OSError:
                return _enter.NOT_OPEN, b"", b""
        program = str(Path(socket).with_name(_enter.PROGRAM))
        return self._on_build_host(
            [*self._sudo, *_enter.PYTHON, program, socket, json.dumps(self._environment()), command],
            self._password + (stdin or b"") if self._password else stdin,
        )

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:  # noqa: ARG002 (Ansible gives it)
        """Run a command inside the image; its exit code, output and errors are returned."""
        self._connect()
        display.vvv(f"EXEC {cmd}", host=self._state["path"])
        rc, out, err = self._run(cmd, in_data)
        if rc == _enter.NOT_OPEN and not out:
            raise AnsibleConnectionFailure(
                f"Cannot run a task inside {self._state['path']}: the image was closed meanwhile. Its build has to start again; nothing was run."
            )
        return rc, out, err

    def put_file(self, in_path: str, out_path: str) -> None:
        """Write a file of the controller into the image."""
        self._connect()
        if not Path(in_path).exists():
            raise AnsibleFileNotFound(f"Cannot copy {in_path} into the image: there is no such file.")
        try:
            data = Path(in_path).read_bytes()
        except OSError as error:
            raise AnsibleConnectionFailure(f"Cannot copy {in_path} into the image: {error.strerror}. Correct the path or its permissions.") from None
        rc, _out, err = self.exec_command(f"cat > {shlex.quote(out_path)}", in_data=data, sudoable=False)
        if rc != 0:
            raise AnsibleConnectionFailure(f"Cannot copy {in_path} to {out_path} inside {self._state['path']}: {err.decode('utf-8', errors='replace').strip()}")

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file of the image to the controller."""
        self._connect()
        rc, out, err = self.exec_command(f"cat -- {shlex.quote(in_path)}", sudoable=False)
        if rc != 0:
            raise AnsibleConnectionFailure(f"Cannot fetch {in_path} from {self._state['path']}: {err.decode('utf-8', errors='replace').strip()}")
        try:
            Path(out_path).write_bytes(out)
        except OSError as error:
            raise AnsibleConnectionFailure(f"Cannot write what was fetched to {out_path}: {error.strerror}. Choose another place, or make room.") from None

    def close(self) -> None:
        """Leave the build host."""
        if self._build_host is not None:
            self._build_host.close()
        self._connected = False
