# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Package archives in folders that apt reads, signed by keys made for the test."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_sources import Source

NEEDED = ("gpg", "gpgconf", "gpgv", "apt-get")
INDEX = "main/binary-amd64/Packages"


@contextlib.contextmanager
def open_archives() -> Iterator[Archives]:
    """Archives for one test; skips it where a program is missing."""
    if not all(shutil.which(program) for program in NEEDED):
        pytest.skip(f"needs {', '.join(NEEDED)}")
    # Not for a module of tests: ansible-test runs each test in a process of its own, which ends without closing what a module shares.
    with tempfile.TemporaryDirectory() as folder:
        archives = Archives(Path(folder))
        yield archives
        archives.close()


class Archives:
    """Package archives in folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "gnupg"
        self.home.mkdir(mode=0o700)
        for name in ("debian", "other"):
            self.gpg("--passphrase", "", "--quick-generate-key", f"{name}@example.org", "ed25519", "sign", "never")
            (folder / f"{name}.gpg").write_bytes(self.gpg("--export", f"{name}@example.org"))

    def gpg(self, *arguments: str) -> bytes:
        return self._run("gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", *arguments)

    def close(self) -> None:
        # The agent of GnuPG is found by the path of the folder: one that outlives it answers for the next folder of that name.
        self._run("gpgconf", "--kill", "all")

    def _run(self, *command: str) -> bytes:
        done = subprocess.run(command, env={**os.environ, "GNUPGHOME": str(self.home)}, check=False, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def release(self, target: Path, origin: str, key: str, suite: str, index: str = "", label: str = "stable") -> None:
        """Write an InRelease file, and beside it the package index that it names."""
        target.parent.mkdir(parents=True, exist_ok=True)
        text = target.with_suffix(".txt")
        fields = f"Origin: {origin}\nLabel: {origin}\nSuite: {label}\nCodename: {suite}\nDate: Sat, 01 Jan 2022 00:00:00 UTC\n"
        valid = "Valid-Until: Sat, 08 Jan 2022 00:00:00 UTC\n" if label != "stable" else ""
        digest, size = hashlib.sha256(index.encode()).hexdigest(), len(index.encode())
        text.write_text(f"{fields}{valid}Architectures: amd64\nComponents: main\nSHA256:\n {digest} {size} {INDEX}\n", encoding="utf-8")
        if index:
            (target.parent / INDEX).parent.mkdir(parents=True, exist_ok=True)
            (target.parent / INDEX).write_text(index, encoding="utf-8")
        self.gpg("--local-user", f"{key}@example.org", "--yes", "--output", str(target), "--clearsign", str(text))
        text.unlink()

    def archive(self, name: str, origin: str, key: str, suite: str = "trixie") -> Source:
        self.release(self.folder / name / "dists" / suite / "InRelease", origin, key, suite)
        return Source(f"file:{self.folder}/{name}", suite)
