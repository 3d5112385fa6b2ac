# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lock file is, and changing it by several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _artefact_lock_file as lock_file
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact import Offer
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_lock import Lock, Locked, lock_entry, read_lock
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_control import Package
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, IntegrityError


def entry(name: str, digest: str = "a" * 64) -> Locked:
    return lock_entry("1", [Offer(Package(name, "1", "amd64"), digest, f"https://example.com/{name}.deb", f"{name}.deb")])


def add(path: Path, names: list[str]) -> None:
    for name in names:
        lock_file.lock_first_use(path, name, entry(name))


def add_for_ever(path: Path) -> None:
    for number in range(10**6):
        lock_file.lock_first_use(path, f"more{number}", entry(f"more{number}"))


def test_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    names = [[f"tool{process}-{number}" for number in range(12)] for process in range(6)]
    processes = [multiprocessing.get_context("fork").Process(target=add, args=(path, own)) for own in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert set(read_lock(path)) == {name for own in names for name in own}
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_that_is_killed_loses_nothing_of_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    add(path, ["tool"])
    for pause in (0.01, 0.03, 0.05):
        known = set(read_lock(path))
        process = multiprocessing.get_context("fork").Process(target=add_for_ever, args=(path,))
        process.start()
        time.sleep(pause)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        assert set(read_lock(path)) >= known
    add(path, ["last"])
    assert "last" in read_lock(path)
    assert not list(tmp_path.glob("*.part"))


def test_what_another_build_locked_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    lock_file.lock_first_use(path, "tool", entry("library"))
    assert [found.package.name for found in lock_file.lock_first_use(path, "tool", entry("tool")).packages] == ["library", "tool"]
    with pytest.raises(IntegrityError, match=r"Cannot use https://example.com/tool.deb: tool 1 has the sha256 b+, and the lock file says a+"):
        lock_file.lock_first_use(path, "tool", entry("tool", "b" * 64))


def test_link_and_mode_stay(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    target, link = tmp_path / "shared/lock.json", tmp_path / "lock.json"
    add(target, ["tool"])
    target.chmod(0o660)
    link.symlink_to(target)
    add(link, ["other"])
    assert link.is_symlink()
    assert set(read_lock(target)) == {"tool", "other"}
    assert target.stat().st_mode & 0o777 == 0o660


def test_a_damaged_file_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ImageError, match="it is not JSON"):
        add(path, ["tool"])
    assert path.read_text(encoding="utf-8") == "{"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^Cannot write the lock file .*: its folder does not exist\. Make it, or name another file in artefact_lock\.$"):
        add(tmp_path / "absent/lock.json", ["tool"])
    with pytest.raises(ImageError, match=r"^Cannot write the lock file /sys/lock.json: [A-Z][a-z ]+\. Let this user write it"):
        add(Path("/sys/lock.json"), ["tool"])
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match="Not a directory"):
        add(tmp_path / "file/lock.json", ["tool"])
    with pytest.raises(ImageError, match="Is a directory"):
        add(tmp_path, ["tool"])


def test_nothing_is_written_where_nothing_changes(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    add(path, ["tool"])
    before = path.stat().st_ino

    def same(lock: Lock) -> Lock:
        return lock

    lock_file.update_lock(path, same)
    assert path.stat().st_ino == before


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, own, started = tmp_path / "project", tmp_path / "collection/playbooks", tmp_path / "started"
    for folder in (project, own, started):
        folder.mkdir(parents=True)
    monkeypatch.chdir(started)
    assert lock_file.lock_path("/srv/lock.json", project, own) == Path("/srv/lock.json")
    assert lock_file.lock_path("lock.json", project, own) == started / "lock.json"
    assert lock_file.lock_path("", project, own) == project / "artefacts.lock.json"
    assert lock_file.lock_path("", own, own) == started / "artefacts.lock.json"


def test_an_installed_collection_is_never_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "ansible_collections/acme/site"
    (installed / "playbooks").mkdir(parents=True)
    for name in ("MANIFEST.json", "FILES.json"):
        (installed / name).touch()
    monkeypatch.chdir(tmp_path)
    assert lock_file.lock_path("", installed / "playbooks", tmp_path / "own") == tmp_path / "artefacts.lock.json"
    monkeypatch.chdir(installed)
    with pytest.raises(ImageError, match="it belongs to an installed collection"):
        lock_file.lock_path("", installed / "playbooks", tmp_path / "own")
