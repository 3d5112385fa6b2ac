# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Rules on what happens before and at the mount of root: the boot menu, the loader for UEFI, fstab and mount units."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._fstab import FstabEntry, find_volume, parse_fstab
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Finding, Group, Rule, Subject, error, warning
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_grub import CONFIG, ENVIRONMENT, MenuEntry
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import ini_values, significant_lines

FSTAB = "/etc/fstab"
ESP = "/boot/efi"
LOADERS = ("BOOTX64.EFI", "BOOTAA64.EFI")
NETWORK_TYPES = frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "lustre", "beegfs", "9p", "virtiofs", "fuse.sshfs"})
PSEUDO_SOURCES = frozenset(
    {"none", "tmpfs", "proc", "sysfs", "devpts", "devtmpfs", "cgroup", "cgroup2", "overlay", "hugetlbfs", "mqueue", "debugfs", "tracefs"}
    | {"securityfs", "configfs", "nodev", "beegfs_nodev", "binfmt_misc", "efivarfs", "bpf"}
)
BUILD_DEVICES = re.compile(r"/dev/(loop|nbd|mapper/loop)\d")
UNSTABLE_DEVICES = re.compile(r"/dev/([shv]d[a-z]|xvd[a-z]|nvme\d|mmcblk\d)")
REGENERATE = "Run update-grub inside the image as the last step that changes kernels or the command line."

GRUB_CONFIG = error("boot.grub_config", "Run update-grub inside the image; without a menu GRUB stops at its prompt.")
DEFAULT_ENTRY = error("boot.default_entry", "Set GRUB_DEFAULT to an entry that exists and run update-grub inside the image.")
KERNEL_FILE = error("boot.kernel_file", REGENERATE)
INITRD_FILE = error("boot.initrd_file", "Run update-initramfs -c -k for that kernel, then update-grub, inside the image.")
ROOT_ARGUMENT = error("boot.root_argument", "Let grub-mkconfig write root=PARTUUID= or root=UUID= of the image's own root partition.")
SEARCH = error("boot.search", "Run update-grub (and grub-install) inside the image after its file systems were made.")
OTHER_ENTRY = warning("boot.other_entry", REGENERATE)
PENDING_ENTRY = warning("boot.pending_entry", "Run grub-editenv - unset next_entry inside the image.")
EFI_LOADER = error("boot.efi_loader", "Run grub-install with --target=x86_64-efi --removable (or --force-extra-removable) inside the image.")
FSTAB_MISSING = error("fstab.missing", "Write an /etc/fstab that mounts root by PARTUUID or UUID.")
FSTAB_ROOT = error("fstab.root", "Mount the image's own root partition at / by PARTUUID or UUID.")
FSTAB_SOURCE = error("fstab.source", "Name a partition of this image by PARTUUID, UUID or LABEL, or remove the line.")
FSTAB_BUILD_HOST = error("fstab.build_host", "Remove the line: it comes from the build host and the boot would wait for it.")
FSTAB_DEVICE_NAME = warning("fstab.device_name", "Use PARTUUID or UUID: the name of the device depends on the machine that the image runs on.")
FSTAB_SYNTAX = error("fstab.syntax", "Write source, mount point and type (see fstab(5)).")


def check_boot(subject: Subject) -> t.Iterator[Finding]:
    """The boot menu starts a kernel that exists with a root that exists."""
    grub = subject.grub
    if grub is None:
        if not _other_loader(subject):
            yield GRUB_CONFIG.at(CONFIG, "is missing.")
    else:
        if grub.pending:
            yield PENDING_ENTRY.at(ENVIRONMENT, f"makes the first boot start the entry {grub.pending!r} instead of the default.")
        default = grub.default
        if default is None:
            yield DEFAULT_ENTRY.at(CONFIG, f"has no entry {grub.pending or grub.wanted or '0'!r}, which is the default.")
        for entry in grub.entries:
            if entry.linux:
                yield from _check_default(subject, entry) if entry is default else _check_other(subject, entry)
    yield from _check_esp(subject)


def _other_loader(subject: Subject) -> bool:
    return any(subject.tree.glob("/boot/loader/entries/*.conf", f"{ESP}/loader/entries/*.conf", f"{ESP}/EFI/Linux/*.efi"))


def boot_file(subject: Subject, path: str) -> str | None:
    """The path in the image of a file that GRUB names, or None when it is not there; /boot may be a partition of its own."""
    plain = re.sub(r"^(\([^)]*\)|\$root)", "", path)
    for candidate in (plain, f"/boot{plain}", re.sub(r"^/@[^/]*", "", plain)):
        found = subject.tree.target(candidate)
        if found is not None and found.is_file and found.size:
            return found.path
    return None


def _check_default(subject: Subject, entry: MenuEntry) -> t.Iterator[Finding]:
    name = f"the default entry {entry.title!r}"
    if boot_file(subject, entry.linux) is None:
        yield KERNEL_FILE.at(CONFIG, f"starts {entry.linux} by {name}, but the image has no such file (or it is empty).")
    if not entry.initrd:
        yield INITRD_FILE.at(CONFIG, f"loads no initial RAM disk by {name}.")
    for path in entry.initrd:
        if boot_file(subject, path) is None:
            yield INITRD_FILE.at(CONFIG, f"loads {path} by {name}, but the image has no such file (or it is empty).")
    root = entry.argument("root")
    if not _is_root(subject, root):
        yield ROOT_ARGUMENT.at(CONFIG, f"gives the kernel root={root or '(nothing)'} by {name}; that is not the root partition of this image.")
    for uuid in entry.searches:
        if not any(volume.uuid == uuid for volume in subject.volumes):
            yield SEARCH.at(CONFIG, f"searches the file system {uuid} by {name}, but no partition of this image has it.")


