# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of where sshd looks for keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Subject
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree, User
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_ways_in import check_ways_in
from ansible_collections.hyperscaler.images.plugins.module_utils._sshd_config import DEFAULT_KEY_FILES, places_of, read_sshd_config

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIexample ops@site\n"
PASSWD = "root:x:0:0:root:/root:/bin/bash\npostgres:x:105:110::/var/lib/postgresql:/bin/bash\nops:x:2222:2222::/srv/people/ops:/bin/bash\n"


def tree(root: Path, files: dict[str, str]) -> Tree:
    for name, text in {"etc/passwd": PASSWD, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return Tree(root)


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("", DEFAULT_KEY_FILES),
        ("#AuthorizedKeysFile /etc/keys/%u\n", DEFAULT_KEY_FILES),
        ("AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/authorized_keys.d/%u\n", (".ssh/authorized_keys", "/etc/ssh/authorized_keys.d/%u")),
        ('authorizedkeysfile = "/etc/keys of site/%u" # here\n', ("/etc/keys of site/%u",)),
        ("AuthorizedKeysFile /first\nAuthorizedKeysFile /second\n", ("/first",)),
        ("AuthorizedKeysFile none\nMatch Group ops\n  AuthorizedKeysFile /etc/ops\n", ("/etc/ops",)),
        ("Match User a\n  AuthorizedKeysFile /etc/a\nMatch all\nAuthorizedKeysFile /etc/rest\n", ("/etc/a", "/etc/rest")),
        ("Match User a\n  AuthorizedKeysFile /etc/a\n", (*DEFAULT_KEY_FILES, "/etc/a")),
        ("Include sshd_config.d/*.conf\nAuthorizedKeysFile /last\n", ("/drop-in",)),
    ],
)
def test_key_files(text: str, files: tuple[str, ...], tmp_path: Path) -> None:
    image = tree(tmp_path, {"etc/ssh/sshd_config": text, "etc/ssh/sshd_config.d/50-site.conf": "AuthorizedKeysFile /drop-in\nMatch User x\n"})
    assert set(read_sshd_config(image).key_files) == set(files)


def test_tokens() -> None:
    ops = User("ops", "x", 2222, "/srv/people/ops", "/bin/bash")
    patterns = (".ssh/authorized_keys", "%h/keys", "/etc/keys/%u.pub", "/etc/keys/%U", "/etc/50%%")
    assert [places_of(pattern, ops) for pattern in patterns] == [
        *("/srv/people/ops/.ssh/authorized_keys", "/srv/people/ops/keys", "/etc/keys/ops.pub", "/etc/keys/2222", "/etc/50%"),
    ]


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ("AuthorizedKeysFile /etc/ssh/authorized_keys.d/%u\n", "etc/ssh/authorized_keys.d/root"),
        ("AuthorizedKeysFile /opt/keys/%u/authorized\n", "opt/keys/ldapuser/authorized"),
        ("AuthorizedKeysFile /opt/keys\n", "opt/keys"),
        ("Match Address 10.0.0.0/8\n  AuthorizedKeysFile %h/.keys\n", "srv/people/ops/.keys"),
        ("", "var/lib/postgresql/.ssh/authorized_keys"),
        ("", "srv/people/ops/.ssh/authorized_keys2"),
        ("", "home/somebody/.ssh/authorized_keys"),
        ("", "etc/dropbear/initramfs/authorized_keys"),
    ],
)
def test_a_key_is_found_where_the_server_reads_it(config: str, path: str, tmp_path: Path) -> None:
    image = tree(tmp_path, {"etc/ssh/sshd_config": config, path: KEY})
    found = {finding.path for finding in check_ways_in(Subject(image)) if finding.rule == "secret.authorized_key"}
    assert found == {f"/{path}"}


def test_a_link_to_keys_is_followed_inside_the_image(tmp_path: Path) -> None:
    image = tree(tmp_path, {"opt/keys": KEY, "root/.ssh/x": ""})
    (tmp_path / "root/.ssh/authorized_keys").symlink_to("/opt/keys")
    assert [finding.path for finding in check_ways_in(Subject(image))] == ["/root/.ssh/authorized_keys"]


