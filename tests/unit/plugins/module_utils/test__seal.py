# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the sealing of root file systems, on small trees."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _seal
from ansible_collections.hyperscaler.images.plugins.module_utils._seal import (
    Planner,
    SealError,
    Wishes,
    apply_seal,
    expand,
    homes_of,
    mount_points,
    plan_seal,
    refuse_running,
    resolve,
    settings_told,
    without_accounts,
    without_members,
    without_text,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._seal_rules import APT_PROXY, ENVIRONMENT_PROXY, RULES, Action, Category

PASSWD = (
    "root:x:0:0:root:/root:/bin/bash\n"
    "packer:x:1000:1000::/home/packer:/bin/bash\n"
    "alice:x:1001:1001::/home/alice:/bin/bash\n"
    "svc:x:990:990::/var/lib/svc:/usr/sbin/nologin\n"
)
GROUP = "root:x:0:\nsudo:x:27:packer,alice\npacker:x:1000:\nalice:x:1001:packer\n"


def write(root: Path, name: str, text: str = "x") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "etc/machine-id", "")
    write(tmp_path, "etc/passwd", PASSWD)
    write(tmp_path, CERTIFICATE_UNIT, "[Unit]\n")
    return tmp_path


def paths(root: Path, **wishes: t.Any) -> list[str]:
    return [effect.path for effect in plan_seal(root, Wishes(**wishes)).effects]


def seal(root: Path, **wishes: t.Any) -> None:
    apply_seal(root, plan_seal(root, Wishes(**wishes)))


