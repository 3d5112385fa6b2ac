# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the sealing at the shutdown, with stand-ins for the programs of the machine."""

from __future__ import annotations

import ast
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _seal_later
from ansible_collections.hyperscaler.images.plugins.module_utils._seal import SealError, Wishes
from ansible_collections.hyperscaler.images.plugins.module_utils._seal_rules import Category

WISHES = Wishes(categories=frozenset({Category.IDENTITY, Category.ACCESS}), users=("admin",), keep=("/etc/keep",), extra=("/srv/*",))


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH on which systemctl, journalctl and fstrim only note that they were called."""
    calls, folder = tmp_path / "calls", tmp_path / "bin"
    folder.mkdir()
    for name in ("systemctl", "journalctl", "fstrim"):
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{calls}\n[ {name} = fstrim ] && echo "/: 1 GiB trimmed"\nexit 0\n', encoding="utf-8")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return calls


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in {"etc/machine-id": "0" * 32, "etc/ssh/ssh_host_rsa_key": "k", "etc/passwd": "root:x:0:0::/root:/bin/sh\n", "srv/a": ""}.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "root"


def test_wishes_are_written_and_read() -> None:
    assert _seal_later.wishes_from_dict(_seal_later.wishes_to_dict(WISHES)) == WISHES


def test_the_unit_is_written_and_started(tmp_path: Path, programs: Path) -> None:
    folder, systemd = tmp_path / "run/seal", tmp_path / "systemd/system"
    systemd.parent.mkdir()
    _seal_later.schedule(WISHES, folder=folder, systemd=systemd)
    unit = (systemd / "hyperscaler-seal.service").read_text(encoding="utf-8")
    assert f"ExecStop=/usr/bin/python3 -B {folder}/run.py\n" in unit
    assert "Conflicts=shutdown.target\nBefore=shutdown.target sysinit.target systemd-random-seed.service" in unit
    assert programs.read_text(encoding="utf-8") == "systemctl daemon-reload\nsystemctl start hyperscaler-seal.service\n"


def test_without_systemd(tmp_path: Path) -> None:
    with pytest.raises(SealError, match="systemd does not run here"):
        _seal_later.schedule(WISHES, folder=tmp_path, systemd=tmp_path / "none/system")


def test_what_was_written_runs_without_the_collection(tmp_path: Path, programs: Path, root: Path) -> None:
    """By itself: neither Ansible nor the collection is there when the machine shuts down."""
    folder, systemd = tmp_path / "run/seal", tmp_path / "systemd/system"
    systemd.parent.mkdir()
    _seal_later.schedule(WISHES, folder=folder, systemd=systemd)
    console = tmp_path / "console"
    program = (folder / "run.py").read_text(encoding="utf-8").replace("seal_now()", "import pathlib; seal_now(*map(pathlib.Path, sys.argv[1:]))")
    (folder / "run.py").write_text(program, encoding="utf-8")
    subprocess.run([sys.executable, "-I", "-B", folder / "run.py", root, folder, console], check=True, cwd="/")
    assert (root / "etc/machine-id").read_text(encoding="utf-8") == ""
    assert not (root / "etc/ssh/ssh_host_rsa_key").exists()
    assert not (root / "srv/a").exists()
    assert console.read_text(encoding="utf-8") == "hyperscaler-seal: 3 paths. /: 1 GiB trimmed\n"
    assert programs.read_text(encoding="utf-8").splitlines()[2:] == ["journalctl --relinquish-var", f"fstrim --verbose {root}"]


def test_a_failure_is_said_on_the_console(tmp_path: Path, programs: Path) -> None:
    folder, systemd = tmp_path / "run/seal", tmp_path / "systemd/system"
    systemd.parent.mkdir()
    _seal_later.schedule(WISHES, folder=folder, systemd=systemd)
    _seal_later.seal_now(tmp_path / "nothing", folder, tmp_path / "console")
    assert (tmp_path / "console").read_text(encoding="utf-8").startswith("hyperscaler-seal: FAILED: Cannot seal ")
    assert "fstrim" not in programs.read_text(encoding="utf-8")


def test_every_source_that_is_imported_is_taken_along() -> None:
    folder = Path(t.cast(str, _seal_later.__file__)).parent
    imported = {
        node.module.rpartition(".")[2]
        for name in _seal_later.SOURCES
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ansible")
    }
    assert {*imported, "_seal_later"} == set(_seal_later.SOURCES)
