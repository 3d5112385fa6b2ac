# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each rule of an inspection on a tree that breaks just that rule."""

from __future__ import annotations

import lzma
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _inspect_disk
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Expectations, Finding, Severity, run_groups
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_image import GROUPS, RULES
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils.inspect_fake_image import (
    EXPECTED,
    KERNEL,
    ROOT_PARTUUID,
    ROOT_UUID,
    FakeImage,
    clean_image,
    module_file,
)

GRUB = "/boot/grub/grub.cfg"
SOURCES = "/etc/apt/sources.list.d/extra.list"
MODULES = f"/usr/lib/modules/{KERNEL}"
PEM = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ\n-----END OPENSSH PRIVATE KEY-----\n"
OTHER_KERNEL = "6.12.94+deb13-cloud-amd64"
OLD = 1_000_000_000

ALL_SOURCES = "[ NoCloud, ConfigDrive, OpenStack, Azure, GCE, Ec2, VMware, Hetzner, None ]"
PACKER = "packer:x:1000:1000::/srv/packer:/bin/bash\n"
CLUSTER = "/var/lib/postgresql/17/main"
BLOBS = "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256"
# Redis 8.0 writes this before the first database; a dump without keys ends here.
RDB_HEAD = b"REDIS0012\xfa\tredis-ver\x058.0.2\xfa\nredis-bits\xc0@\xfa\x08aof-base\xc0\x00"

Break = t.Callable[[FakeImage], t.Any]


class Case(t.NamedTuple):
    """What is broken, the one rule and path that must be found, and a part of the message."""

    break_it: Break
    rule: str
    path: str
    message: str
    also: tuple[str, ...] = ()


def write(name: str, content: str | bytes = "something\n", mode: int = 0o644) -> Break:
    return lambda image: image.write(name, content, mode)


def install(*packages: str) -> Break:
    """Each package may be followed by what dpkg wants of it."""
    return lambda image: image.install(*packages)


def replace(name: str, old: str, new: str) -> Break:
    return lambda image: image.replace(name, old, new)


def append(name: str, content: str) -> Break:
    return lambda image: image.append(name, content)


def remove(name: str) -> Break:
    return lambda image: image.remove(name)


def link(name: str, target: str) -> Break:
    return lambda image: image.link(name, target)


def several(*breaks: Break) -> Break:
    return lambda image: [each(image) for each in breaks]


def old_initrd(image: FakeImage) -> None:
    os.utime(image.path(f"/boot/initrd.img-{KERNEL}"), (OLD, OLD))


def foreign_owner(image: FakeImage) -> None:
    os.chown(image.write("/opt/tool/data"), 4242, 0)


def sealed_folder(image: FakeImage) -> None:
    image.path("/var/lib/misc").rmdir()


def no_grub(image: FakeImage) -> None:
    image.remove(GRUB)


def second_kernel(image: FakeImage) -> None:
    image.kernel("6.12.107+deb13-amd64")


def older_kernel(image: FakeImage) -> None:
    image.kernel(OTHER_KERNEL)


def older_kernel_without_module(image: FakeImage) -> None:
    image.kernel(OTHER_KERNEL, modules=False)


def failed_build(image: FakeImage) -> None:
    image.remove(f"{MODULES}/updates/dkms/nvidia-current.ko")
    image.replace(f"{MODULES}/modules.dep", "updates/dkms/nvidia-current.ko:\n", "")
    image.write("/var/lib/dkms/nvidia-current/550.163.01/build/make.log", "one\ntwo\nnv-pci.c:237: error: too few arguments\n")


