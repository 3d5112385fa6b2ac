# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Consoles and screens of an image that ask nobody for a password."""

from __future__ import annotations

import re
import shlex
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Subject
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_grub import CONFIG
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree, ini_values

UNIT_FOLDERS = ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
CONSOLES = tuple(f"{folder}/*{name}*{kind}" for folder in UNIT_FOLDERS for name in ("getty", "kmscon") for kind in (".service", ".service.d/*.conf"))
RECOVERY = tuple(f"{folder}/{unit}.service{kind}" for folder in UNIT_FOLDERS for unit in ("rescue", "emergency") for kind in ("", ".d/*.conf"))
COMMAND = re.compile(r"^ExecStart=[-@:+!|]*(\S*(?:getty|kmscon|/login|/su|/runuser|/(?:ba|da|z|k)?sh)(?:\s.*)?)$", re.MULTILINE)
SHELL = re.compile(r"(?:^|/)(?:ba|da|z|k)?sh$")
LOGIN = re.compile(r"(?:^|[\s/])login\s(?:[^;&|]*\s)?-f\s*([\w$-]*)")
BECOME = re.compile(r"(?:^|/)(?:su|runuser)$")
# A script in the place of login that asks nobody.
LOGIN_SCRIPT = re.compile(r"^[^#\n]*\blogin\s[^#\n]*-f\b|^[ \t]*(?:exec[ \t]+)?(?:\S*/)?(?:su|runuser|(?:ba|da|z|k)?sh)\b(?!.*\s-c\b)", re.MULTILINE)
DEBUG_SHELL = ("/etc/systemd/system/*.wants/debug-shell.service", "/etc/systemd/system/*.requires/debug-shell.service")
ENVIRONMENT = ("/etc/systemd/system.conf", "/etc/systemd/system.conf.d/*.conf")
FORCED = re.compile(r"^(?:Default)?Environment=.*SYSTEMD_SULOGIN_FORCE=[\"']?(?:1|yes|true)|^ExecStart=\S*sulogin\b.*\s(?:-[a-z]*e\b|--force)", re.MULTILINE)
# A shell that reads from a terminal or a connection; one with -c runs a command.
OPEN_SHELL = re.compile(
    r"^ExecStart=[-@:+!|]*\S*/(?:(?:ba|da|z|k)?sh(?:\s+-(?:i|l|-login))*|login\s(?:.*\s)?-f\b.*|(?:su|runuser)(?:\s+(?:-l?|--login|[a-z_][\w-]*))*)\s*$",
    re.MULTILINE,
)
INPUT = re.compile(r"^(?:StandardInput=(?:tty|socket)|TTYPath=)", re.MULTILINE)
DISPLAYS: tuple[tuple[tuple[str, ...], str, str, str], ...] = (
    (("/etc/gdm3/daemon.conf", "/etc/gdm3/custom.conf", "/etc/gdm/custom.conf"), "daemon", "automaticloginenable", "automaticlogin"),
    (("/etc/gdm3/daemon.conf", "/etc/gdm3/custom.conf", "/etc/gdm/custom.conf"), "daemon", "timedloginenable", "timedlogin"),
    (("/etc/lightdm/lightdm.conf", "/etc/lightdm/lightdm.conf.d/*.conf"), "Seat:*", "", "autologin-user"),
    (("/etc/lightdm/lightdm.conf", "/etc/lightdm/lightdm.conf.d/*.conf"), "SeatDefaults", "", "autologin-user"),
    (("/etc/sddm.conf", "/etc/sddm.conf.d/*.conf"), "Autologin", "", "user"),
    (("/etc/greetd/config.toml",), "initial_session", "", "user"),
    (("/etc/lxdm/lxdm.conf", "/etc/lxdm/default.conf"), "base", "", "autologin"),
)
# Arguments of the kernel that open a shell of root at the console of every boot.
OPEN_ARGUMENTS = re.compile(
    r"systemd\.debug[-_]shell(?:=(?:1|yes|true|on))?|systemd\.wants=debug-shell(?:\.service)?|init=\S*/(?:ba|da|z|k)?sh|break(?:=\S+)?|rd\.break"
    r"|SYSTEMD_SULOGIN_FORCE=(?:1|yes|true)"
)


def autologins(tree: Tree) -> t.Iterator[tuple[str, str]]:
    """The file and the account of each console or screen that logs somebody in by itself."""
    for entry in tree.files(*CONSOLES):
        for command in COMMAND.findall(_effective(tree.text(entry.path))):
            name = _autologin(tree, command)
            if name:
                yield entry.path, name
    for patterns, section, switch, key in DISPLAYS:
        for entry in tree.files(*patterns):
            values = {(found.lower(), name.lower()): value.strip() for (found, name), value in ini_values(tree.text(entry.path)).items()}
            name = values.get((section.lower(), key), "").strip("\"'")
            if name and (not switch or values.get((section.lower(), switch), "").lower() in ("true", "1", "yes")):
                yield entry.path, name


def _effective(text: str) -> str:
    """A unit or drop-in without comments and with joined lines."""
    joined = re.sub(r"\\\n\s*", " ", text)
    return "\n".join(line.strip() for line in joined.splitlines() if not line.lstrip().startswith(("#", ";")))


def _autologin(tree: Tree, command: str) -> str:
    """Who a getty, or what runs in its place, logs in without asking, or nothing."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    if SHELL.search(words[0]):
        return "root"
    forced = LOGIN.search(command)
    if forced:
        return forced.group(1) or "whoever is named"
    if BECOME.search(words[0]):
        return next((word for word in reversed(words[1:]) if not word.startswith("-")), "root") if "-c" not in words else ""
    found = re.search(r"\s(?:--autologin(?:=|\s+)|-a\s*)(?=[\w$%\"'\\])[\"']?([^\s\"']+)", command)
    if found:
        return found.group(1)
    for at, word in enumerate(words[1:], 1):
        following = words[at + 1] if at + 1 < len(words) else ""
        options = following if word in ("-o", "--login-options") else word.partition("=")[2] if word.startswith("--login-options=") else ""
        if "-f" in options.split():
            return "whoever is named"
        program = following if word in ("-l", "--login-program") else word.partition("=")[2] if word.startswith("--login-program=") else ""
        if SHELL.search(program) or (program and LOGIN_SCRIPT.search(_script(tree, program))):
            return "root"
    return ""


def _script(tree: Tree, path: str) -> str:
    """A script without its first line; nothing of a program."""
    first, _newline, rest = tree.text(path).partition("\n")
    return rest if first.startswith("#!") else ""


def open_consoles(subject: Subject) -> t.Iterator[tuple[str, str]]:
    """The file and a sentence for each shell of root that is open without a login."""
    tree = subject.tree
    for entry in tree.glob(*DEBUG_SHELL):
        yield entry.path, "opens a shell of root on a console (debug-shell.service) without a password."
    for entry in tree.files(*RECOVERY, *ENVIRONMENT):
        text = _effective(tree.text(entry.path))
        if FORCED.search(text) or OPEN_SHELL.search(text):
            yield entry.path, "opens a shell of root without a password whenever a boot fails."
    for entry in tree.files("/etc/systemd/system/*.service", "/etc/systemd/system/*.service.d/*.conf"):
        text = _effective(tree.text(entry.path))
        if OPEN_SHELL.search(text) and INPUT.search(text) and entry.path not in subject.packages.owned:
            yield entry.path, "opens a shell on a terminal or for a connection without a password."
    for word in subject.kernel_arguments:
        if OPEN_ARGUMENTS.fullmatch(word):
            yield CONFIG, f"opens a shell of root at every boot without a password ({word})."
