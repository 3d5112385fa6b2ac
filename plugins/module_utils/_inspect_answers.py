# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""What sudo, sshd and cloud-init of an image say of their configuration; asked only where the image has more than its packages brought."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._cloud_config import FOLDER as CLOUD_FOLDER
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree
from ansible_collections.hyperscaler.images.plugins.module_utils._sshd_config import FILE as SSHD_CONFIG
from ansible_collections.hyperscaler.images.plugins.module_utils._sshd_config import read_sshd_config

USERS_LIMIT = 16
# Asking takes a second or two: most images have files of their own that say nothing of these.
SSHD_KEYS = re.compile(r"^\s*(?:include|match|authorized|trusted|host)", re.IGNORECASE | re.MULTILINE)
CLOUD_KEYS = re.compile(r"pass|user|authorized|import_id|import-id|cmd", re.IGNORECASE)
# The server wants a host key, which a sealed image does not have, and a folder below /run.
SSHD = """
mkdir -p /run/sshd
ssh-keygen -q -t ed25519 -N '' -f /run/key >/dev/null || exit
for user in {users}; do sshd -T -h /run/key -C user=$user,host=x,addr=::1; done
"""
SUDO = "cvtsudoers -e -f sudoers /etc/sudoers"
CLOUD = "python3 -c {program}"
CLOUD_PROGRAM = """
import json
from cloudinit import util
print(json.dumps(util.read_conf_with_confd("/etc/cloud/cloud.cfg"), default=str))
"""


@dataclasses.dataclass(frozen=True)
class Answers:
    """The effective configurations: text of sudoers with all included, lines of sshd for some users, and the merged one of cloud-init.

    None and empty where the program was not asked, or did not answer.
    """

    sudoers: str | None = None
    sshd: str = ""
    cloud: dict[str, t.Any] | None = None


def ask(tree: Tree, packaged: t.Container[str], asking: t.Callable[[t.Mapping[str, str]], t.Mapping[str, str]]) -> Answers:
    """The answers of the programs that have something to be asked about."""
    questions: dict[str, str] = {}
    if tree.target("/usr/bin/cvtsudoers") is not None and _has_own(tree, packaged, "/etc/sudoers.d/*"):
        questions["sudo"] = SUDO
    if tree.target("/usr/sbin/sshd") is not None and _is_sshd_changed(tree, packaged):
        users = [user.name for user in tree.users if user.shell.endswith("sh")][:USERS_LIMIT]
        questions["sshd"] = SSHD.format(users=shlex.join(users))
    own = [entry.path for entry in tree.files(f"{CLOUD_FOLDER}/*.cfg") if entry.path not in packaged]
    if tree.target("/usr/bin/cloud-init") is not None and any(CLOUD_KEYS.search(tree.text(path)) for path in own):
        questions["cloud"] = CLOUD.format(program=shlex.quote(CLOUD_PROGRAM))
    answers = asking(questions) if questions else {}
    try:
        cloud = json.loads(answers["cloud"])
    except (KeyError, ValueError):
        cloud = None
    return Answers(answers.get("sudo"), answers.get("sshd", ""), cloud if isinstance(cloud, dict) else None)


def _has_own(tree: Tree, packaged: t.Container[str], pattern: str) -> bool:
    return any(entry.path not in packaged for entry in tree.files(pattern))


def _is_sshd_changed(tree: Tree, packaged: t.Container[str]) -> bool:
    config = read_sshd_config(tree)
    named = {"authorizedkeysfile", "trustedusercakeys", "hostbasedauthentication"}
    own = (entry.path for entry in tree.files(f"{SSHD_CONFIG}.d/*.conf") if entry.path not in packaged)
    return not named.isdisjoint(config.values) or any(SSHD_KEYS.search(tree.text(path)) for path in own)
