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
from ansible_collections.hyperscaler.images.plugins.module_utils._cloud_config import parse
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_dpkg import PackageDatabase
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree, significant_lines
from ansible_collections.hyperscaler.images.plugins.module_utils._sshd_config import FILE as SSHD_CONFIG
from ansible_collections.hyperscaler.images.plugins.module_utils._sshd_config import read_sshd_config
from ansible_collections.hyperscaler.images.plugins.module_utils._sudoers import MAIN_FILE as SUDOERS

USERS_LIMIT = 16
# The cloud images of Debian have it; Debian checks it.
BASE_FILE = "/01_debian_cloud.cfg"
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
SUDO_CHECK = "visudo -c 2>&1 || true"
# Unused aliases are no fault, and sudo asks less of the mode of a file than visudo does.
SUDO_FAULT = re.compile(r"^(/[^:\n]+):(\d+):(?:\d+:)? (.+)$|^(/[^:\n]+): (wrong owner.*)$|^visudo: (/[^:\n]+): (No such file.*)$", re.MULTILINE)
# What is worth a look in an initial RAM disk: most images have nothing in them that could be secret.
RAMDISK_REASONS = (
    *("/etc/initramfs-tools/hooks/*", "/etc/initramfs-tools/scripts/*/*", "/etc/dropbear/initramfs/*", "/etc/dropbear-initramfs/*", "/etc/dracut.conf.d/*"),
    *("/etc/cryptsetup-initramfs/conf-hook", "/etc/crypttab"),
)
RAMDISK_NAMES = (
    r"(^|/)(authorized_keys[^/]*|[^/]*_host_key|id_(rsa|dsa|ecdsa|ed25519)|[^/]+\.(key|pem|p12|pfx|keytab|keyfile|luks))$"
    r"|(^|/)cryptroot/keyfiles/.|(^|/)etc/g?shadow$"
)
# A file of passwords is a finding only with one that can match.
RAMDISK = r"""
for disk in /boot/initrd.img-*; do
  lsinitramfs "$disk" | grep -E {names} >/run/names || continue
  grep -vE '(^|/)etc/g?shadow$' /run/names | sed "s|^|$disk |"
  grep -qE '(^|/)etc/g?shadow$' /run/names || continue
  unmkinitramfs "$disk" /run/disk && find /run/disk -path '*/etc/*shadow' -exec grep -lE '^[^:]+:[^!*:]' {{}} + | sed "s|^.*/etc/|$disk etc/|"
  rm -rf /run/disk
done
"""
CLOUD = "python3 -c {program}"
CLOUD_PROGRAM = """
import json
from cloudinit import util
print(json.dumps(util.read_conf_with_confd("/etc/cloud/cloud.cfg"), default=str))
"""
# The schema is that of user data; a configuration of the image has further keys at its top.
SCHEMA_PROGRAM = """
import json, logging, sys
logging.disable()
from cloudinit import util
from cloudinit.config import schema
rules, faults = schema.get_schema(), []
for path in sys.argv[1:]:
    data = util.load_yaml(util.load_text_file(path), default={})
    try:
        schema.validate_cloudconfig_schema(data, rules, strict=True, log_details=False) if data else None
    except schema.SchemaValidationError as problem:
        faults += [(path, *fault) for fault in problem.schema_errors if fault[0] or "dditional properties" not in fault[1]]
print(json.dumps([fault for fault in faults if fault[2] != f"Additional properties are not allowed ({fault[1]!r} was unexpected)"]))
"""


class SudoFault(t.NamedTuple):
    """What visudo finds wrong in a file; ``line`` is 0 where the whole file is meant."""

    path: str
    line: int
    what: str


@dataclasses.dataclass(frozen=True)
class Answers:
    """The effective configurations: text of sudoers with all included, lines of sshd for some users, and the merged one of cloud-init.

    None and empty where the program was not asked, or did not answer. ``sudo_faults`` and ``schema`` are what visudo and cloud-init find wrong,
    the latter as pairs of a file and a sentence, and ``ramdisk`` pairs of an initial RAM disk and a file in it that may be secret.
    """

    sudoers: str | None = None
    sshd: str = ""
    cloud: dict[str, t.Any] | None = None
    sudo_faults: tuple[SudoFault, ...] = ()
    schema: tuple[tuple[str, str], ...] = ()
    ramdisk: tuple[tuple[str, str], ...] = ()


