# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the control groups of open images."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _cgroup
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError

HYBRID = """tmpfs /sys/fs/cgroup tmpfs rw,mode=755 0 0
cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,xattr,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nsdelegate 0 0
"""


def test_hierarchies_that_systemd_uses() -> None:
    assert _cgroup.hierarchies(HYBRID) == [Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified")]
    assert _cgroup.hierarchies("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n") == [Path("/sys/fs/cgroup")]


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Callable[[bool], Path]:
    def mount(version_2: bool) -> Path:
        root = tmp_path / "cgroup"
        root.mkdir()
        if version_2:
            (root / "cgroup.controllers").touch()
        mounts = tmp_path / "mounts"
        mounts.write_text(f"cgroup2 {root} cgroup2 rw 0 0\n")
        monkeypatch.setattr(_cgroup, "MOUNTS", mounts)
        return root

    return mount


def test_a_group_is_made_and_removed_with_those_below(mounted: t.Callable[[bool], Path]) -> None:
    root = mounted(True)
    groups = _cgroup.make("hyperscaler-1")
    assert groups == [root / "hyperscaler-1"]
    (groups[0] / "payload").mkdir()
    assert _cgroup.tasks_of(groups, os.getuid()) == [groups[0] / "payload/hyperscaler-tasks"]
    assert _cgroup.make("hyperscaler-1") == groups
    _cgroup.remove(groups)
    assert not groups[0].exists()


def test_without_version_2_nothing_is_opened(mounted: t.Callable[[bool], Path]) -> None:
    mounted(False)
    with pytest.raises(ImageError, match="control groups of version 2 are not mounted"):
        _cgroup.make("hyperscaler-1")
