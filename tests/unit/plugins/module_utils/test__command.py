# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the only place that runs programs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command, CommandResult, explain
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, ToolError


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program called ``tool`` that runs its first argument as Python."""
    script = tmp_path / "tool"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -c "$1"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return script


def test_missing_program_names_reason_and_package() -> None:
    with pytest.raises(ToolError, match=r"no-such-tool is required to write disk images, but it was not found; install the package qemu-utils\."):
        Command("no-such-tool", reason="write disk images", package="qemu-utils")


@pytest.mark.usefixtures("tool")
def test_environment_is_small_and_has_a_fixed_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("SECRET_OF_THE_USER", "x")
    done = Command("tool", reason="test").run("import os; print(os.environ['LC_ALL'], 'SECRET_OF_THE_USER' in os.environ)", attempt="look")
    assert done.stdout.split() == ["C.UTF-8", "False"]


def test_prefix_is_put_before_every_call() -> None:
    assert Command("id", reason="test", prefix=["nsenter", "--target", "7"]).argv("-u") == ["nsenter", "--target", "7", "id", "-u"]


@pytest.mark.usefixtures("tool")
def test_unexpected_exit_code_tells_attempt_code_and_last_lines() -> None:
    with pytest.raises(CommandError) as caught:
        Command("tool", reason="test").run("import sys; print('one'); sys.exit('disk full')", attempt="grow /srv/a.raw", remedy="Free space.")
    assert str(caught.value) == "Cannot grow /srv/a.raw: tool ended with exit code 1: disk full. Free space."
    assert caught.value.details["rc"] == 1
    assert caught.value.details["stdout"] == "one\n"


@pytest.mark.usefixtures("tool")
def test_accepted_exit_codes_are_results() -> None:
    assert Command("tool", reason="test").run("raise SystemExit(3)", attempt="x", accepted=(0, 3)).rc == 3


@pytest.mark.usefixtures("tool")
def test_timeout_is_told() -> None:
    with pytest.raises(CommandError, match=r"Cannot wait: tool did not end within 0\.3 s\."):
        Command("tool", reason="test").run("import threading; threading.Event().wait()", attempt="wait", timeout=0.3)


@pytest.mark.usefixtures("tool")
def test_json_is_parsed_and_other_output_refused() -> None:
    command = Command("tool", reason="test")
    assert command.run_json("print('{\"a\": 1}')", attempt="read") == {"a": 1}
    with pytest.raises(CommandError, match="Cannot read: tool printed something that is not JSON"):
        command.run_json("print('hello')", attempt="read")


@pytest.mark.usefixtures("tool")
def test_version_is_read_from_the_output() -> None:
    command = Command("tool", reason="test")
    assert command.version("print('qemu-img version 10.0.2 (Debian 1:10.0.2)')") == (10, 0, 2)
    with pytest.raises(ToolError, match="it printed no version number"):
        command.version("print('none')")


@pytest.mark.usefixtures("tool")
def test_stdin_is_given_or_closed() -> None:
    command = Command("tool", reason="test")
    read = "import sys; print(sys.stdin.read(), end='')"
    assert command.run(read, attempt="x", stdin=b"text").stdout == "text"
    assert command.run(read, attempt="x").stdout == ""


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (CommandResult(("a",), -9, "", "", 1.0), "a was ended by signal SIGKILL without a message."),
        (CommandResult(("a",), 127, "", "sh: a: not found", 1.0), "a was not found: sh: a: not found."),
        (CommandResult(("a",), 2, "out", "", 1.0), "a ended with exit code 2: out."),
    ],
)
def test_explain(result: CommandResult, text: str) -> None:
    assert explain("a", result) == text


def test_program_that_cannot_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError, match="could not be started: No such file or directory"):
        Command("broken", reason="test").run(attempt="start it")
    assert os.environ["PATH"] == str(tmp_path)
