# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of running Packer, with a stand-in for it that behaves as it is told."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _packer
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ToolError
from ansible_collections.hyperscaler.images.plugins.module_utils._packer import Outcome, Packer, end_marked, marked, run_folders, write_variables
from ansible_collections.hyperscaler.images.plugins.module_utils._packer_stream import UiLine

MakePacker = t.Callable[..., Path]


@pytest.fixture
def make_packer(tmp_path: Path) -> MakePacker:
    """Write a Packer of some version; ``body`` is what it does when it is asked for anything but its version."""

    def make(version: str = "1.6.6", body: str = "", answer: str = "") -> Path:
        path = tmp_path / "packer"
        said = answer or f"1,,version,{version}"
        path.write_text(f'#!/bin/bash\n[[ $2 == version ]] && {{ echo "{said}"; exit; }}\n{body}\n', encoding="utf-8")
        path.chmod(0o755)
        return path

    return make


def silent() -> str:
    return ""


def run(program: Path, *arguments: str, timeout: float = 0, owner: int | None = None, beat: t.Callable[[], str] = silent) -> tuple[Outcome, list[UiLine]]:
    shown: list[UiLine] = []
    with run_folders(None) as folders:
        outcome = Packer(str(program), folders).run(*arguments, listen=shown.append, beat=beat, timeout=timeout, owner=owner)
    assert not folders.base.exists()
    assert marked(str(folders.base)) == []
    return outcome, shown


@pytest.mark.parametrize(("version", "found"), [("1.6.6", (1, 6, 6)), ("1.16.0", (1, 16, 0)), ("1.14.0-dev", (1, 14, 0))])
def test_versions_that_work(make_packer: MakePacker, version: str, found: tuple[int, ...]) -> None:
    with run_folders(None) as folders:
        packer = Packer(str(make_packer(version)), folders)
    assert packer.version == found
    assert packer.has_init == (version != "1.6.6")


@pytest.mark.parametrize("version", ["1.5.6", "1.6.5", "2.0.0"])
def test_versions_that_do_not_work(make_packer: MakePacker, version: str) -> None:
    with run_folders(None) as folders, pytest.raises(ToolError) as error:
        Packer(str(make_packer(version)), folders)
    assert f"Cannot use Packer {version} (" in str(error.value)
    assert "versions from 1.6.6 up to, but not including, 2 work" in str(error.value)


def test_another_program_of_the_same_name(make_packer: MakePacker) -> None:
    program = make_packer(answer="skipping line: 1")
    with run_folders(None) as folders, pytest.raises(ToolError, match=r"it is not HashiCorp's Packer \(asked for its version, it said: skipping line: 1\)"):
        Packer(str(program), folders)


def test_a_missing_packer() -> None:
    with run_folders(None) as folders, pytest.raises(ToolError, match="packer-of-nobody is required to build images with the packer backend"):
        Packer("packer-of-nobody", folders)


