# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Discard the free space of a mounted file system."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError

# From linux/fs.h: the request and struct fstrim_range (start, length, least length of a free extent).
FITRIM = 0xC0185879
FSTRIM_RANGE = "@QQQ"
WHOLE = 2**64 - 1


def discard_free_space(mount: Path) -> int:
    """Discard it and return how many bytes were discarded, 0 for a file system that cannot discard. Raises ImageError with the reason."""
    # Space that was freed since the last commit of the journal is not discarded: what was deleted would stay in the image.
    Command("sync", reason="discard free space", package="coreutils").run("--file-system", mount, attempt=f"write out {mount}")
    descriptor = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)
    try:
        answer = fcntl.ioctl(descriptor, FITRIM, struct.pack(FSTRIM_RANGE, 0, WHOLE, 0))
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY):
            return 0
        raise ImageError(f"Cannot discard the free space of {mount}: {error.strerror}. What was deleted would stay in the image; look at dmesg.") from error
    finally:
        os.close(descriptor)
    return int(struct.unpack(FSTRIM_RANGE, answer)[1])
