# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Package archives in folders that apt reads, signed by keys made for the test."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_sources import Source
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils.signer import Signer, signing

INDEX = "main/binary-amd64/Packages"


class Archives:
    """Package archives in folders."""

    def __init__(self, folder: Path, signer: Signer) -> None:
        self.folder = folder
        self._signer = signer
        for name in ("debian", "other"):
            (folder / f"{name}.gpg").write_bytes(signer.make(name))

    def release(self, target: Path, origin: str, key: str, suite: str, index: str = "", label: str = "stable") -> None:
        """Write an InRelease file, and beside it the package index that it names; that of another label than stable has expired."""
        target.parent.mkdir(parents=True, exist_ok=True)
        fields = f"Origin: {origin}\nLabel: {origin}\nSuite: {label}\nCodename: {suite}\nDate: Sat, 01 Jan 2022 00:00:00 UTC\n"
        valid = "Valid-Until: Sat, 08 Jan 2022 00:00:00 UTC\n" if label != "stable" else ""
        digest, size = hashlib.sha256(index.encode()).hexdigest(), len(index.encode())
        text = f"{fields}{valid}Architectures: amd64\nComponents: main\nSHA256:\n {digest} {size} {INDEX}\n"
        target.write_bytes(self._signer.sign(text, key))
        if index:
            (target.parent / INDEX).parent.mkdir(parents=True, exist_ok=True)
            (target.parent / INDEX).write_text(index, encoding="utf-8")

    def key_id(self, name: str) -> str:
        return self._signer.fingerprint(name)[-16:]

    def archive(self, name: str, origin: str, key: str, suite: str = "trixie") -> Source:
        self.release(self.folder / name / "dists" / suite / "InRelease", origin, key, suite)
        return Source(f"file:{self.folder}/{name}", suite)


@contextlib.contextmanager
def open_archives() -> Iterator[Archives]:
    """Archives for one test; skips it where a program is missing."""
    if not shutil.which("apt-get"):
        pytest.skip("needs apt-get")
    # Not for a module of tests: ansible-test runs each test in a process of its own, which ends without closing what a module shares.
    with tempfile.TemporaryDirectory() as folder:
        for signer in signing():
            yield Archives(Path(folder), signer)
