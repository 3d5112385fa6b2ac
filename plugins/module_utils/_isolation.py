# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Refuse to open an image where nothing could keep the build host safe from it: a weaker way is never taken instead."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils import _system_calls
from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError

PROGRAMS = {
    "systemd-nspawn": ("open an image", "systemd-container"),
    "pasta": ("give an open image a network", "passt"),
    "ip": ("keep the build host out of reach of an image", "iproute2"),
    "nsenter": ("work inside an image", "util-linux"),
}
# Mounts with mapped owners came with Linux 5.12, answers to system calls that let the kernel go on with 5.5.
LEAST_KERNEL = (5, 12)
NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")


def require(folder: Path) -> None:
    """Raise ToolError for a missing program and ImageError for a kernel or a machine that cannot isolate; ``folder`` is that of the image."""
    for program, (reason, package) in PROGRAMS.items():
        Command(program, reason=reason, package=package)
    _system_calls.library()
    release = os.uname().release
    found = re.match(r"(\d+)\.(\d+)", release)
    if found is None or (int(found.group(1)), int(found.group(2))) < LEAST_KERNEL:
        raise ImageError(
            f"Cannot open an image in {folder}: the kernel of this machine is {release}, and mounts with mapped owners need 5.12 or newer. "
            "Use a newer kernel, or another build host."
        )
    missing = [name for name in NAMESPACES if not Path(f"/proc/self/ns/{name}").exists()]
    if missing:
        raise ImageError(
            f"Cannot open an image in {folder}: the kernel of this machine has no namespaces of the kinds {', '.join(missing)}. Use another build host."
        )
    limit = Path("/proc/sys/user/max_user_namespaces")
    if limit.is_file() and limit.read_text(encoding="ascii").strip() == "0":
        raise ImageError(
            f"Cannot open an image in {folder}: user namespaces are switched off on this machine (user.max_user_namespaces is 0). "
            "Switch them on with: sysctl user.max_user_namespaces=10000"
        )
