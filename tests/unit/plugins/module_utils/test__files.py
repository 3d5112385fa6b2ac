# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of atomic files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import SpaceError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import allocated_bytes, file_digest, part_file, require_space, write_atomic


def test_failure_keeps_the_former_file_and_leaves_no_part(tmp_path: Path) -> None:
    target = tmp_path / "image.qcow2"
    target.write_text("good")
    with pytest.raises(RuntimeError), part_file(target) as part:
        part.write_text("half")
        raise RuntimeError
    assert target.read_text() == "good"
    assert list(tmp_path.iterdir()) == [target]


def test_success_replaces_the_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", "text", mode=0o600)
    assert (tmp_path / "a").read_text() == "text"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_digest_reads_the_whole_file(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(data)
    assert file_digest(tmp_path / "a") == hashlib.sha256(data).hexdigest()
    assert file_digest(tmp_path / "a", "sha512") == hashlib.sha512(data).hexdigest()


def test_sparse_files_occupy_less_than_their_size(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as stream:
        stream.truncate(1 << 30)
    assert allocated_bytes(tmp_path / "sparse") < 1 << 20


def test_too_little_space_tells_needed_and_free(tmp_path: Path) -> None:
    require_space(tmp_path, 1, "write")
    with pytest.raises(SpaceError, match=r"Cannot copy the base: \d+ MiB are needed in .*, \d+ MiB are free\. Free space there"):
        require_space(tmp_path, 1 << 60, "copy the base")
