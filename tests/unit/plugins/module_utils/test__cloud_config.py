# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what a configuration of cloud-init sets on every machine."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._cloud_config import COMMAND_LINE, parse, read_files, value_of, ways_in
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree

if t.TYPE_CHECKING:
    from pathlib import Path

MIME = (
    "Content-Type: multipart/mixed; boundary=B\nMIME-Version: 1.0\n\n"
    "--B\nContent-Type: text/cloud-config\nContent-Transfer-Encoding: base64\n\nI2Nsb3VkLWNvbmZpZwpwYXNzd29yZDogeAo=\n--B--\n"
)
ARCHIVE = "#cloud-config-archive\n- type: text/x-shellscript\n  content: |\n    #!/bin/sh\n    passwd -d root\n"
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
        ("runcmd:\n- echo root:x | chpasswd", "command: may let somebody in by a command of runcmd (chpasswd)"),
        ("bootcmd: [[passwd, -d, root]]", "command: may let somebody in by a command of bootcmd (passwd -d)"),
        ("runcmd: ['printf x | passwd root']", "command: may let somebody in by a command of runcmd (| passwd)"),
        ("runcmd: [[usermod, -p, 'x', root]]", "command: may let somebody in by a command of runcmd (usermod -p)"),
        ("runcmd: ['useradd -m -p x ops']", "command: may let somebody in by a command of runcmd (useradd -m -p)"),
        ("runcmd: ['usermod --unlock root']", "command: may let somebody in by a command of runcmd (usermod --unlock)"),
        ("runcmd: ['echo k >> /root/.ssh/authorized_keys']", "command: may let somebody in by a command of runcmd (>> /root/.ssh/authorized_keys)"),
        ("runcmd: ['ssh-import-id gh:ops']", "command: may let somebody in by a command of runcmd (ssh-import-id)"),
        ("bootcmd: ['curl -o /etc/sudoers.d/x http://a']", "command: may let somebody in by a command of bootcmd (curl -o /etc/sudoers)"),
        ("runcmd: [\"sed -i 's/^root:[^:]*/root:$6$x/' /etc/shadow\"]", "command: may let somebody in by a command of runcmd (sed)"),
        ("bootcmd: ['perl -pi -e s/a/b/ /etc/sudoers']", "command: may let somebody in by a command of bootcmd (perl)"),
        ("runcmd: [[sed, --in-place, s/x//, /etc/passwd]]", "command: may let somebody in by a command of runcmd (sed)"),
        ("runcmd: [\"echo 'ops ALL=NOPASSWD: ALL' | EDITOR='tee -a' visudo\"]", "command: may let somebody in by a command of runcmd (EDITOR=)"),
        ("runcmd: ['echo k | dd of=/root/.ssh/authorized_keys']", "command: may let somebody in by a command of runcmd (dd of=/root/.ssh/authorized_keys)"),
        ("datasource: {NoCloud: {seedfrom: 'http://10.0.0.1/'}}", "address: takes user data from http://10.0.0.1/"),
        ("datasource: {NoCloud: {meta-data: {public-keys: [ssh-ed25519 AAAA]}, user-data: ''}}", "key: lets the holder of a key log in as the default user"),
        ("datasource: {NoCloud: {meta-data: 'public-keys: [k]'}}", "key: lets the holder of a key log in as the default user"),
        ('datasource: {None: {userdata_raw: "#!/bin/sh\\necho root:x | chpasswd\\n"}}', "command: may let somebody in by a script in user data"),
        ('datasource: {None: {userdata_raw: "#include\\nhttp://a/b\\n"}}', "address: takes user data from http://a/b"),
        ('datasource: {None: {userdata_raw: "## template: jinja\\n#cloud-config\\npassword: x\\n"}}', "password: sets the password of the default user"),
        (f"datasource: {{None: {{userdata_raw: {json.dumps(MIME)}}}}}", "password: sets the password of the default user"),
        (f"datasource: {{None: {{userdata_raw: {json.dumps(ARCHIVE)}}}}}", "command: may let somebody in by a script in user data"),
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
        "runcmd: ['passwd -l root', 'passwd --lock root', 'usermod -L root', 'usermod -aG sudo ops']",
        "runcmd: ['rm -f /root/.ssh/authorized_keys', 'chmod 440 /etc/sudoers.d/x', 'visudo -c']",
        "runcmd: ['sed -n p /etc/passwd', 'sed -i s/a/b/ /etc/motd', 'dd if=/etc/shadow of=/dev/null', 'EDITOR=vi crontab -e']",
        "datasource: {NoCloud: {seedfrom: /srv/seed/}}",
        'datasource: {None: {userdata_raw: "#!/bin/sh\\nhostnamectl\\n"}}',
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
