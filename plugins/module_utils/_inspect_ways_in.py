# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Rules on ways in: nobody can log in to the image, or become root in it, before somebody set it up."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Finding, Group, Subject, error
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_console import autologins, open_consoles
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_systemd_users import credentials, records
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree, User, significant_lines
from ansible_collections.hyperscaler.images.plugins.module_utils._pam import openings
from ansible_collections.hyperscaler.images.plugins.module_utils._polkit import polkit_grants
from ansible_collections.hyperscaler.images.plugins.module_utils._sshd_config import (
    DEFAULT_KEY_FILES,
    PUBLIC_KEY,
    SshdConfig,
    add_effective,
    places_of,
    read_sshd_config,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._sudoers import MAIN_FILE, Sudoers

LOCKED = ("", "*", "!", "x")
OLD_PASSWORDS = "/etc/security/opasswd"
CURRENT = ("/etc/shadow", "/etc/gshadow")
# Copies by editors, tools and packages give the same hashes away.
PASSWORD_FILES = (("/etc/shadow*", "user"), ("/var/backups/*shadow*", "user"), ("/etc/gshadow*", "group"))
EDITED = ("shadow.lock", "gshadow.lock")
# The folders that administrators use for keys by habit count even where the server is not told to read them.
KEY_PLACES = (
    *("/etc/ssh/authorized_keys*", "/etc/ssh/authorized_keys/*", "/etc/ssh/authorized_keys.d/*"),
    *("/etc/dropbear/authorized_keys", "/etc/dropbear/initramfs/authorized_keys", "/etc/dropbear-initramfs/authorized_keys"),
)
HOST_LISTS = ("/etc/hosts.equiv", "/etc/ssh/shosts.equiv")
SHELLS_WITHOUT_LOGIN = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false", "/bin/sync", "")
PAM_FILES = tuple(f"/etc/pam.d/{name}" for name in ("common-auth", "login", "sshd", "su", "su-l", "sudo", "sudo-i", "system-auth", "password-auth", "remote"))
NULLOK = re.compile(r"^\s*-?auth\s.*\bpam_unix\.so\b.*\bnullok(?:_secure)?\b", re.MULTILINE)
DOAS = re.compile(r"^\s*permit\s+(?:.*\s)?nopass\s.*$", re.MULTILINE)
DOAS_OTHER = re.compile(r"\bas\s+(?!root\b)\S+")

PASSWORD = error("secret.password", "Lock the account (passwd --lock) or remove it.")
EMPTY_PASSWORD = error("secret.empty_password", "Lock the account (passwd --lock).")
SUDO = error("secret.sudo", "Remove the line or file; cloud-init gives the first user its rights on first boot.")
BUILD_USER = error("secret.build_user", "Remove the user with its home (userdel --remove); people get accounts by cloud-init or a directory service.")
AUTHORIZED_KEY = error("secret.authorized_key", "Remove the file; keys come in by cloud-init.")
SUDO_SYNTAX = error("sudo.syntax", "Correct it (visudo -c names the place), or remove it; nobody gets the rights that it was meant to give.")
CREDENTIAL = error("secret.credential", "Remove it; systemd gives credentials to each machine by its firmware, hypervisor or user data.")
CONSOLE = error("secret.console", "Remove the setting, so that whoever is at the console has to log in.")
PAM = error("secret.pam", "Remove the line, so that a password is asked for.")
HOST_BASED = error("secret.host_based", "Remove the file or HostbasedAuthentication; name the hosts that are trusted when a cluster is set up.")


def check_ways_in(subject: Subject) -> t.Iterator[Finding]:
    """Nobody can log in to the image, or become root in it, without a credential that is given to each machine."""
    tree = subject.tree
    server = read_sshd_config(tree)
    add_effective(server, subject.answers.sshd)
    consoles = list(autologins(tree))
    yield from _check_users(tree, server, {name for _path, name in consoles})
    yield from _check_passwords(tree)
    yield from _check_keys(tree, server)
    for path, name in consoles:
        yield CONSOLE.at(path, f"logs {name} in at the console without a password.")
    for path, what in open_consoles(subject):
        yield CONSOLE.at(path, what)
    for path, what in records(tree):
        yield PASSWORD.at(path, what)
    for path, what in credentials(subject):
        yield CREDENTIAL.at(path, what)
    yield from _check_sudo(subject)
    yield from _check_root(subject)


def _check_users(tree: Tree, server: SshdConfig, consoles: t.Collection[str]) -> t.Iterator[Finding]:
    for user in tree.users:
        if user.password not in ("x", "*", "!"):
            rule, what = (PASSWORD, "a password in a file that everybody can read") if user.password else (EMPTY_PASSWORD, "an empty password")
            yield rule.at("/etc/passwd", f"gives the user {user.name} {what}{_accepted(tree) if not user.password else ''}.")
        way = _way_in(tree, user, server, consoles) if 1000 <= user.uid < 60000 and user.shell not in SHELLS_WITHOUT_LOGIN else ""
        if way:
            yield BUILD_USER.at("/etc/passwd", f"has the user {user.name} (uid {user.uid}), who can log in {way}.")


def _check_sudo(subject: Subject) -> t.Iterator[Finding]:
    """Sudo itself decides whether a rule gives somebody the rights of root, where it can be asked."""
    tree, said = subject.tree, subject.answers.sudoers
    grants = list(Sudoers(tree.text, tree.names).grants())
    if said is not None:
        effective = list(Sudoers(lambda path: said if path == MAIN_FILE else "", lambda _folder: ()).grants())
        grants = (grants or effective) if effective else []
    for fault in subject.answers.sudo_faults:
        what = f"has an error for which sudo passes over line {fault.line}" if fault.line else "is not as sudo needs it"
        yield SUDO_SYNTAX.at(fault.path, f"{what}: {fault.what}.")
    for grant in grants:
        yield SUDO.at(grant.path, f"lets {grant.who} become root without a password ({grant.text}).")


def _check_root(subject: Subject) -> t.Iterator[Finding]:
    """Nobody becomes root without a password."""
    tree = subject.tree
    for found in DOAS.finditer(tree.text("/etc/doas.conf")):
        if not DOAS_OTHER.search(found.group()):
            yield SUDO.at("/etc/doas.conf", f"lets somebody become root without a password ({found.group().strip()}).")
    for path, line in polkit_grants(subject):
        yield SUDO.at(path, f"lets somebody become root without a password ({line}).")
    for path, line in openings(tree):
        yield PAM.at(path, f"lets somebody in without a password ({line}).")


def _accepted(tree: Tree) -> str:
    """Who accepts an empty password."""
    readers = [entry.path for entry in tree.files(*PAM_FILES) if NULLOK.search(tree.text(entry.path))]
    return f", which is accepted (nullok in {readers[0]})" if readers else ""


def _check_keys(tree: Tree, server: SshdConfig) -> t.Iterator[Finding]:
    for path in sorted(_key_files(tree, server)):
        if significant_lines(tree.text(path)):
            yield AUTHORIZED_KEY.at(path, "lets the holder of a key log in to every machine from this image.")
    for words in server.all_of("TrustedUserCAKeys"):
        path = words[0] if words else ""
        if path.startswith("/") and significant_lines(tree.text(path)):
            yield AUTHORIZED_KEY.at(path, "lets whoever holds a certificate of this authority log in to every machine from this image.")
    commands = {word for words in server.all_of("AuthorizedKeysCommand") for word in words if word.startswith("/")}
    for path in sorted(commands):
        if PUBLIC_KEY.search(tree.text(path)):
            yield AUTHORIZED_KEY.at(path, "lets the holder of a key log in to every machine from this image (AuthorizedKeysCommand).")
    if server.allows("HostbasedAuthentication"):
        homes = (f"{home}/{name}" for home in tree.homes for name in (".shosts", ".rhosts"))
        for path in (*HOST_LISTS, *(homes if any(words[:1] == ("no",) for words in server.all_of("IgnoreRhosts")) else ())):
            if significant_lines(tree.text(path)):
                yield HOST_BASED.at(path, "lets users of the hosts that it lists log in without a credential of their own.")


def _key_files(tree: Tree, server: SshdConfig) -> set[str]:
    """The files with keys that the server reads for any account, also for one that a directory service will have."""
    patterns = set(KEY_PLACES)
    for name in {*server.key_files, *DEFAULT_KEY_FILES}:
        patterns.update(_literal(places_of(name, user)) for user in tree.users)
        patterns.add(_literal(name, tokens="*") if name.startswith("/") else "")
        if not name.startswith(("/", "%")):
            patterns.update(f"{_literal(home)}/{_literal(name, tokens='*')}" for home in tree.homes)
    return {entry.path for entry in tree.glob(*filter(None, patterns)) if entry.is_file or (entry.is_link and tree.target(entry.path) is not None)}


def _literal(path: str, tokens: str = "") -> str:
    """A path as a pattern that matches it alone; tokens of sshd_config become a wildcard when ``tokens`` is one."""
    escaped = re.sub(r"([*?\[])", r"[\1]", path)
    return re.sub(r"%[%huUi]", tokens, escaped) if tokens else escaped


def _way_in(tree: Tree, user: User, server: SshdConfig, consoles: t.Collection[str]) -> str:
    """How an account can be logged in to from outside, or nothing: root and system units need no password to become it."""
    shadow = {name: secret for name, secret, *_rest in _records(tree, "/etc/shadow")}
    password = shadow.get(user.name, "*") if user.password == "x" else user.password
    if not password:
        return "without a password"
    if _is_usable(password):
        return "with a password"
    keys = (
        *(places_of(name, user) for name in {*server.key_files, *DEFAULT_KEY_FILES}),
        *(f"/etc/ssh/authorized_keys/{user.name}", f"/etc/ssh/authorized_keys.d/{user.name}"),
    )
    if any(significant_lines(tree.text(path)) for path in keys):
        return "with a key"
    return "at the console without a password" if user.name in consoles else ""


def _records(tree: Tree, path: str) -> list[list[str]]:
    return [[*line.split(":"), ""] for line in significant_lines(tree.text(path))]


def _is_usable(secret: str) -> bool:
    """Whether a password can match: what begins with ! or * is no hash, or one that is switched off."""
    return secret not in LOCKED and not secret.startswith(("!", "*"))


def _check_passwords(tree: Tree) -> t.Iterator[Finding]:
    names = {user.name for user in tree.users}
    copies = [(entry.path, kind) for pattern, kind in PASSWORD_FILES for entry in tree.glob(pattern) if entry.path.rpartition("/")[2] not in EDITED]
    for path, what in copies:
        for name, secret, *_rest in _records(tree, path):
            if not secret and what == "user" and name in names:
                yield EMPTY_PASSWORD.at(path, f"gives the user {name} an empty password{_accepted(tree)}.")
            elif _is_usable(secret):
                yield PASSWORD.at(path, f"{'gives' if path in CURRENT else 'keeps a copy of what gives'} the {what} {name} a password.")
    if significant_lines(tree.text(OLD_PASSWORDS)):
        yield PASSWORD.at(OLD_PASSWORDS, "keeps passwords that users had before.")
    for name, secret, *_rest in _records(tree, "/etc/group"):
        if _is_usable(secret):
            yield PASSWORD.at("/etc/group", f"gives the group {name} a password.")


RULES = (PASSWORD, EMPTY_PASSWORD, BUILD_USER, AUTHORIZED_KEY, SUDO, SUDO_SYNTAX, CREDENTIAL, CONSOLE, PAM, HOST_BASED)
GROUPS = (Group("accounts", RULES, check_ways_in),)
