# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module seal_root as a whole."""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._seal import SealError
from ansible_collections.hyperscaler.images.plugins.modules import seal_root

Runner = t.Callable[..., "dict[str, t.Any]"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in {
        "etc/machine-id": "0" * 32,
        "etc/ssh/ssh_host_rsa_key": "k",
        "etc/munge/munge.key": "k",
        "etc/passwd": "root:x:0:0::/root:/bin/sh\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_check_then_real_then_nothing(run_module: Runner, root: Path) -> None:
    foreseen = run_module(seal_root.main, check_mode=True, root=str(root))
    assert (root / "etc/munge/munge.key").exists()
    done = run_module(seal_root.main, root=str(root))
    assert done == foreseen
    assert done["changed"] is True
    assert done["msg"] == f"{root} was sealed: 3 paths of identity, secrets."
    assert done["paths"] == ["/etc/ssh/ssh_host_rsa_key", "/etc/machine-id", "/etc/munge/munge.key"]
    assert done["actions"][1] == "emptied /etc/machine-id (machine id)"
    assert done["mounted"] == []
    assert done["freed"] > 0
    for check_mode in (True, False):
        again = run_module(seal_root.main, check_mode=check_mode, root=str(root))
        assert (again["changed"], again["paths"], again["freed"]) == (False, [], 0)
        assert again["msg"] == f"{root} is sealed already."


def test_diff(run_module: Runner, root: Path) -> None:
    diff = run_module(seal_root.main, check_mode=True, diff=True, root=str(root))["diff"]
    assert diff["before"] == "/etc/ssh/ssh_host_rsa_key\n/etc/machine-id\n/etc/munge/munge.key\n"
    assert diff["after"] == ""
    assert "diff" not in run_module(seal_root.main, check_mode=True, root=str(root))


def test_options_reach_the_plan(run_module: Runner, root: Path) -> None:
    (root / "srv").mkdir()
    (root / "srv/token").write_text("t")
    result = run_module(seal_root.main, root=str(root), categories=["secrets"], keep=["/etc/munge/*"], extra=["/srv/token"])
    assert result["paths"] == ["/srv/token"]


def test_root_is_resolved(run_module: Runner, root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    link = tmp_path_factory.mktemp("links") / "image"
    link.symlink_to(root)
    assert run_module(seal_root.main, root=str(link))["changed"] is True
    assert not (root / "etc/munge/munge.key").exists()


def test_failures_become_one_message(run_module: Runner, tmp_path: Path) -> None:
    result = run_module(seal_root.main, root=str(tmp_path))
    assert result["failed"] is True
    assert result["msg"].startswith(f"Cannot seal {tmp_path}: it has no folder etc")


def test_running_machine_is_refused_unless_live(run_module: Runner, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_root: Path) -> t.NoReturn:
        raise SealError("running")

    monkeypatch.setattr(seal_root, "refuse_running", refuse)
    assert run_module(seal_root.main, root=str(root))["failed"] is True
    assert (root / "etc/munge/munge.key").exists()
    assert run_module(seal_root.main, root=str(root), check_mode=True)["changed"] is True
    assert run_module(seal_root.main, root=str(root), live=True)["changed"] is True


def test_unknown_category(run_module: Runner, root: Path) -> None:
    assert "value of categories must be one or more of" in run_module(seal_root.main, root=str(root), categories=["x"])["msg"]


def test_own_files_are_the_temporary_folders_that_are_imported_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/tmp/ansible_a/b.zip", "/var/tmp/x", "/usr/lib/python3", "/tmp", "", "/run/me/zip", "/tmpfoo/x"])
    assert seal_root.own_files() == ("tmp/ansible_a", "var/tmp/x", "run/me")


@pytest.mark.parametrize("options", [{"live": True}, {"root": "/", "live": False}])
def test_deferring_needs_the_running_machine(run_module: Runner, root: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, t.Any]) -> None:
    monkeypatch.setattr(seal_root, "refuse_running", lambda _root: None)
    monkeypatch.setattr(seal_root, "plan_seal", lambda *_arguments: seal_root.Plan())
    result = run_module(seal_root.main, defer=True, **{"root": str(root), **options})
    assert "defer needs a root of / and live" in result["msg"]


def test_deferred(run_module: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduled: list[t.Any] = []
    monkeypatch.setattr(seal_root, "schedule", scheduled.append)
    monkeypatch.setattr(seal_root, "plan_seal", lambda *_arguments: seal_root.Plan())
    monkeypatch.setattr(seal_root, "apply_seal", lambda *_arguments: pytest.fail("it was sealed at once"))
    assert run_module(seal_root.main, check_mode=True, defer=True, live=True)["changed"]
    assert scheduled == []
    result = run_module(seal_root.main, defer=True, live=True, users=["admin"])
    assert (result["changed"], result["msg"]) == (True, "/ will be sealed when this machine shuts down.")
    assert [wishes.users for wishes in scheduled] == [("admin",)]