CASES = {
    # boot
    "no boot menu": Case(no_grub, "boot.grub_config", GRUB, "is missing"),
    "default entry": Case(replace(GRUB, 'default="0"', 'default="7"'), "boot.default_entry", GRUB, "no entry '7'"),
    "default kernel": Case(
        several(
            replace(
                GRUB,
                f"/boot/vmlinuz-{KERNEL} root=PARTUUID={ROOT_PARTUUID.lower()} ro  console",
                f"/boot/vmlinuz root=PARTUUID={ROOT_PARTUUID.lower()} console",
            )
        ),
        "boot.kernel_file",
        GRUB,
        "starts /boot/vmlinuz by the default entry 'Debian GNU/Linux'",
    ),
    "default initrd": Case(
        replace(GRUB, f"initrd    /boot/initrd.img-{KERNEL}\n}}\nsubmenu", "initrd    /boot/initrd\n}\nsubmenu"),
        "boot.initrd_file",
        GRUB,
        "loads /boot/initrd ",
    ),
    "no initrd": Case(
        replace(GRUB, f"    initrd    /boot/initrd.img-{KERNEL}\n}}\nsubmenu", "}\nsubmenu"), "boot.initrd_file", GRUB, "loads no initial RAM disk"
    ),
    "root argument": Case(
        replace(GRUB, f"root=PARTUUID={ROOT_PARTUUID.lower()} ro  console", "root=/dev/loop0p1 ro console"), "boot.root_argument", GRUB, "root=/dev/loop0p1"
    ),
    "search": Case(replace(GRUB, f"--set=root  {ROOT_UUID}", "--set=root  11111111-2222"), "boot.search", GRUB, "11111111-2222"),
    "search of the ESP": Case(replace("/boot/efi/EFI/debian/grub.cfg", ROOT_UUID, "1111-2222"), "boot.search", "/boot/efi/EFI/debian/grub.cfg", "1111-2222"),
    "other entry": Case(
        replace(GRUB, f"        initrd    /boot/initrd.img-{KERNEL}", "        initrd    /boot/initrd.img-6.1.0"),
        "boot.other_entry",
        GRUB,
        "names /boot/initrd.img-6.1.0 in the entry",
    ),
    "pending entry": Case(write("/boot/grub/grubenv", "next_entry=0\n"), "boot.pending_entry", "/boot/grub/grubenv", "'0'"),
    "no loader": Case(remove("/boot/efi/EFI/BOOT/BOOTX64.EFI"), "boot.efi_loader", "/boot/efi/EFI/BOOT/BOOTX64.EFI", "is missing"),
    # fstab
    "no fstab": Case(remove("/etc/fstab"), "fstab.missing", "/etc/fstab", "missing or has no entry"),
    "no root in fstab": Case(write("/etc/fstab", "tmpfs /tmp tmpfs size=1G 0 0\n"), "fstab.root", "/etc/fstab", "no entry for /"),
    "another root": Case(
        replace("/etc/fstab", f"{ROOT_PARTUUID.lower()} / ext4", "353f8f4a-74fa-593e-a880-6f0df3c1a6d5 / ext4"),
        "fstab.root",
        "/etc/fstab",
        "not the root partition",
    ),
    "unknown source": Case(append("/etc/fstab", "UUID=dead-beef /data ext4 defaults 0 0\n"), "fstab.source", "/etc/fstab", "UUID=dead-beef as /data"),
    "loop device": Case(append("/etc/fstab", "/dev/loop3p1 /data ext4 defaults 0 0\n"), "fstab.build_host", "/etc/fstab", "device of the build host"),
    "path of the build host": Case(append("/etc/fstab", "/srv/build/cache /var/cache/apt none bind 0 0\n"), "fstab.build_host", "/etc/fstab", "does not exist"),
    "device by name": Case(append("/etc/fstab", "/dev/sdb1 /data ext4 defaults 0 0\n"), "fstab.device_name", "/etc/fstab", "another disk on another machine"),
    "broken line": Case(append("/etc/fstab", "nothing here\n"), "fstab.syntax", "/etc/fstab", "'nothing here'"),
    "mount unit": Case(
        write("/etc/systemd/system/data.mount", "[Mount]\nWhat=/dev/disk/by-uuid/dead-beef\nWhere=/data\n"),
        "fstab.source",
        "/etc/systemd/system/data.mount",
        "as /data",
    ),
    # kernel
    "no kernel": Case(
        several(
            no_grub,
            write("/boot/loader/entries/a.conf"),
            *(remove(f"/boot/{name}-{KERNEL}") for name in ("vmlinuz", "initrd.img")),
            lambda image: image.remove_tree(MODULES),
        ),
        "kernel.missing",
        "/boot",
        "holds no kernel",
    ),
    "two flavours": Case(second_kernel, "kernel.flavours", "/lib/modules", "2 flavours"),
    "two kernels": Case(older_kernel, "kernel.several", "/boot", f"{KERNEL}, {OTHER_KERNEL}"),
    "no modules": Case(
        several(no_grub, write("/boot/loader/entries/a.conf"), lambda image: image.remove_tree(MODULES)),
        "kernel.no_modules",
        f"/lib/modules/{KERNEL}",
        "has no modules",
    ),
    "modules of a purged kernel": Case(
        lambda image: image.write("/usr/lib/modules/6.1.0-9-cloud-amd64/updates/dkms/x.txt"),
        "kernel.no_image",
        "/lib/modules/6.1.0-9-cloud-amd64",
        "not in /boot",
    ),
    "empty initrd": Case(
        several(no_grub, write("/boot/loader/entries/a.conf"), write(f"/boot/initrd.img-{KERNEL}", "")),
        "kernel.initrd",
        f"/boot/initrd.img-{KERNEL}",
        "missing or empty",
    ),
    "old initrd": Case(old_initrd, "kernel.initrd_old", f"/boot/initrd.img-{KERNEL}", "/etc/modprobe.d/policy.conf"),
    "no index": Case(remove(f"{MODULES}/modules.dep.bin"), "kernel.module_index", f"/lib/modules/{KERNEL}/modules.dep.bin", "modprobe finds no module"),
    "module not in the index": Case(
        replace(f"{MODULES}/modules.dep", "updates/dkms/nvidia-current.ko:\n", ""),
        "kernel.module_index",
        f"/lib/modules/{KERNEL}/modules.dep",
        "nvidia-current.ko",
    ),
    "module that did not build": Case(
        failed_build,
        "kernel.module",
        f"/lib/modules/{KERNEL}",
        "The end of /var/lib/dkms/nvidia-current/550.163.01/build/make.log: one | two | nv-pci.c:237: error: too few arguments",
    ),
    "module missing for another kernel": Case(
        several(older_kernel_without_module),
        "kernel.module_other",
        f"/lib/modules/{OTHER_KERNEL}",
        f"no module nvidia-current for an installed kernel ({OTHER_KERNEL})",
        ("kernel.several",),
    ),
    "module of another kernel": Case(
        lambda image: image.write(f"{MODULES}/updates/dkms/nvidia-current.ko", module_file("6.12.94+deb13-cloud-amd64")),
        "kernel.vermagic",
        f"/lib/modules/{KERNEL}/updates/dkms/nvidia-current.ko",
        f"was built for 6.12.94+deb13-cloud-amd64, but the kernel is {KERNEL}",
    ),
    "damaged module": Case(
        write(f"{MODULES}/kernel/net/wireguard.ko.xz", lzma.compress(b"nothing")),
        "kernel.vermagic",
        f"/lib/modules/{KERNEL}/kernel/net/wireguard.ko.xz",
        "is damaged",
    ),
    "DKMS without a build": Case(
        lambda image: image.link("/var/lib/dkms/beegfs/7.4.7/source", "/usr/src/beegfs-7.4.7"),
        "kernel.dkms",
        "/var/lib/dkms/beegfs/7.4.7",
        f"not built for the kernel {KERNEL}",
    ),
    "kernel that is upgraded": Case(
        install("linux-image-cloud-amd64"),
        "kernel.drift",
        f"/lib/modules/{KERNEL}",
        "has modules that were compiled for it: nvidia-current. linux-image-cloud-amd64 brings another kernel, and without dkms they are not compiled",
    ),
    "headers of another kernel": Case(
        write("/usr/src/linux-headers-6.12.94+deb13-amd64/Makefile"),
        "kernel.headers",
        "/usr/src/linux-headers-6.12.94+deb13-amd64",
        "which is not in the image",
    ),
    "lost setting": Case(
        write("/usr/lib/sysctl.d/50-default.conf", "kernel.sysrq = 176\n"),
        "kernel.setting_lost",
        "/proc/sys/kernel/sysrq",
        "was set to 438 during the build, but /usr/lib/sysctl.d/50-default.conf sets it to 176 at boot",
    ),
    # identity
    "machine-id missing": Case(remove("/etc/machine-id"), "identity.machine_id", "/etc/machine-id", "is missing"),
    "machine-id set": Case(write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n"), "identity.machine_id", "/etc/machine-id", "is not empty"),
    "machine-id uninitialized": Case(write("/etc/machine-id", "uninitialized\n"), "identity.machine_id", "/etc/machine-id", "'uninitialized'"),
    "machine-id a link": Case(
        several(remove("/etc/machine-id"), lambda image: image.link("/etc/machine-id", "/var/lib/dbus/machine-id")),
        "identity.machine_id",
        "/etc/machine-id",
        "not a regular file",
    ),
    "D-Bus": Case(write("/var/lib/dbus/machine-id"), "identity.dbus_machine_id", "/var/lib/dbus/machine-id", "file of its own"),
    "host key": Case(write("/etc/ssh/ssh_host_ed25519_key", PEM), "identity.ssh_host_key", "/etc/ssh/ssh_host_ed25519_key", "SSH host key"),
    "no host key service": Case(
        remove("/etc/systemd/system/multi-user.target.wants/ssh-host-keys.service"), "identity.ssh_host_key_service", "/etc/systemd/system", "no enabled unit"
    ),
    "random seed": Case(write("/var/lib/systemd/random-seed"), "identity.random_seed", "/var/lib/systemd/random-seed", "random seed"),
    "credential secret": Case(
        write("/var/lib/systemd/credential.secret"), "identity.credential_secret", "/var/lib/systemd/credential.secret", "encrypts credentials"
    ),
    "host name": Case(write("/etc/hostname", "build7\n"), "identity.hostname", "/etc/hostname", "'build7'"),
    "hosts": Case(append("/etc/hosts", "127.0.1.1 build7\n"), "identity.hosts", "/etc/hosts", "127.0.1.1 build7"),
    "mail name": Case(write("/etc/mailname"), "identity.mail_name", "/etc/mailname", "'something' in mail"),
    "cloud-init": Case(
        lambda image: image.folder("/var/lib/cloud/instances/i-1"), "identity.cloud_init", "/var/lib/cloud/instances/i-1", "state of a cloud-init instance"
    ),
    "cloud-init link": Case(
        lambda image: image.link("/var/lib/cloud/instance", "/var/lib/cloud/instances/i-1"),
        "identity.cloud_init",
        "/var/lib/cloud/instance",
        "state of a cloud-init instance",
    ),
    "cloud-init network": Case(
        write("/etc/netplan/50-cloud-init.yaml", "network: {}\n"), "identity.cloud_init", "/etc/netplan/50-cloud-init.yaml", "written by cloud-init"
    ),
    "lease": Case(write("/var/lib/dhcpcd/eth0.lease"), "identity.dhcp", "/var/lib/dhcpcd/eth0.lease", "DHCP lease"),
    "network card": Case(
        write("/etc/netplan/01-net.yaml", 'network:\n  ethernets:\n    a:\n      match:\n        macaddress: "52:54:00:12:34:56"\n'),
        "identity.network",
        "/etc/netplan/01-net.yaml",
        "52:54:00:12:34:56",
    ),
    "udev": Case(write("/etc/udev/rules.d/70-persistent-net.rules"), "identity.udev", "/etc/udev/rules.d/70-persistent-net.rules", "fixes names"),
    "initiator": Case(
        write("/etc/iscsi/initiatorname.iscsi", "InitiatorName=iqn.1993-08.org.debian:01:abc\n"),
        "identity.storage",
        "/etc/iscsi/initiatorname.iscsi",
        "iSCSI initiator",
    ),
    "NetworkManager": Case(write("/var/lib/NetworkManager/secret_key"), "identity.network_manager", "/var/lib/NetworkManager/secret_key", "NetworkManager"),
    # secrets
    "munge": Case(write("/etc/munge/munge.key"), "secret.munge", "/etc/munge/munge.key", "MUNGE"),
    "munge seed": Case(write("/var/lib/munge/munge.seed"), "secret.munge", "/var/lib/munge/munge.seed", "MUNGE"),
    "slurm key": Case(write("/etc/slurm/slurm.key"), "secret.slurm", "/etc/slurm/slurm.key", "key of Slurm"),
    "slurm token key": Case(write("/var/lib/slurm/slurmctld/jwt_hs256.key"), "secret.slurm", "/var/lib/slurm/slurmctld/jwt_hs256.key", "key of Slurm"),
    "slurmdbd": Case(
        write("/etc/slurm/slurmdbd.conf", "DbdHost=a\nStoragePass=slurm\n", 0o600),
        "secret.slurmdbd",
        "/etc/slurm/slurmdbd.conf",
        "password of the accounting database",
    ),
    "beegfs": Case(write("/etc/beegfs/conn.auth"), "secret.beegfs", "/etc/beegfs/conn.auth", "BeeGFS"),
    "wireguard": Case(write("/etc/wireguard/wg0.conf", "[Interface]\nPrivateKey = QUJD\n"), "secret.wireguard", "/etc/wireguard/wg0.conf", "key of WireGuard"),
    "k3s token": Case(write("/var/lib/rancher/k3s/server/token"), "secret.kubernetes", "/var/lib/rancher/k3s/server/token", "Kubernetes"),
    "k3s configuration": Case(
        write("/etc/rancher/k3s/config.yaml", "server: https://a\ntoken: abc\n"), "secret.kubernetes", "/etc/rancher/k3s/config.yaml", "K3s"
    ),
    "kubelet certificate": Case(write("/var/lib/kubelet/pki/kubelet.key", PEM), "secret.kubernetes", "/var/lib/kubelet/pki/kubelet.key", "Kubernetes"),
    "DKMS key": Case(write("/var/lib/dkms/mok.key", PEM), "secret.dkms_key", "/var/lib/dkms/mok.key", "signs kernel modules"),
    "private key": Case(write("/etc/ssl/private/server.pem", f"certificate\n{PEM}"), "secret.private_key", "/etc/ssl/private/server.pem", "private key"),
    "private key in JSON": Case(
        write("/opt/app/account.json", '{"private_key": "-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBg"}'),
        "secret.private_key",
        "/opt/app/account.json",
        "private key",
    ),
    "password": Case(append("/etc/shadow", "debian:$y$j9T$abc$def:20000:0:99999:7:::\n"), "secret.password", "/etc/shadow", "user debian a password"),
    "password in the backup": Case(
        write("/etc/shadow-", "debian:$y$j9T$abc$def:20000:0:99999:7:::\n", 0o640), "secret.password", "/etc/shadow-", "user debian a password"
    ),
    "group password": Case(append("/etc/gshadow", "admin:$6$abc::\n"), "secret.password", "/etc/gshadow", "group admin a password"),
    "empty password": Case(replace("/etc/shadow", "nobody:*:", "nobody::"), "secret.empty_password", "/etc/shadow", "nobody an empty password"),
    "empty password in passwd": Case(replace("/etc/passwd", "nobody:x:", "nobody::"), "secret.empty_password", "/etc/passwd", "nobody an empty password"),
    "sudo": Case(write("/etc/sudoers.d/packer", "packer ALL=(ALL) NOPASSWD:ALL\n", 0o440), "secret.sudo", "/etc/sudoers.d/packer", "lets packer become root"),
    "user with a password": Case(
        several(append("/etc/passwd", PACKER), append("/etc/shadow", "packer:$y$j9T$abc$def:20000::::::\n")),
        "secret.build_user",
        "/etc/passwd",
        "packer (uid 1000), who can log in with a password",
        ("secret.password",),
    ),
    "user without a password": Case(
        several(append("/etc/passwd", PACKER), append("/etc/shadow", "packer::20000::::::\n")),
        "secret.build_user",
        "/etc/passwd",
        "who can log in without a password",
        ("secret.empty_password",),
    ),
    "user with a key": Case(
        several(
            append("/etc/passwd", PACKER), append("/etc/shadow", "packer:!:20000::::::\n"), write("/srv/packer/.ssh/authorized_keys", "ssh-ed25519 AAAA\n")
        ),
        "secret.build_user",
        "/etc/passwd",
        "who can log in with a key",
        ("secret.authorized_key",),
    ),
    "user of the console": Case(
        several(
            append("/etc/passwd", PACKER),
            write("/etc/systemd/system/serial-getty@ttyS0.service.d/login.conf", "[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin packer - $TERM\n"),
        ),
        "secret.build_user",
        "/etc/passwd",
        "who can log in at the console without a password",
        ("secret.console",),
    ),
    "key beside the server's configuration": Case(
        write("/etc/ssh/authorized_keys.d/root", "ssh-ed25519 AAAA ops\n"), "secret.authorized_key", "/etc/ssh/authorized_keys.d/root", "holder of a key"
    ),
    "authorized key": Case(
        write("/root/.ssh/authorized_keys", "ssh-ed25519 AAAA build\n"), "secret.authorized_key", "/root/.ssh/authorized_keys", "holder of a key"
    ),
    "history": Case(write("/root/.bash_history"), "secret.history", "/root/.bash_history", "history of commands"),
    "wireless network": Case(
        write("/etc/wpa_supplicant/wpa_supplicant.conf", 'network={\n  psk="abc"\n}\n'), "secret.wifi", "/etc/wpa_supplicant/wpa_supplicant.conf", "wireless"
    ),
    "netrc": Case(write("/root/.netrc"), "secret.credentials", "/root/.netrc", "credentials"),
    "SSH key of a person": Case(write("/home/person/.ssh/id_ed25519", PEM), "secret.credentials", "/home/person/.ssh/id_ed25519", "credentials"),
    "apt password": Case(
        write("/etc/apt/auth.conf.d/a.conf", "machine a login b password c\n"),
        "secret.credentials",
        "/etc/apt/auth.conf.d/a.conf",
        "password of a package archive",
    ),
    "keytab": Case(write("/etc/krb5.keytab"), "secret.credentials", "/etc/krb5.keytab", "identifies the machine"),
    "debconf": Case(
        write("/var/cache/debconf/passwords.dat", "Name: a/b\nTemplate: a/b\nValue: secret\n", 0o600),
        "secret.credentials",
        "/var/cache/debconf/passwords.dat",
        "a package asked for",
    ),
    "password of a maintenance account": Case(
        write("/etc/mysql/debian.cnf", "[client]\npassword = abc\n"), "secret.credentials", "/etc/mysql/debian.cnf", "maintenance account"
    ),
    "password in fstab": Case(
        append("/etc/fstab", "//files/share /share cifs username=ops,password=abc,_netdev 0 0\n"), "secret.credentials", "/etc/fstab", "of a file server"
    ),
    "key of Ceph in fstab": Case(
        append("/etc/fstab", "mon1:/ /ceph ceph name=admin,secret=AQB1==,_netdev 0 0\n"), "secret.credentials", "/etc/fstab", "of a file server"
    ),
    "password of a screen": Case(write("/root/.vnc/passwd", "abcdefgh"), "secret.credentials", "/root/.vnc/passwd", "holds credentials"),
    "grafana": Case(
        write("/etc/grafana/grafana.ini", "app_mode = production\n[security]\n;admin_password = x\n"),
        "secret.grafana",
        "/etc/grafana/grafana.ini",
        "password 'admin'",
    ),
    "grafana with a password": Case(
        write("/etc/grafana/grafana.ini", "[security]\nadmin_password = xyz\n"),
        "secret.grafana",
        "/etc/grafana/grafana.ini",
        "password of Grafana's administrator",
    ),
    "cloud-init password": Case(
        write("/etc/cloud/cloud.cfg.d/99-user.cfg", "users:\n  - name: a\n    passwd: $6$abc\n"),
        "secret.cloud_config",
        "/etc/cloud/cloud.cfg.d/99-user.cfg",
        "sets the password of a on every machine",
    ),
    "key in cloud-init": Case(
        write("/etc/cloud/cloud.cfg.d/99-user.cfg", "ssh_authorized_keys: [ssh-ed25519 AAAA ops]\n"),
        "secret.cloud_key",
        "/etc/cloud/cloud.cfg.d/99-user.cfg",
        "holder of a key log in as the default user on every machine",
    ),
    "console": Case(
        write("/etc/systemd/system/getty@tty1.service.d/login.conf", "[Service]\nExecStart=\nExecStart=-/sbin/agetty -a root - $TERM\n"),
        "secret.console",
        "/etc/systemd/system/getty@tty1.service.d/login.conf",
        "logs root in at the console",
    ),
    "debug shell of the kernel": Case(replace(GRUB, "console=tty0", "systemd.debug_shell console=tty0"), "secret.console", GRUB, "systemd.debug_shell"),
    "open PAM": Case(write("/etc/pam.d/su", "auth sufficient pam_wheel.so trust group=ops\n"), "secret.pam", "/etc/pam.d/su", "pam_wheel.so trust"),
    "trusted hosts": Case(
        several(write("/etc/ssh/sshd_config", "HostbasedAuthentication yes\n"), write("/etc/ssh/shosts.equiv", "login1\n")),
        "secret.host_based",
        "/etc/ssh/shosts.equiv",
        "without a credential of their own",
    ),
    "certificate authority": Case(
        several(write("/etc/ssh/sshd_config", "TrustedUserCAKeys /etc/ssh/ca.pub\n"), write("/etc/ssh/ca.pub", "ssh-ed25519 AAAA ca\n")),
        "secret.authorized_key",
        "/etc/ssh/ca.pub",
        "holds a certificate",
    ),
    # cloud-init
    "cloud-init switched off": Case(
        several(write("/usr/bin/cloud-init"), write("/etc/cloud/cloud-init.disabled", "")), "cloud.disabled", "/etc/cloud/cloud-init.disabled", "no user data"
    ),
    "cloud-init switched off for the kernel": Case(
        several(write("/usr/bin/cloud-init"), replace(GRUB, "console=tty0", "cloud-init=disabled console=tty0")), "cloud.disabled", GRUB, "no user data"
    ),
    "cloud-init switched off by a mask": Case(
        several(write("/usr/bin/cloud-init"), link("/etc/systemd/system/cloud-init-local.service", "/dev/null")),
        "cloud.disabled",
        "/etc/systemd/system/cloud-init-local.service",
        "no user data",
    ),
    "cloud-init that is not enabled": Case(
        several(
            write("/usr/bin/cloud-init"),
            write("/usr/lib/systemd/system/cloud-init-local.service", "[Service]\nType=oneshot\n[Install]\nWantedBy=cloud-init.target\n"),
        ),
        "cloud.disabled",
        "/usr/lib/systemd/system/cloud-init-local.service",
        "no user data",
    ),
    "cloud-init switched off for the detection": Case(
        several(write("/usr/bin/cloud-init"), write("/etc/cloud/ds-identify.cfg", "policy: disabled\n")),
        "cloud.disabled",
        "/etc/cloud/ds-identify.cfg",
        "no user",
    ),
    "configuration that cloud-init cannot read": Case(
        write("/etc/cloud/cloud.cfg.d/99-user.cfg", "users: [a\n"), "cloud.unreadable", "/etc/cloud/cloud.cfg.d/99-user.cfg", "cannot be read by cloud-init"
    ),
    "pinned data source": Case(
        several(write("/usr/bin/cloud-init"), write("/etc/cloud/cloud.cfg.d/99-site.cfg", "datasource_list: [NoCloud, None] # site\n")),
        "cloud.datasource_pinned",
        "/etc/cloud/cloud.cfg.d/99-site.cfg",
        "at NoCloud only. On a platform that offers it in another way, such as ConfigDrive, OpenStack, Ec2, Azure, GCE, VMware,",
    ),
    "pinned data source in a block": Case(
        several(
            write("/usr/bin/cloud-init"),
            write("/etc/cloud/cloud.cfg.d/50-all.cfg", f"datasource_list: {ALL_SOURCES}\n"),
            write("/etc/cloud/cloud.cfg.d/60-site.cfg", "datasource_list:\n  - Ec2\n  - 'None'\nssh_pwauth: false\n"),
        ),
        "cloud.datasource_pinned",
        "/etc/cloud/cloud.cfg.d/60-site.cfg",
        "at Ec2 only",
    ),
    "pinned for the detection": Case(
        several(write("/usr/bin/cloud-init"), write("/etc/cloud/ds-identify.cfg", "policy: search\ndatasource: OpenStack\n")),
        "cloud.datasource_pinned",
        "/etc/cloud/ds-identify.cfg",
        "at OpenStack only",
    ),
    "pinned for the kernel": Case(
        several(write("/usr/bin/cloud-init"), replace(GRUB, "console=tty0", "ds=nocloud;s=http://a/ console=tty0")),
        "cloud.datasource_pinned",
        GRUB,
        "at nocloud only",
        ("cloud.user_data_address",),
    ),
    "address of user data": Case(
        replace(GRUB, "console=tty0", "cloud-config-url=http://10.0.0.1/x console=tty0"),
        "cloud.user_data_address",
        GRUB,
        "takes user data from http://10.0.0.1/x",
    ),
    "command of cloud-init": Case(
        write("/etc/cloud/cloud.cfg.d/99-user.cfg", "runcmd: ['echo root:x | chpasswd']\n"),
        "secret.cloud_command",
        "/etc/cloud/cloud.cfg.d/99-user.cfg",
        "by a command of runcmd (chpasswd)",
    ),
    "script of the boot": Case(write("/etc/rc.local", "#!/bin/sh\npasswd -d root\n"), "secret.cloud_command", "/etc/rc.local", "runs on every machine"),
    "file that is fetched": Case(
        write("/etc/cloud/cloud.cfg.d/99-user.cfg", "write_files: [{path: /etc/sudoers.d/x, source: {uri: 'http://10.0.0.1/x'}}]\n"),
        "secret.fetched",
        "/etc/cloud/cloud.cfg.d/99-user.cfg",
        "whoever serves it",
    ),
    "credential of systemd": Case(
        write("/etc/credstore/passwd.hashed-password.root", "$y$x"), "secret.credential", "/etc/credstore/passwd.hashed-password.root", "password of root"
    ),
    "host key of Dropbear": Case(
        write("/etc/dropbear/initramfs/dropbear_ed25519_host_key"),
        "identity.dropbear_key",
        "/etc/dropbear/initramfs/dropbear_ed25519_host_key",
        "every machine from this image would share",
    ),
    "seed in a folder": Case(
        several(
            write("/etc/cloud/cloud.cfg.d/99-user.cfg", "datasource: {NoCloud: {seedfrom: 'file:///srv/seed/'}}\n"),
            write("/srv/seed/user-data", "#cloud-config\npassword: x\n"),
        ),
        "secret.cloud_config",
        "/srv/seed/user-data",
        "sets the password of the default user",
    ),
    "seed in a folder for the kernel": Case(
        several(replace(GRUB, "console=tty0", "ds=nocloud;s=/srv/seed/ console=tty0"), write("/srv/seed/meta-data", "public-keys: [ssh-ed25519 AAAA]\n")),
        "secret.cloud_key",
        "/srv/seed/meta-data",
        "holder of a key log in as the default user",
    ),
    "seed of a build": Case(
        write("/var/lib/cloud/seed/nocloud/user-data", "#!/bin/sh\necho root:x | chpasswd\n"),
        "secret.cloud_command",
        "/var/lib/cloud/seed/nocloud/user-data",
        "by a script in user data",
        ("identity.cloud_init",),
    ),
    "fixed address": Case(
        write("/etc/systemd/network/10-site.network", "[Match]\nName=en*\n[Network]\nAddress=192.0.2.5/24\n"),
        "identity.address",
        "/etc/systemd/network/10-site.network",
        "the card en* of every machine",
    ),
    "fixed address in netplan": Case(
        write("/etc/netplan/60-site.yaml", "network: {ethernets: {ens3: {addresses: [192.0.2.5/24]}}}\n"),
        "identity.address",
        "/etc/netplan/60-site.yaml",
        "ens3",
    ),
    "fixed address in interfaces": Case(
        write("/etc/network/interfaces", "iface lo inet loopback\niface ens3 inet static\n  address 192.0.2.5\n"),
        "identity.address",
        "/etc/network/interfaces",
        "ens3",
    ),
    "fixed address for the kernel": Case(
        replace(GRUB, "console=tty0", "ip=192.0.2.5::192.0.2.1:255.255.255.0:a:ens3:off console=tty0"), "identity.address", GRUB, "the card ens3"
    ),
    "card that the build machine booted from": Case(
        replace(GRUB, "console=tty0", "BOOTIF=01-52-54-00-12-34-56 console=tty0"), "identity.network", GRUB, "BOOTIF=01-52-54-00-12-34-56"
    ),
    "card named by the kernel's arguments": Case(
        replace(GRUB, "console=tty0", "ifname=lan0:52:54:00:12:34:56 console=tty0"), "identity.network", GRUB, "ifname=lan0"
    ),
    "card by an address in another spelling": Case(
        write("/etc/systemd/network/10-a.link", "[Match]\nPermanentMACAddress=52-54-00-12-34-56\n"),
        "identity.network",
        "/etc/systemd/network/10-a.link",
        "52-54-00-12-34-56",
    ),
    "name in mail": Case(
        write("/etc/postfix/main.cf", "myhostname = build01.example\n"), "identity.mail_name", "/etc/postfix/main.cf", "'build01.example' in mail (myhostname)"
    ),
    "pretty name": Case(write("/etc/machine-info", "PRETTY_HOSTNAME=build01\n"), "identity.hostname", "/etc/machine-info", "'build01'"),
    "DHCP identifier": Case(
        write("/etc/systemd/networkd.conf.d/a.conf", "[DHCPv4]\nDUIDRawData=00:00:ab:11\n"),
        "pin.dhcp",
        "/etc/systemd/networkd.conf.d/a.conf",
        "same identifier",
    ),
    # state
    "new MariaDB": Case(write("/var/lib/mysql/ibdata1"), "state.database_new", "/var/lib/mysql", "MariaDB or MySQL as its package made it"),
    "database in MariaDB": Case(
        several(write("/var/lib/mysql/ibdata1"), write("/var/lib/mysql/slurm_acct_db/db.opt")), "state.database", "/var/lib/mysql", "passwords of the build"
    ),
    "MariaDB that ran": Case(
        several(write("/var/lib/mysql/mysql/user.frm"), write("/var/lib/mysql/multi-master.info", "")), "state.database", "/var/lib/mysql", "passwords"
    ),
    "new PostgreSQL": Case(write(f"{CLUSTER}/PG_VERSION", "17\n"), "state.database_new", CLUSTER, "the server has not run yet"),
    "PostgreSQL that ran": Case(
        several(write(f"{CLUSTER}/PG_VERSION", "17\n"), write(f"{CLUSTER}/postmaster.opts")), "state.database", CLUSTER, "PostgreSQL with the data"
    ),
    "Redis": Case(write("/var/lib/redis/dump.rdb", RDB_HEAD + b"\xfe\x00\xfb\x01\x00\x00\x01a\x01b\xff"), "state.database", "/var/lib/redis", "keys of Redis"),
    "Valkey": Case(write("/var/lib/valkey/appendonlydir/appendonly.aof.1.incr.aof"), "state.database", "/var/lib/valkey", "keys of Valkey"),
    "Prometheus": Case(write("/var/lib/prometheus/metrics2/wal/00000000"), "state.database", "/var/lib/prometheus/metrics2", "measured on the build host"),
    "grafana database": Case(write("/var/lib/grafana/grafana.db"), "state.database", "/var/lib/grafana", "database of Grafana"),
    "engine id": Case(write("/var/lib/docker/engine-id"), "state.identity", "/var/lib/docker/engine-id", "identifies Docker"),
    "Ceph": Case(write("/var/lib/ceph/osd/ceph-0/fsid"), "state.identity", "/var/lib/ceph/osd/ceph-0/fsid", "identifies Ceph"),
    "cluster name": Case(write("/var/spool/slurmctld/clustername"), "state.identity", "/var/spool/slurmctld/clustername", "a Slurm cluster"),
    "LVM": Case(write("/etc/lvm/devices/system.devices"), "state.lvm_devices", "/etc/lvm/devices/system.devices", "disks of the build machine"),
    "queued message": Case(write("/var/spool/postfix/deferred/A/AB12"), "state.mail_queue", "/var/spool/postfix/deferred/A/AB12", "would send"),
    "container": Case(lambda image: image.folder("/var/lib/docker/containers/ab12"), "state.container", "/var/lib/docker/containers/ab12", "a container"),
    "container images of Docker": Case(
        write("/var/lib/docker/image/overlay2/repositories.json", '{"Repositories":{"a":{"a:1":"sha256:ab"}}}'),
        "state.container_images",
        "/var/lib/docker/image/overlay2/repositories.json",
        "container images",
    ),
    "container images of containerd": Case(write(f"{BLOBS}/ab12"), "state.container_images", BLOBS, "container images"),
    # files that services need
    "MUNGE without a key": Case(
        link("/etc/systemd/system/multi-user.target.wants/munge.service", "/usr/lib/systemd/system/munge.service"),
        "service.secret_missing",
        "/etc/systemd/system/multi-user.target.wants/munge.service",
        "fails without /etc/munge/munge.key",
    ),
    "tunnel without a key": Case(
        link("/etc/systemd/system/multi-user.target.wants/wg-quick@wg0.service", "/usr/lib/systemd/system/wg-quick@.service"),
        "service.secret_missing",
        "/etc/systemd/system/multi-user.target.wants/wg-quick@wg0.service",
        "fails without /etc/wireguard/wg0.conf",
    ),
    "PostgreSQL without a certificate": Case(
        write("/etc/postgresql/17/main/postgresql.conf", "ssl_key_file = '/etc/ssl/private/ssl-cert-snakeoil.key'\n"),
        "service.file_missing",
        "/etc/postgresql/17/main/postgresql.conf",
        "names /etc/ssl/private/ssl-cert-snakeoil.key, which does not exist",
    ),
    "Postfix without a mail name": Case(
        write("/etc/postfix/main.cf", "myorigin = /etc/mailname\n"), "service.file_missing", "/etc/postfix/main.cf", "names /etc/mailname"
    ),
    # pins
    "LVM filter": Case(
        write("/etc/lvm/lvm.conf", 'devices {\n  global_filter = [ "a|^/dev/sdb$|", "r|.*|" ]\n}\n'), "pin.lvm", "/etc/lvm/lvm.conf", "named disks only"
    ),
    "multipath": Case(write("/etc/multipath/bindings", "# v1\nmpatha 3600508b400105e21\n"), "pin.multipath", "/etc/multipath/bindings", "for multipathd"),
    "multipath settings": Case(
        write("/etc/multipath.conf", "multipaths {\n  multipath {\n    wwid 3600508b400105e210000900000490000\n  }\n}\n"),
        "pin.multipath_settings",
        "/etc/multipath.conf",
        "single disks",
    ),
    "iSCSI target": Case(
        write("/var/lib/iscsi/nodes/iqn.a/10.0.0.1,3260,1/default"), "pin.iscsi_targets", "/var/lib/iscsi/nodes/iqn.a/10.0.0.1,3260,1/default", "target"
    ),
    "card by address": Case(
        write("/etc/udev/rules.d/10-lan.rules", 'SUBSYSTEM=="net", ATTR{address}=="52:54:00:12:34:56", NAME="lan0"\n'),
        "identity.udev",
        "/etc/udev/rules.d/10-lan.rules",
        "one network card by its address",
    ),
    "InfiniBand card by address": Case(
        write(
            "/etc/udev/rules.d/60-ib.rules",
            'SUBSYSTEM=="net", DRIVERS=="?*", ATTR{type}=="32", ATTR{address}=="?*00:02:c9:03:00:31:78:f2", NAME="mlx4_ib3"\n',
        ),
        "identity.udev",
        "/etc/udev/rules.d/60-ib.rules",
        "one network card by its address",
    ),
    "InfiniBand card by GUID": Case(
        write(
            "/etc/udev/rules.d/60-rdma.rules",
            'SUBSYSTEM=="infiniband", ATTR{node_guid}=="0c42:a103:0065:bafe", PROGRAM="rdma_rename %k NAME_FIXED mlx5_0"\n',
        ),
        "identity.udev",
        "/etc/udev/rules.d/60-rdma.rules",
        "one network card by its address",
    ),
    "disk by serial number": Case(
        write("/etc/udev/rules.d/60-data.rules", 'ENV{ID_SERIAL}=="WD-123", SYMLINK+="data"\n'), "pin.udev_disk", "/etc/udev/rules.d/60-data.rules", "serial"
    ),
    "ZFS pools": Case(write("/etc/zfs/zpool.cache"), "pin.zfs", "/etc/zfs/zpool.cache", "pools of the build machine"),
    "host id": Case(write("/etc/hostid", b"\x01\x02\x03\x04"), "pin.host_id", "/etc/hostid", "host id"),
    "array": Case(write("/etc/mdadm/mdadm.conf", "MAILADDR root\nARRAY /dev/md0 UUID=a:b:c:d\n"), "pin.raid", "/etc/mdadm/mdadm.conf", "arrays"),
    "device map": Case(write("/boot/grub/device.map", "(hd0) /dev/disk/by-id/ata-X\n"), "pin.device_map", "/boot/grub/device.map", "names the disk"),
    "network of cloud-init": Case(
        write("/etc/cloud/cloud.cfg.d/50-net.cfg", "network: {version: 1, config: [{type: physical, name: a, mac_address: '52:54:00:12:34:56'}]}\n"),
        "identity.network",
        "/etc/cloud/cloud.cfg.d/50-net.cfg",
        "one network card only",
    ),
    "unread setting": Case(write("/etc/sysctl.conf", "# a\nvm.swappiness = 1\n"), "kernel.setting_unread", "/etc/sysctl.conf", "sets vm.swappiness, but"),
    "crypttab": Case(write("/etc/crypttab", "data UUID=dead-beef none luks\n"), "fstab.crypttab", "/etc/crypttab", "unlocks UUID=dead-beef as data"),
    "resume": Case(write("/etc/initramfs-tools/conf.d/resume", "RESUME=UUID=dead-beef\n"), "fstab.resume", "/etc/initramfs-tools/conf.d/resume", "dead-beef"),
    # leftovers
    "policy": Case(write("/usr/sbin/policy-rc.d"), "leftover.service_policy", "/usr/sbin/policy-rc.d", "every service"),
    "diversion": Case(write("/usr/sbin/start-stop-daemon.REAL"), "leftover.diversion", "/usr/sbin/start-stop-daemon.REAL", "stand-in"),
    "proc": Case(write("/proc/x"), "leftover.pseudo_file_system", "/proc/x", "pseudo file system"),
    "dev": Case(write("/dev/null", ""), "leftover.pseudo_file_system", "/dev/null", "devtmpfs"),
    "run": Case(write("/run/crond.pid"), "leftover.run", "/run/crond.pid", "running system"),
    "tmp": Case(write("/var/tmp/x"), "leftover.temporary", "/var/tmp/x", "temporary file"),
    "ansible": Case(lambda image: image.folder("/root/.ansible/tmp"), "leftover.ansible", "/root/.ansible", "Ansible"),
    "resolver": Case(
        several(remove("/etc/resolv.conf"), write("/etc/resolv.conf", "nameserver 10.0.2.3\n")),
        "leftover.resolver",
        "/etc/resolv.conf",
        "resolver of the build host",
    ),
    "name servers": Case(
        several(remove("/etc/resolv.conf"), write("/etc/resolv.conf", "# site\nnameserver 192.0.2.53\nnameserver 192.0.2.54\n")),
        "network.name_servers",
        "/etc/resolv.conf",
        "names the servers 192.0.2.53, 192.0.2.54,",
    ),
    "mtab": Case(several(remove("/etc/mtab"), write("/etc/mtab")), "leftover.mtab", "/etc/mtab", "mounted during the build"),
    "core": Case(write("/opt/core.812", b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x04\x00"), "leftover.core_dump", "/opt/core.812", "core dump"),
    "core of systemd": Case(write("/var/lib/systemd/coredump/core.x.zst"), "leftover.core_dump", "/var/lib/systemd/coredump/core.x.zst", "core dump"),
    "known hosts": Case(write("/root/.ssh/known_hosts"), "leftover.known_hosts", "/root/.ssh/known_hosts", "spoke to"),
    "journal": Case(write("/var/log/journal/0123/system.journal"), "log.journal", "/var/log/journal/0123/system.journal", "journal of the build"),
    "logins": Case(write("/var/log/wtmp"), "log.login", "/var/log/wtmp", "logins"),
    "logins in a database": Case(write("/var/log/wtmp.db"), "log.login", "/var/log/wtmp.db", "logins"),
    "log": Case(write("/var/log/dpkg.log"), "log.content", "/var/log/dpkg.log", "log of the build"),
    "packages": Case(write("/var/cache/apt/archives/a_1_amd64.deb"), "cache.packages", "/var/cache/apt/archives/a_1_amd64.deb", "downloaded package"),
    "lists": Case(
        write("/var/lib/apt/lists/archive.distribution.org_dists_trixie_InRelease"),
        "cache.index",
        "/var/lib/apt/lists/archive.distribution.org_dists_trixie_InRelease",
        "package list",
    ),
    "pip": Case(lambda image: image.folder("/root/.cache/pip"), "cache.user", "/root/.cache/pip", "cache of the build"),
    # network
    "apt proxy": Case(
        write("/etc/apt/apt.conf.d/01proxy", 'Acquire::http::Proxy "http://10.0.0.1:3142";\n'), "apt.proxy", "/etc/apt/apt.conf.d/01proxy", "proxy for apt"
    ),
    "apt proxy in a block": Case(
        write("/etc/apt/apt.conf", 'Acquire { http { Proxy "http://a.example.org:1"; }; };\n'), "apt.proxy", "/etc/apt/apt.conf", "proxy for apt"
    ),
    "forbidden host": Case(
        write(SOURCES, "deb [arch=amd64] http://apt.mirror.builder.org:8080/debian trixie main\n"), "apt.forbidden_host", SOURCES, "apt.mirror.builder.org:8080"
    ),
    "private host": Case(write(SOURCES, "deb http://192.168.1.5/debian trixie main\n"), "apt.private_mirror", SOURCES, "192.168.1.5"),
    "mirror list": Case(write("/etc/apt/mirrors/debian.list", "http://mirror/debian\n"), "apt.private_mirror", "/etc/apt/mirrors/debian.list", "names mirror"),
    "folder of the build host": Case(write(SOURCES, "deb file:/srv/packages ./\n"), "apt.private_mirror", SOURCES, "names /srv/packages"),
    "unlisted host": Case(write(SOURCES, "deb https://packages.vendor.com/debian trixie main\n"), "apt.unlisted_host", SOURCES, "packages.vendor.com"),
    "trusted": Case(write(SOURCES, "deb [trusted=yes] https://archive.distribution.org/debian trixie main\n"), "apt.trusted", SOURCES, "signatures"),
    "proxy": Case(write("/etc/environment", "https_proxy=http://10.0.0.1:3128\n"), "network.proxy", "/etc/environment", "sets a proxy"),
    "package index": Case(write("/etc/pip.conf", "[global]\nindex-url = http://10.0.0.1/simple\n"), "network.package_index", "/etc/pip.conf", "package index"),
    # permissions
    "world-writable file": Case(write("/opt/tool/data", mode=0o666), "permission.world_writable", "/opt/tool/data", "mode 0666"),
    "world-writable folder": Case(lambda image: image.folder("/opt/tool", 0o777), "permission.world_writable", "/opt/tool", "mode 0777"),
    "shadow": Case(lambda image: image.path("/etc/shadow").chmod(0o644), "permission.shadow", "/etc/shadow", "mode 0644"),
    "owner": Case(foreign_owner, "permission.unknown_owner", "/opt/tool/data", "uid 4242"),
    "setuid": Case(lambda image: image.path("/usr/bin/tool").chmod(0o4755), "permission.setuid", "/usr/bin/tool", "is setuid."),
    "setuid without a package": Case(write("/usr/local/bin/tool", mode=0o4755), "permission.setuid_unpackaged", "/usr/local/bin/tool", "belongs to no package"),
    # packages
    "no list of files": Case(
        several(remove("/var/lib/dpkg/info/base-files.list"), remove("/var/lib/dpkg/info/base-files.md5sums")),
        "package.database",
        "/var/lib/dpkg/info/base-files.list",
        "base-files is installed",
    ),
    "half-configured": Case(
        replace("/var/lib/dpkg/status", "install ok installed", "install ok half-configured"),
        "package.state",
        "/var/lib/dpkg/status",
        "base-files 13.8+deb13u1 is half-configured",
    ),
    "interrupted": Case(write("/var/lib/dpkg/updates/0001"), "package.interrupted", "/var/lib/dpkg/updates/0001", "not finished"),
    "missing file": Case(remove("/usr/bin/tool"), "package.missing_file", "/usr/bin/tool", "the package base-files"),
    "modified file": Case(write("/usr/bin/tool", "changed\n"), "package.modified_file", "/usr/bin/tool", "the package base-files"),
    "missing folder": Case(sealed_folder, "package.missing_folder", "/var/lib/misc", "the package base-files"),
    # record
    "no record": Case(remove("/etc/hyperscaler-image.json"), "record.missing", "/etc/hyperscaler-image.json", "is missing"),
    "broken record": Case(write("/etc/hyperscaler-image.json", "{"), "record.invalid", "/etc/hyperscaler-image.json", "is not JSON"),
    "record that is no object": Case(write("/etc/hyperscaler-image.json", "[]"), "record.invalid", "/etc/hyperscaler-image.json", "not a JSON object"),
}
NEEDS_ROOT = {"owner"}
# The status of two packages is replaced.
REPEATED = {"half-configured"}


@pytest.fixture
def image(tmp_path: Path) -> FakeImage:
    """A tree without findings."""
    return clean_image(tmp_path / "image")


def findings_of(image: FakeImage, expected: Expectations = EXPECTED) -> list[Finding]:
    return run_groups(GROUPS, image.subject(expected))[0]


def test_a_clean_image_has_no_finding(image: FakeImage) -> None:
    assert findings_of(image) == []


@pytest.mark.parametrize("name", CASES)
def test_breaking_one_thing_is_found_by_one_rule(name: str, image: FakeImage) -> None:
    if name in NEEDS_ROOT and os.geteuid() != 0:
        pytest.skip("changing the owner of a file needs root")
    case = CASES[name]
    case.break_it(image)
    found = [finding for finding in findings_of(image) if finding.rule not in case.also]
    assert {(finding.rule, finding.path) for finding in found} == {(case.rule, case.path)}
    assert len(found) == 1 or name in REPEATED
    assert case.message in found[0].message
    assert found[0].remedy.endswith(".")


def test_every_rule_has_a_case() -> None:
    asked = {"sudo.syntax", "cloud.schema", "secret.ramdisk"}
    tested = {case.rule for case in CASES.values()} | {rule.id for rule in _inspect_disk.RULES} | {"waiver.unused"} | asked
    assert tested == {rule.id for rule in RULES}


def test_rule_names_are_unique() -> None:
    names = [rule.id for rule in RULES]
    assert sorted(names) == sorted(set(names))


def test_a_missing_record_is_an_error_when_it_is_required(image: FakeImage) -> None:
    image.remove("/etc/hyperscaler-image.json")
    assert [finding.severity for finding in findings_of(image)] == [Severity.WARNING]
    assert [finding.severity for finding in findings_of(image, Expectations(archive_domains=("distribution.org",), require_record=True))] == [Severity.ERROR]


def test_an_empty_package_database_is_one_finding(image: FakeImage) -> None:
    image.write("/var/lib/dpkg/status", "")
    assert "package.database" in {finding.rule for finding in findings_of(image)}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("/root/.ssh/authorized_keys", "# no key\n"),
        ("/etc/grafana/grafana.ini", "[security]\ndisable_initial_admin_creation = true\n"),
        ("/etc/grafana/grafana.ini", "[security]\nadmin_password = $__file{/run/secret}\n"),
        ("/etc/slurm/slurmdbd.conf", "# StoragePass=x\nDbdHost=localhost\n"),
        ("/etc/cloud/cloud.cfg.d/1.cfg", "ssh_pwauth: false\nusers:\n  - name: a\n    lock_passwd: true\n    passwd: '*'\n"),
        ("/etc/iscsi/initiatorname.iscsi", "GenerateName=yes\n"),
        ("/etc/hostname", "localhost\n"),
        ("/etc/mailname", "localhost\n"),
        ("/etc/cloud/cloud.cfg.d/99-site.cfg", "datasource_list: [NoCloud]\n"),
        ("/var/lib/mysql/debian-11.8.flag", ""),
        ("/var/lib/redis/dump.rdb", RDB_HEAD.decode("latin-1") + "\xff\x7e"),
        ("/var/lib/prometheus/metrics2/queries.active", "x"),
        ("/var/lib/docker/image/overlay2/repositories.json", '{"Repositories":{}}'),
        ("/var/lib/docker/network/files/local-kv.db", "x"),
        ("/var/spool/postfix/etc/services", "x"),
        ("/etc/lvm/lvm.conf", "devices {}\n"),
        ("/opt/doc/how-to.txt", "The file begins with -----BEGIN PRIVATE KEY----- and so on.\n"),
        ("/usr/share/doc/tool/key.pem", PEM),
        ("/opt/core", "not a dump\n"),
        ("/etc/apt/sources.list.d/a.list", "# deb http://192.168.1.5/debian trixie main\ndeb mirror+file:/etc/apt/sources.list.d/a.list trixie main\n"),
        ("/home/person/.ssh/id_ed25519.pub", "ssh-ed25519 AAAA\n"),
        ("/etc/sudoers.d/slurm", "slurm ALL=(root) NOPASSWD: /usr/sbin/reboot\n"),
        ("/etc/cloud/cloud.cfg.d/92-expire.cfg", "chpasswd: { expire: False }\n"),
        ("/etc/multipath/wwids", "# Multipath wwids, Version : 1.0\n"),
        ("/etc/lvm/lvm.conf", '# global_filter = [ "a|/dev/sdb|" ]\nfilter = [ "a|.*|" ]\n'),
        ("/etc/mdadm/mdadm.conf", "HOMEHOST <system>\nARRAY <ignore> UUID=a:b:c:d\n"),
        ("/etc/initramfs-tools/conf.d/resume", "RESUME=none\n"),
        ("/etc/crypttab", "# <target> <source>\nscratch /dev/vdb /dev/urandom swap,nofail\n"),
        ("/etc/sysctl.conf", "# nothing\n"),
        ("/etc/pam.d/common-auth", "auth [success=1 default=ignore] pam_unix.so nullok\nauth requisite pam_deny.so\nauth required pam_permit.so\n"),
        ("/etc/pam.d/su", "auth sufficient pam_rootok.so\n# auth sufficient pam_wheel.so trust\n"),
        ("/etc/udev/rules.d/70-any.rules", 'SUBSYSTEM=="net", DRIVERS=="mlx5_core", NAME="ib%n"\n'),
        ("/usr/lib/systemd/system/getty@.service", "[Service]\nExecStart=-/sbin/agetty -o '-- \\\\u' --noreset --noclear - ${TERM}\n"),
    ],
)
def test_what_only_looks_wrong_is_no_finding(name: str, content: str, image: FakeImage) -> None:
    image.write(name, content, 0o640)
    assert findings_of(image) == []


@pytest.mark.parametrize(
    "breaks",
    [
        (
            link("/etc/systemd/system/multi-user.target.wants/munge.service", "/usr/lib/systemd/system/munge.service"),
            write("/etc/systemd/system/munge.service.d/10.conf", "[Unit]\nConditionFileNotEmpty=/etc/munge/munge.key\n"),
        ),
        (
            write("/etc/postgresql/17/main/postgresql.conf", "ssl_key_file = '/etc/ssl/private/ssl-cert-snakeoil.key'\n"),
            link("/etc/systemd/system/basic.target.wants/hyperscaler-certificate.service", "/etc/systemd/system/hyperscaler-certificate.service"),
        ),
        (write("/etc/postfix/main.cf", "# myorigin = /etc/mailname\nmyorigin = $mydomain\n"),),
        (write("/etc/postfix/main.cf", "myorigin = /etc/mailname\n"), write("/etc/mailname", "localhost\n")),
    ],
)
def test_what_is_made_again_or_waited_for_is_no_finding(breaks: tuple[Break, ...], image: FakeImage) -> None:
    several(*breaks)(image)
    assert findings_of(image) == []


def test_names_of_files_with_passwords_are_no_passwords(image: FakeImage) -> None:
    image.append("/etc/fstab", "//files/share /share cifs credentials=/run/x,_netdev 0 0\nmon1:/ /ceph ceph name=a,secretfile=/run/y,_netdev 0 0\n")
    image.append("/etc/fstab", "# //files/old /old cifs password=abc 0 0\n")
    assert findings_of(image) == []


@pytest.mark.parametrize("secret", ["!", "*", "!*", "!!", "!$y$j9T$abc$def"])
def test_a_locked_account_without_a_key_is_no_way_in(secret: str, image: FakeImage) -> None:
    image.append("/etc/passwd", "ops:x:2222:2222::/home/ops:/bin/bash\nnew:x:2223:2223::/home/new:/bin/bash\n")
    image.append("/etc/shadow", f"ops:{secret}:20000:0:99999:7:::\n")
    assert findings_of(image) == []


@pytest.mark.parametrize(
    "breaks",
    [
        (write("/etc/cloud/cloud.cfg.d/90_dpkg.cfg", f"datasource_list: {ALL_SOURCES}\n"),),
        (write("/etc/cloud/cloud.cfg.d/99-site.cfg", "datasource: {Ec2: {timeout: 5}}\n"),),
        (
            write("/usr/lib/systemd/system/cloud-init-local.service", "[Service]\nType=oneshot\n[Install]\nWantedBy=cloud-init.target\n"),
            link("/etc/systemd/system/cloud-init.target.wants/cloud-init-local.service", "/usr/lib/systemd/system/cloud-init-local.service"),
        ),
        (write("/etc/cloud/cloud.cfg.d/10-a.cfg", "datasource_list: [Ec2]\n"), write("/etc/cloud/cloud.cfg.d/20-b.cfg", f"datasource_list: {ALL_SOURCES}\n")),
    ],
)
def test_cloud_init_that_looks_everywhere_is_no_finding(breaks: tuple[Break, ...], image: FakeImage) -> None:
    image.write("/usr/bin/cloud-init", "x")
    several(*breaks)(image)
    assert findings_of(image) == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("/etc/default/grafana-server", "GF_SECURITY_ADMIN_PASSWORD__FILE=/run/secret"),
        ("/etc/systemd/system/grafana-server.service.d/10-site.conf", "[Service]\nEnvironment=GF_SECURITY_ADMIN_PASSWORD__FILE=/run/secret"),
        ("/etc/systemd/system/grafana-server.service.d/10-site.conf", "[Service]\nEnvironment=GF_SECURITY_ADMIN_PASSWORD=$__file{/run/secret}"),
        ("/etc/systemd/system/grafana-server.service.d/10-site.conf", '[Service]\nEnvironment="GF_SECURITY_ADMIN_PASSWORD__FILE=%d/secret"'),
    ],
)
def test_a_password_of_grafana_that_a_file_holds_is_no_finding(name: str, line: str, image: FakeImage) -> None:
    image.write("/etc/grafana/grafana.ini", "[security]\n;admin_password = admin\n")
    image.write(name, f"{line}\n")
    assert findings_of(image) == []


