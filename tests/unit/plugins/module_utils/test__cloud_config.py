# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what a configuration of cloud-init sets on every machine."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._cloud_config import COMMAND_LINE, parse, read_files, value_of, ways_in
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree

if t.TYPE_CHECKING:
    from pathlib import Path

HASH = "$y$j9T$abc$def"


def found(text: str) -> list[str]:
    data, problem = parse(text)
    assert problem == ""
    return [f"{way.kind}: {way.what}" for way in ways_in(data or {})]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("password: changeme", "password: sets the password of the default user"),
        ("'password': 12345", "password: sets the password of the default user"),
        ("chpasswd:\n  list: |\n    root:changeme1\n  expire: false", "password: sets the password of root"),
        ("chpasswd: {list: ['root:changeme1']}", "password: sets the password of root"),
        ("chpasswd:\n  list:\n    - root: changeme1", "password: sets the password of root"),
        ('chpasswd: {"list": "root:changeme1\\n"}', "password: sets the password of root"),
        (f"chpasswd: {{users: [{{name: ops, password: '{HASH}', type: hash}}]}}", "password: sets the password of ops"),
        ("chpasswd:\n  users:\n  - {name: ops, password: changeme1, type: text}", "password: sets the password of ops"),
        (f"users:\n  - default\n  - name: ops\n    passwd: {HASH}", "password: sets the password of ops"),
        (f"users: [{{name: ops, hashed_passwd: '{HASH}', lock_passwd: false}}]", "password: sets the password of ops"),
        ("users: [{name: ops, plain-text-passwd: x, lock-passwd: false}]", "password: sets the password of ops"),
        ("users:\n  ops: {plain_text_passwd: x}", "password: sets the password of ops"),
        ("users: [{name: ops, passwd: '', lock_passwd: false}]", "empty: gives ops an empty password"),
        ("user: {name: ops, plain_text_passwd: x}", "password: sets the password of ops"),
        ("system_info: {default_user: {name: debian, plain_text_passwd: x}}", "password: sets the password of debian"),
        ("system_info:\n  default_user:\n    ssh_authorized_keys: [ssh-ed25519 AAAA]", "key: lets the holder of a key log in as the default user"),
        ("ssh_authorized_keys:\n- ssh-ed25519 AAAA", "key: lets the holder of a key log in as the default user"),
        ("ssh_import_id: [gh:ops]", "key: lets the holders of the keys of gh:ops log in as the default user"),
        ("users: [{name: ops, ssh-authorized-keys: [ssh-ed25519 AAAA]}]", "key: lets the holder of a key log in as ops"),
        ("runcmd:\n- echo root:x | chpasswd", "password: sets a password by a command of runcmd"),
        ("bootcmd: [[passwd, -d, root]]", "password: sets a password by a command of bootcmd"),
        ('datasource: {None: {userdata_raw: "#cloud-config\\npassword: x\\n"}}', "password: sets the password of the default user"),
        ("datasource:\n  NoCloud:\n    user-data: |\n      #cloud-config\n      password: x\n", "password: sets the password of the default user"),
    ],
)
def test_what_lets_somebody_in(text: str, what: str) -> None:
    assert found(text) == [what]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "chpasswd: { expire: False }",
        "chpasswd: {expire: false, list: ''}",
        "chpasswd: {users: [{name: ops, type: RANDOM}]}",
        "chpasswd:\n  list: |\n    ops:R\n    dev:RANDOM\n    old:!\n",
        "ssh_pwauth: true\ndisable_root: false",
        "# password: x",
        "users: [default]",
        "users: default, ops",
        "users: [{name: a, lock_passwd: true, passwd: '*'}]",
        "users: [{name: a, passwd: '!', lock_passwd: false}]",
        f"users: [{{name: a, passwd: '{HASH}', lock_passwd: true}}]",
        "users: [{name: a, sudo: 'ALL=(ALL) NOPASSWD:ALL'}]",
        "system_info: {default_user: {name: debian, lock_passwd: true, sudo: ['ALL=(ALL) NOPASSWD:ALL']}}",
        "write_files: [{path: /etc/motd, content: 'password: x'}]",
        "password: null",
    ],
)
def test_what_lets_nobody_in(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize("text", ["users: [a", "- a\n", "password", "a: 2001-99-99\n", "a: !!python/object:x.y {}\n"])
def test_what_cloud_init_cannot_read(text: str) -> None:
    data, problem = parse(text)
    assert data is None
    assert problem


def test_the_last_file_decides(tmp_path: Path) -> None:
    folder = tmp_path / "etc/cloud/cloud.cfg.d"
    folder.mkdir(parents=True)
    (tmp_path / "etc/cloud/cloud.cfg").write_text("datasource_list: [Ec2]\n", encoding="utf-8")
    (folder / "10-a.cfg").write_text("datasource_list:\n- GCE\n", encoding="utf-8")
    (folder / "20-b.cfg").write_text("ssh_pwauth: true\n", encoding="utf-8")
    (folder / "30-c.txt").write_text("datasource_list: [Azure]\n", encoding="utf-8")
    files = read_files(Tree(tmp_path), ("quiet", "cc:password:%20x", "end_cc", "ro"))
    assert [file.path for file in files] == [
        *("/etc/cloud/cloud.cfg", "/etc/cloud/cloud.cfg.d/10-a.cfg", "/etc/cloud/cloud.cfg.d/20-b.cfg"),
        COMMAND_LINE,
    ]
    assert value_of(files, "datasource_list") == ("/etc/cloud/cloud.cfg.d/10-a.cfg", ["GCE"])
    assert value_of(files, "nothing") == ("", None)
    assert files[-1].data == {"password": "x"}
