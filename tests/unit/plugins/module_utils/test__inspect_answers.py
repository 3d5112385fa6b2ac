# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What programs of an image are asked, and what their answers decide."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing as t

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Subject, run_groups
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_image import GROUPS
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils.inspect_fake_image import FakeImage, clean_image

if t.TYPE_CHECKING:
    from pathlib import Path

PROGRAMS = ("/usr/bin/cvtsudoers", "/usr/sbin/visudo", "/usr/sbin/sshd", "/usr/bin/cloud-init", "/usr/bin/unmkinitramfs")
RULE = "ops ALL=(ALL) NOPASSWD: ALL\n"


class Programs:
    """Answers questions as programs would, and remembers them."""

    def __init__(self, **answers: str) -> None:
        self.answers, self.asked = answers, dict[str, str]()

    def __call__(self, questions: t.Mapping[str, str]) -> dict[str, str]:
        self.asked.update(questions)
        return {name: text for name, text in self.answers.items() if name in questions}


@pytest.fixture
def image(tmp_path: Path) -> FakeImage:
    image = clean_image(tmp_path / "image")
    for program in PROGRAMS:
        if not image.path(program).exists():
            image.write(program, "x", 0o755)
    return image


def found(image: FakeImage, programs: Programs) -> list[tuple[str, str]]:
    plain = image.subject()
    subject = Subject(plain.tree, plain.volumes, plain.root, plain.expectations, plain.mount_points, programs)
    return [(finding.rule, finding.path) for finding in run_groups(GROUPS, subject)[0]]


def test_an_image_as_its_packages_made_it_is_not_asked(image: FakeImage) -> None:
    image.write("/etc/cloud/cloud.cfg.d/01_debian_cloud.cfg", "apt: {generate_mirrorlists: true}\nmanage_etc_hosts: true\n")
    image.write("/etc/ssh/sshd_config.d/10-base.conf", "PasswordAuthentication no\n")
    programs = Programs(sudo=RULE)
    assert found(image, programs) == []
    assert programs.asked == {}


def test_sudo_clears_what_only_looks_like_a_rule_and_names_what_was_overlooked(image: FakeImage) -> None:
    image.write("/etc/sudoers.d/site", RULE, 0o440)
    assert found(image, Programs(sudo="Defaults env_reset\nops ALL = (ALL) ALL\n")) == []
    assert found(image, Programs(sudo=RULE)) == [("secret.sudo", "/etc/sudoers.d/site")]
    assert found(image, Programs()) == [("secret.sudo", "/etc/sudoers.d/site")]
    image.write("/etc/sudoers.d/site", "# odd\n", 0o440)
    assert found(image, Programs(sudo=RULE)) == [("secret.sudo", "/etc/sudoers")]


def test_the_server_names_further_files_with_keys(image: FakeImage) -> None:
    image.write("/etc/ssh/sshd_config.d/site.conf", "Match Group ops\n")
    image.write("/opt/keys/root", "ssh-ed25519 AAAA\n")
    programs = Programs(sshd="port 22\nauthorizedkeysfile .ssh/authorized_keys /opt/keys/%u\ntrustedusercakeys none\nhostbasedauthentication no\n")
    assert found(image, programs) == [("secret.authorized_key", "/opt/keys/root")]
    assert "for user in root" in programs.asked["sshd"]


def test_what_cloud_init_merges_is_looked_at(image: FakeImage) -> None:
    image.write("/etc/cloud/cloud.cfg.d/99-site.cfg", "ssh_pwauth: true # for users\n")
    assert found(image, Programs(cloud=json.dumps({"chpasswd": {"list": "root:x"}}))) == [("secret.cloud_config", "/etc/cloud/cloud.cfg")]
    assert found(image, Programs(cloud="Traceback")) == []


VISUDO = """/etc/sudoers.d/site:2:14: syntax error
ops ALL=(ALL NOPASSWD: ALL
             ^~~~~~~~~
Warning: /etc/sudoers.d/site:1:12: unused User_Alias "A"
/etc/sudoers.d/site: bad permissions, should be mode 0440
/etc/sudoers.d/other: wrong owner (uid, gid) should be (0, 0)
visudo: /etc/nofile: No such file or directory
/etc/sudoers: parsed OK
"""


def test_what_visudo_finds_wrong_is_an_error(image: FakeImage) -> None:
    image.write("/etc/sudoers.d/site", "User_Alias A = x\nops ALL=(ALL NOPASSWD: ALL\n", 0o440)
    plain = image.subject()
    findings = run_groups(GROUPS, dataclasses.replace(plain, asking=Programs(sudo_faults=VISUDO)))[0]
    assert [(finding.rule, finding.path, finding.message) for finding in findings] == [
        ("sudo.syntax", "/etc/sudoers.d/site", "has an error for which sudo passes over line 2: syntax error."),
        ("sudo.syntax", "/etc/sudoers.d/other", "is not as sudo needs it: wrong owner (uid, gid) should be (0, 0)."),
        ("sudo.syntax", "/etc/sudoers", "is not as sudo needs it: includes /etc/nofile (No such file or directory)."),
    ]


def test_a_changed_sudoers_is_checked(image: FakeImage) -> None:
    image.replace("/var/lib/dpkg/status", "Conffiles:\n", f"Conffiles:\n /etc/sudoers {hashlib.md5(b'x', usedforsecurity=False).hexdigest()}\n")
    programs = Programs()
    found(image, programs)
    assert programs.asked == {"sudo_faults": "visudo -c 2>&1 || true"}
    image.replace("/var/lib/dpkg/status", hashlib.md5(b"x", usedforsecurity=False).hexdigest(), _digest(image.path("/etc/sudoers").read_bytes()))
    programs = Programs()
    found(image, programs)
    assert programs.asked == {}


def _digest(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_what_breaks_the_schema_of_cloud_init_is_a_warning(image: FakeImage) -> None:
    path = "/etc/cloud/cloud.cfg.d/99-site.cfg"
    image.write(path, "datasource_list: [NoCloud, ConfigDrive, OpenStack, Ec2, Azure, GCE, VMware]\nruncmd: hello\n")
    plain = image.subject()
    programs = Programs(schema=json.dumps([[path, "runcmd", "'hello' is not of type 'array'"]]))
    (finding,) = run_groups(GROUPS, dataclasses.replace(plain, asking=programs))[0]
    assert (finding.rule, finding.path, finding.message) == ("cloud.schema", path, "breaks the schema of cloud-init: runcmd: 'hello' is not of type 'array'.")
    assert programs.asked["schema"].endswith(f" {path}")


def test_secrets_in_the_initial_ram_disk(image: FakeImage) -> None:
    programs = Programs(ramdisk="/boot/initrd.img-6 cryptroot/keyfiles/c.key\n")
    assert found(image, programs) == []
    image.write("/etc/initramfs-tools/hooks/site", "#!/bin/sh\ncp /etc/key $DESTDIR\n", 0o755)
    # The disk of the fake image may be older than the hook.
    assert ("secret.ramdisk", "/boot/initrd.img-6") in found(image, programs)
    assert "secret.ramdisk" not in {rule for rule, _path in found(image, Programs(ramdisk="\n"))}
