# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of who sudo lets become root without a password."""

from __future__ import annotations

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._sudoers import Sudoers

INCLUDING = "Defaults env_reset\nroot ALL=(ALL:ALL) ALL\n%sudo ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n"


def grants(files: dict[str, str]) -> list[tuple[str, str]]:
    def names(folder: str) -> list[str]:
        return [path.rpartition("/")[2] for path in files if path.rpartition("/")[0] == folder]

    return [(grant.path, grant.who) for grant in Sudoers(lambda path: files.get(path, ""), names).grants()]


def of(text: str) -> list[str]:
    return [who for _path, who in grants({"/etc/sudoers": text})]


@pytest.mark.parametrize(
    "text",
    [
        "ops ALL=(ALL) NOPASSWD: ALL",
        "ops ALL=(ALL) NOPASSWD:SETENV: ALL",
        "ops ALL=(ALL) SETENV: NOPASSWD: LOG_OUTPUT: ALL",
        "ops ALL = NOPASSWD : ALL",
        "ops ALL=(root) NOPASSWD: /bin/ls, ALL",
        "ops ALL=(ALL) NOPASSWD: ALL, !/bin/su",
        "ops ALL=(ALL) \\\n  NOPASSWD: \\\n  ALL",
        "ops host1=(ALL) ALL : host2=(ALL) NOPASSWD: ALL",
        "ops ALL=(root:root) NOPASSWD: ALL # the site",
        "ops ALL=(#0) NOPASSWD: ALL",
        "ops ALL=(www-data, root) NOPASSWD: ALL",
        "ops ALL=(ALL) CWD=/srv NOPASSWD: ALL",
        "ops ALL=(ALL) NOPASSWD: sha224:0GomF8mNN3wlDt1HD9XldjJ3SNgpFdbjO1+NsQ== /bin/bash",
        "ops ALL=(ALL) NOPASSWD: /bin/bash",
        "ops ALL=(ALL) NOPASSWD: /usr/bin/su -",
        "ops ALL=(ALL) NOPASSWD: /usr/bin/",
        "ops ALL=(ALL) NOPASSWD: /usr/bin/*",
        "ops ALL=(ALL) NOPASSWD: /usr/bin/find",
        "ops ALL=(ALL) NOPASSWD: /usr/bin/systemctl",
        "ops ALL=(ALL) NOPASSWD: /usr/bin/docker, /usr/bin/uptime",
        "ops ALL=(ALL) NOPASSWD: /usr/bin/less /var/log/syslog",
        "ops ALL=(ALL) NOPASSWD: NOEXEC: /usr/bin/vim",
        "Cmnd_Alias ANY = ALL\nops ALL=(ALL) NOPASSWD: ANY",
        "Cmnd_Alias A = B : B = /bin/sh\nops ALL=NOPASSWD: A",
        "Runas_Alias ADMIN = root, daemon\nops ALL=(ADMIN) NOPASSWD: ALL",
        "Defaults !authenticate\nops ALL=(ALL) ALL",
        "Defaults:ops !authenticate\nops ALL=(ALL) ALL",
        "Defaults:OPS env_reset, !authenticate\nUser_Alias OPS = ops\nops ALL=(ALL) ALL",
        "Defaults>root !authenticate\nops ALL=(ALL) ALL",
        "Defaults@ALL !authenticate\nops ALL=(ALL) ALL",
    ],
)
def test_rules_that_need_no_password(text: str) -> None:
    assert of(text + "\n") == ["ops"]


@pytest.mark.parametrize(
    ("text", "who"),
    [
        ("User_Alias OPS = alice, %wheel : DEV = bob\nOPS, DEV ALL=(ALL) NOPASSWD: ALL", "OPS, DEV"),
        ("%wheel ALL=(ALL) NOPASSWD: ALL", "%wheel"),
        ("%site\\ admins ALL=(ALL) NOPASSWD: ALL", "%site\\ admins"),
        ('"%site admins" ALL=(ALL) NOPASSWD: ALL', '"%site admins"'),
        ("+netgroup ALL=(ALL) NOPASSWD: ALL", "+netgroup"),
        ("#1000 ALL=(ALL) NOPASSWD: ALL", "#1000"),
        ("ALL ALL=(ALL) NOPASSWD: ALL", "ALL"),
        ("root, ops ALL=(ALL) NOPASSWD: ALL", "ops"),
        ("Defaults exempt_group=wheel", "the group wheel"),
    ],
)
def test_who_is_named(text: str, who: str) -> None:
    assert of(text + "\n") == [who]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# ops ALL=(ALL) NOPASSWD: ALL",
        "root ALL=(ALL:ALL) NOPASSWD: ALL",
        "ops ALL=(ALL) ALL",
        "ops ALL=(ALL) PASSWD: ALL",
        "ops ALL=(ALL) NOPASSWD: /usr/sbin/reboot, PASSWD: ALL",
        "ops ALL=(www-data) NOPASSWD: ALL",
        "ops ALL=(ALL, !root) NOPASSWD: ALL",
        "ops ALL=(:docker) NOPASSWD: ALL",
        "ops ALL=() NOPASSWD: ALL",
        "ops ALL=(root) NOPASSWD: /usr/lib/nagios/plugins/check_disk -w 5",
        "ops ALL=(root) NOPASSWD: /usr/bin/systemctl restart nginx.service",
        "ops ALL=(root) NOPASSWD: sudoedit /etc/motd",
        "ops ALL=(root) NOPASSWD: NOEXEC: /usr/bin/less /var/log/syslog",
        "ops ALL=(root) NOPASSWD: /usr/bin/tee /etc/motd, /usr/bin/apt-get update, list",
        "Defaults:bob !authenticate\nops ALL=(ALL) ALL",
        "Defaults !lecture, !authenticate\nDefaults authenticate\nops ALL=(ALL) ALL",
        "Defaults runas_default=www-data\nops ALL=NOPASSWD: ALL",
        'Defaults env_keep += "NOPASSWD: ALL"',
    ],
)
def test_rules_that_give_nothing_away(text: str) -> None:
    assert of(text + "\n") == []


def test_included_files_and_names_that_sudo_passes_over() -> None:
    rule = "ops ALL=(ALL) NOPASSWD:SETENV: ALL\n"
    files = {
        "/etc/sudoers": INCLUDING + "#include /opt/site/rules\n@include local\n",
        "/etc/sudoers.d/10-setenv": rule,
        "/etc/sudoers.d/20-site.conf": rule,
        "/etc/sudoers.d/30-plain~": rule,
        "/opt/site/rules": "#includedir /opt/site/more\n",
        "/opt/site/more/a": rule,
        "/etc/local": rule,
    }
    assert [path for path, _who in grants(files)] == ["/etc/sudoers.d/10-setenv", "/opt/site/more/a", "/etc/local"]


def test_a_file_that_includes_itself_is_read_once() -> None:
    assert grants({"/etc/sudoers": "@include /etc/sudoers\nops ALL=NOPASSWD: ALL\n"}) == [("/etc/sudoers", "ops")]


def test_an_alias_may_come_from_another_file() -> None:
    files = {"/etc/sudoers": INCLUDING, "/etc/sudoers.d/a": "ops ALL = NOPASSWD: SHELLS\n", "/etc/sudoers.d/b": "Cmnd_Alias SHELLS = /bin/zsh, /bin/ksh\n"}
    assert grants(files) == [("/etc/sudoers.d/a", "ops")]
