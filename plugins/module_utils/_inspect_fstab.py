# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Rules on what an image mounts, unlocks, swaps to and resumes from: all of it is in the image, on the network, or may be missing."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._fstab import FstabEntry, find_volume, parse_fstab, significant_fields
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Finding, Group, Rule, Subject, error, warning
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_grub import CONFIG
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree, assignments, ini_values

FSTAB = "/etc/fstab"
CRYPTTAB = "/etc/crypttab"
RESUME = ("/etc/initramfs-tools/conf.d/*", "/etc/initramfs-tools/initramfs.conf")
UNITS = tuple(f"/{folder}/systemd/system/*.{kind}" for folder in ("etc", "usr/local/lib") for kind in ("mount", "swap"))
MAPPED = "/dev/mapper/"
BUILD_DEVICES = re.compile(r"/dev/(loop|nbd|mapper/loop)\d")
UNSTABLE_DEVICES = re.compile(r"/dev/([shv]d[a-z]|xvd[a-z]|nvme\d|mmcblk\d)")
# Made by the kernel or by a unit on every machine.
MADE_DEVICES = re.compile(r"/dev/(zram|ram|shm|fuse|mqueue|hugepages)")
# Empty in an image, and filled by the boot.
FILLED = ("/run/", "/var/run/", "/proc/", "/sys/", "/dev/shm/", "/tmp/")
CRYPT_OPTIONAL = frozenset({"noauto", "nofail", "_netdev"})

FSTAB_MISSING = error("fstab.missing", "Write an /etc/fstab that mounts root by PARTUUID or UUID.")
FSTAB_ROOT = error("fstab.root", "Mount the image's own root partition at / by PARTUUID or UUID.")
FSTAB_SOURCE = error("fstab.source", "Name a partition of this image by PARTUUID, UUID or LABEL, add nofail, or remove the line.")
FSTAB_BUILD_HOST = error("fstab.build_host", "Remove the line: it comes from the build host and the boot would wait for it.")
FSTAB_DEVICE_NAME = warning("fstab.device_name", "Use PARTUUID or UUID: the name of the device depends on the machine that the image runs on.")
FSTAB_SYNTAX = error("fstab.syntax", "Write source, mount point and type (see fstab(5)).")
CRYPT_SOURCE = error("fstab.crypttab", "Name a partition of this image, add nofail, or remove the line: the boot waits for the disk of another machine.")
RESUME_SOURCE = warning("fstab.resume", "Write RESUME=none and update the initial RAM disk: every boot waits for the swap space of another machine.")

# Arguments of systemd-cryptsetup-generator; those with rd. are for an initial RAM disk with systemd.
ENCRYPTED = ("luks.uuid", "rd.luks.uuid")


def check_fstab(subject: Subject) -> t.Iterator[Finding]:
    """Whatever the image mounts or swaps to exists in the image, on the network or in a cluster."""
    text = subject.tree.text(FSTAB)
    entries = parse_fstab(text)
    lines = list(significant_fields(text))
    if not lines:
        yield FSTAB_MISSING.at(FSTAB, "is missing or has no entry.")
    for fields in lines:
        if len(fields) < 3:
            yield FSTAB_SYNTAX.at(FSTAB, f"has the line {' '.join(fields)!r}, which is no entry.")
    if lines and not any(entry.target == "/" for entry in entries):
        yield FSTAB_ROOT.at(FSTAB, "has no entry for /, so root stays mounted read-only.")
    units = [(unit.path, _entry_of(subject.tree, unit.path)) for unit in subject.tree.files(*UNITS)]
    named = [*((FSTAB, entry) for entry in entries), *((path, entry) for path, entry in units if entry)]
    elsewhere = [entry.target.rstrip("/") + "/" for _path, entry in named if entry.target not in ("/", "none") and _may_be_anything(subject, entry)]
    for path, entry in named:
        yield from _check_source(subject, path, entry, elsewhere)
    yield from _check_crypttab(subject)
    yield from _check_resume(subject)


def _entry_of(tree: Tree, path: str) -> FstabEntry | None:
    """What a mount or swap unit mounts, as an entry of fstab."""
    values = ini_values(tree.text(path))
    swap = path.endswith(".swap")
    source = values.get(("Swap" if swap else "Mount", "what"), "")
    if not source:
        return None
    kind = "swap" if swap else values.get(("Mount", "type"), "auto")
    return FstabEntry(source, values.get(("Mount", "where"), "none"), kind, tuple(values.get(("Swap" if swap else "Mount", "options"), "").split(",")))


