# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Rules on kernel settings: what was set while the image was open is set again when it boots."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Finding, Group, Subject, warning
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree, significant_lines
from ansible_collections.hyperscaler.images.plugins.module_utils._sysctl import normal_key, normal_value

SETTING_LOST = warning(
    "kernel.setting_lost",
    "Write the setting to a file in /etc/sysctl.d (option sysctl_file of ansible.posix.sysctl), or accept the finding when only the build needed it.",
)
SETTING_UNREAD = warning("kernel.setting_unread", "Move the settings to a file in /etc/sysctl.d.")

# A file hides those of the same name in the folders that follow. /run is empty at boot.
FOLDERS = ("/etc/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d")
# systemd reads it only by a link in /etc/sysctl.d, which Debian has no longer since version 13.
FORMER_FILE = "/etc/sysctl.conf"
ARGUMENT = "sysctl."
WILDCARD = re.compile(r"[*?\[]")


@dataclasses.dataclass(frozen=True)
class Assignment:
    """One line of a settings file: ``value`` is None when the line only takes the key out of patterns."""

    key: str
    value: str | None
    file: str


def parse_settings(text: str, file: str) -> t.Iterator[Assignment]:
    """The assignments of a file in the format of sysctl.d(5); lines that systemd cannot read are left out."""
    for line in significant_lines(text):
        key, equals, value = (part.strip() for part in line.partition("="))
        if equals or key.startswith("-"):
            yield Assignment(normal_key(key.lstrip("-").strip()), value if equals else None, file)


def setting_at_boot(assignments: t.Iterable[Assignment], key: str) -> Assignment | None:
    """What decides on a key: its last own line, or else the last pattern that matches it."""
    wanted = normal_key(key)
    by_key: dict[str, Assignment] = {}
    for assignment in assignments:
        former = by_key.get(assignment.key)
        # systemd keeps the place of a line that says the same again.
        if former is None or former.value != assignment.value:
            by_key.pop(assignment.key, None)
            by_key[assignment.key] = assignment
    if wanted in by_key:
        return by_key[wanted]
    matching = [assignment for assignment in by_key.values() if assignment.value is not None and _matches(assignment.key, wanted)]
    return matching[-1] if matching else None


def _matches(pattern: str, key: str) -> bool:
    parts, names = pattern.split("/"), key.split("/")
    return bool(WILDCARD.search(pattern)) and len(parts) == len(names) and all(map(fnmatch.fnmatchcase, names, parts))


def read_settings(tree: Tree) -> list[Assignment]:
    """All assignments of an image in the order in which systemd-sysctl reads them."""
    files: dict[str, str] = {}
    for folder in FOLDERS:
        for name in tree.names(folder):
            if name.endswith(".conf"):
                files.setdefault(name, f"{folder}/{name}")
    return [assignment for _name, path in sorted(files.items()) for assignment in parse_settings(tree.text(path), path)]


def check_settings(subject: Subject) -> t.Iterator[Finding]:
    """Every setting that a task made is one that a booted machine has."""
    expected = subject.expectations.session_settings
    if not expected:
        return
    default = subject.grub.default if subject.grub else None
    arguments = [word[len(ARGUMENT) :] for word in default.arguments if word.startswith(ARGUMENT)] if default else []
    assignments = [*parse_settings("\n".join(arguments), "the arguments of the kernel"), *read_settings(subject.tree)]
    former = list(parse_settings(subject.tree.text(FORMER_FILE), FORMER_FILE))
    for key, value in dict(expected).items():
        found = setting_at_boot(assignments, key)
        if found is None or found.value is None or normal_value(found.value) != normal_value(value):
            yield SETTING_LOST.at(f"/proc/sys/{normal_key(key)}", f"was set to {' '.join(value.split())} during the build, but {_reason(found, former, key)}.")


def check_former_file(subject: Subject) -> t.Iterator[Finding]:
    """No setting is in a file that nothing reads at boot."""
    tree = subject.tree
    keys = [assignment.key.replace("/", ".") for assignment in parse_settings(tree.text(FORMER_FILE), FORMER_FILE)]
    linked = any(tree.resolve(entry.path) == FORMER_FILE for folder in FOLDERS for entry in tree.glob(f"{folder}/*.conf") if entry.is_link)
    if keys and not linked:
        yield SETTING_UNREAD.at(FORMER_FILE, f"sets {', '.join(keys[:3])}{' and more' if len(keys) > 3 else ''}, but is not read at boot.")


def _reason(found: Assignment | None, former: t.Sequence[Assignment], key: str) -> str:
    if found is not None and found.value is not None:
        return f"{found.file} sets it to {' '.join(found.value.split())} at boot"
    if setting_at_boot(former, key) is not None:
        return f"only {FORMER_FILE} sets it, which is not read at boot"
    return "no file that is read at boot sets it"


GROUPS = (Group("kernel_settings", (SETTING_LOST,), check_settings), Group("former_settings", (SETTING_UNREAD,), check_former_file))
