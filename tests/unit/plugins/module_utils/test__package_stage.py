# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing packages into a folder."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _package_stage as stages
from ansible_collections.hyperscaler.images.plugins.module_utils._beegfs import Candidate, Wanted, select
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_control import Package
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, IntegrityError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import file_digest
from ansible_collections.hyperscaler.images.plugins.module_utils._package_source import folder_candidates
from ansible_collections.hyperscaler.images.plugins.module_utils._package_stage import RECORD, Plan, Stage
from ansible_collections.hyperscaler.images.plugins.module_utils._transport import Policy
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils.deb_stand_in import write_deb

NAMES = ("beegfs-meta", "beegfs-storage", "libbeegfs-ib")


@pytest.fixture
def source(tmp_path: Path) -> t.Callable[[str], Path]:
    def make(version: str) -> Path:
        for name in NAMES:
            write_deb(tmp_path / version, name, f"20:{version}", "amd64")
        return tmp_path / version

    return make


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    made = Stage(tmp_path / "dest")
    made.create()
    return made


def run(stage: Stage, folder: Path, *components: str) -> Plan:
    plan = stage.plan(select(folder_candidates(folder, {}), Wanted(components, "amd64")))
    with stage.locked():
        stage.apply(plan, Policy(retries=0))
    return plan


def files(stage: Stage) -> list[str]:
    return sorted(path.name for path in stage.folder.iterdir())


def test_bring_keep_and_repair(stage: Stage, source: t.Callable[[str], Path]) -> None:
    folder = source("8.1.0")
    assert run(stage, folder, "meta").changed
    expected = ["beegfs-meta_8.1.0_amd64.deb", "libbeegfs-ib_8.1.0_amd64.deb", RECORD]
    assert files(stage) == expected
    stamp = (stage.folder / RECORD).stat().st_mtime_ns
    again = run(stage, folder, "meta")
    assert not again.changed
    assert len(again.keep) == 2
    assert (stage.folder / RECORD).stat().st_mtime_ns == stamp
    (stage.folder / expected[0]).write_bytes(b"damaged")
    assert [candidate.package.name for candidate in run(stage, folder, "meta").bring] == ["beegfs-meta"]
    assert file_digest(stage.folder / expected[0]) == file_digest(folder / expected[0])


def test_other_components_stay_and_other_versions_go(stage: Stage, source: t.Callable[[str], Path]) -> None:
    run(stage, source("8.0.1"), "meta")
    run(stage, source("8.0.1"), "storage")
    assert len(files(stage)) == 4
    plan = run(stage, source("8.1.0"), "meta")
    assert sorted(staged.file for staged in plan.remove) == ["beegfs-meta_8.0.1_amd64.deb", "beegfs-storage_8.0.1_amd64.deb", "libbeegfs-ib_8.0.1_amd64.deb"]
    assert files(stage) == ["beegfs-meta_8.1.0_amd64.deb", "libbeegfs-ib_8.1.0_amd64.deb", RECORD]


def test_files_of_others_are_not_removed(stage: Stage, source: t.Callable[[str], Path]) -> None:
    run(stage, source("8.0.1"), "meta")
    changed = stage.folder / "beegfs-meta_8.0.1_amd64.deb"
    changed.write_bytes(b"rebuilt by hand")
    with pytest.raises(ImageError, match=r"beegfs-meta_8\.0\.1_amd64\.deb is there, and this module did not bring it or it was changed since"):
        run(stage, source("8.1.0"), "meta")
    assert changed.exists()
    changed.unlink()
    unrelated = write_deb(stage.folder, "beegfs-mon", "20:7.4.6", "amd64")
    run(stage, source("8.1.0"), "meta")
    assert unrelated.exists()


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"format": 2, "packages": []}', '{"format": 1, "packages": [{"file": "../x.deb", "package": {}}]}'])
def test_a_record_that_is_not_one_removes_nothing(stage: Stage, source: t.Callable[[str], Path], record: str) -> None:
    (stage.folder / RECORD).write_text(record, encoding="utf-8")
    assert stage.record() == ()
    assert run(stage, source("8.1.0"), "meta").changed
    assert json.loads((stage.folder / RECORD).read_text(encoding="utf-8"))["format"] == 1


def test_a_record_cannot_name_files_elsewhere(stage: Stage) -> None:
    package = {"name": "beegfs-meta", "version": "1", "architecture": "all", "depends": []}
    (stage.folder / RECORD).write_text(json.dumps({"format": 1, "packages": [{"file": "../x.deb", "sha256": "0", "package": package}]}), encoding="utf-8")
    assert stage.record() == ()


def test_the_source_may_be_the_destination(source: t.Callable[[str], Path]) -> None:
    folder = source("8.1.0")
    (folder / "beegfs-meta_8.1.0_amd64.deb").rename(folder / "own-name.deb")
    plan = run(Stage(folder), folder, "meta")
    assert not plan.changed
    assert (folder / "own-name.deb").exists()
    # What the user put there stays, whatever is staged later.
    assert Stage(folder).record() == ()


def test_all_or_nothing(stage: Stage, source: t.Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = source("8.1.0")
    plan = stage.plan(select(folder_candidates(folder, {}), Wanted(("meta",), "amd64")))
    (folder / "libbeegfs-ib_8.1.0_amd64.deb").write_bytes(b"changed meanwhile")
    with pytest.raises(IntegrityError):
        stage.apply(plan, Policy(retries=0))
    assert files(stage) == []
    (stage.folder / ".incoming-killed").mkdir()
    monkeypatch.setattr(stages, "download", lambda *_arguments, **_options: None)
    stage.apply(Plan((), (), (), ()), Policy())
    assert files(stage) == []


def test_a_package_that_is_not_what_the_index_says(stage: Stage, source: t.Callable[[str], Path]) -> None:
    path = source("8.1.0") / "beegfs-storage_8.1.0_amd64.deb"
    candidate = Candidate(Package("beegfs-meta", "20:8.1.0", "amd64"), str(path), file_digest(path))
    with pytest.raises(IntegrityError, match=r"it is beegfs-storage 20:8\.1\.0 for amd64, but beegfs-meta 20:8\.1\.0 for amd64 was announced"):
        stage.apply(stage.plan(select([candidate], Wanted(("meta",), "amd64"))), Policy(retries=0))
    assert files(stage) == []


def test_something_else_in_the_place(stage: Stage, source: t.Callable[[str], Path]) -> None:
    (stage.folder / "beegfs-meta_8.1.0_amd64.deb").symlink_to("/dev/null")
    with pytest.raises(ImageError, match="something that is not a regular file is in its place"):
        run(stage, source("8.1.0"), "meta")


def test_a_folder_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ImageError, match=r"Cannot make the folder .*/file"):
        Stage(tmp_path / "file").create()
    with pytest.raises(ImageError, match=r"Cannot stage packages in .*/file: Not a directory"), Stage(tmp_path / "file").locked():
        pass
    with Stage(tmp_path / "none").locked():
        assert not (tmp_path / "none").exists()
