# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""The files that an image needs while it is open, and that must be gone once it is closed."""

from __future__ import annotations

import json
import os
from pathlib import Path

POLICY = "usr/sbin/policy-rc.d"
POLICY_TEXT = "#!/bin/sh\n# No service is started while the image is open.\nexit 101\n"
RESOLVER = "etc/resolv.conf"
RUN = "run/hyperscaler"
APT_CONF = f"/{RUN}/apt.conf"
TRACES = ("root/.ansible",)


def apt_conf(host_settings: str) -> str:
    """The apt configuration of an open image: no waiting for the disk, packages kept, and how the build host reaches its mirror."""
    own = (
        'DPkg::Options:: "--force-unsafe-io";',
        'APT::Keep-Downloaded-Packages "true";',
        'APT::Sandbox::User "root";',
        'Acquire::Retries "5";',
        'Acquire::Languages "none";',
    )
    wanted = ("Acquire::http", "Acquire::https", "Acquire::ftp", "Acquire::Check", "Acquire::AllowInsecure", "Acquire::ForceIPv4")
    passed = [line for line in host_settings.splitlines() if line.startswith(wanted)]
    return "\n".join([*own, *passed]) + "\n"


def inside(root: Path, path: str) -> Path:
    """Follow the links of a path as a process inside ``root`` would; the last component need not exist."""
    current = root
    parts = [part for part in path.split("/") if part not in ("", ".")]
    for _step in range(256):
        if not parts:
            return current
        part = parts.pop(0)
        if part == "..":
            current = current.parent if current != root else root
            continue
        following = current / part
        if following.is_symlink():
            target = os.readlink(following)  # noqa: PTH115 (the text of the link, not a path of the host)
            parts = [*(piece for piece in target.split("/") if piece not in ("", ".")), *parts]
            current = root if target.startswith("/") else current
        else:
            current = following
    raise OSError(f"too many links in {path}")


def create(root: Path, path: str, text: str, mode: int) -> str | None:
    """Write a file below ``root`` unless something is there; return the path that has to be removed when the image is closed."""
    target = inside(root, path)
    if target.exists():
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    target.chmod(mode)
    return str(target.relative_to(root))


def remember(created: list[str]) -> str:
    """The note in the run folder that tells what was created, for closing."""
    return json.dumps(sorted(created))
