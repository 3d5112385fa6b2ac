# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of storing file capabilities."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _capabilities


def test_only_executable_files_are_looked_at_and_links_are_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored: list[tuple[str, bytes]] = []

    def read(path: str, attribute: str, *, follow_symlinks: bool) -> bytes:
        assert (attribute, follow_symlinks) == ("security.capability", False)
        if not path.endswith("ping"):
            raise OSError(61, "No data available")
        return b"value"

    monkeypatch.setattr(_capabilities.os, "getxattr", read)
    monkeypatch.setattr(_capabilities.os, "setxattr", lambda path, _attribute, value, **_: stored.append((path, value)))
    (tmp_path / "usr/bin").mkdir(parents=True)
    for name, mode in (("ping", 0o755), ("other", 0o755), ("text-ping", 0o644)):
        (tmp_path / "usr/bin" / name).touch(mode)
    (tmp_path / "link-ping").symlink_to("usr/bin/ping")
    (tmp_path / "bin").symlink_to("usr/bin")
    assert _capabilities.store_as_ordinary(tmp_path) == 1
    assert stored == [(str(tmp_path / "usr/bin/ping"), b"value")]
