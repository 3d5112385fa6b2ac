# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Verify the signature of package lists with gpgv, and read the keys for it."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import re
import tempfile
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, IntegrityError

ARMOUR = re.compile(rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[^\r\n]+\r?\n)*\r?\n(.*?)(?:\r?\n=[^\r\n]{4})?\r?\n-----END PGP", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Signatures:
    """What gpgv says of a signed file.

    ``good`` are the fingerprints of the primary keys of valid signatures, ``missing`` the ids of keys that the keyring lacks, ``said`` its messages.
    """

    good: frozenset[str]
    missing: tuple[str, ...]
    bad: bool
    said: str

    @property
    def valid(self) -> bool:
        """Whether a key of the keyring has signed the file, and no signature of such a key is wrong. Other keys may have signed it, too, as for apt."""
        return bool(self.good) and not self.bad

    def trouble(self, keyring: Path | str) -> str:
        """Why the file is not trusted, without a full stop."""
        if self.bad:
            return "it is not what was signed"
        if self.missing:
            return f"it is signed with the key {' and '.join(self.missing)}, which {keyring} does not have"
        return f"gpgv says: {self.said.partition(' | ')[0].rstrip('.')}" if self.said else "it has no signature"


def verify(signed: Path, keys: bytes, *, attempt: str, content: Path | None = None) -> Signatures:
    """Verify a file with its signature inside; what the signature covers is written to ``content``.

    ``keys`` is what ``read_key`` returned, ``attempt`` completes "Cannot <attempt>: …". Raises ToolError without gpgv.
    """
    gpgv = Command("gpgv", reason="verify the signature of package lists", package="gpgv")
    output = ("--output", content) if content else ()
    with tempfile.NamedTemporaryFile(prefix="hyperscaler-key-", suffix=".gpg") as keyring:
        keyring.write(keys)
        keyring.flush()
        done = gpgv.run("--status-fd", "1", "--keyring", keyring.name, *output, "--", signed, attempt=attempt, accepted=range(256))
    return read_status(done.stdout, done.stderr)


def read_key(path: Path) -> bytes:
    """Public keys as gpgv wants them, from a binary or an armoured file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"Cannot read the repository key {path}: {error.strerror}. Give the path of the publisher's public key.") from error
    blocks = ARMOUR.findall(data)
    if not blocks:
        if not data or not data[0] & 0x80:
            raise IntegrityError(f"Cannot use the repository key {path}: it is not an OpenPGP public key. Give the path of the publisher's public key.")
        return data
    try:
        return b"".join(base64.b64decode(b"".join(block.split()), validate=True) for block in blocks)
    except binascii.Error as error:
        raise IntegrityError(f"Cannot use the repository key {path}: its armour is damaged ({error}). Fetch the key again.") from error


def require_keyring(keyring: Path, attempt: str) -> None:
    """Raise ImageError unless apt can read this keyring; ``attempt`` completes "Cannot <attempt>: …"."""
    why, remedy = "", "Install the package debian-archive-keyring, or correct the option keyring"
    if not keyring.exists():
        why = "is not there, so nothing could be verified"
    elif not keyring.is_file():
        why = "is not a file, so nothing could be verified"
    else:
        try:
            read_key(keyring)
        except IntegrityError as error:
            # The reason stands between the first colon and the advice.
            why = f"cannot be used: {str(error).partition(f'{keyring}: ')[2].partition('. ')[0]}"
        if not why and keyring.suffix != ".asc" and ARMOUR.search(keyring.read_bytes()):
            # apt ignores what its ending does not announce.
            why, remedy = "has its keys as text, which apt reads only from files that end in .asc", "Rename it"
    if why:
        raise ImageError(f"Cannot {attempt}: the keyring {keyring} {why}. {remedy}.")


def read_status(status: str, said: str = "") -> Signatures:
    """Signatures from what gpgv wrote to its status descriptor and to its standard error."""
    lines = [line.strip().removeprefix("[GNUPG:] ") for line in status.splitlines() if line.startswith("[GNUPG:] ")]
    # A signature of a key that expired or was withdrawn is valid as well, but is not said to be good.
    verdicts = [line for line in lines if re.match(r"(?:GOODSIG|EXPSIG|EXPKEYSIG|REVKEYSIG|BADSIG|ERRSIG|VALIDSIG) ", line)]
    after_good = (line for before, line in zip(verdicts, verdicts[1:]) if before.startswith("GOODSIG "))
    good = (re.match(r"VALIDSIG ([0-9A-F]{40}) .* ([0-9A-F]{40})$", line) for line in after_good)
    missing = (re.match(r"NO_PUBKEY ([0-9A-F]+)", line) for line in lines)
    told = " | ".join(line.strip().removeprefix("gpgv: ") for line in said.splitlines() if line.strip())
    return Signatures(
        frozenset(match.group(2) for match in good if match),
        tuple(dict.fromkeys(match.group(1) for match in missing if match)),
        any(line.startswith("BADSIG ") for line in lines),
        told,
    )
