# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of files that each machine writes at boot."""

from __future__ import annotations

import base64
import gzip
import json
import typing as t

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_first_boot import check_first_boot
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils.inspect_fake_image import FakeImage, clean_image

if t.TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Finding

CLOUD = "/etc/cloud/cloud.cfg.d/99-site.cfg"
LINES = "/etc/tmpfiles.d/site.conf"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIexample ops@site"
SHADOW = base64.b64encode(gzip.compress(b"ops:$6$abc$def:20000::::::\n", mtime=0)).decode()
INNER = json.dumps(f"#cloud-config\nwrite_files: [{{path: /root/.ssh/authorized_keys2, content: '{KEY}'}}]\n")
OPS = "lets ops become root without a password"
HOLDER = "lets the holder of a key log in to every machine from this image."


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def image(tmp_path: Path) -> FakeImage:
    return clean_image(tmp_path / "image")


def findings(image: FakeImage) -> list[Finding]:
    return list(check_first_boot(image.subject()))


@pytest.mark.parametrize(
    ("text", "rule", "message"),
    [
        (
            "write_files:\n- path: /etc/sudoers.d/ops\n  content: |\n    ops ALL=(ALL) NOPASSWD: ALL\n",
            "secret.sudo",
            f"writes /etc/sudoers.d/ops at boot, which {OPS} (ops ALL=(ALL) NOPASSWD: ALL).",
        ),
        (
            f"write_files: [{{path: /root/.ssh/authorized_keys, encoding: b64, content: {in_base64(KEY)}}}]\n",
            "secret.authorized_key",
            f"writes /root/.ssh/authorized_keys at boot, which {HOLDER}",
        ),
        (
            f"write_files: [{{path: /etc/shadow, append: true, encoding: gz+b64, content: {SHADOW}}}]\n",
            "secret.password",
            "writes /etc/shadow at boot, which gives the user ops a password.",
        ),
        (
            f"datasource: {{None: {{userdata_raw: {INNER}}}}}\n",
            "secret.authorized_key",
            f"writes /root/.ssh/authorized_keys2 at boot, which {HOLDER}",
        ),
        (
            "write_files: [{path: /etc/munge/munge.key, content: abc}]\n",
            "secret.munge",
            "writes /etc/munge/munge.key at boot, which is a MUNGE key or seed, which every cluster from this image would share.",
        ),
        (
            "write_files: [{path: //etc/pam.d/../pam.d/sshd, content: auth sufficient pam_permit.so}]\n",
            "secret.pam",
            "writes /etc/pam.d/sshd at boot, which lets somebody in without a password (auth sufficient pam_permit.so).",
        ),
        (
            "users: [default, {name: ops, sudo: 'ALL=(ALL) NOPASSWD:ALL'}]\n",
            "secret.sudo",
            f"writes /etc/sudoers.d/90-cloud-init-users at boot, which {OPS} (ops ALL=(ALL) NOPASSWD:ALL).",
        ),
        (
            "users: {ops: {doas: [permit nopass ops]}}\n",
            "secret.sudo",
            "writes /etc/doas.conf at boot, which lets somebody become root without a password (permit nopass ops).",
        ),
        (
            "write_files: [{path: /etc/sudoers.d/x, source: {uri: 'http://10.0.0.1/x'}}]\n",
            "secret.fetched",
            "fetches /etc/sudoers.d/x from http://10.0.0.1/x at boot, and whoever serves it decides who gets in.",
        ),
    ],
)
def test_what_cloud_init_writes_is_judged_as_if_it_were_there(text: str, rule: str, message: str, image: FakeImage) -> None:
    image.write(CLOUD, text)
    assert [(finding.rule, finding.path, finding.message) for finding in findings(image)] == [(rule, CLOUD, message)]


