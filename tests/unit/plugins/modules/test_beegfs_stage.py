# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module beegfs_stage as a whole."""

from __future__ import annotations

import hashlib
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.modules.beegfs_stage import main
from ansible_collections.hyperscaler.images.tests.unit.conftest import ModuleRunner
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils.deb_stand_in import write_deb


@pytest.fixture
def stage(tmp_path: Path, run_module: ModuleRunner) -> t.Callable[..., dict[str, t.Any]]:
    for name in ("beegfs-meta", "libbeegfs-ib", "beegfs-mon"):
        write_deb(tmp_path / "source", name, "20:8.1.0", "amd64")

    def run(*, check_mode: bool = False, **arguments: t.Any) -> dict[str, t.Any]:
        if not {"urls", "repository"} & arguments.keys():
            arguments.setdefault("folder", str(tmp_path / "source"))
        # Something that is not given must not be passed as none.
        arguments = {key: value for key, value in arguments.items() if value is not None}
        arguments = {"dest": str(tmp_path / "dest"), "components": ["meta"], **arguments}
        return run_module(main, check_mode=check_mode, diff=True, **arguments)

    return run


def test_check_real_check_real(stage: t.Callable[..., dict[str, t.Any]], tmp_path: Path) -> None:
    predicted = stage(check_mode=True)
    assert not (tmp_path / "dest").exists()
    first = stage()
    assert (predicted["changed"], first["changed"]) == (True, True)
    assert predicted["diff"] == first["diff"]
    assert first["diff"]["before"] == {"packages": []}
    assert first["diff"]["after"] == {"packages": ["beegfs-meta_8.1.0_amd64.deb", "libbeegfs-ib_8.1.0_amd64.deb"]}
    assert first["msg"] == "2 packages of BeeGFS 8.1.0 for meta: beegfs-meta was brought, libbeegfs-ib was brought."
    assert first["ignored"] == [{"origin": str(tmp_path / "source/beegfs-mon_8.1.0_amd64.deb"), "reason": "none of the components meta uses it"}]
    second = stage()
    assert (stage(check_mode=True)["changed"], second["changed"]) == (False, False)
    assert second["msg"] == "2 packages of BeeGFS 8.1.0 for meta: all are staged already."
    assert second["diff"]["before"] == second["diff"]["after"] == first["diff"]["after"]
    assert [package["staged"] for package in second["packages"]] == [False, False]
    path = Path(first["packages"][0]["path"])
    assert first["packages"][0] == {
        "name": "beegfs-meta",
        "version": "20:8.1.0",
        "architecture": "amd64",
        "path": str(tmp_path / "dest/beegfs-meta_8.1.0_amd64.deb"),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "origin": str(tmp_path / "source/beegfs-meta_8.1.0_amd64.deb"),
        "reason": "the component meta uses it",
        "staged": True,
    }


def test_urls_in_check_mode_leave_nothing(stage: t.Callable[..., dict[str, t.Any]], tmp_path: Path) -> None:
    path = tmp_path / "source/beegfs-meta_8.1.0_amd64.deb"
    urls = [{"url": path.as_uri(), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}]
    assert stage(urls=urls, check_mode=True)["changed"]
    assert not (tmp_path / "dest").exists()
    assert stage(urls=urls)["changed"]
    path.unlink()
    assert not stage(urls=urls)["changed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"version": "9"}, "Cannot take BeeGFS 9: the source has 8.1.0."),
        ({"urls": [], "folder": None, "checksums": {"a": "b"}}, "Cannot use checksums: they belong to folder."),
        ({"urls": [{"url": "file:///x.deb", "sha256": "0"}], "folder": "/x"}, "parameters are mutually exclusive: folder|urls|repository"),
        ({"urls": None, "folder": None}, "one of the following is required: folder, urls, repository"),
        ({"components": ["mon"]}, "value of components must be one or more of: mgmtd, meta, storage, client"),
        ({"components": []}, "Cannot choose packages of BeeGFS: no component is asked for."),
    ],
)
def test_failures(stage: t.Callable[..., dict[str, t.Any]], tmp_path: Path, arguments: dict[str, t.Any], message: str) -> None:
    result = stage(**arguments)
    assert result["failed"]
    assert message in result["msg"]
    assert not list((tmp_path / "dest").glob("*"))
