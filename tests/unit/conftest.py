# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures shared by the unit tests."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible.module_utils.testing import patch_module_args

ModuleRunner = t.Callable[..., "dict[str, t.Any]"]


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str]) -> ModuleRunner:
    """Run the ``main`` of a module with arguments and return the result that it prints."""

    def run(main: t.Callable[[], t.NoReturn], *, check_mode: bool = False, diff: bool = False, **arguments: t.Any) -> dict[str, t.Any]:
        arguments.update(_ansible_check_mode=check_mode, _ansible_diff=diff)
        with patch_module_args(arguments), pytest.raises(SystemExit):
            main()
        result: dict[str, t.Any] = json.loads(capsys.readouterr().out)
        return result

    return run