CERTIFICATE_UNIT = "etc/systemd/system/basic.target.wants/hyperscaler-certificate.service"
REMOVED = [
    "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_rsa_key.pub",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "boot/efi/loader/random-seed",
    "var/lib/systemd/credential.secret",
    "etc/ssl/private/ssl-cert-snakeoil.key",
    "etc/nvme/hostid",
    "etc/multipath/bindings",
    "etc/multipath/wwids",
    "etc/lvm/cache/.cache",
    "etc/systemd/network/70-persistent-net.link",
    "etc/udev/rules.d/70-persistent-net.rules",
    "etc/docker/key.json",
    "etc/krb5.keytab",
    "etc/munge/munge.key",
    "var/lib/munge/munge.seed",
    "etc/slurm/slurm.key",
    "etc/slurm/jwt_hs256.key",
    "var/lib/slurm/slurmctld/jwt_hs256.key",
    "var/spool/slurmctld/jwt.key",
    "etc/beegfs/conn.auth",
    "etc/beegfs/key.pem",
    "etc/wireguard/wg0.conf",
    "var/lib/tailscale/tailscaled.state",
    "etc/rancher/node",
    "etc/rancher/k3s/k3s.yaml",
    "var/lib/rancher/k3s/server",
    "var/lib/rancher/k3s/agent/client-kubelet.key",
    "etc/kubernetes/admin.conf",
    "etc/kubernetes/pki",
    "var/lib/kubelet/pki",
    "var/lib/dkms/mok.key",
    "var/lib/dkms/mok.pub",
    "var/lib/shim-signed/mok/MOK.priv",
    "etc/nvidia-mig-manager/config.yaml",
    "etc/apt/auth.conf.d/private.conf",
    "root/.netrc",
    "home/alice/.aws",
    "root/.ssh/authorized_keys",
    "home/alice/.ssh/authorized_keys",
    "etc/sudoers.d/90-cloud-init-users",
    "etc/shadow-",
    "var/lib/cloud/instances",
    "etc/netplan/50-cloud-init.yaml",
    "etc/ssh/sshd_config.d/50-cloud-init.conf",
    "var/lib/dhcp/dhclient.eth0.leases",
    "var/lib/NetworkManager/secret_key",
    "var/lib/systemd/timers/stamp-fstrim.timer",
    "var/lib/systemd/backlight/pci-0000:00:02.0:backlight:intel",
    "var/lib/docker/engine-id",
    "var/lib/docker/swarm/docker-state.json",
    "var/lib/docker/tmp/GetImageBlob1",
    "var/lib/containerd/io.containerd.grpc.v1.introspection/uuid",
    "var/lib/containerd/io.containerd.runtime.v2.task/k8s.io",
    "var/lib/containers/storage/storage.lock",
    "var/lib/cni/networks/podman/10.88.0.2",
    "var/lib/fwupd/pki/secret.key",
    "etc/lvm/devices/system.devices",
    "etc/lvm/devices/backup/system.devices-20261128.120000.0002",
    "etc/dhcpcd.duid",
    "var/lib/chrony/drift",
    "var/lib/ntpsec/ntp.drift",
    "var/lib/apt/daily_lock",
    "var/lib/unattended-upgrades/kept-back",
    "var/lib/logrotate/status",
    "var/spool/slurmctld/clustername",
    "var/lib/slurm/slurmctld/job_state",
    "var/lib/slurm/slurmd/cred_state",
    "var/lib/fail2ban/fail2ban.sqlite3",
    "var/spool/postfix/deferred/A",
    "var/spool/postfix/pid/master.pid",
    "var/lib/postfix/master.lock",
    "var/spool/exim4/input/1abc-D",
    "var/lib/sss/db/cache_example.ldb",
    "var/lib/plocate/plocate.db",
    "var/lib/svc/.ansible",
    "home/alice/.ansible_async",
    ".ansible",
    "var/log/journal/f3e6193ca319485f96d2d7a95d41ab55",
    "var/log/unattended-upgrades/unattended-upgrades-shutdown.log",
    "var/crash/vmcore",
    "var/lib/systemd/coredump/core.x",
    "tmp/left",
    "var/tmp/left",
    "var/backups/dpkg.status.0",
    "root/.bash_history",
    "home/alice/.python_history",
    "root/.ansible",
    "home/alice/.cache",
    "var/cache/apt/archives/a.deb",
    "var/cache/apt/pkgcache.bin",
    "var/lib/apt/lists/deb_Packages",
    "var/log/journal/0123",
    "var/log/dpkg.log",
    "var/log/apt/history.log",
    "var/log/cloud-init-output.log",
    "var/log/munge/munged.log.1",
    "var/log/syslog.2.gz",
]
FOLDERS = {"etc/rancher/node", "var/lib/rancher/k3s/server", "etc/kubernetes/pki", "var/lib/kubelet/pki", "home/alice/.aws", "var/lib/cloud/instances"}
FOLDERS |= {"root/.ansible", "home/alice/.cache", "var/log/journal/0123", "var/log/journal/f3e6193ca319485f96d2d7a95d41ab55"}
FOLDERS |= {"var/lib/containerd/io.containerd.runtime.v2.task/k8s.io", "var/spool/postfix/deferred/A"}
FOLDERS |= {"var/lib/svc/.ansible", "home/alice/.ansible_async", ".ansible"}


@pytest.mark.parametrize("name", REMOVED)
def test_removed(root: Path, name: str) -> None:
    write(root, f"{name}/file" if name in FOLDERS else name)
    assert "/" + name in paths(root)
    seal(root)
    assert not (root / name).exists()
    assert paths(root) == []


KEPT = [
    "etc/ssh/sshd_config",
    "etc/munge/README",
    "etc/slurm/slurm.conf",
    "etc/beegfs/beegfs-client.conf",
    "var/lib/rancher/k3s/agent/images/k3s-airgap-images-amd64.tar.zst",
    "var/lib/dkms/nvidia-current/550.163.01/source",
    "etc/kubernetes/manifests/x.yaml",
    "usr/share/doc/bash/copyright",
    "usr/share/zoneinfo/Europe/Berlin",
    "usr/lib/locale/C.utf8/LC_CTYPE",
    "etc/apt/apt.conf.d/70debconf",
    "var/lib/apt/extended_states",
    "var/lib/dpkg/status",
    "etc/hyperscaler-image.json",
    "etc/NetworkManager/system-connections/default-ethernet.nmconnection",
    "root/.bashrc",
    "root/.ansible.cfg",
    "var/lib/systemd/linger/app",
    "var/lib/docker/image/overlay2/repositories.json",
    "var/lib/docker/volumes/data/_data/file",
    "var/lib/docker/network/files/local-kv.db",
    "var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db",
    "var/lib/containers/storage/overlay-images/images.json",
    "var/spool/postfix/etc/services",
    "etc/lvm/lvm.conf",
    "etc/lvm/devices/README",
    "var/lib/postgresql/17/main/PG_VERSION",
]


