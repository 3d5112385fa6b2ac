# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""What must not be in a sealed image: the table of rules, as data only.

Patterns are relative to the root, one wildcard level per ``*``; ``**`` stands for any number of folders, and a leading ``~`` for the home of each account.
"""

from __future__ import annotations

import dataclasses
import enum
import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._pins import PINS, Pin
from ansible_collections.hyperscaler.images.plugins.module_utils._seal_names import Reader, is_given_mail_name, is_given_name, is_given_resolver


class Category(enum.Enum):
    """Why something is removed. Everything but secrets comes back by itself on a machine that has booted."""

    IDENTITY = "identity"
    SECRETS = "secrets"
    ACCESS = "access"
    STATE = "state"
    LOGS = "logs"
    CACHES = "caches"


class Action(enum.Enum):
    """What happens to the paths that match."""

    REMOVE = "remove"
    EMPTY = "empty"
    REMOVE_FILES = "remove_files"
    TRUNCATE = "truncate"
    TRUNCATE_FILES = "truncate_files"
    STRIP = "strip"
    REPLACE = "replace"
    REMOVE_IF_EMPTY = "remove_if_empty"
    FORGET = "forget"


@dataclasses.dataclass(frozen=True)
class Rule:
    """One sentence of the table: what, where, and how it is made harmless.

    ``strip`` is the text that STRIP takes out of lines that are not comments; ``content`` is what REPLACE writes.
    A file that is not ``given`` by the build machine was written for the image, and TRUNCATE and REPLACE leave it alone.
    ``again`` are patterns of what makes the paths again at the first boot: without any of them, REMOVE leaves the paths to the inspection.
    """

    name: str
    category: Category
    action: Action
    patterns: tuple[str, ...]
    create: bool = False
    strip: re.Pattern[str] | None = None
    content: str = ""
    given: t.Callable[[str, Reader], bool] | None = None
    again: tuple[str, ...] = ()


APT_PROXY = re.compile(r'(?:Acquire::[\w:.\[\]/-]*?)?\bProxy(?:-Auto-Detect)?(?:::[\w.-]+)?\s+"[^"]*"\s*;', re.IGNORECASE)
ENVIRONMENT_PROXY = re.compile(r"^\s*(?:export\s+)?(?:https?|ftp|all|no|rsync)_proxy\s*=.*$", re.IGNORECASE)
HOMES = ("root", "home/*")
POSTFIX_QUEUES = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "maildrop", "saved", "trace")


def _in_homes(*names: str) -> tuple[str, ...]:
    return tuple(f"{home}/{name}" for home in HOMES for name in names)


def _pin_rule(pin: Pin) -> Rule:
    """What sealing does about something that ties an image to the machine that built it."""
    content = pin.sealed or ""
    return Rule(pin.name, Category.IDENTITY, Action.REPLACE if content else Action.REMOVE, pin.patterns, content=content)


_ID, _SECRET, _ACCESS = Category.IDENTITY, Category.SECRETS, Category.ACCESS
_STATE, _LOGS, _CACHE = Category.STATE, Category.LOGS, Category.CACHES
_RM = Action.REMOVE

RULES: tuple[Rule, ...] = (
    Rule("SSH host keys", _ID, _RM, ("etc/ssh/ssh_host_*",)),
    # An empty file makes systemd create an id without calling it a first boot; "uninitialized" would re-enable every disabled service.
    Rule("machine id", _ID, Action.TRUNCATE, ("etc/machine-id",), create=True),
    Rule("D-Bus machine id", _ID, _RM, ("var/lib/dbus/machine-id",)),
    Rule("host name", _ID, Action.TRUNCATE, ("etc/hostname",), given=is_given_name),
    # Postfix does not start when its configuration names a file that does not exist.
    Rule("mail name", _ID, Action.REPLACE, ("etc/mailname",), content="localhost\n", given=is_given_mail_name),
    Rule("random seed", _ID, _RM, ("var/lib/systemd/random-seed", "var/lib/urandom/random-seed", "boot/efi/loader/random-seed", "boot/loader/random-seed")),
    Rule("credential secret", _ID, _RM, ("var/lib/systemd/credential.secret",)),
    # PostgreSQL does not start without it, and its package has nothing that makes it again. The role seal has a unit for that.
    Rule(
        "self-signed certificate",
        _ID,
        _RM,
        ("etc/ssl/private/ssl-cert-snakeoil.key", "etc/ssl/certs/ssl-cert-snakeoil.pem"),
        again=("etc/systemd/system/*.wants/hyperscaler-certificate.service",),
    ),
    Rule("Docker identity", _ID, _RM, ("etc/docker/key.json", "var/lib/docker/engine-id")),
    Rule("containerd identity", _ID, _RM, ("var/lib/containerd/io.containerd.grpc.v1.introspection/uuid",)),
    Rule("key of the firmware service", _ID, _RM, ("var/lib/fwupd/pki/*",)),
    *(_pin_rule(pin) for pin in PINS if pin.sealed is not None),
    Rule("Docker swarm", _SECRET, _RM, ("var/lib/docker/swarm/*",)),
    Rule("Kerberos keytab", _SECRET, _RM, ("etc/krb5.keytab",)),
    Rule("MUNGE key", _SECRET, _RM, ("etc/munge/munge.key", "var/lib/munge/*seed")),
    Rule("Slurm key", _SECRET, _RM, ("etc/slurm/*.key", "etc/slurm/*.jwks", "etc/slurm/jwks*", "var/lib/slurm/**/*.key", "var/spool/slurm*/**/*.key")),
    Rule("BeeGFS key", _SECRET, _RM, ("etc/beegfs/conn.auth", "etc/beegfs/conn*auth*file*", "etc/beegfs/*.pem")),
    Rule("WireGuard key", _SECRET, _RM, ("etc/wireguard/*",)),
    Rule("Tailscale state", _SECRET, _RM, ("var/lib/tailscale/*",)),
    Rule(
        "K3s state",
        _SECRET,
        _RM,
        (
            "etc/rancher/node",
            "etc/rancher/k3s/k3s.yaml",
            "var/lib/rancher/k3s/server",
            *(f"var/lib/rancher/k3s/agent/{name}" for name in ("*.key", "*.crt", "*.kubeconfig", "etc", "client-ca*", "server-ca*")),
        ),
    ),
    Rule("Kubernetes credentials", _SECRET, _RM, ("etc/kubernetes/pki", "etc/kubernetes/*.conf", "var/lib/kubelet/pki", "var/lib/etcd/*")),
    Rule("module signing key", _SECRET, _RM, ("var/lib/dkms/mok.key", "var/lib/dkms/mok.pub", "var/lib/shim-signed/mok/MOK.*")),
    Rule("MIG manager state", _SECRET, _RM, ("etc/nvidia-mig-manager/config.yaml",)),
    Rule("package server credentials", _SECRET, _RM, ("etc/apt/auth.conf", "etc/apt/auth.conf.d/*")),
    Rule(
        "credentials of an account",
        _SECRET,
        _RM,
        _in_homes(
            *(".netrc", ".git-credentials", ".aws", ".kube", ".docker/config.json", ".config/containers/auth.json", ".config/gcloud", ".gnupg"),
            *(".apptainer/*.json", ".apptainer/remote.yaml", ".config/pip/pip.conf", ".pip/pip.conf", ".pypirc"),
        ),
    ),
    Rule("debconf passwords", _SECRET, Action.TRUNCATE, ("var/cache/debconf/passwords.dat",)),
    Rule("authorized keys", _ACCESS, _RM, _in_homes(".ssh/authorized_keys*", ".ssh/known_hosts*", ".ssh/id_*", ".ssh/environment")),
    Rule("cloud-init sudo rule", _ACCESS, _RM, ("etc/sudoers.d/90-cloud-init-users",)),
    Rule("account backup", _ACCESS, _RM, tuple(f"etc/{name}-" for name in ("passwd", "shadow", "group", "gshadow", "subuid", "subgid"))),
    Rule(
        "cloud-init state",
        _STATE,
        _RM,
        (
            "var/lib/cloud/*",
            "etc/netplan/50-cloud-init.yaml",
            "etc/NetworkManager/conf.d/99-cloud-init.conf",
            "etc/NetworkManager/conf.d/30-cloud-init-ip6-addr-gen-mode.conf",
            "etc/NetworkManager/system-connections/cloud-init-*.nmconnection",
            "etc/systemd/network/10-cloud-init-*.network",
            "etc/network/interfaces.d/50-cloud-init*",
            "etc/ssh/sshd_config.d/50-cloud-init.conf",
        ),
    ),
    # Made by a boot; an image that was never booted has none of them. What is in one of them was asked for.
    Rule("empty folder of a service", _STATE, Action.REMOVE_IF_EMPTY, ("var/lib/cloud", "var/lib/systemd/linger")),
    Rule(
        "DHCP lease",
        _STATE,
        _RM,
        ("var/lib/dhcp/*.lease*", "var/lib/dhcpcd/*", "var/lib/dhclient/*", "var/lib/dibbler/*", "etc/dhcpcd.duid", "etc/dhcpcd.secret"),
    ),
    Rule("network manager state", _STATE, _RM, ("var/lib/NetworkManager/*", "var/lib/systemd/network/*")),
    Rule("name servers", _STATE, Action.TRUNCATE, ("etc/resolv.conf",), given=is_given_resolver),
    Rule("apt proxy", _STATE, Action.STRIP, ("etc/apt/apt.conf", "etc/apt/apt.conf.d/*"), strip=APT_PROXY),
    Rule("proxy of the environment", _STATE, Action.STRIP, ("etc/environment", "etc/environment.d/*.conf"), strip=ENVIRONMENT_PROXY),
    Rule(
        "clock",
        _STATE,
        _RM,
        (
            *("var/lib/systemd/timesync", "var/lib/chrony/drift", "var/lib/chrony/rtc", "var/lib/chrony/*.dat"),
            *("var/lib/ntp/*drift*", "var/lib/ntpsec/*drift*", "var/lib/openntpd/db/*"),
        ),
    ),
    Rule("timer and run state", _STATE, _RM, tuple(f"var/lib/systemd/{name}/*" for name in ("timers", "rfkill", "backlight", "pstore"))),
    Rule(
        "state of package upgrades",
        _STATE,
        _RM,
        ("var/lib/apt/periodic/*", "var/lib/apt/daily_lock", "var/lib/unattended-upgrades/*", "var/lib/PackageKit/transactions.db*"),
    ),
    Rule("state of log rotation", _STATE, _RM, ("var/lib/logrotate/status*",)),
    # A saved default entry is kept when it was chosen by hand: it decides which kernel starts.
    Rule("state of the boot loader", _STATE, Action.FORGET, ("boot/grub/grubenv",)),
    # Containers, images, volumes and networks stay: a role made them on purpose, and the inspection reports them.
    Rule(
        "run state of containers",
        _STATE,
        _RM,
        (
            *("var/lib/docker/tmp/*", "var/lib/docker/runtimes/*", "var/lib/containerd/io.containerd.runtime.*/*", "var/lib/containerd/tmpmounts/*"),
            *("var/lib/containers/storage/*.lock", "var/lib/containers/storage/*/*.lock", "var/lib/cni/networks/*/*", "var/lib/cni/results/*"),
            # A kubelet does not start on a machine with other processors or other memory.
            *("var/lib/kubelet/cpu_manager_state", "var/lib/kubelet/memory_manager_state"),
        ),
    ),
    # The first node that takes over the name of another cluster refuses to start.
    Rule("Slurm state", _STATE, _RM, tuple(f"var/{place}/*" for place in ("spool/slurmctld", "spool/slurmd", "lib/slurm/slurmctld", "lib/slurm/slurmd"))),
    Rule("banned addresses", _STATE, _RM, ("var/lib/fail2ban/fail2ban.sqlite3*",)),
    Rule("state of the NFS server", _STATE, Action.TRUNCATE, ("var/lib/nfs/etab", "var/lib/nfs/rmtab", "var/lib/nfs/xtab")),
    Rule(
        "mail queue",
        _STATE,
        _RM,
        (
            *(f"var/spool/postfix/{name}/*" for name in POSTFIX_QUEUES),
            *("var/spool/postfix/pid/*", "var/spool/postfix/etc/resolv.conf", "var/spool/postfix/etc/hosts", "var/lib/postfix/master.lock"),
            *("var/lib/postfix/prng_exch", "var/lib/postfix/*_scache*"),
            *("var/spool/exim4/input/*", "var/spool/exim4/msglog/*", "var/spool/exim4/db/*", "var/spool/nullmailer/queue/*", "var/spool/smtpd/queue/*"),
        ),
    ),
    Rule("core dump", _STATE, _RM, ("core", "core.*", "root/core", "root/core.*", "var/crash/*", "var/lib/systemd/coredump/*")),
    Rule("temporary file", _STATE, Action.EMPTY, ("tmp", "var/tmp", "run")),
    Rule("mail", _STATE, Action.TRUNCATE_FILES, ("var/mail", "var/spool/mail")),
    Rule("backup", _STATE, _RM, ("var/backups/*", "var/cache/debconf/*-old", "var/lib/dpkg/*-old")),
    Rule("LVM history", _STATE, _RM, ("etc/lvm/archive/*", "etc/lvm/backup/*")),
    Rule(
        "shell history",
        _STATE,
        _RM,
        _in_homes(".*_history", ".lesshst", ".viminfo", ".wget-hsts", ".bash_sessions", ".rnd", ".selected_editor"),
    ),
    Rule("Ansible temporary file", _CACHE, _RM, ("~/.ansible", "~/.ansible_async", ".ansible", ".ansible_async")),
    Rule("cache of an account", _CACHE, _RM, _in_homes(".cache")),
    Rule("package cache", _CACHE, Action.REMOVE_FILES, ("var/cache/apt",)),
    Rule("package list", _CACHE, Action.REMOVE_FILES, ("var/lib/apt/lists",)),
    Rule("package list helper", _CACHE, _RM, ("var/lib/apt/lists/auxfiles",)),
    Rule("cache of directory services", _CACHE, _RM, ("var/lib/sss/db/*", "var/lib/sss/mc/*", "var/cache/nscd/*")),
    Rule("cache of file names", _CACHE, _RM, ("var/lib/plocate/plocate.db", "var/lib/mlocate/mlocate.db")),
    Rule("cache of containers", _CACHE, _RM, ("var/lib/containers/cache/*", "var/cache/private/*")),
    Rule("cache of AppArmor", _CACHE, _RM, ("var/cache/apparmor/*",)),
    # netplan's package does not compile its program; the first run by root does.
    Rule("bytecode", _CACHE, _RM, ("usr/share/netplan/**/__pycache__",)),
    Rule("linker cache helper", _CACHE, _RM, ("var/cache/ldconfig/aux-cache",)),
    Rule("journal", _LOGS, _RM, ("var/log/journal/*",)),
    Rule("log of a container", _LOGS, Action.TRUNCATE, ("var/lib/docker/containers/*/*-json.log*",)),
    Rule(
        "log of the build",
        _LOGS,
        _RM,
        (
            *(f"var/log/{name}" for name in ("alternatives.log*", "bootstrap.log*", "dpkg.log*", "cloud-init*.log*", "dkms.log*", "fontconfig.log*")),
            *("var/log/apt/*", "var/log/installer", "var/log/unattended-upgrades/*"),
        ),
    ),
    # Made by the first login with a terminal. The name below /var/lib/wtmpdb is a link that belongs to the package.
    Rule("database of logins", _LOGS, _RM, ("var/log/wtmp.db*", "var/lib/lastlog/*.db*")),
    Rule("old log", _LOGS, _RM, tuple(f"var/log/**/{name}" for name in ("*.gz", "*.xz", "*.zst", "*.bz2", "*.[0-9]", "*.[0-9][0-9]", "*.old"))),
    # Emptied, not removed: packages and daemons rely on the owner and mode that these files were created with.
    Rule("log", _LOGS, Action.TRUNCATE_FILES, ("var/log",)),
)
