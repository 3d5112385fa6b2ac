# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the action that shows the progress of a download."""

from __future__ import annotations

import types
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.action.debian_cloud_checksum import ActionModule, shown_lines
from ansible_collections.hyperscaler.images.plugins.module_utils._progress import Progress, report_to


def test_lines_are_shown_and_the_pipe_is_removed() -> None:
    shown: list[str] = []
    with shown_lines(shown.append) as path:
        report = report_to(path, "a")
        assert report is not None
        report(Progress(1 << 20, None, 0.0))
        report(Progress(2 << 20, None, 0.0))
    assert shown == ["a: 1 MiB, 0.0 MiB/s", "a: 2 MiB, 0.0 MiB/s"]
    assert not Path(path).parent.exists()


def test_reader_ends_when_the_module_fails() -> None:
    def fail() -> t.NoReturn:
        with shown_lines(print) as path:
            assert Path(path).is_fifo()
            raise RuntimeError(path)

    with pytest.raises(RuntimeError) as error:
        fail()
    assert not Path(str(error.value)).exists()


@pytest.mark.parametrize(
    ("transport", "asynchronous", "no_log", "arguments", "is_shown"),
    [
        ("local", 0, False, {"dest": "d"}, True),
        ("ssh", 0, False, {"dest": "d"}, False),
        ("local", 60, False, {"dest": "d"}, False),
        ("local", 0, True, {"dest": "d"}, False),
        ("local", 0, False, {}, False),
        ("local", 0, False, {"dest": "d", "progress_file": "p"}, False),
    ],
)
def test_when_lines_are_shown(
    monkeypatch: pytest.MonkeyPatch, transport: str, asynchronous: int, no_log: bool, arguments: dict[str, str], is_shown: bool
) -> None:
    task = types.SimpleNamespace(args=arguments, async_val=asynchronous, no_log=no_log, check_mode=False, action="x")
    connection = types.SimpleNamespace(transport=transport, _shell=types.SimpleNamespace(tmpdir="somewhere"))
    nothing = t.cast(t.Any, None)
    action = ActionModule(t.cast(t.Any, task), t.cast(t.Any, connection), nothing, nothing, nothing, nothing)
    called: list[dict[str, t.Any]] = []

    def execute(**keywords: t.Any) -> dict[str, t.Any]:
        called.append(keywords)
        return {"changed": True}

    monkeypatch.setattr(action, "_execute_module", execute)
    assert action.run(task_vars={"a": 1}) == {"changed": True}
    assert called[0]["wrap_async"] == asynchronous
    assert called[0]["task_vars"] == {"a": 1}
    assert set(called[0]["module_args"]) == {*arguments, *(["progress_file"] if is_shown or "progress_file" in arguments else [])}
    assert task.args == arguments
