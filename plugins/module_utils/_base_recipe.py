# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""What a bootstrapped Debian base image consists of: packages, mirrors, partitions."""

from __future__ import annotations

import dataclasses
import re
import typing as t
import uuid
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._apt_access import Access, read_access
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_failure import without_password
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_sources import Mirrors, find_mirrors, read_sources, security_of
from ansible_collections.hyperscaler.images.plugins.module_utils._base_system import suites_of
from ansible_collections.hyperscaler.images.plugins.module_utils._digest import document_digest
from ansible_collections.hyperscaler.images.plugins.module_utils._disk_layout import GPT_BIOS_BOOT, GPT_ESP, GPT_ROOT, MIB, Partition
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._gpgv import require_keyring

RECIPE_VERSION = 2
KERNELS = {"genericcloud": "linux-image-cloud-amd64", "generic": "linux-image-amd64"}
PACKAGES = (
    "apparmor",
    "apt-utils",
    "bash-completion",
    "ca-certificates",
    "cloud-guest-utils",
    "cloud-init",
    "cloud-initramfs-growroot",
    "cron",
    "curl",
    "dbus",
    "dosfstools",
    "e2fsprogs",
    "fdisk",
    "gdisk",
    "grub-cloud-amd64",
    "grub-efi-amd64-signed",
    "initramfs-tools",
    "iproute2",
    "iptables",
    "iputils-ping",
    "less",
    "libnss-myhostname",
    "libnss-resolve",
    "libpam-systemd",
    "locales",
    "logrotate",
    "netplan.io",
    "openssh-client",
    "openssh-server",
    "openssh-sftp-server",
    "polkitd",
    "procps",
    "python3",
    "python3-apt",
    "shim-signed",
    "sudo",
    "systemd",
    "systemd-resolved",
    "systemd-sysv",
    "systemd-timesyncd",
    "unattended-upgrades",
    "vim-tiny",
    "zstd",
)
ROOT, ESP, BIOS = 1, 15, 14
ROOT_START, ESP_START, BIOS_START = 128 * MIB, 4 * MIB, MIB
SMALLEST = 2 * 1024 * MIB


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is to be bootstrapped; ``virtual_size`` is bytes, ``access`` is how this machine reaches the mirror."""

    release: str
    flavour: str
    mirrors: Mirrors
    components: tuple[str, ...]
    extra_packages: tuple[str, ...]
    virtual_size: int
    keyring: Path
    guest: Mirrors | None
    access: Access = dataclasses.field(default_factory=Access)

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages that are asked for, without their dependencies."""
        return tuple(sorted({KERNELS[self.flavour], *PACKAGES, *self.extra_packages}))

    def inputs(self) -> dict[str, t.Any]:
        """Everything that shapes the image apart from the state of the mirror."""
        return {
            "recipe_version": RECIPE_VERSION,
            "release": self.release,
            "arch": "amd64",
            "flavour": self.flavour,
            "suites": list(suites_of(self.release)),
            "components": list(self.components),
            "packages": list(self.packages),
            "virtual_size": self.virtual_size,
            "mirror": without_password(self.mirrors.archive),
            "security_mirror": without_password(self.mirrors.security),
            "guest_mirror": self.guest.archive if self.guest else None,
            "guest_security_mirror": self.guest.security if self.guest else None,
        }

    def identity(self, name: str) -> str:
        """A UUID that is the same each time that the same recipe is followed."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"hyperscaler.images/{document_digest(self.inputs())}/{name}"))


def parse_size(text: str) -> int:
    """Bytes of a number with a binary unit, such as ``3G``."""
    found = re.fullmatch(r"(\d+)\s*([KMGT])(?:i?B)?", text.strip(), re.IGNORECASE)
    size = int(found.group(1)) << (10 * (" KMGT".index(found.group(2).upper()))) if found else 0
    if size < SMALLEST or size % MIB:
        raise ImageError(f"Cannot make a disk of the size {text!r}: give a whole number with M, G or T that is at least {SMALLEST // MIB}M, for instance 3G.")
    return size


def read_recipe(params: t.Mapping[str, t.Any], apt_folder: Path) -> Recipe:
    """The recipe for the options of the module; what they leave open comes from the apt configuration of the build host."""
    if params["arch"] != "amd64":
        raise ImageError(f"Cannot bootstrap an image for {params['arch']}: only amd64 can be bootstrapped. Use a cloud image of Debian (cloud_image).")
    if params["mirror"]:
        archive = params["mirror"].rstrip("/")
        mirrors = Mirrors(archive, params["security_mirror"] or security_of(archive))
    else:
        require_keyring(Path(params["keyring"]), f"bootstrap Debian {params['release']}")
        lists = [Path(params["cache_dir"]) / "lists"] if params.get("cache_dir") else []
        found = find_mirrors(read_sources(apt_folder), "the build host", Path(params["keyring"]), lists)
        mirrors = Mirrors(found.archive, params["security_mirror"] or found.security)
    guest = params["guest_mirror"]
    return Recipe(
        release=params["release"],
        flavour=params["flavour"],
        mirrors=mirrors,
        components=tuple(params["components"]),
        extra_packages=tuple(params["extra_packages"]),
        virtual_size=parse_size(params["virtual_size"]),
        keyring=Path(params["keyring"]),
        guest=Mirrors(guest.rstrip("/"), params["guest_security_mirror"] or security_of(guest)) if guest else None,
        access=read_access((mirrors.archive, mirrors.security)),
    )


def layout(recipe: Recipe) -> list[Partition]:
    """The partitions of Debian's cloud images: BIOS boot, EFI system partition, root as the last one on the disk."""
    return [
        Partition(BIOS, BIOS_START, ESP_START - BIOS_START, GPT_BIOS_BOOT, recipe.identity("bios").upper()),
        Partition(ESP, ESP_START, ROOT_START - ESP_START, GPT_ESP, recipe.identity("esp").upper()),
        Partition(ROOT, ROOT_START, 0, GPT_ROOT["amd64"], recipe.identity("root").upper()),
    ]
