# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of refusing a machine that cannot isolate."""

from __future__ import annotations

import types
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _isolation
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, ToolError


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_isolation, "Command", lambda *_, **__: None)
    monkeypatch.setattr(_isolation._system_calls, "library", lambda: None)


@pytest.mark.parametrize("release", ["5.4.0-150-generic", "4.19.0", "strange"])
def test_an_old_kernel_is_refused(monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    monkeypatch.setattr(_isolation.os, "uname", lambda: types.SimpleNamespace(release=release))
    with pytest.raises(ImageError, match=f"Cannot open an image in /work: the kernel of this machine is {release}, and .* need 5.12"):
        _isolation.require(Path("/work"))


def test_a_new_kernel_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_isolation.os, "uname", lambda: types.SimpleNamespace(release="6.1.0-39-cloud-amd64"))
    _isolation.require(Path("/work"))


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(program: str, **_: object) -> None:
        if program == "pasta":
            raise ToolError("pasta is required to give an open image a network, but it was not found; install the package passt.", program=program)

    monkeypatch.setattr(_isolation, "Command", missing)
    with pytest.raises(ToolError, match="install the package passt"):
        _isolation.require(Path("/work"))
