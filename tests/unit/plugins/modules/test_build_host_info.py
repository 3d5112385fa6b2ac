# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module build_host_info as a whole."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.modules import build_host_info

Runner = t.Callable[..., "dict[str, t.Any]"]


def test_what_is_missing_is_told_before_a_program_is_asked_for_the_proxy(run_module: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_arguments: t.Any) -> t.NoReturn:
        raise ImageError("Cannot find out the proxy.")

    monkeypatch.setattr(build_host_info, "read_settings", fail)
    wanted = {"program": "no-such-program", "package": "none", "reason": "test"}
    told = run_module(build_host_info.main, tools=[wanted], folder=str(tmp_path))["msg"]
    assert told == ("This machine cannot build images yet: no-such-program is required to test, but it was not found. Install them: apt-get install none")
    assert run_module(build_host_info.main, tools=[], folder=str(tmp_path))["msg"] == "Cannot find out the proxy."
