# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading keys, and what gpgv says."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, IntegrityError
from ansible_collections.hyperscaler.images.plugins.module_utils._gpgv import read_key, read_status, require_keyring

KEY = bytes([0x98, 1, 2, 3]) * 30


def armoured(data: bytes) -> bytes:
    return b"-----BEGIN PGP PUBLIC KEY BLOCK-----\nComment: x\n\n" + base64.encodebytes(data) + b"=AbCd\n-----END PGP PUBLIC KEY BLOCK-----\n"


def test_keys(tmp_path: Path) -> None:
    path = tmp_path / "key"
    for data in (KEY, armoured(KEY), armoured(KEY).replace(b"\n", b"\r\n"), armoured(KEY).replace(b"=AbCd\n", b""), b"text\n" + armoured(KEY)):
        path.write_bytes(data)
        assert read_key(path) == KEY
    path.write_bytes(armoured(KEY) + armoured(KEY))
    assert read_key(path) == KEY * 2
    for data, message in (
        (b"", "it is not an OpenPGP public key"),
        (b"<html>", "it is not an OpenPGP"),
        (armoured(KEY).replace(b"m", b"!"), "its armour is damaged"),
    ):
        path.write_bytes(data)
        with pytest.raises(IntegrityError, match=message):
            read_key(path)
    with pytest.raises(IntegrityError, match=r"Cannot read the repository key .*none: No such file"):
        read_key(tmp_path / "none")


# gpgv 2.2.40 writes this for a signature of a subkey: its own fingerprint first, that of the primary key last.
STATUS = (
    "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG 234654DA9A296436 Nobody\n"
    f"[GNUPG:] VALIDSIG {'A' * 40} 2026-01-01 1767225600 0 4 0 1 8 01 {'B' * 40}\n[GNUPG:] BADSIG {'C' * 16} Nobody\n"
)


def test_only_primary_keys_of_good_signatures_count() -> None:
    assert read_status(STATUS).good == {"B" * 40}
    assert read_status("").good == set()
    assert read_status(STATUS).bad
    assert not read_status(STATUS).valid
    assert read_status(STATUS.partition("[GNUPG:] BADSIG")[0]).valid
    for verdict in ("EXPSIG", "EXPKEYSIG", "REVKEYSIG"):
        assert read_status(STATUS.replace("GOODSIG", verdict)).good == set()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("k.gpg", KEY, ""),
        ("k.asc", armoured(KEY), ""),
        ("k.gpg", armoured(KEY), "has its keys as text, which apt reads only from files that end in .asc. Rename it."),
        ("k.gpg", b"", "cannot be used: it is not an OpenPGP public key. Install the package debian-archive-keyring, or correct"),
        ("k.gpg", b"text", "cannot be used: it is not an OpenPGP public key. Install"),
        ("none.gpg", None, "is not there, so nothing could be verified. Install"),
        (".", None, "is not a file, so nothing could be verified. Install"),
    ],
)
def test_keyrings_that_apt_cannot_read(tmp_path: Path, name: str, content: bytes | None, told: str) -> None:
    keyring = tmp_path / name
    if content is not None:
        keyring.write_bytes(content)
    if not told:
        require_keyring(keyring, "bootstrap it")
        return
    with pytest.raises(ImageError, match=re.escape(f"Cannot bootstrap it: the keyring {keyring} {told}")):
        require_keyring(keyring, "bootstrap it")
