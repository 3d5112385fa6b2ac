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
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree, ini_values

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

COMMAND = error(
    "secret.cloud_command",
    "Look at the command: remove it when it sets a password or key that is the same on every machine, and accept the finding with the reason when it does not.",
)
ADDRESS = warning(
    "cloud.user_data_address",
    "Remove the address, or accept the finding with the reason when nobody else can answer at it: whoever does decides who logs in to each machine.",
)
SCHEMA = warning(
    "cloud.schema", "Correct the value (cloud-init schema --config-file names the place); cloud-init passes over what it does not understand, with a warning."
)
KINDS = {"password": PASSWORD, "empty": PASSWORD, "key": KEY, "command": COMMAND, "address": ADDRESS}

# Where images are used most: a list that lacks one of them was made for one place.
COMMON = ("NoCloud", "ConfigDrive", "OpenStack", "Ec2", "Azure", "GCE", "VMware")
IDENTIFY = "/etc/cloud/ds-identify.cfg"
SETTING = re.compile(r"^\s*(datasource|policy)\s*:\s*[\"']?([\w,=-]+)", re.MULTILINE)
SEED_ADDRESS = re.compile(r"(?:ds=[^;]*;(?:[^;]*;)*(?:s|seedfrom)=|(?:cloud-config-url|cc-url|url)=)((?!file:)[a-z+]+://[^;]+).*", re.IGNORECASE)
# What cloud-init and the boot run on each machine.
SCRIPTS = ("/var/lib/cloud/scripts/*/*", "/etc/rc.local")
OFF = "/etc/cloud/cloud-init.disabled"
UNITS = ("cloud-init-local.service", "cloud-init-network.service", "cloud-init.service", "cloud-init-main.service", "cloud-init.target", "cloud-config.service")


def check_cloud(subject: Subject) -> t.Iterator[Finding]:
    """Cloud-init runs, may use every data source that an image commonly meets, and has no credential."""
    tree = subject.tree
    files = read_files(tree, subject.kernel_arguments)
    for file in files:
        if file.data is None:
            yield UNREADABLE.at(file.path, f"cannot be read by cloud-init, which leaves it out: {file.problem}.")
        yield from _ways_in(file.path, file.data or {})
    if not any(way for file in files for way in _cloud_config.ways_in(file.data or {})):
        # What cloud-init makes of all files together has something that none of them has.
        yield from _ways_in(_cloud_config.MAIN_FILE, subject.answers.cloud or {})
    yield from _check_elsewhere(subject)
    yield from _check_reach(subject, files)


def _check_elsewhere(subject: Subject) -> t.Iterator[Finding]:
    """What the schema says, and what lets somebody in beside the configuration."""
    tree = subject.tree
    for path, problem in subject.answers.schema:
        yield SCHEMA.at(path, f"breaks the schema of cloud-init: {problem}.")
    for word in subject.kernel_arguments:
        found = SEED_ADDRESS.fullmatch(word)
        if found:
            yield ADDRESS.at(GRUB_CONFIG, f"takes user data from {found.group(1)} on every machine from this image.")
    for entry in tree.files(*SCRIPTS):
        if entry.path not in subject.packages.owned and _cloud_config.OPENING_COMMAND.search(tree.text(entry.path)):
            yield COMMAND.at(entry.path, "may let somebody in: it runs on every machine from this image.")


def _check_reach(subject: Subject, files: t.Sequence[CloudFile]) -> t.Iterator[Finding]:
    """Cloud-init runs, and looks for its data sources."""
    tree = subject.tree
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


def _ways_in(path: str, data: t.Mapping[str, t.Any]) -> t.Iterator[Finding]:
    for way in dict.fromkeys(_cloud_config.ways_in(data)):
        yield KINDS[way.kind].at(path, f"{way.what} on every machine from this image.")


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
    found = next((entry.path for entry in masked if entry.is_link and tree.link_target(entry.path) == "/dev/null"), "")
    return found or next((path for unit in UNITS for path in _not_enabled(tree, unit)), "")


def _not_enabled(tree: Tree, unit: str) -> t.Iterator[str]:
    """The unit of the package, where it says what wants it and no link has this done."""
    path = f"/usr/lib/systemd/system/{unit}"
    wanted = ini_values(tree.text(path)).get(("Install", "wantedby"), "").split()
    folders = [f"{folder}/{target}.wants" for folder in ("/etc/systemd/system", "/usr/lib/systemd/system") for target in wanted]
    if wanted and not any(tree.find(f"{folder}/{unit}") for folder in folders):
        yield path


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


RULES = (DATASOURCE_PINNED, DISABLED, UNREADABLE, SCHEMA, ADDRESS, PASSWORD, KEY, COMMAND)
GROUPS = (Group("cloud", RULES, check_cloud),)
