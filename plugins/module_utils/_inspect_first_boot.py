# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Rules on files that each machine writes at boot: they open no way in, and bring no secret, that a file of the image must not."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._cloud_config import read_files
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Finding, Group, Subject, error
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_booted import BootedTree
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_secrets import check_private_keys, check_secrets
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_ways_in import check_ways_in
from ansible_collections.hyperscaler.images.plugins.module_utils._written_files import (
    Written,
    rights_by_cloud_init,
    written_by_cloud_init,
    written_by_tmpfiles,
)

FETCHED = error("secret.fetched", "Take the entry out, and put the file into the image or the user data of each machine.")
REMEDY = "Take the entry out of the file that writes it; what lets somebody in comes by the user data of each machine."
# Files that decide who gets in, whatever is in them.
DECIDING = re.compile(r"/etc/(?:sudoers(?:\.d/.*)?|doas\.conf|g?shadow|passwd|pam\.d/.*|ssh/sshd_config(?:\.d/.*)?)$|/authorized_keys2?$")


def check_first_boot(subject: Subject) -> t.Iterator[Finding]:
    """What the boot writes is judged as if it were in the image."""
    files = read_files(subject.tree, subject.kernel_arguments)
    written = [*written_by_cloud_init(files), *rights_by_cloud_init(files), *written_by_tmpfiles(subject.tree, subject.packages.owned)]
    for file in written:
        if file.data is None and DECIDING.search(file.path):
            yield FETCHED.at(file.source, f"fetches {file.path} from {file.address} at boot, and whoever serves it decides who gets in.")
    if not any(file.data for file in written):
        return
    sources: dict[str, list[str]] = {}
    for file in written:
        sources.setdefault(subject.tree.resolve(file.path), []).append(file.source)
    booted = Subject(BootedTree(subject.tree, _contents(subject, written)), expectations=subject.expectations)
    before = {(finding.rule, finding.path, finding.message) for finding in _judged(dataclasses.replace(subject, asking=None))}
    for finding in _judged(booted):
        if (finding.rule, finding.path, finding.message) not in before:
            own = sources.get(finding.path)
            what = f"writes {finding.path} at boot, which {finding.message}" if own else f"writes files at boot, so that {finding.path} {finding.message}"
            yield from (dataclasses.replace(finding, path=source, message=what, remedy=REMEDY) for source in own or [written[0].source])


def _contents(subject: Subject, written: t.Iterable[Written]) -> dict[str, bytes]:
    """The files by their paths; several contents of one are looked at together, whichever is written last."""
    contents: dict[str, bytes] = {}
    for file in written:
        if file.data is not None:
            before = contents.get(file.path, subject.tree.data(file.path) if file.append else b"")
            contents[file.path] = b"\n".join(filter(None, (before, file.data)))
    return contents


def _judged(subject: Subject) -> t.Iterator[Finding]:
    for check in (check_ways_in, check_secrets, check_private_keys):
        yield from check(subject)


GROUPS = (Group("first_boot", (FETCHED,), check_first_boot),)
