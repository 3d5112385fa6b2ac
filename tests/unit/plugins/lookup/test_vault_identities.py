# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the lookup that names the vault identities of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible import context
from ansible_collections.hyperscaler.images.plugins.lookup.vault_identities import LookupModule, identity_of

LIST = "ANSIBLE_VAULT_IDENTITY_LIST"
FILE = "ANSIBLE_VAULT_PASSWORD_FILE"


@pytest.mark.parametrize(
    ("settings", "arguments", "expected"),
    [
        ({}, {}, []),
        ({FILE: "/a/first"}, {}, ["default@/a/first"]),
        ({FILE: "/a/first"}, {"vault_password_files": ("/b/second",)}, ["default@/b/second"]),
        ({LIST: "dev@/a/first,/b/second"}, {"vault_ids": ("live@/c/third", "dev@/a/first")}, ["dev@/a/first", "default@/b/second", "live@/c/third"]),
        ({}, {"vault_ids": ("dev@prompt", "prompt_ask_vault_pass", "me@example@/a/first")}, ["me@example@/a/first"]),
    ],
    ids=["none", "configured", "argument", "several", "typed"],
)
def test_identities(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], arguments: dict[str, tuple[str, ...]], expected: list[str]) -> None:
    for name in (LIST, FILE):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(context, "CLIARGS", arguments)
    assert LookupModule().run([]) == expected


def test_paths_are_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert identity_of("first", "default") == f"default@{tmp_path}/first"
    assert identity_of("dev@~/second", "default") == "dev@/home/me/second"
