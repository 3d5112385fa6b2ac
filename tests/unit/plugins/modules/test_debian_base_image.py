# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests for the module debian_base_image."""

from __future__ import annotations

import hashlib
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.modules import debian_base_image as module

ModuleRunner = t.Callable[..., "dict[str, t.Any]"]
MIRROR = "http://m.example.org/debian"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[t.Any]:
    calls: list[t.Any] = []

    def bootstrap(recipe: t.Any, destination: Path, cache: Path | None) -> dict[str, t.Any]:
        calls.append((recipe, cache))
        destination.write_bytes(b"image")
        return {"sha256": hashlib.sha256(b"image").hexdigest(), "virtual_size": 5, "packages": {"a": "1", "b": "2"}}

    monkeypatch.setattr(module, "bootstrap", bootstrap)
    return calls


def test_made_and_left_alone(run_module: ModuleRunner, made: list[t.Any], tmp_path: Path) -> None:
    arguments = {"path": str(tmp_path / "a.raw"), "mirror": MIRROR, "cache_dir": str(tmp_path / "cache")}
    predicted = run_module(module.main, check_mode=True, **arguments)
    assert (predicted["changed"], predicted["msg"]) == (True, f"{tmp_path}/a.raw would be made (no image yet).")
    assert list(tmp_path.iterdir()) == []
    first = run_module(module.main, **arguments)
    assert (first["changed"], first["msg"]) == (True, f"{tmp_path}/a.raw was made (no image yet).")
    assert (first["image"]["path"], first["package_count"]) == (str(tmp_path / "a.raw"), 2)
    assert made[0][1] == tmp_path / "cache"
    for check_mode in (True, False):
        again = run_module(module.main, check_mode=check_mode, **arguments)
        assert (again["changed"], again["msg"], again["image"]) == (False, f"{tmp_path}/a.raw is up to date.", first["image"])
    assert len(made) == 1


def test_another_recipe(run_module: ModuleRunner, made: list[t.Any], tmp_path: Path) -> None:
    arguments = {"path": str(tmp_path / "a.raw"), "mirror": MIRROR}
    first = run_module(module.main, **arguments)
    second = run_module(module.main, **arguments, extra_packages=["htop"])
    assert second["changed"]
    assert second["inputs_digest"] != first["inputs_digest"]
    assert "packages changed from" in second["msg"]
    assert (second["diff"]["before"], second["diff"]["after"]) == (first["diff"]["after"], made[1][0].inputs())
    assert run_module(module.main, **arguments, extra_packages=["htop"], refresh=True)["msg"] == f"{tmp_path}/a.raw was made (refresh asked for)."


def test_failures(run_module: ModuleRunner, made: list[t.Any], tmp_path: Path) -> None:
    failed = run_module(module.main, path=str(tmp_path / "a.raw"), mirror=MIRROR, arch="arm64")
    assert (failed["failed"], failed["msg"].partition(":")[0]) == (True, "Cannot bootstrap an image for arm64")
    failed = run_module(module.main, path=str(tmp_path / "a.raw"), mirror=MIRROR, guest_security_mirror="http://s")
    assert failed["failed"]
    failed = run_module(module.main, path=str(tmp_path / "nowhere/a.raw"), mirror=MIRROR)
    assert "cannot be opened" in failed["msg"]
    assert made == []


def test_cloud_image(run_module: ModuleRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sources = []

    def convert(source: t.Any, destination: Path) -> dict[str, t.Any]:
        sources.append(source)
        destination.write_bytes(b"cloud")
        return {"sha256": hashlib.sha256(b"cloud").hexdigest(), "virtual_size": 5}

    monkeypatch.setattr(module, "convert", convert)
    cloud = {"path": "/c.qcow2", "version": "20250806-2196", "sha512": "ab", "url": "https://i.example.org/c.qcow2"}
    first = run_module(module.main, path=str(tmp_path / "a.raw"), arch="arm64", cloud_image=cloud)
    assert (first["changed"], first["package_count"]) == (True, 0)
    assert (sources[0].path, sources[0].version, sources[0].arch) == (Path("/c.qcow2"), "20250806-2196", "arm64")
    assert not run_module(module.main, path=str(tmp_path / "a.raw"), arch="arm64", cloud_image={**cloud, "path": "/moved.qcow2"})["changed"]
    assert run_module(module.main, path=str(tmp_path / "a.raw"), arch="arm64", cloud_image={**cloud, "sha512": "cd"})["changed"]
