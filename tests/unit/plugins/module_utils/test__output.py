# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of putting a finished set of files in its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _output


def make(folder: Path, content: str, *more: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "node.qcow2").write_text(content)
    (folder / "manifest.json").write_text(json.dumps({"files": {"node.qcow2": {}, "node.raw": {}}}))
    for name in more:
        (folder / name).write_text(name)
    return folder


def test_first_set_is_moved(tmp_path: Path) -> None:
    assert _output.put_in_place(make(tmp_path / "new", "1"), tmp_path / "out" / "node") == []
    assert (tmp_path / "out/node/node.qcow2").read_text() == "1"
    assert not (tmp_path / "new").exists()


def test_new_set_replaces_the_former_one_and_keeps_what_a_user_added(tmp_path: Path) -> None:
    make(tmp_path / "node", "1", "node.raw", "notes.txt", "SHA256SUMS", "contents.txt")
    assert _output.put_in_place(make(tmp_path / "new", "2"), tmp_path / "node") == ["notes.txt"]
    assert sorted(path.name for path in (tmp_path / "node").iterdir()) == ["manifest.json", "node.qcow2", "notes.txt"]
    assert (tmp_path / "node/node.qcow2").read_text() == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["node"]


def test_open_files_of_the_former_set_stay_readable(tmp_path: Path) -> None:
    make(tmp_path / "node", "1")
    with (tmp_path / "node/node.qcow2").open() as stream:
        _output.put_in_place(make(tmp_path / "new", "2"), tmp_path / "node")
        assert stream.read() == "1"


def test_exchange_that_fails_leaves_both_as_they_were(tmp_path: Path) -> None:
    make(tmp_path / "node", "1")
    with pytest.raises(OSError, match="No such file or directory"):
        _output.exchange(tmp_path / "missing", tmp_path / "node")
    assert (tmp_path / "node/node.qcow2").read_text() == "1"