def ask(tree: Tree, packages: PackageDatabase, asking: t.Callable[[t.Mapping[str, str]], t.Mapping[str, str]]) -> Answers:
    """The answers of the programs that have something to be asked about."""
    questions: dict[str, str] = {}
    packaged = packages.owned
    if tree.target("/usr/bin/cvtsudoers") is not None and _has_own(tree, packaged, "/etc/sudoers.d/*"):
        questions["sudo"] = SUDO
    if tree.target("/usr/sbin/visudo") is not None and (_has_own(tree, packaged, "/etc/sudoers.d/*") or packages.is_changed("/etc/sudoers")):
        questions["sudo_faults"] = SUDO_CHECK
    if tree.target("/usr/sbin/sshd") is not None and _is_sshd_changed(tree, packaged):
        users = [user.name for user in tree.users if user.shell.endswith("sh")][:USERS_LIMIT]
        questions["sshd"] = SSHD.format(users=shlex.join(users))
    own = [entry.path for entry in tree.files(f"{CLOUD_FOLDER}/*.cfg") if entry.path not in packaged]
    if tree.target("/usr/bin/cloud-init") is not None and any(CLOUD_KEYS.search(tree.text(path)) for path in own):
        questions["cloud"] = CLOUD.format(program=shlex.quote(CLOUD_PROGRAM))
    checked = [path for path in own if not path.endswith(BASE_FILE) and parse(tree.text(path))[0]]
    if tree.target("/usr/bin/cloud-init") is not None and checked:
        questions["schema"] = f"{CLOUD.format(program=shlex.quote(SCHEMA_PROGRAM))} {shlex.join(checked)}"
    reasons = (entry.path for entry in tree.files(*RAMDISK_REASONS) if significant_lines(tree.text(entry.path)))
    if tree.target("/usr/bin/unmkinitramfs") is not None and any(path not in packaged or path.endswith(("conf-hook", "crypttab")) for path in reasons):
        questions["ramdisk"] = RAMDISK.format(names=shlex.quote(RAMDISK_NAMES))
    answers = asking(questions) if questions else {}
    cloud = _json(answers.get("cloud", ""))
    schema = _json(answers.get("schema", ""))
    return Answers(
        answers.get("sudo"),
        answers.get("sshd", ""),
        cloud if isinstance(cloud, dict) else None,
        tuple(_sudo_faults(answers.get("sudo_faults", ""))),
        schema=tuple((path, f"{place}: {' '.join(what.split())}" if place else what) for path, place, what in schema) if isinstance(schema, list) else (),
        ramdisk=tuple((path, name) for path, _space, name in (line.partition(" ") for line in answers.get("ramdisk", "").splitlines()) if name),
    )


def _json(text: str) -> t.Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _sudo_faults(text: str) -> t.Iterator[SudoFault]:
    for path, line, what, owned, owner, missing, reason in SUDO_FAULT.findall(text):
        if missing:
            yield SudoFault(SUDOERS, 0, f"includes {missing} ({reason})")
        else:
            yield SudoFault(path or owned, int(line or 0), what or owner)


def _has_own(tree: Tree, packaged: t.Container[str], pattern: str) -> bool:
    return any(entry.path not in packaged for entry in tree.files(pattern))


def _is_sshd_changed(tree: Tree, packaged: t.Container[str]) -> bool:
    config = read_sshd_config(tree)
    named = {"authorizedkeysfile", "authorizedkeyscommand", "trustedusercakeys", "hostbasedauthentication"}
    own = (entry.path for entry in tree.files(f"{SSHD_CONFIG}.d/*.conf") if entry.path not in packaged)
    return not named.isdisjoint(config.values) or any(SSHD_KEYS.search(tree.text(path)) for path in own)
