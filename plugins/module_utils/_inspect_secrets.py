# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Rules on secrets: no key, password or token that everybody with the image would have."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Finding, Group, Rule, Subject, error
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import ini_values

KEY_FOLDERS = ("/etc", "/root", "/home", "/var/lib", "/opt", "/srv", "/usr/local", "/boot")
# Thousands of small files that dpkg alone writes.
DPKG_INFO = "/var/lib/dpkg/info/"
KEY_LIMIT = 1 << 20
ELF_MAGIC = b"\x7fELF"
PRIVATE_KEY_TEXT = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----\s*?(?:\r?\n|(?:\\r)?\\n)\s*[A-Za-z0-9+/:]")

MUNGE = error("secret.munge", "Remove it; give each cluster its own key when it is set up (cloud-init, or mungekey on the controller).")
SLURM = error("secret.slurm", "Remove it; give each cluster its own key when it is set up.")
SLURMDBD = error("secret.slurmdbd", "Remove StoragePass (or the file); write it on first boot with a password made there.")
BEEGFS = error("secret.beegfs", "Remove it; give each cluster its own connection secret when it is set up.")
WIREGUARD = error("secret.wireguard", "Remove the key; make one on each machine on first boot (wg genkey).")
KUBERNETES = error("secret.kubernetes", "Remove it; tokens and certificates belong to one cluster and come in when a machine joins it.")
DKMS_KEY = error("secret.dkms_key", "Remove it; whoever has it can sign modules for every machine that trusts it. DKMS makes a new one when it needs it.")
PRIVATE_KEY = error("secret.private_key", "Remove it, and make a key on each machine instead.")
RAMDISK = error(
    "secret.ramdisk",
    "Keep it out of the initial RAM disk (its hook, KEYFILE_PATTERN, or the folder of dropbear), and run update-initramfs inside the image.",
)
HISTORY = error("secret.history", "Remove it; it may hold passwords and tells how the image was built.")
WIFI = error("secret.wifi", "Remove the connection.")
CREDENTIALS = error("secret.credentials", "Remove it; credentials come in on each machine.")
GRAFANA = error("secret.grafana", "Set disable_initial_admin_creation = true, or admin_password = $__file{…} with a file that is made on first boot.")

ABSENT: tuple[tuple[Rule, str, tuple[str, ...]], ...] = (
    (MUNGE, "is a MUNGE key or seed, which every cluster from this image would share.", ("/etc/munge/munge.key", "/var/lib/munge/*seed")),
    (
        SLURM,
        "is a key of Slurm, which every cluster from this image would share.",
        ("/etc/slurm/*.key", "/etc/slurm/*.jwks", "/etc/slurm/jwks*.json", "/var/lib/slurm/**/*.key", "/var/spool/slurm*/**/*.key"),
    ),
    (CREDENTIALS, "identifies the machine to a service.", ("/etc/krb5.keytab", "/etc/docker/key.json", "/var/lib/tailscale/*.state")),
    (
        CREDENTIALS,
        "is the key of a cluster, which every cluster from this image would share.",
        ("/etc/corosync/authkey", "/etc/pacemaker/authkey", "/etc/ceph/*.keyring"),
    ),
    (BEEGFS, "is the connection secret of BeeGFS.", ("/etc/beegfs/*[cC]onn*[aA]uth*",)),
    (WIREGUARD, "is a key of WireGuard.", ("/etc/wireguard/*.key", "/etc/wireguard/*private*")),
    (
        KUBERNETES,
        "is state of a Kubernetes cluster.",
        (
            "/var/lib/rancher/k3s/server/token",
            "/var/lib/rancher/k3s/server/*-token",
            "/var/lib/rancher/k3s/server/tls/**/*.key",
            "/var/lib/rancher/k3s/server/cred/*",
            "/var/lib/rancher/k3s/server/db/**/*",
            "/var/lib/rancher/k3s/agent/*.kubeconfig",
            "/var/lib/rancher/k3s/agent/*.key",
            "/etc/rancher/node/password",
            "/etc/rancher/k3s/k3s.yaml",
            "/var/lib/kubelet/pki/*",
            "/var/lib/kubelet/kubeadm-flags.env",
            "/etc/kubernetes/pki/**/*",
            "/etc/kubernetes/*.conf",
            "/var/lib/etcd/**/*",
        ),
    ),
    (DKMS_KEY, "is the private key that signs kernel modules.", ("/var/lib/dkms/mok.key", "/var/lib/shim-signed/mok/*.priv", "/etc/dkms/*.key")),
)
HISTORIES = (".*_history", ".lesshst", ".viminfo", ".wget-hsts", ".histfile", ".local/share/fish/fish_history")
CREDENTIAL_FILES = (
    ".netrc",
    ".aws/credentials",
    ".git-credentials",
    ".config/git/credentials",
    ".config/gcloud/*.db",
    ".config/gcloud/application_default_credentials.json",
    ".azure/*token*",
    ".kube/config",
    ".docker/config.json",
    ".config/containers/auth.json",
    ".pypirc",
    ".vault-token",
    ".my.cnf",
    ".pgpass",
    ".gnupg/private-keys-v1.d/*",
    ".ssh/id_*",
    ".apptainer/*.json",
    ".apptainer/remote.yaml",
    ".vnc/passwd",
    ".config/tigervnc/passwd",
    ".config/rclone/rclone.conf",
)


