# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the decision whether an image has to be built."""

from __future__ import annotations

import copy
import hashlib
import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._image_inputs import answer, file_digests, rebuild_reason

DOCUMENT: dict[str, t.Any] = {
    "format": 2,
    "key": "k1",
    "definition": {"disk_size": "20G"},
    "base": {"sha256": "aa"},
    "roles": {"a.b.web": "11", "maybe": "12"},
    "variables": {"web_port": "13", "maybe_port": "14"},
    "groups": {"web": "15"},
    "components": {"tool": "16"},
    "collections": {"a.b": "17"},
    "controller_files": {"/srv/motd": "18"},
    "builder": {"plugins": "22"},
    "tools": {"qemu-img": "10.0.2"},
    "files": {},
    "guessed": {"roles": ["maybe"], "variables": ["maybe_port"]},
}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The folder of an intact image that was built from DOCUMENT."""
    data = b"image"
    (tmp_path / "node.qcow2").write_bytes(data)
    files = {"node.qcow2": {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}}
    (tmp_path / "manifest.json").write_text(json.dumps({"inputs": {"document": DOCUMENT}, "files": files}))
    return tmp_path


def changed(path: str, value: object) -> dict[str, t.Any]:
    document = copy.deepcopy(DOCUMENT)
    place = document
    *parents, last = path.split("|")
    for key in parents:
        place = place[key]
    place[last] = value
    return document


def test_nothing_changed(output: Path) -> None:
    assert rebuild_reason(DOCUMENT, output, "auto") == ""


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("roles|a.b.web", "12", "the files of role a.b.web changed"),
        ("roles|new", "12", "role new is reached now"),
        ("variables|web_port", "81", "variable web_port changed"),
        ("variables|web_port of other", "81", "variable web_port of other is new"),
        ("groups|web", "81", "the members of group web changed"),
        ("components|tool", "81", "the source of component tool changed"),
        ("collections|a.b", "81", "collection a.b changed"),
        ("controller_files|/srv/motd", "81", "file /srv/motd changed"),
        ("definition|disk_size", "30G", 'variable disk_size changed from "20G" to "30G"'),
        ("base|sha256", "bb", 'the base image: sha256 changed from "aa" to "bb"'),
        ("tools|qemu-img", "10.0.3", 'tool qemu-img changed from "10.0.2" to "10.0.3"'),
        ("builder|plugins", "33", "the code of the collection changed (plugins)"),
        ("files|/srv/a.deb", "44", "input file /srv/a.deb is new"),
        ("key", "k2", "the key of its inputs was lost or replaced, so that its variables and files cannot be compared"),
        ("format", 3, "its inputs were recorded in another form"),
    ],
)
def test_each_kind_of_change_is_one_sentence(output: Path, path: str, value: object, reason: str) -> None:
    document = changed(path, value)
    assert rebuild_reason(document, output, "auto") == reason
    assert rebuild_reason(document, output, "never") == ""


def test_what_is_gone_is_told(output: Path) -> None:
    document = {**DOCUMENT, "roles": {"maybe": "12"}}
    assert rebuild_reason(document, output, "auto") == "role a.b.web is not reached any more"


def test_what_was_guessed_before_the_build_need_not_be_reached(output: Path) -> None:
    document = {**DOCUMENT, "roles": {"a.b.web": "11"}, "variables": {"web_port": "13"}, "guessed": {}}
    assert rebuild_reason(document, output, "auto") == ""
    assert rebuild_reason(changed("roles|maybe", "99"), output, "auto") == "the files of role maybe changed"


def test_the_answer_is_a_sentence() -> None:
    assert answer("node", "") == {"stale": False, "reason": "nothing changed", "msg": "node is up to date: nothing changed."}
    assert answer("node", "a file is missing")["msg"] == "node is built because a file is missing."


def test_many_changes_are_counted(output: Path) -> None:
    document = {**DOCUMENT, "tools": {f"tool{number}": "1" for number in range(5)}}
    assert rebuild_reason(document, output, "auto").endswith("and 3 more")


def test_damage_is_found_even_when_size_and_time_are_the_same(output: Path) -> None:
    (output / "node.qcow2").write_bytes(b"imagf")
    for mode in ("auto", "never"):
        assert rebuild_reason(DOCUMENT, output, mode) == "node.qcow2 is damaged: it differs from its checksum"
    (output / "node.qcow2").unlink()
    assert rebuild_reason(DOCUMENT, output, "never") == "node.qcow2 is missing"


def test_missing_image_missing_manifest_and_bad_manifest(output: Path) -> None:
    (output / "manifest.json").write_text("{")
    assert rebuild_reason(DOCUMENT, output, "auto") == "its manifest cannot be read"
    (output / "manifest.json").unlink()
    assert rebuild_reason(DOCUMENT, output, "auto") == "the image has no manifest"
    (output / "node.qcow2").unlink()
    assert rebuild_reason(DOCUMENT, output, "never") == "there is no image yet"


def test_rebuild_always(output: Path) -> None:
    assert rebuild_reason(DOCUMENT, output, "always") == "a rebuild was asked for"


def test_input_files_are_hashed_and_missing_ones_refused(tmp_path: Path) -> None:
    (tmp_path / "a.deb").write_bytes(b"x")
    assert file_digests([str(tmp_path / "a.deb")]) == {str(tmp_path / "a.deb"): hashlib.sha256(b"x").hexdigest()}
    with pytest.raises(ImageError, match=r"Cannot read the input file .*/b\.deb: there is no such file\."):
        file_digests([str(tmp_path / "b.deb")])


def test_a_directory_counts_with_each_file_in_it(tmp_path: Path) -> None:
    (tmp_path / "debs" / "more").mkdir(parents=True)
    (tmp_path / "debs" / "more" / "a.deb").write_bytes(b"x")
    assert list(file_digests([str(tmp_path / "debs")])) == [str(tmp_path / "debs/more/a.deb")]
