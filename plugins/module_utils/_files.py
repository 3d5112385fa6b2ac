# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Files that are complete or not there at all, digests, and free space."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._errors import SpaceError

CHUNK = 1 << 20


@contextlib.contextmanager
def part_file(destination: Path) -> t.Iterator[Path]:
    """Yield a path in the folder of ``destination`` that replaces it when the block ends well, and is removed otherwise."""
    part = destination.with_name(f".{destination.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(destination)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


def write_atomic(destination: Path, data: bytes | str, mode: int = 0o644) -> None:
    """Replace the content of a small file in one step."""
    with part_file(destination) as part:
        part.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
        part.chmod(mode)


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """The hex digest of a file, read in pieces of 1 MiB."""
    digest = hashlib.new(algorithm)
    with path.open("rb") as stream:
        for chunk in iter(lambda: stream.read(CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


def allocated_bytes(path: Path) -> int:
    """The bytes that a file occupies on disk (a sparse file occupies less than its size)."""
    return path.stat().st_blocks * 512


def require_space(folder: Path, needed: int, purpose: str) -> None:
    """Raise SpaceError when the file system of ``folder`` has fewer than ``needed`` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SpaceError(
            f"Cannot {purpose}: {needed / 2**20:.0f} MiB are needed in {folder}, {free / 2**20:.0f} MiB are free. Free space there or choose another folder.",
            needed=needed,
            free=free,
        )
