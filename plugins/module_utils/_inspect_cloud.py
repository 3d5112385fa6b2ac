# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Rules on cloud-init: a machine from the image finds its user data on whatever platform it starts."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Finding, Group, Subject, warning
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree

DATASOURCE_PINNED = warning(
    "cloud.datasource_pinned",
    "Remove the setting, so that cloud-init looks for all its data sources; or accept the finding with the reason when the image is for these platforms only.",
)

# Where images are used most: a list that lacks one of them was made for one place.
COMMON = ("NoCloud", "ConfigDrive", "OpenStack", "Ec2", "Azure", "GCE", "VMware")
IDENTIFY = "/etc/cloud/ds-identify.cfg"
COMMENT = re.compile(r"(?:^|\s)#.*$", re.MULTILINE)
KEY = r"^[\"']?datasource_list[\"']?\s*:"
# YAML has two ways to write a list: [a, b], and one item a line.
FLOW_LIST = re.compile(KEY + r"\s*\[([^\]]*)\]", re.MULTILINE)
BLOCK_LIST = re.compile(KEY + r"[ \t]*((?:\n+[ \t]*-[ \t]+\S+[ \t]*)+)", re.MULTILINE)
ONE_NAME = re.compile(r"^\s*datasource\s*:\s*[\"']?(\w+)", re.MULTILINE)


def check_cloud(subject: Subject) -> t.Iterator[Finding]:
    """Cloud-init may use every data source that an image commonly meets."""
    tree = subject.tree
    if tree.target("/usr/bin/cloud-init") is None or tree.find("/etc/cloud/cloud-init.disabled") is not None:
        return
    path, names = _pinned(subject)
    missing = [name for name in COMMON if name.lower() not in {name.lower() for name in names}]
    if path and missing:
        yield DATASOURCE_PINNED.at(
            path,
            f"lets cloud-init look for user data at {_listed(names)} only. On a platform that offers it in another way, such as {_listed(missing)}, a machine "
            "gets no user data: no account, no key and no host name.",
        )


def _listed(names: t.Sequence[str]) -> str:
    return ", ".join(names) or "no data source"


def _pinned(subject: Subject) -> tuple[str, list[str]]:
    """The file that decides, and the data sources that it names; no file when none is pinned."""
    entry = subject.grub.default if subject.grub else None
    for argument in ("ci.ds", "ci.datasource", "ds"):
        name = re.split(r"[;_]", entry.argument(argument))[0] if entry else ""
        if name:
            return "/boot/grub/grub.cfg", [name]
    name_line = ONE_NAME.search(COMMENT.sub("", subject.tree.text(IDENTIFY)))
    if name_line:
        return IDENTIFY, [name_line.group(1)]
    return _configured(subject.tree)


def _configured(tree: Tree) -> tuple[str, list[str]]:
    """The list of the last file that has one: cloud-init does not join the lists of several files."""
    files = sorted(entry.path for entry in tree.glob("/etc/cloud/cloud.cfg.d/*.cfg"))
    for path in (*reversed(files), "/etc/cloud/cloud.cfg"):
        names = data_sources(tree.text(path))
        if names is not None:
            return path, names
    return "", []


def data_sources(text: str) -> list[str] | None:
    """The names in ``datasource_list`` of a configuration of cloud-init, or None when it has no such list."""
    plain = COMMENT.sub("", text)
    found = FLOW_LIST.search(plain) or BLOCK_LIST.search(plain)
    if found is None:
        return None
    return [name for name in re.findall(r"\w+", found.group(1)) if name != "None"]


RULES = (DATASOURCE_PINNED,)
GROUPS = (Group("cloud", RULES, check_cloud),)