@pytest.mark.parametrize(
    ("unit", "text", "who"),
    [
        ("getty@tty1.service.d/a.conf", "[Service]\nExecStart=\nExecStart=-/sbin/agetty -a root - $TERM\n", "root"),
        ("serial-getty@ttyS0.service.d/a.conf", "[Service]\nExecStart=-/sbin/agetty --autologin=ops --keep-baud 115200 - $TERM\n", "ops"),
        ("serial-getty@.service", "[Service]\nExecStart=-/sbin/agetty -o '-p -f -- \\\\u' --noclear --autologin ops %I $TERM\n", "ops"),
        ("getty@.service", "[Service]\nExecStart=-/sbin/agetty -o '-p -f \\\\u' %I\n", "whoever is named"),
        ("console-getty.service.d/a.conf", "[Service]\nExecStart=-/sbin/agetty -n -l /bin/bash console\n", "root"),
        ("getty@tty9.service", "[Service]\nExecStart=/bin/bash\n", "root"),
        ("getty@tty1.service.d/a.conf", "[Service]\nExecStart=\nExecStart=-/bin/login -f root\n", "root"),
        ("container-getty@.service.d/a.conf", "[Service]\nExecStart=-/usr/bin/login -p -f ops\n", "ops"),
        ("console-getty.service.d/a.conf", "[Service]\nExecStart=/bin/su - kiosk\n", "kiosk"),
        ("kmsconvt@.service", "[Service]\nExecStart=/usr/bin/kmscon --vt=%I --login -- /bin/login -f root\n", "root"),
        ("serial-getty@ttyS0.service.d/a.conf", "[Service]\nExecStart=-/sbin/agetty -n -l /usr/local/sbin/enter ttyS0\n", "root"),
        ("autologin-getty.service", "[Service]\nExecStart=/sbin/agetty \\\n  --autologin root tty1\n", "root"),
    ],
)
def test_consoles_that_log_somebody_in(unit: str, text: str, who: str, tmp_path: Path) -> None:
    image = tree(tmp_path, {f"etc/systemd/system/{unit}": text, "usr/local/sbin/enter": "#!/bin/sh\nexec /bin/login -p -f root\n"})
    found = [finding for finding in check_ways_in(Subject(image)) if finding.rule == "secret.console"]
    assert [(finding.path, finding.message) for finding in found] == [(f"/etc/systemd/system/{unit}", f"logs {who} in at the console without a password.")]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "etc/systemd/system/getty@tty1.service.d/a.conf",
            "[Service]\n# ExecStart=-/sbin/agetty --autologin root\nExecStart=-/sbin/agetty -o '-- \\\\u' - $TERM\n",
        ),
        ("etc/gdm3/daemon.conf", "[daemon]\n# AutomaticLoginEnable = true\nAutomaticLogin = user1\n"),
        ("etc/doas.conf", "permit persist :wheel\npermit nopass www as backup cmd rsync\n"),
        ("etc/systemd/system/rescue.service.d/a.conf", "[Service]\nEnvironment=SYSTEMD_SULOGIN_FORCE=0\n"),
        ("etc/systemd/system/job.service", "[Service]\nExecStart=/bin/sh -c 'exec /usr/local/bin/job'\nStandardInput=tty\n"),
        ("etc/systemd/system/script.service", "[Service]\nExecStart=/bin/bash\n"),
        ("etc/systemd/system/console-getty.service.d/a.conf", "[Service]\nExecStart=-/bin/login -p\n"),
        ("etc/systemd/system/getty@tty1.service.d/b.conf", "[Service]\nExecStart=-/sbin/agetty -l /usr/bin/login -o '-p -- \\\\u' %I\n"),
        ("etc/systemd/system/console-getty.service.d/b.conf", "[Service]\nExecStart=/usr/sbin/runuser -u kiosk -c /usr/bin/clock\n"),
        ("etc/systemd/system/job2.service", "[Service]\nExecStart=/usr/sbin/runuser -u www -- /usr/bin/job\nStandardInput=tty\n"),
        ("etc/greetd/config.toml", '[default_session]\ncommand = "agreety"\nuser = "greeter"\n'),
        ("etc/credstore/mypassword", "x"),
        ("etc/credstore/passwd.shell.root", "/bin/bash"),
        ("etc/userdb/ops.user", '{"userName": "ops", "privileged": {"hashedPassword": ["$y$x"]}}'),
        ("etc/polkit-1/rules.d/a.rules", "polkit.addRule(function(a, s) { if (a.id == 'org.freedesktop.login1.reboot') { return polkit.Result.YES; } });\n"),
        (
            "etc/polkit-1/rules.d/b.rules",
            "polkit.addRule(function(a, s) {\n  if (a.id == 'org.freedesktop.systemd1.manage-units' && a.lookup('unit') == 'x')\n    return 'yes';\n});\n",
        ),
        (
            "etc/polkit-1/rules.d/d.rules",
            "polkit.addRule(function(a, s) { if (a.id.indexOf('org.freedesktop.NetworkManager.') == 0) { return polkit.Result.YES; } });\n",
        ),
        ("etc/polkit-1/rules.d/c.rules", "// return polkit.Result.YES\npolkit.addAdminRule(function(a, s) { return ['unix-group:sudo']; });\n"),
        ("etc/pam.d/su", "auth sufficient pam_rootok.so\nauth required pam_unix.so\n"),
        ("etc/pam.d/sudo", "auth [success=1 default=ignore] pam_unix.so nullok\nauth requisite pam_deny.so\nauth required pam_permit.so\n"),
        ("etc/gshadow.lock", "wheel:x\n"),
    ],
)
def test_consoles_that_ask(path: str, text: str, tmp_path: Path) -> None:
    assert list(check_ways_in(Subject(tree(tmp_path, {path: text})))) == []


