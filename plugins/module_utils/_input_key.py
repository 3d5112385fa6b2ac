# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Digests of values that may be secret: with a key, so that nobody who has only the digest can try values."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import tempfile
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError

SIZE = 32


class InputKey:
    """A key, and the digests made with it."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @property
    def name(self) -> str:
        """What tells this key from others and says nothing of it."""
        return self.digest("the name of this key")[:16]

    def digest(self, text: str) -> str:
        """The keyed digest of a text."""
        return hmac.new(self._key, text.encode("utf-8"), hashlib.sha256).hexdigest()


def read_key(path: Path, output: Path, *, make: bool) -> InputKey:
    """The key in a file, which is made when there is none and ``make`` is true; raises ImageError for a file that cannot be used."""
    if output.resolve() in path.resolve().parents:
        raise ImageError(f"Cannot keep the key {path} in {output}: whoever gets the image would get the key. Choose another key_file.")
    try:
        if make and not path.exists():
            _make(path)
        key = path.read_bytes() if path.exists() else secrets.token_bytes(SIZE)
    except OSError as error:
        raise ImageError(f"Cannot read the key of the inputs, {path}: {error.strerror}. Correct its permissions, or remove it to build anew.") from error
    if len(key) != SIZE:
        raise ImageError(f"Cannot use the key of the inputs, {path}: it has {len(key)} bytes, expected {SIZE}. Remove it to build anew.")
    return InputKey(key)


def _make(path: Path) -> None:
    """Images are built side by side: the first one to link its file has made the key of all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(SIZE))
        with contextlib.suppress(FileExistsError):
            os.link(part, path)
    finally:
        Path(part).unlink()


def keyed(key: InputKey, digests: t.Mapping[str, str]) -> dict[str, str]:
    """The keyed form of digests, by the same names."""
    return {name: key.digest(value) for name, value in digests.items()}
