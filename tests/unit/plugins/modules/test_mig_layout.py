# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module mig_layout."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hyperscaler.images.plugins.modules import mig_layout

Run = t.Callable[..., "dict[str, t.Any]"]
LAYOUT = [{"model": "h200", "devices": [0], "instances": {"1g.18gb": 2, "3g.71gb": 1}}, {"model": "a30", "instances": {}}]


def test_check_real_check_real(run_module: Run, tmp_path: Path) -> None:
    path = tmp_path / "folder/mig.json"
    foreseen = run_module(mig_layout.main, check_mode=True, layout=LAYOUT, path=str(path))
    assert (foreseen["changed"], path.exists(), foreseen["diff"]["before"]) == (True, False, "")
    done = run_module(mig_layout.main, layout=LAYOUT, path=str(path))
    assert done["layout"] == foreseen["layout"] == json.loads(path.read_text())
    assert done["msg"] == f"{path} was written."
    assert done["layout"]["reboot"] is True
    assert done["layout"]["entries"][0] == {"model": "h200", "pci_ids": ["2335"], "reset": False, "devices": [0], "instances": {"3g.71gb": 1, "1g.18gb": 2}}
    assert done["layout"]["entries"][1]["devices"] is None
    for check_mode in (True, False):
        again = run_module(mig_layout.main, check_mode=check_mode, layout=LAYOUT, path=str(path))
        assert (again["changed"], again["msg"]) == (False, f"{path} was as wanted already.")
    assert run_module(mig_layout.main, layout=LAYOUT, path=str(path), reboot=False)["changed"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_absent(run_module: Run, tmp_path: Path) -> None:
    path = tmp_path / "mig.json"
    assert not run_module(mig_layout.main, state="absent", path=str(path))["changed"]
    path.write_text("{}")
    assert run_module(mig_layout.main, check_mode=True, state="absent", path=str(path))["changed"]
    assert path.exists()
    assert run_module(mig_layout.main, state="absent", path=str(path))["msg"] == f"{path} was removed."
    assert not path.exists()


def test_what_cannot_be_is_refused_and_the_document_kept(run_module: Run, tmp_path: Path) -> None:
    path = tmp_path / "mig.json"
    path.write_text("before")
    result = run_module(mig_layout.main, layout=[{"model": "h200", "instances": {"3g.71gb": 2, "1g.18gb": 1}}], path=str(path))
    assert result["failed"]
    assert "takes 7 compute slices and 9 memory slices" in result["msg"]
    assert path.read_text() == "before"
    assert run_module(mig_layout.main, path=str(path))["failed"]


def test_place_that_cannot_be_written(run_module: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run_module(mig_layout.main, layout=LAYOUT, path=str(tmp_path / "file/mig.json"))
    assert result["msg"].startswith(f"Cannot write the MIG layout to {tmp_path}/file/mig.json: ")


def test_what_only_the_driver_knows_is_taken_with_a_warning(run_module: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mig.json"
    said: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _module, text: said.append(text))
    for instances in ({"7g.189gb": 1}, {"3g.95gb": 2}):
        said.clear()
        done = run_module(mig_layout.main, layout=[{"model": "gb200", "instances": instances}], path=str(path))
        assert done["layout"]["entries"][0]["instances"] == instances
        (name,) = instances
        assert said == [f"The profile {name} of gb200 is not in the table of this collection. Its driver decides on the machine; hyperscaler-mig check tells."]
    said.clear()
    run_module(mig_layout.main, layout=[{"model": "rtx-pro-6000", "instances": {"1g.24gb+gfx": 4}}], path=str(path))
    assert not said


def test_ids_of_further_editions(run_module: Run, tmp_path: Path) -> None:
    path = tmp_path / "mig.json"
    run_module(mig_layout.main, layout=[{"model": "h200", "instances": {}, "pci_ids": ["10de:232c"]}], path=str(path))
    assert json.loads(path.read_text())["entries"][0]["pci_ids"] == ["2335", "232C"]
    assert "Write the id in quotes" in run_module(mig_layout.main, layout=[{"model": "h200", "instances": {}, "pci_ids": [9008]}], path=str(path))["msg"]