@pytest.mark.parametrize("name", KEPT)
def test_kept(root: Path, name: str) -> None:
    write(root, name)
    assert paths(root) == []


def test_machine_id_is_emptied_or_made_and_never_uninitialized(root: Path) -> None:
    for text in ("uninitialized\n", "0" * 32 + "\n"):
        write(root, "etc/machine-id", text)
        assert paths(root) == ["/etc/machine-id"]
        seal(root)
        assert (root / "etc/machine-id").read_bytes() == b""
    (root / "etc/machine-id").unlink()
    seal(root)
    assert (root / "etc/machine-id").read_bytes() == b""
    assert (root / "etc/machine-id").stat().st_mode & 0o777 == 0o444


def test_logs_are_emptied_with_their_owner_and_mode(root: Path) -> None:
    log = write(root, "var/log/munge/munged.log", "secret")
    log.chmod(0o640)
    (root / "var/log/README").symlink_to("/usr/share/doc/systemd/README.logs")
    seal(root)
    assert log.read_bytes() == b""
    assert log.stat().st_mode & 0o777 == 0o640
    assert (root / "var/log/README").is_symlink()


def test_folders_of_packages_stay(root: Path) -> None:
    for name in ("var/cache/apt/archives/partial/x", "var/lib/apt/lists/partial/y", "var/log/apt/term.log", "tmp/dir/z"):
        write(root, name)
    seal(root)
    for name in ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial", "var/log/apt", "tmp"):
        assert list((root / name).iterdir()) == []
    assert not (root / "tmp/dir").exists()


def test_package_lists_look_old_afterwards(root: Path) -> None:
    write(root, "var/lib/apt/lists/deb_Packages")
    seal(root)
    assert (root / "var/lib/apt/lists").stat().st_mtime == 0


def test_categories(root: Path) -> None:
    for name in ("etc/munge/munge.key", "etc/ssh/ssh_host_rsa_key", "var/log/syslog", "root/.cache/x", "root/.bash_history", "root/.ssh/authorized_keys"):
        write(root, name)
    assert paths(root, categories=frozenset({Category.SECRETS})) == ["/etc/munge/munge.key"]
    assert paths(root, categories=frozenset({Category.LOGS})) == ["/var/log/syslog"]
    assert paths(root, categories=frozenset({Category.ACCESS})) == ["/root/.ssh/authorized_keys"]
    assert len(paths(root)) == 6


def test_keep_and_extra(root: Path) -> None:
    for name in ("var/lib/dkms/mok.key", "var/lib/dkms/mok.pub", "opt/site/a.token", "opt/site/b.txt"):
        write(root, name)
    assert paths(root, keep=("/var/lib/dkms/mok.*",), extra=("/opt/**/*.token",)) == ["/opt/site/a.token"]


def test_what_is_in_use_stays_with_the_folders_above_it(root: Path) -> None:
    write(root, "tmp/ansible_x/payload.zip")
    write(root, "tmp/other/file")
    assert paths(root, in_use=("tmp/ansible_x",)) == ["/tmp/other"]


