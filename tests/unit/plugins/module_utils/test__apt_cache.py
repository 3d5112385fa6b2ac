# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the package cache that images share."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_cache import collect, fill


def test_packages_go_back_to_the_cache_and_on_to_the_next_image(tmp_path: Path) -> None:
    cache, first, second = tmp_path / "cache", tmp_path / "first", tmp_path / "second"
    fill(cache, first)
    (first / "cache/archives/vim_9_amd64.deb").write_text("deb")
    (first / "cache/archives/lock").write_text("")
    (first / "cache/archives/partial/half_1_amd64.deb").write_text("ha")
    (first / "lists/mirror_InRelease").write_text("old")
    assert collect(first, cache) == 2
    assert sorted(path.name for path in (cache / "archives").iterdir()) == ["vim_9_amd64.deb"]
    fill(cache, second)
    assert (second / "cache/archives/vim_9_amd64.deb").samefile(first / "cache/archives/vim_9_amd64.deb")
    assert (second / "lists/mirror_InRelease").read_text() == "old"
    assert collect(second, cache) == 0


def test_fresh_lists_replace_old_ones_without_changing_those_of_other_images(tmp_path: Path) -> None:
    cache, first, second = tmp_path / "cache", tmp_path / "first", tmp_path / "second"
    for own in (first, second):
        fill(cache, own)
    (first / "lists/mirror_InRelease").write_text("old")
    collect(first, cache)
    fill(cache, tmp_path / "third")
    (second / "lists/mirror_InRelease").write_text("new")
    assert collect(second, cache) == 1
    assert (cache / "lists/mirror_InRelease").read_text() == "new"
    assert (tmp_path / "third/lists/mirror_InRelease").read_text() == "old"


def test_lists_look_old_so_that_the_first_task_updates_them(tmp_path: Path) -> None:
    fill(tmp_path / "cache", tmp_path / "own")
    assert (tmp_path / "own/lists").stat().st_mtime == 0
    (tmp_path / "cache/lists/mirror_InRelease").write_text("x")
    fill(tmp_path / "cache", tmp_path / "other")
    assert (tmp_path / "other/lists/mirror_InRelease").exists()
    assert (tmp_path / "other/lists").stat().st_mtime == 0


def test_a_cache_on_another_file_system_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_paths: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    cache, first, second = tmp_path / "cache", tmp_path / "first", tmp_path / "second"
    fill(cache, first)
    (first / "cache/archives/vim_9_amd64.deb").write_text("deb")
    (first / "lists/mirror_InRelease").write_text("old")
    assert collect(first, cache) == 2
    fill(cache, second)
    assert (second / "cache/archives/vim_9_amd64.deb").read_text() == "deb"
    assert collect(second, cache) == 0


def test_another_reason_not_to_link_is_an_error_that_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_paths: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cache, own = tmp_path / "cache", tmp_path / "own"
    fill(cache, own)
    (own / "cache/archives/vim_9_amd64.deb").write_text("deb")
    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(OSError, match="No space left"):
        collect(own, cache)
    assert list((cache / "archives").iterdir()) == []


def test_what_a_killed_run_left_half_written_is_not_used(tmp_path: Path) -> None:
    cache, own = tmp_path / "cache", tmp_path / "own"
    fill(cache, own)
    (cache / "archives/.vim_9_amd64.deb.4711.part").write_text("de")
    fill(cache, tmp_path / "other")
    assert list((tmp_path / "other/cache/archives").glob(".*")) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_cache_belongs_to_whom_its_folder_belongs_to(tmp_path: Path) -> None:
    home, own = tmp_path / "home", tmp_path / "own"
    home.mkdir()
    os.chown(home, 1234, 1235)
    fill(home / "cache/apt", own)
    (own / "cache/archives/vim_9_amd64.deb").write_text("deb")
    collect(own, home / "cache/apt")
    owners = {path.relative_to(home).as_posix(): (path.stat().st_uid, path.stat().st_gid) for path in home.rglob("*")}
    assert owners == dict.fromkeys(
        ("cache", "cache/apt", "cache/apt/archives", "cache/apt/archives/vim_9_amd64.deb", "cache/apt/lists"),
        (1234, 1235),
    )
