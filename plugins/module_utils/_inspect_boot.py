# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Rules on what happens before and at the mount of root: the boot menu and the loader for UEFI."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._fstab import FstabEntry, find_volume
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Finding, Group, Subject, error, warning
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_grub import CONFIG, ENVIRONMENT, MenuEntry

ESP = "/boot/efi"
LOADERS = ("BOOTX64.EFI", "BOOTAA64.EFI")
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


GROUPS = (Group("boot", (GRUB_CONFIG, DEFAULT_ENTRY, KERNEL_FILE, INITRD_FILE, ROOT_ARGUMENT, SEARCH, OTHER_ENTRY, PENDING_ENTRY, EFI_LOADER), check_boot),)
