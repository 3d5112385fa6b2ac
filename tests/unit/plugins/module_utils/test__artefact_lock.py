# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock file."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact import Offer
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_lock import Locked, lock_entry, lock_text, read_lock
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_control import Package
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, IntegrityError

TOOL = Offer(Package("tool", "1.0", "amd64", (("library",), ("libc6",))), "a" * 64, "/srv/tool.deb", "pool/tool_1.0_amd64.deb")
LIBRARY = Offer(Package("library", "1.0", "all"), "b" * 64, "/srv/library.deb", "pool/library_1.0_all.deb")


@pytest.fixture
def locked() -> Locked:
    return lock_entry("1", [LIBRARY, TOOL])


def test_it_is_read_as_it_was_written(tmp_path: Path, locked: Locked) -> None:
    path = tmp_path / "lock.json"
    path.write_text(lock_text({"tool": {"1": locked}}), encoding="utf-8")
    assert read_lock(path) == {"tool": {"1": locked}}
    written = json.loads(path.read_text(encoding="utf-8"))["artefacts"]["tool"]["1"][1]
    assert (written["requires"], written["origin"]) == (["library"], "/srv/tool.deb")


def test_a_file_is_found_by_its_name(locked: Locked) -> None:
    found = locked.by_file("tool_1.0_amd64.deb")
    assert found is not None
    assert found.sha256 == TOOL.sha256
    assert locked.by_file("tool_1.1_amd64.deb") is None


def test_another_digest_is_refused(locked: Locked) -> None:
    locked.require_same(TOOL.package, TOOL.sha256, "/srv/tool.deb")
    locked.require_same(Package("tool", "1.1", "amd64"), "c" * 64, "/srv/tool.deb")
    with pytest.raises(IntegrityError, match=r"Cannot use /srv/tool.deb: tool 1.0 has the sha256 c+, and the lock file says a+"):
        locked.require_same(TOOL.package, "c" * 64, "/srv/tool.deb")


def test_no_file_locks_nothing(tmp_path: Path) -> None:
    assert read_lock(tmp_path / "absent.json") == {}


def test_what_is_new_is_added_and_nothing_else_changes(locked: Locked) -> None:
    more = lock_entry("1", [Offer(Package("docs", "1.0", "all"), "c" * 64, "/srv/docs.deb", "docs.deb"), LIBRARY])
    assert [entry.package.name for entry in locked.extended(more).packages] == ["docs", "library", "tool"]
    with pytest.raises(IntegrityError, match=r"the lock file says b+"):
        locked.extended(lock_entry("1", [Offer(LIBRARY.package, "c" * 64, "/srv/library.deb", "library.deb")]))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 1}, "its format is 1"),
        ({"artefacts": []}, "it lacks what belongs into it"),
        ({"artefacts": {"tool": {"1": [{}]}}}, "it lacks what belongs into it"),
        ({"file": "../tool.deb"}, "has the file"),
        ({"file": "/tool.deb"}, "has the file"),
        ({"sha256": "abc"}, "has no SHA256"),
    ],
)
def test_unusable_files(tmp_path: Path, locked: Locked, change: dict[str, t.Any], says: str) -> None:
    document = json.loads(lock_text({"tool": {"1": locked}}))
    if set(change) <= set(document):
        document.update(change)
    else:
        document["artefacts"]["tool"]["1"][0].update(change)
    path = tmp_path / "lock.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ImageError, match=says):
        read_lock(path)


def test_a_folder_is_no_lock_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="Cannot read the lock file"):
        read_lock(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"", b'{"format": 2, "artefacts": {"tool"', b"\xff\xfe"])
def test_a_damaged_file_is_never_taken_for_an_empty_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lock.json"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"^Cannot use the lock file .*lock.json: it is not (JSON|text).*Restore it from a copy"):
        read_lock(path)