def test_mount_points_are_left_alone_and_reported(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, "var/cache/apt/archives/shared.deb")
    write(root, "var/cache/apt/pkgcache.bin")
    write(root, "root/.cache/mounted/file")
    write(root, "root/.cache/own")
    mounts = {str(root / "var/cache/apt/archives"), str(root / "root/.cache/mounted")}
    monkeypatch.setattr(_seal, "mount_points", lambda _table: frozenset(mounts))
    plan = plan_seal(root, Wishes())
    assert [effect.path for effect in plan.effects] == ["/root/.cache/own", "/var/cache/apt/pkgcache.bin"]
    assert plan.mounted == ["/root/.cache/mounted", "/var/cache/apt/archives"]
    apply_seal(root, plan)
    assert (root / "var/cache/apt/archives/shared.deb").exists()
    assert (root / "root/.cache/mounted/file").exists()


def test_mount_points_of_a_real_table() -> None:
    table = (
        "21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "40 21 0:35 / /mnt/with\\040space rw,relatime - tmpfs tmpfs rw\n"
        "41 21 254:0 /var/cache /srv/image/var/cache/apt rw - ext4 /dev/vda rw\n"
    )
    assert mount_points(table) == {"/", "/mnt/with space", "/srv/image/var/cache/apt"}


def test_links_never_lead_out_of_the_root(tmp_path: Path) -> None:
    outside = write(tmp_path, "host/etc/ssh/ssh_host_rsa_key")
    root = tmp_path / "image"
    write(root, "etc/machine-id", "")
    write(root, "host/etc/ssh/kept")
    (root / "etc/ssh").symlink_to(tmp_path / "host/etc/ssh")
    (root / "home").symlink_to("../../..")
    seal(root, users=("packer",))
    assert outside.exists()


def test_links_inside_the_root_are_followed_as_the_image_reads_them(root: Path) -> None:
    write(root, "srv/home/bob/.bash_history")
    (root / "home").symlink_to("/srv/home")
    assert paths(root) == ["/srv/home/bob/.bash_history"]


def test_a_link_is_removed_and_not_its_target(root: Path) -> None:
    target = write(root, "srv/keys/munge.key")
    (root / "etc/munge").mkdir()
    (root / "etc/munge/munge.key").symlink_to("/srv/keys/munge.key")
    seal(root)
    assert target.exists()
    assert not (root / "etc/munge/munge.key").is_symlink()


def test_resolve_ends_on_circles_and_missing_parts(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    assert resolve(root, root / "a" / "x") is None
    assert resolve(root, root / "missing" / "x") is None
    (root / "up").symlink_to("../../../etc")
    assert resolve(root, root / "up" / "passwd") == root / "etc/passwd"


def test_expand_needs_no_folder(root: Path) -> None:
    assert expand(root, "no/such/*") == []
    assert expand(root, "etc/pass*") == [root / "etc/passwd"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('Acquire::http::Proxy "http://10.0.0.1:3142";\n', ""),
        ('Acquire::http::Proxy::archive.distribution.org "DIRECT";\nAPT::Foo "1";\n', 'APT::Foo "1";\n'),
        ('acquire::HTTPS::proxy "x";\n', ""),
        ('Acquire::http::Proxy-Auto-Detect "/usr/bin/x";\n', ""),
        ('Acquire::http { Proxy "http://p"; Timeout "5"; };\n', 'Acquire::http {  Timeout "5"; };\n'),
        ('// Acquire::http::Proxy "example";\n', '// Acquire::http::Proxy "example";\n'),
        ('Acquire::Retries "3";\n', 'Acquire::Retries "3";\n'),
    ],
)
def test_apt_proxy(before: str, after: str) -> None:
    assert without_text(before, APT_PROXY) == after


def test_proxy_files_are_rewritten_or_removed(root: Path) -> None:
    write(root, "etc/apt/apt.conf.d/01proxy", 'Acquire::http::Proxy "http://p";\n')
    mixed = write(root, "etc/environment", "PATH=/bin\nhttp_proxy=http://p\nHTTPS_PROXY=p\n")
    mixed.chmod(0o600)
    assert paths(root) == ["/etc/apt/apt.conf.d/01proxy", "/etc/environment"]
    seal(root)
    assert not (root / "etc/apt/apt.conf.d/01proxy").exists()
    assert mixed.read_text() == "PATH=/bin\n"
    assert mixed.stat().st_mode & 0o777 == 0o600
    assert paths(root) == []


