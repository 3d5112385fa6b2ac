# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the documents beside an image."""

from __future__ import annotations

import hashlib
import json
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._manifest import build_time, parse_packages, write_documents


def document() -> dict[str, t.Any]:
    return {
        "image": "node",
        "built": "2026-01-02T03:04:05Z",
        "base": {"release": "trixie", "version": "20250806-2196", "source": "cloud"},
        "kernels": ["6.12.1-cloud-amd64"],
        "roles": ["a.b.web"],
        "packages": parse_packages("vim\t9\tamd64\nacl\t2\tamd64\nbroken\n"),
    }


def test_packages_are_sorted_and_bad_lines_left_out() -> None:
    assert parse_packages("vim\t9\tamd64\nacl\t2\tamd64\nbroken\n") == [
        {"name": "acl", "version": "2", "architecture": "amd64"},
        {"name": "vim", "version": "9", "architecture": "amd64"},
    ]


def test_source_date_epoch_takes_the_place_of_the_clock() -> None:
    assert build_time("1767323045") == "2026-01-02T03:04:05Z"
    assert build_time("") > "2026"


def test_sums_cover_every_file_and_manifest_lists_them(tmp_path: Path) -> None:
    (tmp_path / "node.qcow2").write_bytes(b"image")
    files = write_documents(tmp_path, document())
    assert sorted(files) == ["build_timestamp.txt", "contents.txt", "image_type.txt", "node.qcow2"]
    for line in (tmp_path / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["files"]["node.qcow2"] == {"size": 5, "sha256": hashlib.sha256(b"image").hexdigest()}
    assert (tmp_path / "image_type.txt").read_text() == "node\n"
    assert (tmp_path / "build_timestamp.txt").read_text() == "2026-01-02T03:04:05Z\n"
    assert "acl 2" in (tmp_path / "contents.txt").read_text()


def test_same_build_gives_the_same_bytes_and_times(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "node.qcow2").write_bytes(b"image")
        write_documents(folder, document())
        contents.append({path.name: (path.read_bytes(), path.stat().st_mtime) for path in folder.iterdir()})
    assert contents[0] == contents[1]


def test_known_digests_are_not_computed_again(tmp_path: Path) -> None:
    (tmp_path / "node.qcow2").write_bytes(b"image")
    files = write_documents(tmp_path, {**document(), "digests": {"node.qcow2": "known"}})
    assert files["node.qcow2"]["sha256"] == "known"
