# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Rules on identity: nothing in an image may make two machines that start from it the same machine."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._cloud_config import parse
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Finding, Group, Subject, error, warning
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_grub import CONFIG as GRUB_CONFIG
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import assignments, ini_values, significant_lines
from ansible_collections.hyperscaler.images.plugins.module_utils._pins import MAC

MACHINE_ID_FILE = "/etc/machine-id"
POSTFIX = "/etc/postfix/main.cf"
POSTFIX_NAME = re.compile(r"^myhostname\s*=\s*(\S+)", re.MULTILINE)

MACHINE_ID = error("identity.machine_id", "Leave /etc/machine-id as an empty file (truncate it); systemd then makes a new one on each machine.")
DBUS_MACHINE_ID = error("identity.dbus_machine_id", "Remove it; D-Bus uses /etc/machine-id.")
SSH_HOST_KEY = error("identity.ssh_host_key", "Remove it; each machine makes its own on first boot.")
SSH_HOST_KEY_SERVICE = error(
    "identity.ssh_host_key_service", "Add and enable a unit that runs ssh-keygen -A before ssh.service, for machines without a cloud-init data source."
)
DROPBEAR_KEY = error("identity.dropbear_key", "Remove it, and let each machine make its own (dropbearkey, then update-initramfs when the RAM disk needs it).")
RANDOM_SEED = error("identity.random_seed", "Remove it; machines with the same seed start with the same random numbers.")
CREDENTIAL_SECRET = error("identity.credential_secret", "Remove it; systemd makes a new one on each machine.")
HOSTNAME = warning("identity.hostname", "Truncate /etc/hostname when each machine is to have a name of its own; it comes from cloud-init or DHCP then.")
HOSTS = warning("identity.hosts", "Remove the line for 127.0.1.1; it names the machine that the image was built on.")
MAIL_NAME = warning(
    "identity.mail_name",
    "Write localhost to it unless all machines send mail under this name; a missing file keeps Postfix from starting when its configuration names it.",
)
CLOUD_INIT = error("identity.cloud_init", "Run cloud-init clean --logs --seed --configs all inside the image, and remove what is left in /var/lib/cloud.")
DHCP = error("identity.dhcp", "Remove it; each machine asks for its own address under its own identifier.")
NETWORK = error("identity.network", "Remove the file, or match network cards by their name or driver instead of the address of one card.")
ADDRESS = warning("identity.address", "Let machines ask for their address (DHCP, cloud-init), or accept the finding when a network has one such machine.")
NETWORK_MANAGER = error("identity.network_manager", "Remove it; NetworkManager makes a new one on each machine.")

