# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests for _base_record."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _base_record
from ansible_collections.hyperscaler.images.plugins.module_utils._base_record import decide, locked, read_record, record_path, write_record
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError

INPUTS: dict[str, t.Any] = {"release": "trixie", "packages": ["a"]}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    image = tmp_path / "base.raw"
    image.write_bytes(b"content")
    write_record(image, INPUTS, {"sha256": hashlib.sha256(b"content").hexdigest(), "virtual_size": 7})
    return image


def reason(image: Path, inputs: dict[str, t.Any] | None = None, days: int = 7, refresh: bool = False) -> str | None:
    return decide(image, read_record(image), inputs or INPUTS, days, refresh)


def test_agreeing(image: Path) -> None:
    assert reason(image) is None
    record = read_record(image)
    assert record is not None
    assert (record["image"]["path"], record["inputs"]) == (str(image), INPUTS)


def test_a_cache_that_was_moved(image: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in (image, record_path(image)):
        path.rename(moved / path.name)
    record = read_record(moved / image.name)
    assert record is not None
    assert record["image"]["path"] == str(moved / image.name)


def test_missing(tmp_path: Path) -> None:
    assert reason(tmp_path / "base.raw") == "no image yet"


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"inputs": {}}'])
def test_unknown_origin(image: Path, text: str) -> None:
    record_path(image).write_text(text, encoding="utf-8")
    assert reason(image) == "no record of how the file that is there was made"


def test_other_inputs(image: Path) -> None:
    assert reason(image, {"release": "forky", "packages": ["a"]}) == 'release changed from "trixie" to "forky"'


def test_refresh(image: Path) -> None:
    assert reason(image, refresh=True) == "refresh asked for"


def test_age(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(_base_record.time, "time", lambda: now + 8 * 86400)
    assert reason(image) == "8 days old, at most 7 are allowed"
    assert reason(image, days=0) is None
    assert reason(image, days=9) is None


def test_size(image: Path) -> None:
    with image.open("ab") as stream:
        stream.write(b"more")
    assert reason(image) == "size of 11 bytes instead of 7"


def test_content(image: Path) -> None:
    image.write_bytes(b"CONTENT")
    os.utime(image, ns=(1, 1))
    assert reason(image) == "content changed since it was made"


def test_only_the_time_changed(image: Path) -> None:
    os.utime(image, ns=(1, 1))
    assert reason(image) is None


def test_the_lock_is_held(tmp_path: Path) -> None:
    with locked(tmp_path / "base.raw"), (tmp_path / ".base.raw.lock").open("rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (tmp_path / ".base.raw.lock").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_no_folder(tmp_path: Path) -> None:
    with (
        pytest.raises(ImageError, match=r"its lock .*/nowhere/.base.raw.lock cannot be opened: No such file or directory. Create the folder"),
        locked(tmp_path / "nowhere/base.raw"),
    ):
        pass


def test_the_record_is_canonical(image: Path) -> None:
    text = record_path(image).read_text(encoding="utf-8")
    assert list(json.loads(text)) == sorted(json.loads(text))
