# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock file."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact import Offer, source_from
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_lock import Locked, lock_entry, lock_text, read_lock
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_control import Package
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, IntegrityError

ROOT = Path(__file__).resolve().parents[4]
SOURCE = source_from("tool", {"version": "1", "packages": ["tool"], "path": "/srv"})
TOOL = Offer(Package("tool", "1.0", "amd64", (("library",), ("libc6",))), "a" * 64, "/srv/tool.deb", "pool/tool_1.0_amd64.deb")
LIBRARY = Offer(Package("library", "1.0", "all"), "b" * 64, "/srv/library.deb", "pool/library_1.0_all.deb")


@pytest.fixture
def locked() -> Locked:
    return lock_entry(SOURCE, [LIBRARY, TOOL])


def test_it_is_read_as_it_was_written(tmp_path: Path, locked: Locked) -> None:
    path = tmp_path / "lock.json"
    path.write_text(lock_text({"tool": locked}), encoding="utf-8")
    assert read_lock(path) == {"tool": locked}
    assert json.loads(path.read_text(encoding="utf-8"))["artefacts"]["tool"]["packages"][1]["requires"] == ["library"]


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


def test_the_shipped_file_can_be_used() -> None:
    assert isinstance(read_lock(ROOT / "playbooks/vars/artefacts.lock.json"), dict)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "its format is 2"),
        ({"artefacts": []}, "it lacks what the playbook writes"),
        ({"artefacts": {"tool": {"version": "1"}}}, "it lacks what the playbook writes"),
        ({"file": "../tool.deb"}, "has the file"),
        ({"file": "/tool.deb"}, "has the file"),
        ({"sha256": "abc"}, "has no SHA256"),
    ],
)
def test_unusable_files(tmp_path: Path, locked: Locked, change: dict[str, t.Any], says: str) -> None:
    document = json.loads(lock_text({"tool": locked}))
    if set(change) <= set(document):
        document.update(change)
    else:
        document["artefacts"]["tool"]["packages"][0].update(change)
    path = tmp_path / "lock.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ImageError, match=says):
        read_lock(path)


def test_a_folder_is_no_lock_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="Cannot read the lock file"):
        read_lock(tmp_path)