def test_environment_without_a_proxy_is_not_touched() -> None:
    text = 'PATH="/usr/bin"\n# http_proxy=x\nMY_http_proxy_x=1\n'
    assert without_text(text, ENVIRONMENT_PROXY) == text


def test_iscsi_name_is_replaced_once(root: Path) -> None:
    name = write(root, "etc/iscsi/initiatorname.iscsi", "InitiatorName=iqn.1993-08.org.debian:01:abc\n")
    seal(root)
    assert name.read_text() == "GenerateName=yes\n"
    assert paths(root) == []


def test_mail_name_stays_a_name_for_postfix(root: Path) -> None:
    assert paths(root) == []
    write(root, "var/lib/cloud/data/set-hostname", '{"hostname": "build7", "fqdn": "build7.internal"}')
    for text in ("build7.example.org\n", "localhost.localdomain\n", ""):
        name = write(root, "etc/mailname", text)
        host = write(root, "etc/hostname", "build7\n")
        seal(root)
        assert (name.read_text(), host.read_text()) == ("localhost\n", "")
        assert paths(root) == []
        write(root, "var/lib/cloud/data/set-hostname", '{"hostname": "build7", "fqdn": "build7.internal"}')


@pytest.mark.parametrize("host", ["", "mail\n", "localhost\n"])
def test_a_mail_name_that_a_role_wrote_stays(root: Path, host: str) -> None:
    write(root, "etc/hostname", host)
    name = write(root, "etc/mailname", "mail.example.org\n")
    seal(root)
    assert name.read_text() == "mail.example.org\n"


def test_the_certificate_stays_where_nothing_makes_it_again(root: Path) -> None:
    names = [write(root, name) for name in ("etc/ssl/private/ssl-cert-snakeoil.key", "etc/ssl/certs/ssl-cert-snakeoil.pem")]
    (root / CERTIFICATE_UNIT).unlink()
    seal(root)
    assert all(name.exists() for name in names)
    write(root, CERTIFICATE_UNIT)
    seal(root)
    assert not any(name.exists() for name in names)


@pytest.mark.parametrize("target", ["/var/lib/dbus/machine-id", "../run/machine-id", "/nowhere/id"])
def test_a_machine_id_that_is_a_link_becomes_an_empty_file(root: Path, target: str) -> None:
    write(root, "var/lib/dbus/machine-id", "0" * 32 + "\n")
    (root / "etc/machine-id").unlink()
    (root / "etc/machine-id").symlink_to(target)
    seal(root)
    assert not (root / "etc/machine-id").is_symlink()
    assert (root / "etc/machine-id").read_bytes() == b""
    assert (root / "etc/machine-id").stat().st_mode & 0o777 == 0o444
    assert paths(root) == []


def test_settings_that_lose_their_content_are_told(root: Path) -> None:
    write(root, "etc/resolv.conf", "nameserver 10.0.2.3\n")
    write(root, "etc/mailname", "localhost.localdomain\n")
    write(root, "var/log/syslog", "x")
    write(root, "etc/machine-id", "0" * 32)
    told = settings_told(plan_seal(root, Wishes()).effects)
    assert told == " Settings that are no longer what they were: rewritten /etc/mailname (mail name); emptied /etc/resolv.conf (name servers)."
    assert settings_told([]) == ""