ABSENT = (
    (SSH_HOST_KEY, "is an SSH host key, which every machine from this image would share.", ("/etc/ssh/ssh_host_*",)),
    (
        DROPBEAR_KEY,
        "is a host key of Dropbear, which every machine from this image would share.",
        ("/etc/dropbear/dropbear_*_host_key", "/etc/dropbear/initramfs/dropbear_*_host_key"),
    ),
    (RANDOM_SEED, "is a saved random seed.", ("/var/lib/systemd/random-seed", "/var/lib/urandom/random-seed", "/boot/efi/loader/random-seed")),
    (CREDENTIAL_SECRET, "is the secret that systemd encrypts credentials with.", ("/var/lib/systemd/credential.secret",)),
    (
        CLOUD_INIT,
        "is state of a cloud-init instance, so cloud-init takes a new machine for one that it has set up.",
        (
            "/var/lib/cloud/instance",
            "/var/lib/cloud/instances/*",
            "/var/lib/cloud/sem/*",
            "/var/lib/cloud/data/*",
            "/var/lib/cloud/seed/*/*",
            "/var/lib/cloud/handlers/*",
        ),
    ),
    (
        CLOUD_INIT,
        "was written by cloud-init for the build machine.",
        (
            "/etc/netplan/50-cloud-init.yaml",
            "/etc/network/interfaces.d/50-cloud-init*",
            "/etc/NetworkManager/system-connections/cloud-init-*",
            "/etc/systemd/network/10-cloud-init-*",
            "/etc/ssh/sshd_config.d/50-cloud-init.conf",
            "/etc/sudoers.d/90-cloud-init-users",
        ),
    ),
    (
        DHCP,
        "is a DHCP lease or identifier of the build machine.",
        (
            "/var/lib/dhcp/*.lease*",
            "/var/lib/dhcpcd/*.lease*",
            "/var/lib/dhcpcd/duid",
            "/var/lib/dhcpcd/secret",
            "/var/lib/NetworkManager/*.lease",
            "/var/lib/systemd/network/**/*",
            "/etc/dhcpcd.duid",
        ),
    ),
    (NETWORK_MANAGER, "identifies the NetworkManager of the build machine.", ("/var/lib/NetworkManager/secret_key", "/var/lib/NetworkManager/seen-bssids")),
)
NETWORK_FILES = (
    (("/etc/netplan/*.yaml", "/etc/netplan/*.yml"), re.compile(rf"macaddress:\s*[\"']?{MAC}")),
    (("/etc/NetworkManager/system-connections/*",), re.compile(rf"^\s*(?:cloned-)?mac-address=\s*{MAC}", re.MULTILINE)),
    (("/etc/systemd/network/*",), re.compile(rf"^\s*(?:Permanent)?MACAddress=\s*{MAC}", re.MULTILINE)),
    (("/etc/network/interfaces", "/etc/network/interfaces.d/*"), re.compile(rf"^\s*hwaddress\s.*{MAC}", re.MULTILINE)),
    (("/etc/cloud/cloud.cfg", "/etc/cloud/cloud.cfg.d/*.cfg"), re.compile(rf"^[^#\n]*\bmac_?address[\"']?:\s*[\"']?{MAC}", re.MULTILINE)),
)
# Cards of a machine; bridges, tunnels and loopbacks may have the same address everywhere.
CARDS = re.compile(r"(?:en|eth|wl|ib|lan)\S*|\*")
STATIC = re.compile(r"^[ \t]*iface[ \t]+(\S+)[ \t]+inet6?[ \t]+static\b", re.MULTILINE)
# BOOTIF=: the card that PXELINUX booted from, after the type of hardware; ifname=: dracut names a card.
CARD_ARGUMENT = re.compile(rf"(?:BOOTIF=(?:[0-9a-fA-F]{{2}}[:-])?|ifname=[^:]+:){MAC}")
FIXED_ARGUMENT = re.compile(r"ip=\[?[0-9a-fA-F]*[.:][0-9a-fA-F.:]+\]?:.*")
KEY_UNITS = ("/etc/systemd/system/*.service", "/usr/lib/systemd/system/*.service", "/etc/systemd/system/*.service.d/*.conf")
KEY_COMMAND = re.compile(r"^Exec\w+=.*(ssh-keygen\s+-A|dpkg-reconfigure.*openssh-server)", re.MULTILINE)


def check_identity(subject: Subject) -> t.Iterator[Finding]:
    """Whatever must be different on each machine is not in the image."""
    yield from _check_machine_id(subject)
    for rule, message, patterns in ABSENT:
        for entry in subject.tree.glob(*patterns):
            if not entry.is_folder or rule is CLOUD_INIT:
                yield rule.at(entry.path, message)
    yield from _check_names(subject)
    yield from _check_network(subject)
    yield from _check_host_keys(subject)


def _check_machine_id(subject: Subject) -> t.Iterator[Finding]:
    entry = subject.tree.find(MACHINE_ID_FILE)
    value = subject.tree.text(MACHINE_ID_FILE).strip()
    if entry is None:
        yield MACHINE_ID.at(
            MACHINE_ID_FILE, "is missing, so systemd takes the boot for a first boot, or root is read-only then and the identity changes at every boot."
        )
    elif not entry.is_file:
        yield MACHINE_ID.at(MACHINE_ID_FILE, "is not a regular file.")
    elif value == "uninitialized":
        yield MACHINE_ID.at(
            MACHINE_ID_FILE,
            "holds 'uninitialized', so the first boot enables every service again that the build disabled and may ask questions on the console.",
        )
    elif entry.size:
        yield MACHINE_ID.at(MACHINE_ID_FILE, "is not empty, so every machine from this image would have the same identity.")
    dbus = subject.tree.find("/var/lib/dbus/machine-id")
    if dbus is not None and not dbus.is_link:
        yield DBUS_MACHINE_ID.at(dbus.path, "is a file of its own, so every machine from this image would have the same identity on D-Bus.")


