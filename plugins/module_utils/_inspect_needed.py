# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Rules on files that a service needs and that sealing takes away: something makes them again before the service starts, or the service waits."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Finding, Group, Subject, error, warning
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree, significant_lines

SECRET_MISSING = warning(
    "service.secret_missing",
    "Bring the file to each machine before the service starts, and add ConditionPathExists= for it to the unit, so that it does not fail before.",
)
FILE_MISSING = error(
    "service.file_missing", "Apply the role seal, whose unit makes it at the first boot, keep the file (seal_keep), or take it out of the setting."
)

UNITS = ("/etc/systemd/system/*.wants/{unit}", "/etc/systemd/system/*.requires/{unit}")
UNIT_TEXTS = tuple(f"{folder}/{{unit}}{kind}" for folder in ("/etc/systemd/system", "/usr/lib/systemd/system") for kind in ("", ".d/*.conf"))
# A unit that is enabled, and the file without which it fails; %i is the instance of a template.
SECRETS = (
    ("munge.service", "/etc/munge/munge.key"),
    ("wg-quick@*.service", "/etc/wireguard/%i.conf"),
    ("corosync.service", "/etc/corosync/authkey"),
    ("k3s-agent.service", "/etc/systemd/system/k3s-agent.service.env"),
)
CERTIFICATE = ("/etc/ssl/private/ssl-cert-snakeoil.key", "/etc/ssl/certs/ssl-cert-snakeoil.pem")
CERTIFICATE_UNIT = "hyperscaler-certificate.service"
MAIL_NAME = "/etc/mailname"
# Settings that name a file which sealing takes away.
SETTINGS = ("/etc/postgresql/*/*/*.conf", "/etc/postfix/main.cf", "/etc/apache2/sites-enabled/*", "/etc/nginx/sites-enabled/*", "/etc/dovecot/conf.d/*.conf")


def check_needed(subject: Subject) -> t.Iterator[Finding]:
    """No service starts without a file that only the build had."""
    tree = subject.tree
    for pattern, template in SECRETS:
        for entry in tree.glob(*(place.format(unit=pattern) for place in UNITS)):
            unit = entry.path.rpartition("/")[2]
            path = template.replace("%i", unit.partition("@")[2].rpartition(".")[0])
            if tree.target(path) is None and not _waits(tree, unit, path):
                yield SECRET_MISSING.at(entry.path, f"starts {unit}, which fails without {path}; no machine has it before somebody brings it.")
    for entry in tree.files(*SETTINGS):
        text = "\n".join(significant_lines(tree.text(entry.path)))
        for path in (*CERTIFICATE, MAIL_NAME):
            named = re.search(rf"(?<![\w/]){re.escape(path)}(?![\w.])", text)
            if named and tree.target(path) is None and not (path in CERTIFICATE and _is_enabled(tree, CERTIFICATE_UNIT)):
                yield FILE_MISSING.at(entry.path, f"names {path}, which does not exist, and nothing makes it at the first boot.")


def _waits(tree: Tree, unit: str, path: str) -> bool:
    """Whether a unit is skipped while the file is missing."""
    template = re.sub(r"@.*\.", "@.", unit)
    texts = (tree.text(entry.path) for name in (unit, template) for entry in tree.files(*(place.format(unit=name) for place in UNIT_TEXTS)))
    name = path.rpartition("/")[2]
    return any(re.search(rf"^(?:Condition|Assert)(?:Path|File)\w+=[|]*\S*(?:{re.escape(name)}|/%i\.conf)\s*$", text, re.MULTILINE) for text in texts)


def _is_enabled(tree: Tree, unit: str) -> bool:
    return any(True for _entry in tree.glob(*(place.format(unit=unit) for place in UNITS)))


RULES = (SECRET_MISSING, FILE_MISSING)
GROUPS = (Group("needed", RULES, check_needed),)