@pytest.mark.parametrize(
    ("name", "text", "emptied"),
    [
        ("etc/hostname", "localhost\n", True),
        ("etc/hostname", "given\n", True),
        ("etc/hostname", "given.example.org\n", True),
        ("etc/hostname", "chosen\n", False),
        ("etc/resolv.conf", "nameserver 10.0.2.3\n", True),
        ("etc/resolv.conf", "search a\nnameserver fec0::3\n", True),
        ("etc/resolv.conf", "# Generated by NetworkManager\nnameserver 192.0.2.1\n", True),
        ("etc/resolv.conf", "# Dynamic resolv.conf(5) file for glibc resolver(3) generated by resolvconf(8)\nnameserver 192.0.2.1\n", True),
        ("etc/resolv.conf", "# Ansible managed\nnameserver 192.0.2.1\n", False),
        ("etc/resolv.conf", "nameserver 127.0.0.1\noptions edns0\n", False),
        ("etc/resolv.conf", "nameserver 169.254.169.253\n", False),
        ("etc/resolv.conf", "nameserver 169.254.20.10\n", False),
        ("etc/resolv.conf", "nameserver 169.254.1.1\n", True),
    ],
)
def test_names_that_the_build_machine_was_given(root: Path, name: str, text: str, emptied: bool) -> None:
    path = write(root, name, text)
    write(root, "var/lib/cloud/data/set-hostname", '{"hostname": "given", "fqdn": "given.example.org"}')
    seal(root)
    assert path.read_text() == ("" if emptied else text)
    assert paths(root) == []


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_record_of_cloud_init_without_a_name(root: Path, text: str) -> None:
    path = write(root, "etc/hostname", "chosen\n")
    write(root, "var/lib/cloud/data/set-hostname", text)
    seal(root)
    assert path.read_text() == "chosen\n"


# grub-editenv 2.12 made these: set next_entry=1 saved_entry=foo recordfail=1, then unset.
GRUB_HEAD = "# GRUB Environment Block\n# WARNING: Do not edit this file by tools other than grub-editenv!!!\n"


def block(text: str) -> str:
    return (GRUB_HEAD + text).ljust(1024, "#")


@pytest.mark.parametrize(
    ("defaults", "left"),
    [
        ("", "kernelopts=quiet\n"),
        ("GRUB_DEFAULT=0\n", "kernelopts=quiet\n"),
        ("GRUB_DEFAULT=saved\n", "saved_entry=foo\nkernelopts=quiet\n"),
        ("GRUB_DEFAULT=0\nGRUB_DEFAULT='saved' # chosen by hand\n", "saved_entry=foo\nkernelopts=quiet\n"),
        ("GRUB_DEFAULT=saved\nGRUB_SAVEDEFAULT=true\n", "kernelopts=quiet\n"),
    ],
)
def test_the_boot_loader_forgets_what_boots_wrote(root: Path, defaults: str, left: str) -> None:
    grubenv = write(root, "boot/grub/grubenv", block("next_entry=1\nsaved_entry=foo\nrecordfail=1\nkernelopts=quiet\n"))
    write(root, "etc/default/grub.d/10-site.cfg", defaults)
    assert paths(root) == ["/boot/grub/grubenv"]
    seal(root)
    assert grubenv.read_text() == block(left)
    assert paths(root) == []


