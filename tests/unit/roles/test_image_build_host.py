# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How role image reaches the build host, an opened image there, and a guest that was booted there."""

from __future__ import annotations

import shlex
import typing as t
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

ROLE = Path(__file__).resolve().parents[3] / "roles/image"
LOCAL: dict[str, t.Any] = {"inventory_hostname": "localhost", "ansible_connection": "local"}
REMOTE: dict[str, t.Any] = {
    "inventory_hostname": "builder",
    "ansible_host": "builder.example.org",
    "ansible_port": 2222,
    "ansible_user": "ops",
    "ansible_ssh_private_key_file": "/home/a b/key",
    "ansible_ssh_common_args": "-o UserKnownHostsFile=/home/ops/known",
    "ansible_become_password": "secret",
    "other": 1,
}


def templar(build_host: dict[str, t.Any], **more: t.Any) -> Templar:
    loader = DataLoader()
    files = [loader.load_from_file(str(ROLE / name), trusted_as_template=True) for name in ("defaults/main.yml", "vars/main.yml", "tasks/boot.yml")]
    boot = next(task["vars"] for task in files.pop() if "block" in task)
    name = build_host["inventory_hostname"]
    given = {
        "image_build_host": name,
        "image_build_root": "/srv/images",
        "inventory_hostname": "node",
        "hostvars": {name: build_host},
        "__image_boot_login_folder": {"path": "/tmp/login"},
    }
    return Templar(loader=loader, variables={**files[0], **files[1], **boot, **given, **more})


def evaluate(expressions: Templar, name: str) -> t.Any:
    return expressions.template(expressions.available_variables[name])


def test_a_local_build_host() -> None:
    expressions = templar(LOCAL)
    assert evaluate(expressions, "image_build_host_connection") == "local"
    assert evaluate(expressions, "image_build_host_variables") == {}
    assert evaluate(expressions, "__image_boot_login_key") == "/srv/images/shared/ssh-keys/id_ed25519"
    arguments = shlex.split(evaluate(expressions, "__image_boot_ssh_arguments"))
    assert 'UserKnownHostsFile="/srv/images/work/node/boot/known_hosts"' in arguments
    assert [argument for argument in arguments if "Proxy" in argument] == []


def test_a_build_host_that_is_reached_over_ssh() -> None:
    expressions = templar(REMOTE)
    assert evaluate(expressions, "image_build_host_connection") == "ssh"
    assert evaluate(expressions, "image_build_host_variables") == {
        name: value for name, value in REMOTE.items() if name not in ("ansible_become_password", "other")
    }
    assert evaluate(expressions, "__image_boot_login_key") == "/tmp/login/id_ed25519"
    arguments = shlex.split(evaluate(expressions, "__image_boot_ssh_arguments"))
    assert 'UserKnownHostsFile="/tmp/login/known_hosts"' in arguments
    command = next(argument for argument in arguments if argument.startswith("ProxyCommand=")).removeprefix("ProxyCommand=")
    assert shlex.split(command) == [
        *("ssh", "-o", "UserKnownHostsFile=/home/ops/known", "-o", "BatchMode=yes", "-o", "Port=2222", "-o", "User=ops"),
        *("-i", "/home/a b/key", "-W", "%h:%p", "builder.example.org"),
    ]


@pytest.mark.parametrize(("connection", "expected"), [("ansible.builtin.local", "local"), ("ssh", "ssh"), (None, "ssh")])
def test_the_connection_of_the_build_host_decides(connection: str | None, expected: str) -> None:
    build_host = {"inventory_hostname": "builder"} if connection is None else {"inventory_hostname": "builder", "ansible_connection": connection}
    expressions = templar(build_host)
    assert evaluate(expressions, "image_build_host_connection") == expected
    if expected == "ssh":
        command = next(argument for argument in shlex.split(evaluate(expressions, "__image_boot_ssh_arguments")) if argument.startswith("ProxyCommand="))
        assert shlex.split(command.removeprefix("ProxyCommand=")) == ["ssh", "-o", "BatchMode=yes", "-W", "%h:%p", "builder"]