def _check_other(subject: Subject, entry: MenuEntry) -> t.Iterator[Finding]:
    for path in (entry.linux, *entry.initrd):
        if boot_file(subject, path) is None:
            yield OTHER_ENTRY.at(CONFIG, f"names {path} in the entry {entry.title!r}, but the image has no such file (or it is empty).")


def _is_root(subject: Subject, source: str) -> bool:
    entry = FstabEntry(source, "/", "auto", ())
    return subject.root is not None and find_volume(entry, subject.volumes) == subject.root


def _check_esp(subject: Subject) -> t.Iterator[Finding]:
    if ESP not in subject.mount_points:
        return
    loaders = [entry for entry in subject.tree.files(f"{ESP}/[Ee][Ff][Ii]/[Bb][Oo][Oo][Tt]/*") if entry.path.rpartition("/")[2].upper() in LOADERS]
    if not loaders:
        yield EFI_LOADER.at(f"{ESP}/EFI/BOOT/BOOTX64.EFI", "is missing, so firmware without stored boot entries finds nothing to start.")
    for entry in subject.tree.files(f"{ESP}/[Ee][Ff][Ii]/*/grub.cfg"):
        for uuid in re.findall(r"^search\.fs_uuid\s+(\S+)", subject.tree.text(entry.path), re.MULTILINE):
            if not any(volume.uuid == uuid for volume in subject.volumes):
                yield SEARCH.at(entry.path, f"searches the file system {uuid}, but no partition of this image has it.")


def check_fstab(subject: Subject) -> t.Iterator[Finding]:
    """Whatever the image mounts or swaps to exists in the image or on the network."""
    text = subject.tree.text(FSTAB)
    entries = parse_fstab(text)
    lines = significant_lines(text)
    if not lines:
        yield FSTAB_MISSING.at(FSTAB, "is missing or has no entry.")
    for line in lines:
        if len(line.split()) < 3:
            yield FSTAB_SYNTAX.at(FSTAB, f"has the line {line!r}, which is no entry.")
    roots = [entry for entry in entries if entry.target == "/"]
    if lines and not roots:
        yield FSTAB_ROOT.at(FSTAB, "has no entry for /, so root stays mounted read-only.")
    for entry in entries:
        yield from _check_source(subject, FSTAB, entry)
    for unit in subject.tree.files("/etc/systemd/system/*.mount", "/etc/systemd/system/*.swap"):
        yield from _check_unit(subject, unit.path)


def _check_unit(subject: Subject, path: str) -> t.Iterator[Finding]:
    values = ini_values(subject.tree.text(path))
    swap = path.endswith(".swap")
    source = values.get(("Swap" if swap else "Mount", "what"), "")
    if source:
        kind = "swap" if swap else values.get(("Mount", "type"), "auto")
        yield from _check_source(
            subject, path, FstabEntry(source, values.get(("Mount", "where"), "none"), kind, tuple(values.get(("Mount", "options"), "").split(",")))
        )


def _check_source(subject: Subject, path: str, entry: FstabEntry) -> t.Iterator[Finding]:
    source = entry.source
    where = "swap space" if entry.type == "swap" else entry.target
    rule: Rule | None = None
    reason = ""
    if entry.tag:
        volume = find_volume(entry, subject.volumes)
        if volume is None:
            rule, reason = FSTAB_SOURCE, "which no partition of this image has"
        elif entry.target == "/" and volume != subject.root:
            rule, reason = FSTAB_ROOT, "which is not the root partition of this image"
    elif BUILD_DEVICES.match(source):
        rule, reason = FSTAB_BUILD_HOST, "which is a device of the build host"
    elif UNSTABLE_DEVICES.match(source):
        rule, reason = FSTAB_DEVICE_NAME, "which is another disk on another machine"
    elif not _is_elsewhere(entry) and subject.tree.target(source) is None:
        rule, reason = (FSTAB_BUILD_HOST if source.startswith("/") and not source.startswith("/dev/") else FSTAB_SOURCE), "which does not exist in this image"
    if rule:
        yield rule.at(path, f"mounts {source} as {where}, {reason}.")


def _is_elsewhere(entry: FstabEntry) -> bool:
    """Whether the source is no device at all, or one of another machine or of the machine that the image will run on."""
    remote = entry.type in NETWORK_TYPES or "_netdev" in entry.options or entry.source.startswith("//") or re.match(r"[^/=]+:/", entry.source) is not None
    return remote or entry.source in PSEUDO_SOURCES or (not entry.source.startswith("/") and entry.source == entry.type) or "nofail" in entry.options


GROUPS = (
    Group("boot", (GRUB_CONFIG, DEFAULT_ENTRY, KERNEL_FILE, INITRD_FILE, ROOT_ARGUMENT, SEARCH, OTHER_ENTRY, PENDING_ENTRY, EFI_LOADER), check_boot),
    Group("fstab", (FSTAB_MISSING, FSTAB_ROOT, FSTAB_SOURCE, FSTAB_BUILD_HOST, FSTAB_DEVICE_NAME, FSTAB_SYNTAX), check_fstab),
)
