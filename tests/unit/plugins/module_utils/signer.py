# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys of a test, which sign with GnuPG."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

NEEDED = ("gpg", "gpgconf", "gpgv")


class Signer:
    """A folder with secret keys, by the names of their owners."""

    def __init__(self, home: Path) -> None:
        self._home = home
        home.mkdir(mode=0o700)

    def make(self, name: str) -> bytes:
        """A new key; its public part."""
        self._run("--passphrase", "", "--quick-generate-key", f"{name}@example.org", "ed25519", "sign", "never")
        return self._run("--export", f"{name}@example.org")

    def fingerprint(self, name: str) -> str:
        """The fingerprint of a key."""
        listed = self._run("--with-colons", "--fingerprint", f"{name}@example.org").decode()
        return next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))

    def sign(self, text: str, *names: str) -> bytes:
        """The text with its signatures."""
        users = [part for name in names for part in ("--local-user", f"{name}@example.org")]
        return self._run(*users, "--clearsign", stdin=text.encode())

    def close(self) -> None:
        # The agent of GnuPG is found by the path of the folder: one that outlives it answers for the next folder of that name.
        subprocess.run(["gpgconf", "--kill", "all"], env={**os.environ, "GNUPGHOME": str(self._home)}, check=True)

    def _run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        command = ["gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", *arguments]
        done = subprocess.run(command, env={**os.environ, "GNUPGHOME": str(self._home)}, check=False, capture_output=True, input=stdin)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


def signing() -> Iterator[Signer]:
    """A signer for one test, in a short path and gone afterwards."""
    if not all(shutil.which(program) for program in NEEDED):
        pytest.skip(f"needs {', '.join(NEEDED)}")
    with tempfile.TemporaryDirectory() as folder:
        signer = Signer(Path(folder, "gnupg"))
        yield signer
        signer.close()