def test_build_user_goes_with_everything(root: Path) -> None:
    write(root, "etc/group", GROUP)
    write(root, "etc/gshadow", "root:*::\nsudo:*:packer:packer,alice\npacker:!::\n")
    shadow = write(root, "etc/shadow", "root:*:1::::::\npacker:!:1::::::\nalice:*:1::::::\n")
    shadow.chmod(0o640)
    write(root, "etc/subuid", "packer:100000:65536\nalice:165536:65536\n")
    for name in ("home/packer/.profile", "home/alice/.profile", "etc/sudoers.d/packer", "var/mail/packer", "var/lib/systemd/linger/packer"):
        write(root, name)
    write(root, "etc/sudoers.d/site", "packer ALL=(ALL) NOPASSWD:ALL\nalice ALL=(ALL) ALL\n")
    write(root, "etc/sudoers.d/90-cloud-init-users", "# Created by cloud-init v. 25.1.4\n\n# User rules for packer\npacker ALL=(ALL) NOPASSWD:ALL\n")
    write(root, "etc/sudoers.d/README", "# Only comments.\n")
    seal(root, users=("packer", "nobody-of-that-name"))
    assert "packer" not in (root / "etc/passwd").read_text()
    assert (root / "etc/group").read_text() == "root:x:0:\nsudo:x:27:alice\nalice:x:1001:\n"
    assert (root / "etc/gshadow").read_text() == "root:*::\nsudo:*::alice\n"
    assert shadow.read_text() == "root:*:1::::::\nalice:*:1::::::\n"
    assert shadow.stat().st_mode & 0o777 == 0o640
    assert (root / "etc/subuid").read_text() == "alice:165536:65536\n"
    assert (root / "etc/sudoers.d/site").read_text() == "alice ALL=(ALL) ALL\n"
    assert (root / "etc/sudoers.d/README").exists()
    for name in ("home/packer", "etc/sudoers.d/packer", "etc/sudoers.d/90-cloud-init-users", "var/mail/packer", "var/lib/systemd/linger/packer"):
        assert not (root / name).exists()
    assert (root / "home/alice/.profile").exists()
    assert paths(root, users=("packer",)) == []


def test_root_is_no_build_user(root: Path) -> None:
    with pytest.raises(SealError, match=r"Cannot remove the build user root: it has uid 0, .* Name only the user that the build logged in as\."):
        plan_seal(root, Wishes(users=("root",)))


def test_homes_that_are_shared_or_elsewhere_stay() -> None:
    shared = PASSWD + "twin:x:1002:1002::/home/packer/:/bin/sh\n"
    assert homes_of(PASSWD, ["packer"]) == ["home/packer"]
    assert homes_of(shared, ["packer"]) == []
    assert homes_of(shared, ["packer", "twin"]) == ["home/packer", "home/packer"]
    assert homes_of(PASSWD, ["svc"]) == []


def test_account_names_are_compared_whole() -> None:
    assert without_accounts("pack:x\npacker:x\n", ["pack"]) == "packer:x\n"
    assert without_members("sudo:x:27:packer,pack\n", ["pack"]) == "sudo:x:27:packer\n"


def test_no_root_file_system(tmp_path: Path) -> None:
    with pytest.raises(SealError, match=r"it has no folder etc, so it is no root file system\. Give the folder"):
        plan_seal(tmp_path, Wishes())


def test_running_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SealError, match="Cannot seal /: systemd is running here"):
        refuse_running(Path("/"), tmp_path)
    refuse_running(Path("/"), tmp_path / "missing")
    refuse_running(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(30, "open the image for writing"), (1, "chattr -i"), (13, "Run as root"), (5, "run again when this is solved")],
)
def test_failure_names_the_path_and_the_remedy(root: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str) -> None:
    key = write(root, "etc/munge/munge.key")

    def fail(path: Path) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(_seal, "_remove_tree", fail)
    with pytest.raises(SealError, match=remedy) as caught:
        seal(root)
    assert f"{key} could not be removed: {os.strerror(number)}." in str(caught.value)


def test_unreadable_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_path: Path) -> t.NoReturn:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "iterdir", fail)
    with pytest.raises(SealError, match=r"Cannot look for what must be sealed in .*: Input/output error\. Run as root"):
        expand(root, "etc/*")


def test_what_vanished_is_fine(root: Path) -> None:
    key = write(root, "etc/munge/munge.key")
    plan = plan_seal(root, Wishes())
    key.unlink()
    apply_seal(root, plan)


class FakeCommand:
    """Stands in for Command and records its calls; a call with --configs ends with ``rc``."""

    calls: t.ClassVar[list[tuple[str, ...]]] = []
    rc = 0

    def __init__(self, program: str, **_options: t.Any) -> None:
        self.program = program

    def run(self, *args: str, **_options: t.Any) -> FakeCommand:
        FakeCommand.calls.append((self.program, *args))
        return self