class Text(t.NamedTuple):
    """A rule on the content of files; the pattern finds what must not be there."""

    rule: Rule
    patterns: tuple[str, ...]
    content: re.Pattern[str]
    message: str


TEXTS = (
    Text(
        SLURMDBD,
        ("/etc/slurm*/slurmdbd.conf",),
        re.compile(r"^\s*StoragePass\s*=", re.MULTILINE | re.IGNORECASE),
        "holds the password of the accounting database.",
    ),
    Text(
        WIREGUARD,
        ("/etc/wireguard/*", "/etc/systemd/network/*.netdev", "/etc/cloud/cloud.cfg.d/*.cfg"),
        re.compile(r"^\s*(PrivateKey|PresharedKey)\s*=\s*\S", re.MULTILINE),
        "holds a key of WireGuard.",
    ),
    Text(
        KUBERNETES,
        ("/etc/rancher/k3s/config.yaml", "/etc/rancher/k3s/config.yaml.d/*", "/etc/systemd/system/k3s*.env", "/etc/default/k3s*"),
        re.compile(r"^\s*(agent-token|token|K3S_TOKEN|K3S_AGENT_TOKEN)\s*[:=]\s*[\"']?[^\s\"']", re.MULTILINE),
        "holds the token of a K3s cluster.",
    ),
    Text(
        WIFI,
        ("/etc/NetworkManager/system-connections/*", "/etc/wpa_supplicant/*.conf", "/etc/wpa_supplicant.conf"),
        re.compile(r"^\s*(psk|password|wep-key\d)\s*=\s*\S", re.MULTILINE),
        "holds the password of a wireless network.",
    ),
    Text(WIFI, ("/etc/netplan/*.yaml",), re.compile(r"^\s*wifis:[\s\S]*?\bpassword:\s*\S", re.MULTILINE), "holds the password of a wireless network."),
    Text(CREDENTIALS, ("/etc/apt/auth.conf", "/etc/apt/auth.conf.d/*"), re.compile(r"\bpassword\s+\S"), "holds a password of a package archive."),
    Text(
        CREDENTIALS,
        ("/etc/apt/sources.list", "/etc/apt/sources.list.d/*", "/etc/apt/apt.conf.d/*"),
        re.compile(r"https?://[^\s/@:]+:[^\s/@]+@"),
        "holds a password in an address.",
    ),
    Text(CREDENTIALS, ("/var/cache/debconf/passwords.dat",), re.compile(r"^Value:\s*\S", re.MULTILINE), "holds a password that a package asked for."),
    Text(
        CREDENTIALS,
        ("/etc/sssd/sssd.conf", "/etc/sssd/conf.d/*.conf", "/etc/nslcd.conf", "/etc/ldap.conf", "/etc/libnss-ldap.conf", "/etc/pam_ldap.conf"),
        re.compile(r"^\s*(?:ldap_default_authtok\s*=|bindpw\s|rootpwmodpw\s)\s*\S", re.MULTILINE),
        "holds the password by which the directory service is read.",
    ),
    Text(
        CREDENTIALS,
        ("/etc/ipsec.secrets", "/etc/ipsec.d/*.secrets", "/etc/swanctl/conf.d/*.conf", "/etc/swanctl/swanctl.conf"),
        re.compile(r"\b(?:PSK|EAP|XAUTH)\s+[\"0]|^\s*secret\s*=\s*\S", re.MULTILINE),
        "holds a secret of IPsec.",
    ),
    Text(
        CREDENTIALS,
        ("/etc/ppp/*-secrets", "/etc/davfs2/secrets", "/etc/postfix/sasl_passwd", "/etc/exim4/passwd.client", "/etc/ldap.secret"),
        re.compile(r"^\s*[^#\s]", re.MULTILINE),
        "holds a password for another machine.",
    ),
    Text(
        CREDENTIALS,
        ("/etc/*cred*", "/etc/samba/*cred*", "/etc/cifs*", "/root/.smbcredentials"),
        re.compile(r"^\s*password\s*=\s*\S", re.MULTILINE),
        "holds a password for another machine.",
    ),
    Text(
        CREDENTIALS,
        ("/etc/fstab", "/etc/auto.*", "/etc/auto.master.d/*", "/etc/systemd/system/*.mount", "/etc/systemd/system/*.automount"),
        re.compile(r"(?:^|[,\s=])(?:pass(?:word2?)?|secret)=[^,\s]", re.MULTILINE),
        "holds the password or key of a file server.",
    ),
    Text(
        CREDENTIALS,
        ("/etc/environment", "/etc/environment.d/*", "/etc/profile.d/*"),
        re.compile(r"^\s*(?:export\s+)?(?:AWS_SECRET_ACCESS_KEY|\w*_(?:PASSWORD|TOKEN|SECRET_KEY))=[\"']?[^\s\"'$]", re.MULTILINE),
        "holds a secret that every process of every user sees.",
    ),
    Text(CREDENTIALS, ("/etc/mysql/debian.cnf",), re.compile(r"^\s*password\s*=\s*\S", re.MULTILINE), "holds the password of the maintenance account."),
)
GRAFANA_ENVIRONMENT = ("/etc/default/grafana-server", "/etc/systemd/system/grafana-server.service.d/*.conf")


