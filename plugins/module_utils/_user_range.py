# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""A range of user and group ids of the build host for each open image, so that no two images and no user of the host share one."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._errors import BusyError

# systemd leaves the ids from 0x70000000 to 0x7FFFFFFF to others (systemd.io/UIDS-GIDS). Accounts of directory services and the ids of
# rootless containers have six to eight digits, so a range is large.
FIRST, SIZE, COUNT = 0x70000000, 1 << 24, 16
FOLDER = Path("/run/hyperscaler-images")


def take(folder: Path = FOLDER) -> tuple[int, int]:
    """Take a free range; return its first id and the locked file descriptor that keeps it. Raises BusyError when all are taken."""
    folder.mkdir(mode=0o755, exist_ok=True)
    for number in range(COUNT):
        descriptor = os.open(folder / f"users-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        return FIRST + number * SIZE, descriptor
    raise BusyError(f"Cannot open another image: {COUNT} are open on this machine, and each needs a range of user ids of its own. Wait until one is closed.")
