# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""The kernel that an image will boot: its release, its version, and the settings that its modules bring."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._deb_version import version_order

# Where the header of a bzImage has the offset of its version text, less 0x200 (Documentation/arch/x86/boot.rst).
VERSION_POINTER = 0x20E
# The settings that appear with a module, and their values at first (Documentation/networking/ip-sysctl.rst, nf_conntrack-sysctl.rst).
MODULE_SETTINGS: dict[str, dict[str, str]] = {
    "br_netfilter": {
        **{f"net/bridge/bridge-nf-call-{name}tables": "1" for name in ("arp", "ip", "ip6")},
        **{f"net/bridge/bridge-nf-{name}": "0" for name in ("filter-pppoe-tagged", "filter-vlan-tagged", "pass-vlan-input-dev")},
    },
    "nf_conntrack": {"net/nf_conntrack_max": "262144", "net/netfilter/nf_conntrack_max": "262144"},
}


class ImageKernel:
    """The newest kernel below the root of an open image; read again when its kernels changed."""

    def __init__(self, root: Path) -> None:
        """``root`` is the root file system as the build host sees it."""
        self._root = root
        self._read_at = -1
        self._newest = ("", "")

    def newest(self) -> tuple[str, str]:
        """Release and version, such as ``6.12.41+deb13-cloud-amd64`` and ``#1 SMP …``; empty texts where there is no kernel."""
        modules = self._root / "usr/lib/modules"
        try:
            changed = modules.stat().st_mtime_ns
        except OSError:
            return "", ""
        if changed != self._read_at:
            releases = sorted((path.name for path in modules.iterdir() if path.is_dir()), key=version_order)
            self._newest = (releases[-1], self._version(releases[-1])) if releases else ("", "")
            self._read_at = changed
        return self._newest

    def _version(self, release: str) -> str:
        """What ``uname -v`` will say, from the kernel itself."""
        try:
            with (self._root / f"boot/vmlinuz-{release}").open("rb") as stream:
                stream.seek(VERSION_POINTER)
                (pointer,) = struct.unpack("<H", stream.read(2))
                stream.seek(pointer + 0x200)
                text = stream.read(512).split(b"\0", 1)[0].decode("ascii", errors="replace")
        except (OSError, struct.error):
            return ""
        found = re.search(r"#\d.*", text)
        return found.group(0) if found else ""

    def settings_of_module(self, name: str, settings: Path) -> None:
        """Make the settings of a module below ``settings``, which is /proc/sys of the open image, unless they are there."""
        owner = settings.stat()
        for key, value in MODULE_SETTINGS.get(name, {}).items():
            file = settings / key
            if not file.exists():
                file.parent.mkdir(exist_ok=True)
                file.write_text(value + "\n", encoding="ascii")
                for made in (file.parent, file):
                    os.chown(made, owner.st_uid, owner.st_gid)