def test_folders_of_its_own(make_packer: MakePacker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACKER_CONFIG", "/home/me/.packerconfig")
    monkeypatch.setenv("PKR_VAR_secret", "1")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    run(make_packer(body=f"env -0 >{tmp_path}/env"), "build", ".")
    found = dict(entry.split("=", 1) for entry in (tmp_path / "env").read_text(encoding="utf-8").split("\0") if entry)
    base = found["TMPDIR"]
    assert {name: value for name, value in found.items() if name.startswith(("PACKER", "PKR", "CHECKPOINT", "SSH"))} == {
        "CHECKPOINT_DISABLE": "1",
        "PACKER_CACHE_DIR": f"{base}/cache",
        "PACKER_CONFIG": f"{base}/config.json",
        "PACKER_CONFIG_DIR": f"{base}/config",
        "PACKER_LOG": "1",
        "PACKER_LOG_PATH": f"{base}/packer.log",
        "PACKER_NO_COLOR": "1",
        "PACKER_PLUGIN_PATH": f"{base}/plugins",
    }
    # Sockets in it have names of at most 108 bytes.
    assert len(base) < 60


def test_a_plugin_folder_that_was_named_stays(tmp_path: Path) -> None:
    with run_folders(tmp_path / "plugins") as folders:
        assert folders.environment()["PACKER_PLUGIN_PATH"] == str(tmp_path / "plugins")
    assert (tmp_path / "plugins").is_dir()


@pytest.mark.parametrize(("version", "names"), [("1.6.6", ["image.pkr.hcl", "scripts"]), ("1.7.0", ["image.pkr.hcl", "plugins.pkr.hcl", "scripts"])])
def test_the_requirements_are_left_out_where_they_are_not_known(make_packer: MakePacker, tmp_path: Path, version: str, names: list[str]) -> None:
    template = tmp_path / "template"
    (template / "scripts").mkdir(parents=True)
    (template / "image.pkr.hcl").write_text("build {}\n", encoding="utf-8")
    (template / "plugins.pkr.hcl").write_text("packer {\n  required_plugins {}\n}\n", encoding="utf-8")
    with run_folders(None) as folders:
        view = Packer(str(make_packer(version)), folders).template(template)
        assert sorted(path.name for path in view.iterdir()) == names
        assert (view / "scripts").resolve() == template / "scripts"
    assert (template / "plugins.pkr.hcl").exists()


def test_everything_is_read(make_packer: MakePacker) -> None:
    body = 'echo "1,,ui,say,==> q.x: one"; echo "2,q.x,artifact-count,1"; echo oops >&2; echo log >$PACKER_LOG_PATH; printf "3,,ui,error,no line feed"; exit 4'
    outcome, shown = run(make_packer(body=body), "build")
    assert [line.text for line in shown] == ["one", "no line feed"]
    assert (outcome.rc, outcome.stderr, outcome.debug, outcome.interrupted) == (4, "oops\n", "log\n", "")
    assert outcome.report.artifact_counts == {"q.x": 1}


def test_a_program_that_stays_behind_does_not_hold_it_up(make_packer: MakePacker) -> None:
    started = time.monotonic()
    with run_folders(None) as folders:
        Packer(str(make_packer(body="sleep 300 & exit 0")), folders).run("build", listen=print, beat=silent, timeout=0)
        left = end_marked(str(folders.base), spare=lambda _process: True)
        assert len(left) == 1
        assert end_marked(str(folders.base)) == []
        assert not left[0].alive()
    assert time.monotonic() - started < 30


# As the process that wraps Packer does.
HANGS = (
    """trap '' INT; trap 'echo 2,,ui,say,cancelled; echo "2,,ui,say,==> q.x: Deleting output directory..."; exit 1' TERM; """
    'sleep 300 & echo "1,,ui,say,==> q.x: Starting VM"; wait'
)


def test_a_time_limit(make_packer: MakePacker) -> None:
    outcome, shown = run(make_packer(body=HANGS), "build", timeout=0.5)
    assert outcome.interrupted == "it did not end within 0.5 s"
    assert [line.text for line in shown] == ["Starting VM", "cancelled", "Deleting output directory..."]
    assert (outcome.stage, outcome.report.stage) == ("start", "clean up")


def test_it_need_not_wait_for_its_provisioners(make_packer: MakePacker) -> None:
    """Packer goes on only when they have ended, and does not end them itself."""
    started = time.monotonic()
    outcome, shown = run(make_packer(body="trap : TERM; sleep 300; echo 2,,ui,say,cleaned up; exit 1"), "build", timeout=0.5)
    assert (outcome.rc, [line.text for line in shown]) == (1, ["cleaned up"])
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal(make_packer: MakePacker, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with run_folders(None) as folders:
        packer = Packer(str(make_packer(body=HANGS)), folders)
        outcome = packer.run("build", listen=lambda _line: threading.Timer(0, os.kill, (os.getpid(), number)).start(), beat=silent, timeout=0)
    assert outcome.interrupted == f"it was interrupted by {number.name}"
    assert signal.getsignal(number) == before


def test_one_that_ignores_the_signal_is_ended(make_packer: MakePacker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_packer, "CANCEL_SECONDS", 0.2)
    outcome, _shown = run(make_packer(body="trap '' TERM; while :; do sleep 300 & wait; done"), "build", timeout=0.2)
    assert outcome.rc == -signal.SIGKILL


def test_the_end_of_the_playbook(make_packer: MakePacker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_packer, "HEARTBEAT_SECONDS", 0.1)
    with subprocess.Popen(["sleep", "300"]) as owner:

        def end() -> str:
            owner.terminate()
            return ""

        outcome, _shown = run(make_packer(body=HANGS), "build", owner=owner.pid, beat=end)
    assert outcome.interrupted == "the playbook that wanted it has ended"


def test_a_reason_of_the_caller(make_packer: MakePacker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_packer, "HEARTBEAT_SECONDS", 0.1)
    outcome, _shown = run(make_packer(body=HANGS), "build", beat=lambda: "the kernel panicked")
    assert outcome.interrupted == "the kernel panicked"


def test_nothing_is_left_when_the_module_is_killed(make_packer: MakePacker, tmp_path: Path) -> None:
    program = make_packer(body=f'sleep 300 & echo $! >{tmp_path}/pid; echo "$TMPDIR" >{tmp_path}/base; echo 1,,ui,say,started; wait')
    code = (
        "import sys; from ansible_collections.hyperscaler.images.plugins.module_utils._packer import Packer, run_folders\n"
        "with run_folders(None) as folders:\n"
        "    Packer(sys.argv[1], folders).run('build', listen=lambda _line: print('started', flush=True), beat=lambda: '', timeout=0)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code, str(program)], stdout=subprocess.PIPE, env=environment) as module:
        assert module.stdout is not None
        assert module.stdout.readline() == b"started\n"
        module.kill()
    base = (tmp_path / "base").read_text(encoding="utf-8").strip()
    deadline = time.monotonic() + 20
    while (marked(base) or Path(base).exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert marked(base) == []
    assert not Path(base).exists()


def test_variables_are_readable_by_the_owner_only(tmp_path: Path) -> None:
    path = write_variables(tmp_path, {"password": "x", "count": 2, "unset": None})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text(encoding="utf-8")) == {"password": "x", "count": 2}