@pytest.mark.parametrize(
    ("rc", "calls"),
    [
        (0, [("cloud-init", "clean", "--logs", "--seed", "--configs", "all")]),
        (2, [("cloud-init", "clean", "--logs", "--seed", "--configs", "all"), ("cloud-init", "clean", "--logs", "--seed")]),
    ],
)
def test_cloud_init_is_asked_but_never_for_the_machine_id(monkeypatch: pytest.MonkeyPatch, rc: int, calls: list[tuple[str, ...]]) -> None:
    monkeypatch.setattr(_seal, "Command", FakeCommand)
    monkeypatch.setattr(_seal.shutil, "which", lambda *_args, **_options: "/usr/bin/cloud-init")
    monkeypatch.setattr(FakeCommand, "calls", [])
    monkeypatch.setattr(FakeCommand, "rc", rc)
    _seal._clean_cloud_init()
    assert FakeCommand.calls == calls
    assert not any("--machine-id" in call for call in FakeCommand.calls)


def test_cloud_init_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_seal, "Command", FakeCommand)
    monkeypatch.setattr(_seal.shutil, "which", lambda *_args, **_options: None)
    monkeypatch.setattr(FakeCommand, "calls", [])
    _seal._clean_cloud_init()
    assert FakeCommand.calls == []


def test_sizes_of_a_folder_are_summed(root: Path) -> None:
    write(root, "root/.cache/a", "x" * 10000)
    write(root, "root/.cache/b", "x" * 10000)
    (effect,) = plan_seal(root, Wishes()).effects
    assert effect.size >= 20000
    assert effect.sentence() == "removed /root/.cache (cache of an account)"


def test_table_is_well_formed() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert not any(pattern.startswith("/") for pattern in rule.patterns)
        assert (rule.strip is not None) == (rule.action is Action.STRIP)
    # Logs are emptied last, when the rules that remove some of them have had their turn.
    assert RULES[-1].action is Action.TRUNCATE_FILES


def test_planner_reads_and_does_not_write(root: Path) -> None:
    write(root, "etc/munge/munge.key")
    Planner(root, Wishes(), frozenset()).build()
    assert (root / "etc/munge/munge.key").exists()


def test_what_only_a_boot_makes(root: Path) -> None:
    for name in (
        "var/lib/cloud/instances/i-1/x",
        "var/lib/systemd/linger/packer",
        "var/lib/systemd/timesync/clock",
        "var/lib/apt/lists/auxfiles/x",
        "var/cache/apparmor/979b3ac6.0/.features",
        "var/log/wtmp.db",
        "var/lib/lastlog/lastlog2.db",
        "usr/share/netplan/netplan_cli/cli/__pycache__/core.cpython-313.pyc",
        "usr/share/netplan/netplan_cli/cli/core.py",
        "usr/share/other/__pycache__/core.cpython-313.pyc",
    ):
        write(root, name)
    link = root / "var/lib/wtmpdb/wtmp.db"
    link.parent.mkdir()
    link.symlink_to("../../log/wtmp.db")
    seal(root, users=("packer",))
    for name in ("var/lib/cloud", "var/lib/systemd/linger", "var/lib/systemd/timesync", "var/lib/apt/lists/auxfiles", "var/cache/apparmor/979b3ac6.0"):
        assert not (root / name).exists()
    assert not (root / "usr/share/netplan/netplan_cli/cli/__pycache__").exists()
    assert list((root / "var").rglob("*.db*")) == [link]
    assert (root / "usr/share/netplan/netplan_cli/cli/core.py").exists()
    assert (root / "usr/share/other/__pycache__/core.cpython-313.pyc").exists()
    assert (root / "var/cache/apparmor").is_dir()


def test_a_user_whose_services_go_on_was_asked_for(root: Path) -> None:
    write(root, "var/lib/systemd/linger/alice")
    seal(root, users=("packer",))
    assert (root / "var/lib/systemd/linger/alice").exists()