def check_secrets(subject: Subject) -> t.Iterator[Finding]:
    """No known place of a secret holds one."""
    tree = subject.tree
    for rule, message, patterns in ABSENT:
        yield from (rule.at(entry.path, message) for entry in tree.glob(*patterns) if not entry.is_folder)
    for text in TEXTS:
        for entry in tree.files(*text.patterns):
            if text.content.search(_without_comments(tree.text(entry.path))):
                yield text.rule.at(entry.path, text.message)
    for rule, message, names in ((HISTORY, "is a history of commands of the build.", HISTORIES), (CREDENTIALS, "holds credentials.", CREDENTIAL_FILES)):
        yield from (rule.at(entry.path, message) for entry in tree.in_homes(*names) if entry.is_file and entry.size and not entry.path.endswith(".pub"))
    for path, name in subject.answers.ramdisk:
        yield RAMDISK.at(path, f"holds {name}, which every machine from this image has.")
    yield from _check_grafana(subject)


def check_private_keys(subject: Subject) -> t.Iterator[Finding]:
    """No file that the build made holds a private key."""
    tree, packages = subject.tree, subject.packages
    known = {entry.path for rule, _message, patterns in ABSENT if rule in (KUBERNETES, DKMS_KEY) for entry in tree.glob(*patterns)}
    known |= {entry.path for entry in tree.in_homes(*CREDENTIAL_FILES)} | {entry.path for entry in tree.glob("/etc/ssh/ssh_host_*")}
    folders = tuple(f"{folder}/" for folder in KEY_FOLDERS)
    for entry in sorted(tree.entries.values(), key=lambda entry: entry.inode):
        if not (entry.is_file and entry.size and entry.path.startswith(folders)) or entry.path.startswith(DPKG_INFO):
            continue
        if entry.path in known or entry.path in packages.owned:
            continue
        data = tree.data(entry.path, KEY_LIMIT)
        if not data.startswith(ELF_MAGIC) and PRIVATE_KEY_TEXT.search(data):
            yield PRIVATE_KEY.at(entry.path, "holds a private key.")


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith(("#", ";")))


def _check_grafana(subject: Subject) -> t.Iterator[Finding]:
    path = "/etc/grafana/grafana.ini"
    if subject.tree.target(path) is None:
        return
    values = ini_values("[global]\n" + subject.tree.text(path))
    password = values.get(("security", "admin_password"), "") or "admin"
    if values.get(("security", "disable_initial_admin_creation"), "").lower() == "true":
        return
    environment = "\n".join(subject.tree.text(entry.path) for entry in subject.tree.files(*GRAFANA_ENVIRONMENT))
    if re.search(r"^(?:Environment=[\"']?)?GF_SECURITY_ADMIN_PASSWORD(?:__FILE=\S|=\$__)", environment, re.MULTILINE) or password.startswith("$__"):
        return
    what = "lets Grafana start with the password 'admin'" if password == "admin" else "holds the password of Grafana's administrator"
    yield GRAFANA.at(path, f"{what}.")


SECRET_RULES = (MUNGE, SLURM, SLURMDBD, BEEGFS, WIREGUARD, KUBERNETES, DKMS_KEY, RAMDISK, HISTORY, WIFI, CREDENTIALS, GRAFANA)
GROUPS = (
    Group("secrets", SECRET_RULES, check_secrets),
    Group("private_keys", (PRIVATE_KEY,), check_private_keys),
)