def _check_names(subject: Subject) -> t.Iterator[Finding]:
    name = subject.tree.text("/etc/hostname").strip()
    if name and name != "localhost":
        yield HOSTNAME.at("/etc/hostname", f"names every machine from this image {name!r}.")
    pretty = assignments(subject.tree.text("/etc/machine-info")).get("pretty_hostname", "")
    if pretty:
        yield HOSTNAME.at("/etc/machine-info", f"names every machine from this image {pretty!r}.")
    sender = POSTFIX_NAME.findall(subject.tree.text(POSTFIX))
    if sender and sender[-1] not in ("localhost", "localhost.localdomain") and "$" not in sender[-1]:
        yield MAIL_NAME.at(POSTFIX, f"names every machine from this image {sender[-1]!r} in mail (myhostname).")
    mail_name = subject.tree.text("/etc/mailname").strip()
    if mail_name and mail_name != "localhost":
        yield MAIL_NAME.at("/etc/mailname", f"names every machine from this image {mail_name!r} in mail.")
    for line in significant_lines(subject.tree.text("/etc/hosts")):
        if line.split()[0] == "127.0.1.1":
            yield HOSTS.at("/etc/hosts", f"has the line {line!r}.")


def _check_network(subject: Subject) -> t.Iterator[Finding]:
    for patterns, address in NETWORK_FILES:
        for entry in subject.tree.files(*patterns):
            found = address.search(subject.tree.text(entry.path))
            if found:
                yield NETWORK.at(entry.path, f"is for one network card only ({found.group(0).strip()}).")
    for word in subject.kernel_arguments:
        if CARD_ARGUMENT.fullmatch(word):
            yield NETWORK.at(GRUB_CONFIG, f"is for one network card only ({word}).")
    for path, card in _fixed_addresses(subject):
        yield ADDRESS.at(path, f"gives the card {card} of every machine from this image the same address.")


def _fixed_addresses(subject: Subject) -> t.Iterator[tuple[str, str]]:
    """The file and the card of each fixed address."""
    tree = subject.tree
    for entry in tree.files("/etc/network/interfaces", "/etc/network/interfaces.d/*"):
        yield from ((entry.path, card) for card in STATIC.findall(tree.text(entry.path)) if CARDS.fullmatch(card))
    for entry in tree.files("/etc/systemd/network/*.network"):
        values = ini_values(tree.text(entry.path))
        card = values.get(("Match", "name"), "")
        if CARDS.match(card) and (values.get(("Network", "address")) or values.get(("Address", "address"))):
            yield entry.path, card
    for entry in tree.files("/etc/netplan/*.yaml", "/etc/netplan/*.yml"):
        network = (parse(tree.text(entry.path))[0] or {}).get("network")
        cards = network.get("ethernets") if isinstance(network, dict) else None
        for card, settings in cards.items() if isinstance(cards, dict) else ():
            if isinstance(settings, dict) and settings.get("addresses"):
                yield entry.path, str(card)
    for word in subject.kernel_arguments:
        if FIXED_ARGUMENT.fullmatch(word):
            yield GRUB_CONFIG, word.split(":")[5] if word.count(":") > 4 else "that is found first"


def _check_host_keys(subject: Subject) -> t.Iterator[Finding]:
    tree = subject.tree
    if tree.target("/usr/sbin/sshd") is None:
        return
    enabled = {
        entry.path.rpartition("/")[2]
        for entry in tree.glob("/etc/systemd/system/*.wants/*", "/etc/systemd/system/*.requires/*", "/usr/lib/systemd/system/*.wants/*")
    }
    for entry in tree.files(*KEY_UNITS):
        unit = entry.path.rpartition("/")[2] if entry.path.endswith(".service") else entry.path.split("/")[-2][: -len(".d")]
        if unit in enabled and KEY_COMMAND.search(tree.text(entry.path)):
            return
    yield SSH_HOST_KEY_SERVICE.at(
        "/etc/systemd/system", "has no enabled unit that makes SSH host keys, so sshd does not start on a machine without a cloud-init data source."
    )


RULES = (MACHINE_ID, DBUS_MACHINE_ID, *{rule: None for rule, _message, _patterns in ABSENT}, HOSTNAME, HOSTS, MAIL_NAME, NETWORK, ADDRESS, SSH_HOST_KEY_SERVICE)
GROUPS = (Group("identity", RULES, check_identity),)
