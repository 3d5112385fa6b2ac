# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""The configuration of a bootstrapped Debian base system, in the manner of Debian's cloud images, and what is taken out of it."""

from __future__ import annotations

import os
import re
import shutil
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._apt_sources import Mirrors
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError

KEYRING_IN_GUEST = "/usr/share/keyrings/debian-archive-keyring.gpg"
FSTAB = """\
PARTUUID={root} / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1
PARTUUID={esp} /boot/efi vfat defaults,umask=0077 0 2
"""
GRUB_CLOUD = """\
GRUB_TIMEOUT=0
GRUB_DISABLE_LINUX_UUID=true
GRUB_DISABLE_LINUX_PARTUUID=false
"""
# Interfaces get an address even where there is no cloud-init data source; what cloud-init finds is merged over it.
NETPLAN = """\
network:
  version: 2
  ethernets:
    ethernet-predictable:
      match: {name: "en*"}
      dhcp4: true
      dhcp6: true
      dhcp4-overrides: {use-domains: true}
      dhcp6-overrides: {use-domains: true}
      optional: true
    ethernet-kernel:
      match: {name: "eth*"}
      dhcp4: true
      dhcp6: true
      dhcp4-overrides: {use-domains: true}
      dhcp6-overrides: {use-domains: true}
      optional: true
"""
CLOUD = """\
apt:
  generate_mirrorlists: {generate}
system_info:
  network:
    renderers: [netplan, networkd]
"""
REMOVED = (
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "etc/apt/sources.list",
    "etc/apt/sources.list.d/0000*",
    "etc/mailname",
    "etc/*-",
    "etc/ssh/ssh_host_*",
    "root/.cache",
    "run/*",
    "tmp/*",
    "var/backups/*",
    "var/cache/debconf/*-old",
    "var/cache/ldconfig/aux-cache",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/*-old",
    "var/lib/systemd/credential.secret",
    "var/lib/systemd/random-seed",
    "var/log/*.log",
    "var/log/apt/*",
    "var/log/journal/*",
    "var/tmp/*",
)
# Folders that apt wants for its own user; those of the bootstrap were lent to the image.
APT_FOLDERS = ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial")
EMPTIED = ("etc/hostname", "etc/machine-id", "var/log/btmp", "var/log/lastlog", "var/log/wtmp")


def suites_of(release: str) -> tuple[str, str, str, str]:
    """The suites that a release is installed and kept up to date from; the last one is in the security archive."""
    return release, f"{release}-updates", f"{release}-backports", f"{release}-security"


def bootstrap_sources(release: str, components: t.Sequence[str], mirrors: Mirrors, keyring: Path) -> str:
    """The package sources of the bootstrap, in one-line style.

    The keyring is named in each, because mmdebstrap otherwise looks for one that fits.
    """
    *archive, security = suites_of(release)
    places = [*((mirrors.archive, suite) for suite in archive), (mirrors.security, security)]
    return "".join(f"deb [signed-by={keyring}] {uri} {suite} {' '.join(components)}\n" for uri, suite in places)


def guest_sources(release: str, components: t.Sequence[str]) -> str:
    """The package sources of the finished image; the addresses are in mirror lists, which cloud-init can replace."""
    *archive, security = suites_of(release)
    stanzas = (("debian", archive), ("debian-security", [security]))
    return "\n".join(
        f"Types: deb\nURIs: mirror+file:///etc/apt/mirrors/{name}.list\nSuites: {' '.join(suites)}\n"
        f"Components: {' '.join(components)}\nSigned-By: {KEYRING_IN_GUEST}\n"
        for name, suites in stanzas
    )


def official_mirrors(cloud_cfg: str) -> Mirrors | None:
    """Debian's official addresses, which its cloud-init package knows as the mirrors of last resort."""
    found = re.search(r"^\s*failsafe:\s*\n\s*primary:\s*(\S+)\s*\n\s*security:\s*(\S+)", cloud_cfg, re.MULTILINE)
    return Mirrors(found.group(1), found.group(2)) if found else None


def configure(root: Path, release: str, components: t.Sequence[str], partition_uuids: t.Mapping[str, str], guest: Mirrors | None) -> Mirrors:
    """Write the configuration files; return the mirrors that the finished image uses.

    With ``guest`` the image keeps those mirrors; without, it gets Debian's official ones and cloud-init may choose others at first boot.
    """
    cloud_cfg = (root / "etc/cloud/cloud.cfg").read_text(encoding="utf-8")
    mirrors = guest or official_mirrors(cloud_cfg)
    if mirrors is None:
        raise ImageError(
            "Cannot write the package sources of the image: its cloud-init package names no official mirror. Give the mirrors of the image (guest_mirror)."
        )
    files = {
        "etc/fstab": FSTAB.format(root=partition_uuids["root"].lower(), esp=partition_uuids["esp"].lower()),
        "etc/default/grub.d/10_cloud.cfg": GRUB_CLOUD,
        "etc/grub.d/enable_cloud": "",
        "etc/netplan/90-default.yaml": NETPLAN,
        "etc/cloud/cloud.cfg.d/01_debian_cloud.cfg": CLOUD.format(generate="false" if guest else "true"),
        "etc/apt/sources.list.d/debian.sources": guest_sources(release, components),
        "etc/apt/mirrors/debian.list": f"{mirrors.archive}\n",
        "etc/apt/mirrors/debian-security.list": f"{mirrors.security}\n",
        "etc/locale.conf": "LANG=C.UTF-8\n",
    }
    for name, text in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
        place.chmod(0o600 if name.startswith("etc/netplan/") else 0o644)
    (root / "boot/efi").mkdir(parents=True, exist_ok=True)
    return mirrors


def clean(root: Path) -> None:
    """Take out identity, caches, logs and what the bootstrap needed only for itself."""
    for pattern in REMOVED:
        for place in sorted(root.glob(pattern)):
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink()
    for name in EMPTIED:
        place = root / name
        if place.exists():
            os.truncate(place, 0)
    # The bootstrap copied it from the build host, with the mode that it has there.
    host_name = root / "etc/hostname"
    if host_name.exists():
        host_name.chmod(0o644)


def make_apt_folders(root: Path) -> None:
    """Give the image its empty package folders, as the apt package has them."""
    entry = re.search(r"^_apt:[^:]*:(\d+):", (root / "etc/passwd").read_text(encoding="utf-8"), re.MULTILINE)
    for name in APT_FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name).chmod(0o700)
        os.chown(root / name, int(entry.group(1)) if entry else 0, 0)


def clamp_times(root: Path, epoch: int) -> None:
    """Let no file be younger than ``epoch`` (seconds since 1970), as SOURCE_DATE_EPOCH asks for."""
    for folder, folders, files in os.walk(root, topdown=False):
        for name in [*files, *folders]:
            place = Path(folder, name)
            status = place.lstat()
            if status.st_mtime > epoch:
                os.utime(place, (min(status.st_atime, epoch), epoch), follow_symlinks=False)