@pytest.mark.parametrize(
    ("line", "rule", "message"),
    [
        (f"f+ /root/.ssh/authorized_keys 600 root root - {KEY}", "secret.authorized_key", f"writes /root/.ssh/authorized_keys at boot, which {HOLDER}"),
        (
            f"f~ /root/.ssh/authorized_keys 600 root root - {in_base64(KEY)}",
            "secret.authorized_key",
            f"writes /root/.ssh/authorized_keys at boot, which {HOLDER}",
        ),
        (
            "f /etc/sudoers.d/x 440 root root - ops\\x20ALL=(ALL) NOPASSWD: ALL\\n",
            "secret.sudo",
            f"writes /etc/sudoers.d/x at boot, which {OPS} (ops ALL=(ALL) NOPASSWD: ALL).",
        ),
        ("w /etc/shadow - - - - root::20000::::::", "secret.empty_password", "writes /etc/shadow at boot, which gives the user root an empty password."),
    ],
)
def test_what_tmpfiles_writes_is_judged_as_if_it_were_there(line: str, rule: str, message: str, image: FakeImage) -> None:
    image.write(LINES, f"{line}\n")
    assert [(finding.rule, finding.path, finding.message) for finding in findings(image)] == [(rule, LINES, message)]


def test_a_copy_and_a_credential_are_followed(image: FakeImage) -> None:
    image.write("/usr/share/site/keys", KEY)
    image.write(LINES, "C /root/.ssh/authorized_keys 600 root root - /usr/share/site/keys\n")
    assert [(finding.rule, finding.path) for finding in findings(image)] == [("secret.authorized_key", LINES)]
    image.write(LINES, "f^ /root/.ssh/authorized_keys 600 root root - ssh.authorized_keys.root\n")
    assert findings(image) == []
    image.write("/etc/credstore/ssh.authorized_keys.root", KEY)
    assert [(finding.rule, finding.path) for finding in findings(image)] == [("secret.authorized_key", "/etc/credstore/ssh.authorized_keys.root")]


def test_a_setting_that_makes_a_file_of_the_image_count_is_named(image: FakeImage) -> None:
    image.write("/opt/keys", KEY)
    image.write(CLOUD, "write_files: [{path: /etc/ssh/sshd_config, append: true, content: AuthorizedKeysFile /opt/keys}]\n")
    (finding,) = findings(image)
    assert (finding.rule, finding.path) == ("secret.authorized_key", CLOUD)
    assert finding.message.startswith("writes files at boot, so that /opt/keys lets the holder of a key log in")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (CLOUD, "write_files: [{path: /etc/motd, content: hello}, {path: /etc/sysctl.d/x.conf, content: vm.swappiness = 1}]\n"),
        (CLOUD, "write_files: [{path: /etc/sudoers.d/x, content: 'ops ALL=(root) NOPASSWD: /usr/sbin/reboot'}]\n"),
        (CLOUD, "write_files: [{path: /root/.ssh/authorized_keys, content: '# none'}, {path: /etc/ssh/sshd_config.d/a.conf, content: PermitRootLogin no}]\n"),
        (CLOUD, "write_files: [{path: /opt/x, source: {uri: 'https://site/x'}}, {content: x}, {path: /etc/shadow}, text]\n"),
        (CLOUD, "write_files: hello\n"),
        (CLOUD, "system_info: {default_user: {name: debian, sudo: ['ALL=(ALL) NOPASSWD:ALL']}}\nusers: [{name: debian, sudo: 'ALL=(ALL) NOPASSWD:ALL'}]\n"),
        (CLOUD, "users: [{name: ops, sudo: null}, {name: dev, sudo: false}, {name: adm, sudo: 'ALL=(ALL) ALL'}]\n"),
        (LINES, "d /run/site 755 root root -\nf /etc/motd 644 root root - hello\nL /etc/localtime - - - - /usr/share/zoneinfo/UTC\n"),
        (LINES, "f /etc/shadow 640 root shadow - root::1::::::\n"),
        (LINES, "z /etc/shadow 640 root shadow -\nr /root/.ssh/authorized_keys\n'\n"),
    ],
)
def test_what_a_boot_may_write(path: str, text: str, image: FakeImage) -> None:
    image.write(path, text)
    assert findings(image) == []
