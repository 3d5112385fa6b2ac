# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Run apt of this machine with package sources and lists of its own: how mirrors are reached stays as this machine has it, its packages do not count."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._apt_access import HELPER
from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command, CommandResult

PROGRAMS = {"apt-get": "apt-get", "apt-cache": "apt-cache", "apt-helper": HELPER}


class AptApart:
    """apt whose sources, lists and cache are in a folder, where no package is installed."""

    def __init__(self, folder: Path, sources: str, reason: str, settings: t.Iterable[str] = ()) -> None:
        """``sources`` is the text of a sources.list, ``settings`` are further settings as ``Name=value``.

        ``reason`` completes the sentence "apt-get is required to <reason>". Raises OSError when the folder cannot be written.
        """
        for part in ("lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "sources.list").write_text(sources, encoding="utf-8")
        (folder / "status").touch()
        self.lists = folder / "lists"
        self._reason = reason
        places = (
            *(f"Dir::State::lists={folder}/lists", f"Dir::State::status={folder}/status", f"Dir::Cache={folder}/cache"),
            *(f"Dir::Etc::sourcelist={folder}/sources.list", "Dir::Etc::sourceparts=/dev/null"),
            *("Dir::Etc::preferences=/dev/null", "Dir::Etc::preferencesparts=/dev/null"),
            *(["APT::Sandbox::User=root"] if os.geteuid() == 0 else []),
        )
        self._options = [part for setting in (*places, *settings) for part in ("--option", setting)]

    def run(self, program: str, *arguments: str, attempt: str, accepted: t.Collection[int] = (0,), timeout: float | None = None) -> CommandResult:
        """Run apt-get, apt-cache or apt-helper; raises ToolError without apt, CommandError like every program."""
        command = Command(PROGRAMS[program], reason=self._reason, package="apt")
        return command.run("--quiet", *self._options, *arguments, attempt=attempt, accepted=accepted, timeout=timeout)