@pytest.mark.parametrize(
    ("path", "text", "rule"),
    [
        ("etc/gdm3/daemon.conf", "[daemon]\nAutomaticLoginEnable = true\nAutomaticLogin = user1\n", "secret.console"),
        ("etc/lightdm/lightdm.conf.d/a.conf", "[Seat:*]\nautologin-user=user1\n", "secret.console"),
        ("etc/sddm.conf.d/a.conf", "[Autologin]\nUser=user1\n", "secret.console"),
        ("etc/credstore/agetty.autologin", "root\n", "secret.credential"),
        ("etc/credstore/tty.serial.ttyS0.login.noauth", "yes\n", "secret.credential"),
        ("etc/credstore/passwd.hashed-password.root", "$y$x", "secret.credential"),
        ("usr/lib/credstore/ssh.authorized_keys.root", KEY, "secret.credential"),
        ("etc/credstore.encrypted/passwd.plaintext-password.root", "Whxq", "secret.credential"),
        ("etc/greetd/config.toml", '[default_session]\nuser = "greeter"\n[initial_session]\nuser = "kiosk"\n', "secret.console"),
        ("etc/lxdm/lxdm.conf", "[base]\nautologin=kiosk\n", "secret.console"),
        ("etc/systemd/system/getty.target.wants/debug-shell.service", "[Service]\n", "secret.console"),
        ("etc/systemd/system/emergency.service.d/b.conf", "[Service]\nExecStart=\nExecStart=-/bin/bash\n", "secret.console"),
        ("etc/systemd/system/rescue.service.d/b.conf", "[Service]\nExecStart=\nExecStart=-/usr/sbin/sulogin --force\n", "secret.console"),
        ("etc/systemd/system.conf.d/b.conf", "[Manager]\nDefaultEnvironment=SYSTEMD_SULOGIN_FORCE=1\n", "secret.console"),
        ("etc/systemd/system/shell.service", "[Service]\nStandardInput=tty\nTTYPath=/dev/tty5\nExecStart=/bin/bash -l\n", "secret.console"),
        ("etc/systemd/system/shell.service", "[Service]\nStandardInput=tty\nTTYPath=/dev/tty9\nExecStart=/sbin/runuser -l root\n", "secret.console"),
        ("etc/systemd/system/shell.service", "[Service]\nStandardInput=tty-force\nExecStart=/bin/su - root\n", "secret.console"),
        ("etc/systemd/system/shell.service", "[Service]\nStandardInput=socket\nExecStart=-/bin/login -f root\n", "secret.console"),
        ("etc/systemd/system/shell@.service", "[Service]\nStandardInput=socket\nExecStart=-/bin/sh -i\n", "secret.console"),
        ("etc/systemd/system/emergency.service.d/a.conf", '[Service]\nEnvironment="SYSTEMD_SULOGIN_FORCE=1"\n', "secret.console"),
        ("etc/systemd/system/sysinit.target.wants/debug-shell.service", "[Service]\n", "secret.console"),
        ("etc/doas.conf", "permit nopass keepenv :wheel\n", "secret.sudo"),
        ("etc/pam.d/sshd", "auth sufficient pam_permit.so\n@include common-auth\n", "secret.pam"),
        ("etc/pam.d/sudo", "auth [success=done default=ignore] pam_succeed_if.so user ingroup ops\n", "secret.pam"),
        ("etc/pam.d/sshd", "auth sufficient pam_rootok.so\n@include common-auth\n", "secret.pam"),
        ("etc/polkit-1/rules.d/10-all.rules", "polkit.addRule(function(action, subject) {\n  return polkit.Result.YES;\n});\n", "secret.sudo"),
        ("etc/polkit-1/rules.d/10-ops.rules", "polkit.addRule(function(a, s) { if (s.isInGroup('ops')) { return 'yes'; } });\n", "secret.sudo"),
        ("etc/polkit-1/rules.d/10-a.rules", "polkit.addRule(function(a, s) { if (a.id.indexOf('org.freedesktop.') == 0) return 'yes'; });\n", "secret.sudo"),
        (
            "etc/polkit-1/rules.d/10-run.rules",
            "polkit.addRule(function(action, s) {\n  if (action.id == 'org.freedesktop.systemd1.manage-units') return polkit.Result.YES;\n});\n",
            "secret.sudo",
        ),
        ("etc/shadow.bak", "root:$y$j9T$abc$def:20000::::::\n", "secret.password"),
        ("etc/security/opasswd", "root:0:1:$6$abc$def\n", "secret.password"),
        ("etc/group", "wheel:$6$abc$def:998:\n", "secret.password"),
        ("var/lib/systemd/home/ops.identity", '{"userName": "ops", "privileged": {"hashedPassword": ["$y$x"]}}', "secret.password"),
    ],
)
def test_other_ways_in(path: str, text: str, rule: str, tmp_path: Path) -> None:
    found = list(check_ways_in(Subject(tree(tmp_path, {path: text}))))
    assert [(finding.rule, finding.path) for finding in found] == [(rule, f"/{path}")]


