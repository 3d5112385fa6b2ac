# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Rules on cloud-init: a machine from the image finds its user data on whatever platform it starts, and the image has none of its own."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils import _cloud_config
from ansible_collections.hyperscaler.images.plugins.module_utils._cloud_config import CloudFile, read_files
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Finding, Group, Subject, error, warning
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_grub import CONFIG as GRUB_CONFIG

DATASOURCE_PINNED = warning(
    "cloud.datasource_pinned",
    "Remove the setting, so that cloud-init looks for all its data sources; or accept the finding with the reason when the image is for these platforms only.",
)
DISABLED = warning(
    "cloud.disabled",
    "Let cloud-init run, so that machines get their accounts, keys and names; or accept the finding with the reason when something else sets machines up.",
)
UNREADABLE = warning("cloud.unreadable", "Correct the file (cloud-init schema --config-file names the place), or remove it.")
PASSWORD = error("secret.cloud_config", "Remove the password; give keys or passwords to cloud-init in the user data of each machine.")
KEY = error("secret.cloud_key", "Remove the key; keys come in by the user data of each machine.")

# Where images are used most: a list that lacks one of them was made for one place.
COMMON = ("NoCloud", "ConfigDrive", "OpenStack", "Ec2", "Azure", "GCE", "VMware")
IDENTIFY = "/etc/cloud/ds-identify.cfg"
SETTING = re.compile(r"^\s*(datasource|policy)\s*:\s*[\"']?([\w,=-]+)", re.MULTILINE)
OFF = "/etc/cloud/cloud-init.disabled"
UNITS = ("cloud-init-local.service", "cloud-init-network.service", "cloud-init.service", "cloud-init-main.service", "cloud-init.target", "cloud-config.service")


def check_cloud(subject: Subject) -> t.Iterator[Finding]:
    """Cloud-init runs, may use every data source that an image commonly meets, and has no credential."""
    tree = subject.tree
    files = read_files(tree, subject.kernel_arguments)
    for file in files:
        if file.data is None:
            yield UNREADABLE.at(file.path, f"cannot be read by cloud-init, which leaves it out: {file.problem}.")
        for way in dict.fromkeys(_cloud_config.ways_in(file.data or {})):
            yield (KEY if way.kind == "key" else PASSWORD).at(file.path, f"{way.what} on every machine from this image.")
    if not any(way for file in files for way in _cloud_config.ways_in(file.data or {})):
        # What cloud-init makes of all files together has something that none of them has.
        for way in dict.fromkeys(_cloud_config.ways_in(subject.answers.cloud or {})):
            yield (KEY if way.kind == "key" else PASSWORD).at(_cloud_config.MAIN_FILE, f"{way.what} on every machine from this image.")
    if tree.target("/usr/bin/cloud-init") is None:
        return
    off = _disabled(subject)
    if off:
        yield DISABLED.at(off, "keeps cloud-init from running, so a machine gets no user data: no account, no key and no host name.")
        return
    path, names = _pinned(subject, files)
    missing = [name for name in COMMON if name.lower() not in {name.lower() for name in names}]
    if path and missing:
        yield DATASOURCE_PINNED.at(
            path,
            f"lets cloud-init look for user data at {_listed(names)} only. On a platform that offers it in another way, such as {_listed(missing)}, a machine "
            "gets no user data: no account, no key and no host name.",
        )


def _listed(names: t.Sequence[str]) -> str:
    return ", ".join(names) or "no data source"


def _disabled(subject: Subject) -> str:
    """What switches cloud-init off, or nothing."""
    tree = subject.tree
    if tree.find(OFF) is not None:
        return OFF
    if "cloud-init=disabled" in subject.kernel_arguments:
        return GRUB_CONFIG
    if _identify(subject).get("policy", "").split(",")[0] == "disabled":
        return IDENTIFY
    masked = (entry for unit in UNITS for entry in tree.glob(f"/etc/systemd/system/{unit}"))
    return next((entry.path for entry in masked if entry.is_link and tree.link_target(entry.path) == "/dev/null"), "")


def _identify(subject: Subject) -> dict[str, str]:
    """The settings of ds-identify(8); the command line of the kernel wins over its file."""
    text = re.sub(r"(?:^|\s)#.*$", "", subject.tree.text(IDENTIFY), flags=re.MULTILINE)
    found = dict(SETTING.findall(text))
    policy = next((word.partition("=")[2] for word in subject.kernel_arguments if word.startswith("ci.di.policy=")), "")
    return {**found, "policy": policy} if policy else found


def _pinned(subject: Subject, files: t.Sequence[CloudFile]) -> tuple[str, list[str]]:
    """The file that decides, and the data sources that it names; no file when none is pinned."""
    for argument in ("ci.ds", "ci.datasource", "ds"):
        for word in subject.kernel_arguments:
            name, _equals, value = word.partition("=")
            if name == argument and value:
                return GRUB_CONFIG, [re.split(r"[;_]", value)[0]]
    name = _identify(subject).get("datasource", "")
    if name:
        return IDENTIFY, [name]
    path, value = _cloud_config.value_of(files, "datasource_list")
    return path, data_sources(value)


def data_sources(value: t.Any) -> list[str]:
    """The names in a ``datasource_list``, which may also be a text; the source ``None`` is none."""
    names = value if isinstance(value, list) else re.findall(r"\w+", value) if isinstance(value, str) else []
    return [str(name) for name in names if name is not None and str(name) != "None"]


RULES = (DATASOURCE_PINNED, DISABLED, UNREADABLE, PASSWORD, KEY)
GROUPS = (Group("cloud", RULES, check_cloud),)