def test_packaged_private_keys_are_examples(image: FakeImage) -> None:
    image.write("/opt/package/test.pem", PEM)
    image.append("/var/lib/dpkg/info/base-files.list", "/opt\n/opt/package\n/opt/package/test.pem\n")
    assert findings_of(image) == []


def test_files_that_dpkg_leaves_out_may_be_missing(image: FakeImage) -> None:
    image.remove("/usr/bin/tool")
    image.write("/etc/dpkg/dpkg.cfg.d/excludes", "path-exclude=/usr/bin/*\npath-include=/usr/bin/other\n")
    assert findings_of(image) == []
    image.write("/etc/dpkg/dpkg.cfg.d/excludes", "path-exclude=/usr/bin/*\npath-include=/usr/bin/t*\n")
    assert [finding.rule for finding in findings_of(image)] == ["package.missing_file"]


def test_diverted_files_are_compared_where_they_lie(image: FakeImage) -> None:
    image.path("/usr/bin/tool").rename(image.path("/usr/bin/tool.packaged"))
    image.write("/usr/bin/tool", "another tool\n")
    image.write("/var/lib/dpkg/diversions", "/usr/bin/tool\n/usr/bin/tool.packaged\nother-package\n")
    assert findings_of(image) == []


def test_links_never_lead_out_of_the_image(image: FakeImage, tmp_path: Path) -> None:
    (tmp_path / "secret.pem").write_text(PEM)
    image.link("/opt/link", str(tmp_path))
    image.link("/etc/outside.conf", "../../../secret.pem")
    assert findings_of(image) == []
    assert image.subject().tree.text("/etc/outside.conf") == ""
