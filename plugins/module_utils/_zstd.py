# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Unpack what is compressed with zstd."""

from __future__ import annotations

import contextlib
import tempfile
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command


@contextlib.contextmanager
def unpacked_zstd(packed: Path, *, reason: str, attempt: str) -> t.Iterator[Path]:
    """The content of a file, in a file that is gone afterwards. Raises ToolError without the program zstd, CommandError for a damaged file.

    ``reason`` says what the program is needed for, and ``attempt`` completes "Cannot <attempt>: …".
    """
    # The standard library reads zstd from Python 3.14 on only.
    zstd = Command("zstd", reason=reason, package="zstd")
    with tempfile.TemporaryDirectory(prefix="hyperscaler-zstd-") as folder:
        plain = Path(folder, "plain")
        zstd.run("--decompress", "--quiet", "-o", plain, "--", packed, attempt=attempt)
        yield plain
