# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import types
from pathlib import Path

import pytest
from ansible import constants
from ansible.plugins.loader import action_loader
from ansible_collections.hyperscaler.images.plugins.strategy.per_image import _for_each_host, _is_for, _roles_path, role_folders


def node(parent: object = None, **attributes: object) -> types.SimpleNamespace:
    return types.SimpleNamespace(_parent=parent, **attributes)


def test_roles_are_found_beside_the_inventory_and_in_the_current_directory(tmp_path: Path) -> None:
    for folder in ("here/roles", "project/roles", "project/inventory"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "project/inventory/hosts.yml").touch()
    (tmp_path / "project/images.yml").touch()
    here, project = str(tmp_path / "here/roles"), str(tmp_path / "project/roles")
    assert role_folders([str(tmp_path / "project/images.yml")], tmp_path / "here") == [here, project]
    assert role_folders([str(tmp_path / "project/inventory")], tmp_path / "here") == [here, project]
    assert role_folders(["first,second"], tmp_path / "here") == [here]
    assert role_folders([str(tmp_path / "project/images.yml")], tmp_path / "project") == [project]


def test_the_roles_path_is_what_it_was_after_the_play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "roles").mkdir()
    monkeypatch.chdir(tmp_path)
    before = list(constants.DEFAULT_ROLES_PATH)  # type: ignore[attr-defined]
    with pytest.raises(KeyError), _roles_path([]):
        assert str(tmp_path / "roles") in constants.DEFAULT_ROLES_PATH  # type: ignore[attr-defined]
        raise KeyError
    assert before == constants.DEFAULT_ROLES_PATH  # type: ignore[attr-defined]


def test_handlers_belong_to_the_hosts_that_included_their_role() -> None:
    include = node(image_hosts=["first"])
    assert _is_for(node(include), "first")
    assert not _is_for(node(include), "second")
    assert _is_for(node(), "second")
    assert _is_for(node(node(include, image_hosts=["second"])), "second")


def test_actions_run_for_each_host_in_the_play_only() -> None:
    pause = action_loader.get("pause", class_only=True)
    with _for_each_host():
        assert pause.BYPASS_HOST_LOOP is False
    assert pause.BYPASS_HOST_LOOP is True
