# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening an image: what is refused before anything is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._image_root import Wanted, _require_places


def wanted(folder: Path, path: str = "work/disk.raw", state: str = "work/root.json", cache: str = "cache") -> Wanted:
    return Wanted(folder / path, folder / state, None, 0, folder / cache, (), None, 0.0)


def test_places_that_can_be_written(tmp_path: Path) -> None:
    _require_places(wanted(tmp_path))
    (tmp_path / "work").mkdir()
    (tmp_path / "work/disk.raw").touch()
    _require_places(wanted(tmp_path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["work"]


@pytest.mark.parametrize(
    ("places", "told"),
    [
        ({"path": "folder"}, "folder is no file, but the image would be written there"),
        ({"state": "folder"}, "folder is no file, but its state file would be written there"),
        ({"path": "text/disk.raw"}, "text is no folder, but the folder of the image would be made there"),
        ({"state": "text/x/root.json"}, "text is no folder, but the folder of the state file would be made there"),
        ({"cache": "text"}, "text is no folder, but the folder of the package cache would be made there"),
        ({"cache": "dangling"}, "dangling is no folder, but the folder of the package cache would be made there"),
    ],
)
def test_what_is_in_the_way(tmp_path: Path, places: dict[str, str], told: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("hello", encoding="utf-8")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(ImageError, match=re.escape(f"{tmp_path}/{told}. Give another path.")):
        _require_places(wanted(tmp_path, **places))
