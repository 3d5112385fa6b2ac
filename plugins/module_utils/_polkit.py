# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Find rules of polkit that let somebody become root without a password."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Subject
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import ini_values

RULES = ("/etc/polkit-1/rules.d/*.rules", "/usr/local/share/polkit-1/rules.d/*.rules", "/usr/share/polkit-1/rules.d/*.rules")
OLD_RULES = ("/etc/polkit-1/localauthority/*/*.pkla", "/var/lib/polkit-1/localauthority/*/*.pkla")
COMMENT = re.compile(r"/\*[\s\S]*?\*/|(?<!:)//[^\n]*")
YES = re.compile(r"\breturn\s+(?:polkit\.Result\.YES\b|[\"']yes[\"'])")
# Actions by which whoever may do them runs any program as root.
ROOT_ACTIONS = ("org.freedesktop.policykit.exec", "org.freedesktop.systemd1.manage-unit", "org.freedesktop.systemd1.")
# A rule that looks at details of the action allows only some.
DETAIL = re.compile(r"\.lookup\s*\(")
ANY_PREFIX = re.compile(r"\.(?:indexOf|startsWith|match)\s*\(\s*[\"'/^]+(?:org\\?\.freedesktop\\?\.?)?[\"'/]")


def polkit_grants(subject: Subject) -> t.Iterator[tuple[str, str]]:
    """The file and the first line of each own rule that allows every action, or one that gives the rights of root."""
    tree = subject.tree
    for entry in tree.files(*RULES):
        if entry.path in subject.packages.owned:
            continue
        text = COMMENT.sub("", tree.text(entry.path))
        for rule in re.split(r"polkit\s*\.\s*addRule\s*\(", text)[1:]:
            if YES.search(rule) and _gives_root(rule):
                yield entry.path, "polkit.addRule(" + " ".join(rule.strip().split("\n", 1)[0].split())
    # Read by a package of its own.
    for entry in tree.files(*OLD_RULES) if tree.target("/usr/bin/pkla-check-authorization") is not None else ():
        values = ini_values(tree.text(entry.path))
        for (section, name), value in values.items():
            actions = values.get((section, "action"), "")
            wide = "*" in actions.split(";") or ROOT_ACTIONS[0] in actions
            if wide and name in ("resultany", "resultactive", "resultinactive") and value.strip() == "yes":
                yield entry.path, f"Action={actions}"
                break


def _gives_root(rule: str) -> bool:
    named = re.findall(r"[\"'](org\.[\w.-]+|[a-z]+\.[\w.-]+\.[\w.-]+)[\"']", rule)
    if DETAIL.search(rule):
        return False
    if any(name.startswith(ROOT_ACTIONS[:2]) or name == ROOT_ACTIONS[2] for name in named):
        return True
    return not re.search(r"\.id\b", rule) or ANY_PREFIX.search(rule) is not None