def _may_be_anything(subject: Subject, entry: FstabEntry) -> bool:
    """Whether files appear at the mount point that the image does not have."""
    return entry.type != "swap" and not entry.is_bind and find_volume(entry, subject.volumes) is None


def _check_source(subject: Subject, path: str, entry: FstabEntry, elsewhere: t.Sequence[str]) -> t.Iterator[Finding]:
    source = entry.source
    where = "swap space" if entry.type == "swap" else entry.target
    volume = find_volume(entry, subject.volumes)
    rule: Rule | None = None
    reason = ""
    if volume is not None:
        if entry.target == "/" and volume != subject.root:
            rule, reason = FSTAB_ROOT, "which is not the root partition of this image"
    elif not entry.is_on_disk:
        return
    elif UNSTABLE_DEVICES.match(source):
        rule, reason = (FSTAB_DEVICE_NAME, "which is another disk on another machine") if "noauto" not in entry.options else (None, "")
    elif entry.is_optional:
        return
    elif entry.tag:
        rule, reason = FSTAB_SOURCE, "which no partition of this image has"
    elif BUILD_DEVICES.match(source):
        rule, reason = FSTAB_BUILD_HOST, "which is a device of the build host"
    elif not _is_there(subject, source, elsewhere):
        rule, reason = (FSTAB_BUILD_HOST if source.startswith("/") and not source.startswith("/dev/") else FSTAB_SOURCE), "which does not exist in this image"
    if rule:
        yield rule.at(path, f"mounts {source} as {where}, {reason}.")


def _is_there(subject: Subject, source: str, elsewhere: t.Sequence[str]) -> bool:
    """Whether a path exists in the image, or appears at boot."""
    if source.startswith(MAPPED) and source[len(MAPPED) :] in {fields[0] for fields in _crypttab(subject.tree)}:
        return True
    if MADE_DEVICES.match(source) or source.startswith((*FILLED, *elsewhere)):
        return True
    return source in ("none", "nodev") or f"{source}/" in elsewhere or (source.startswith("/") and subject.tree.target(source) is not None)


def _crypttab(tree: Tree) -> list[list[str]]:
    return [fields for fields in significant_fields(tree.text(CRYPTTAB)) if len(fields) > 1]


def _check_crypttab(subject: Subject) -> t.Iterator[Finding]:
    for name, source, *rest in _crypttab(subject.tree):
        entry = FstabEntry(source, name, "auto", tuple(rest[1].split(",")) if len(rest) > 1 else ())
        if not CRYPT_OPTIONAL.isdisjoint(entry.options) or find_volume(entry, subject.volumes):
            continue
        if entry.tag or (source.startswith("/") and not _is_there(subject, source, ())):
            yield CRYPT_SOURCE.at(CRYPTTAB, f"unlocks {source} as {name}, which this image does not have.")
    for word in subject.kernel_arguments:
        option, _sep, value = word.partition("=")
        uuid = value.removeprefix("luks-")
        if option in ENCRYPTED and find_volume(FstabEntry(f"UUID={uuid}", "none", "auto", ()), subject.volumes) is None:
            yield CRYPT_SOURCE.at(CONFIG, f"unlocks UUID={uuid} ({option}), which this image does not have.")


def _check_resume(subject: Subject) -> t.Iterator[Finding]:
    places = [(entry.path, assignments(subject.tree.text(entry.path)).get("resume", "")) for entry in subject.tree.files(*RESUME)]
    places += [(CONFIG, word.partition("=")[2]) for word in subject.kernel_arguments if word.startswith("resume=")]
    for path, source in places:
        named = source.startswith(("UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "/"))
        if named and find_volume(FstabEntry(source, "none", "swap", ()), subject.volumes) is None:
            yield RESUME_SOURCE.at(path, f"resumes from {source}, which this image does not have.")


RULES = (FSTAB_MISSING, FSTAB_ROOT, FSTAB_SOURCE, FSTAB_BUILD_HOST, FSTAB_DEVICE_NAME, FSTAB_SYNTAX, CRYPT_SOURCE, RESUME_SOURCE)
GROUPS = (Group("fstab", RULES, check_fstab),)