@pytest.mark.parametrize(
    ("files", "path"),
    [
        ({"etc/ssh/sshd_config": "AuthorizedKeysCommand /bin/cat /etc/site-keys\n", "etc/site-keys": KEY}, "/etc/site-keys"),
        ({"etc/ssh/sshd_config": "Match User ops\n AuthorizedKeysCommand /opt/keys %u\n", "opt/keys": f"#!/bin/sh\necho '{KEY}'\n"}, "/opt/keys"),
        ({"etc/default/ssh": 'SSHD_OPTS="-o AuthorizedKeysFile=/etc/k"\n', "etc/k": KEY}, "/etc/k"),
        ({"etc/default/ssh": "SSHD_OPTS=-f/etc/other\n", "etc/other": "AuthorizedKeysFile /etc/k\n", "etc/k": KEY}, "/etc/k"),
        (
            {"etc/systemd/system/ssh.service.d/a.conf": "[Service]\nExecStart=\nExecStart=/usr/sbin/sshd -D -oAuthorizedKeysFile=/etc/k\n", "etc/k": KEY},
            "/etc/k",
        ),
    ],
)
def test_keys_that_the_server_is_told_of_in_other_ways(files: dict[str, str], path: str, tmp_path: Path) -> None:
    found = [finding for finding in check_ways_in(Subject(tree(tmp_path, files))) if finding.rule != "secret.build_user"]
    assert [(finding.rule, finding.path) for finding in found] == [("secret.authorized_key", path)]


def test_a_command_that_asks_a_service_for_keys_is_none(tmp_path: Path) -> None:
    files = {"etc/ssh/sshd_config": "AuthorizedKeysCommand /usr/bin/sss_ssh_authorizedkeys\n", "usr/bin/sss_ssh_authorizedkeys": "program"}
    assert list(check_ways_in(Subject(tree(tmp_path, files)))) == []


def test_user_records_count_where_names_are_looked_up_in_them(tmp_path: Path) -> None:
    files = {
        "etc/nsswitch.conf": "passwd: files systemd\n",
        "etc/userdb/ops.user": '{"userName": "ops", "uid": 4000}',
        "etc/userdb/ops.user-privileged": '{"privileged": {"hashedPassword": ["$y$x"]}}',
        "usr/lib/userdb/dev.user": '{"userName": "dev", "privileged": {"sshAuthorizedKeys": ["ssh-ed25519 AAAA"]}}',
        "etc/userdb/broken.user": "{",
    }
    found = list(check_ways_in(Subject(tree(tmp_path, files))))
    assert [(finding.path, finding.message) for finding in found] == [
        ("/etc/userdb/ops.user-privileged", "has a password or key of ops."),
        ("/usr/lib/userdb/dev.user", "has a password or key of dev."),
    ]


@pytest.mark.parametrize(
    ("word", "rule"),
    [
        ("systemd.set_credential=passwd.hashed-password.root:$y$x", "secret.credential"),
        ("systemd.set_credential_binary=systemd.extra-unit.x.service:QQ==", "secret.credential"),
        ("systemd.set-credential=tmpfiles.extra:x", "secret.credential"),
        ("init=/usr/bin/bash", "secret.console"),
        ("systemd.wants=debug-shell.service", "secret.console"),
        ("break=premount", "secret.console"),
        ("systemd.set_credential=network.dns:192.0.2.1", ""),
        ("systemd.unit=rescue.target", ""),
        ("init=/lib/systemd/systemd", ""),
    ],
)
def test_the_command_line_of_the_kernel(word: str, rule: str, tmp_path: Path) -> None:
    image = tree(tmp_path, {"boot/loader/entries/a.conf": f"options root=LABEL=x {word}\n"})
    assert [finding.rule for finding in check_ways_in(Subject(image))] == ([rule] if rule else [])


def test_an_empty_password_names_the_file_that_accepts_it(tmp_path: Path) -> None:
    image = tree(tmp_path, {"etc/shadow": "root::20000::::::\n", "etc/pam.d/common-auth": "auth [success=1 default=ignore] pam_unix.so nullok\n"})
    (found,) = check_ways_in(Subject(image))
    assert found.message == "gives the user root an empty password, which is accepted (nullok in /etc/pam.d/common-auth)."
