# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the key that hides the values of variables."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._input_key import keyed, read_key


def test_the_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "cache/inputs.key"
    first, second = (read_key(path, tmp_path / "out", make=True) for _number in range(2))
    assert first.name == second.name
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["inputs.key"]


def test_a_digest_needs_the_key(tmp_path: Path) -> None:
    first, second = (read_key(tmp_path / name, tmp_path / "out", make=True) for name in ("one.key", "two.key"))
    digests = keyed(first, {"web_password": "hunter2"})
    assert digests == keyed(first, {"web_password": "hunter2"})
    assert digests != keyed(second, {"web_password": "hunter2"})
    assert digests["web_password"] != hashlib.sha256(b"hunter2").hexdigest()
    assert (tmp_path / "one.key").read_bytes().hex() not in first.name


def test_a_dry_run_writes_no_key(tmp_path: Path) -> None:
    first, second = (read_key(tmp_path / "inputs.key", tmp_path / "out", make=False) for _number in range(2))
    assert first.name != second.name
    assert not (tmp_path / "inputs.key").exists()


def test_a_key_in_the_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"Cannot keep the key .*/out/inputs\.key in .*/out: whoever gets the image would get the key\."):
        read_key(tmp_path / "out/inputs.key", tmp_path / "out", make=True)


def test_a_key_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "inputs.key").write_bytes(b"short")
    with pytest.raises(ImageError, match=r"has 5 bytes, expected 32\. Remove it to build anew\."):
        read_key(tmp_path / "inputs.key", tmp_path / "out", make=True)
    (tmp_path / "folder.key").mkdir()
    with pytest.raises(ImageError, match=r"Cannot read the key of the inputs, .*: Is a directory\."):
        read_key(tmp_path / "folder.key", tmp_path / "out", make=True)
