# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Rules on packages: all of them configured, their files present and unchanged, and the record of the image."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Finding, Group, Rule, Severity, Subject, error, warning
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_dpkg import Fault

STATUS = "/var/lib/dpkg/status"
RECORD = "/etc/hyperscaler-image.json"

DATABASE = error("package.database", "Build the image again; without the package database it can neither be checked nor updated.")
STATE = error("package.state", "Run dpkg --configure -a inside the image and find out why the package failed (its maintainer script or its DKMS build).")
INTERRUPTED = error("package.interrupted", "Run dpkg --configure -a inside the image: a call of dpkg was interrupted.")
MISSING = error(
    "package.missing_file",
    "Install the package again, or stop deleting packaged files; to leave files out, set path-exclude in /etc/dpkg/dpkg.cfg.d before packages are installed.",
)
MODIFIED = error("package.modified_file", "Install the package again; use a drop-in file, dpkg-divert or an alternative instead of changing a packaged file.")
MISSING_FOLDER = error("package.missing_folder", "Create it again as the package has it (install the package again); empty folders instead of deleting them.")
RECORD_MISSING = warning("record.missing", "Write /etc/hyperscaler-image.json while the image is sealed; it tells users of the image what it is.")
RECORD_INVALID = error("record.invalid", "Write it again as a JSON object.")


def check_packages(subject: Subject) -> t.Iterator[Finding]:
    """Every package is configured, and every packaged file is there as it was packaged."""
    packages = subject.packages
    if not packages.installed:
        yield DATABASE.at(STATUS, "lists no installed package.")
        return
    for package in packages.installed:
        if package.state != "installed" or package.flag != "ok":
            yield STATE.at(STATUS, f"says that {package.name} {package.version} is {package.state} ({package.flag}).")
    for name in subject.tree.names("/var/lib/dpkg/updates"):
        yield INTERRUPTED.at(f"/var/lib/dpkg/updates/{name}", "is a step of dpkg that was not finished.")
    for package in packages.installed:
        if package.name not in packages.listed:
            yield DATABASE.at(f"/var/lib/dpkg/info/{package.name}.list", f"is missing although {package.name} is installed.")
    yield from _check_files(subject)


def _check_files(subject: Subject) -> t.Iterator[Finding]:
    for fault in subject.packages.verify():
        if fault.fault is Fault.MISSING:
            yield MISSING.at(fault.path, f"is missing; it belongs to the package {fault.package}.")
        elif fault.fault is Fault.MODIFIED:
            yield MODIFIED.at(fault.path, f"differs from the file in the package {fault.package}.")
        else:
            yield MODIFIED.at(fault.path, f"cannot be read; it belongs to the package {fault.package}.")
    for package, path in subject.packages.missing_names():
        yield MISSING_FOLDER.at(path, f"is missing; it belongs to the package {package}.")


def check_record(subject: Subject) -> t.Iterator[Finding]:
    """The image says what it is."""
    if subject.tree.target(RECORD) is None:
        severity = Severity.ERROR if subject.expectations.require_record else RECORD_MISSING.severity
        yield Rule(RECORD_MISSING.id, severity, RECORD_MISSING.remedy).at(RECORD, "is missing.")
        return
    try:
        document = json.loads(subject.tree.text(RECORD))
    except ValueError:
        yield RECORD_INVALID.at(RECORD, "is not JSON.")
        return
    if not isinstance(document, dict):
        yield RECORD_INVALID.at(RECORD, "is not a JSON object.")


GROUPS = (
    Group("packages", (DATABASE, STATE, INTERRUPTED, MISSING, MODIFIED, MISSING_FOLDER), check_packages),
    Group("record", (RECORD_MISSING, RECORD_INVALID), check_record),
)
