# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Accounts and keys that systemd takes from elsewhere than passwd(5): user records in JSON, and credentials of the image or of the command line."""

from __future__ import annotations

import json
import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Subject
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_grub import CONFIG
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree
from ansible_collections.hyperscaler.images.plugins.module_utils._written_files import CREDSTORES

RECORDS = tuple(f"{folder}/*.user{kind}" for folder in ("/etc/userdb", "/usr/local/lib/userdb", "/usr/lib/userdb") for kind in ("", "-privileged"))
HOMES = ("/var/lib/systemd/home/*.identity",)
STORED = tuple(f"{folder}{kind}/*" for folder in CREDSTORES for kind in ("", ".encrypted"))
# What a credential of a name does.
CREDENTIALS = (
    (re.compile(r"passwd\.(?:hashed|plaintext)-password\.(.+)"), "sets the password of {}"),
    (re.compile(r"ssh\.authorized_keys\.(.+)"), "lets the holder of a key log in as {}"),
    (re.compile(r"(?:tty\..+\.)?(?:agetty\.autologin|login\.noauth)()"), "logs somebody in at the console without a password"),
    (re.compile(r"(?:home\.create|userdb\.user)\.(.+)"), "makes the account {}"),
)
# Lines of tmpfiles.d in the image are read with the others; units come from outside only.
OUTSIDE = (re.compile(r"systemd\.(?:extra-unit|unit-dropin)\.(.+)|tmpfiles\.extra()"), "sets up the machine")
FROM_COMMAND_LINE = re.compile(r"systemd\.set[-_]credential(?:[-_]binary)?=([^:]+):.*", re.DOTALL)


def records(tree: Tree) -> t.Iterator[tuple[str, str]]:
    """The file and a sentence for each user record by which somebody can log in."""
    resolved = re.search(r"^(?:passwd|shadow):.*\bsystemd\b", tree.text("/etc/nsswitch.conf"), re.MULTILINE)
    for entry in tree.files(*(RECORDS if resolved else ()), *HOMES):
        try:
            record = json.loads(tree.text(entry.path))
        except ValueError:
            continue
        private = record.get("privileged") if isinstance(record, dict) else None
        name = record.get("userName") or entry.path.rpartition("/")[2].partition(".")[0] if isinstance(record, dict) else ""
        if isinstance(private, dict) and any(private.get(key) for key in ("hashedPassword", "sshAuthorizedKeys", "pkcs11EncryptedKey", "fido2HmacSalt")):
            yield entry.path, f"has a password or key of {name}."


def credentials(subject: Subject) -> t.Iterator[tuple[str, str]]:
    """The file and a sentence for each credential of systemd by which somebody can log in."""
    given = [(entry.path, entry.path.rpartition("/")[2]) for entry in subject.tree.files(*STORED)]
    given += [(CONFIG, found.group(1)) for word in subject.kernel_arguments if (found := FROM_COMMAND_LINE.fullmatch(word))]
    for path, name in given:
        for pattern, what in (*CREDENTIALS, *([OUTSIDE] if path == CONFIG else ())):
            known = pattern.fullmatch(name)
            if known:
                yield path, f"{what.format(known.group(1))} on every machine from this image (systemd reads it as the credential {name})."
