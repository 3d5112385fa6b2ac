# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the files of the controller, outside of its folder, that a role reads."""

from __future__ import annotations

import dataclasses
import os
import re
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.plugin_utils._role_tasks import FILE_ACTIONS, FILE_LOOPS, TASK_ACTIONS, Statement
from ansible_collections.hyperscaler.images.plugins.plugin_utils._scope import Scope, UnresolvedError, first_found_candidates

LOOKUP = re.compile(r"\b(?:lookup|query|q)\s*\(\s*['\"](?:ansible\.builtin\.)?(file|fileglob|template|unvault|first_found|lines|csvfile|ini)['\"]\s*,")
NAMED = re.compile(r"\s*\w+\s*=(?!=)")
PAIRS = {"(": ")", "[": "]", "{": "}"}
# The lookups whose file is an option, not a term.
FILE_OPTION = re.compile(r"\bfile\s*=\s*(.+)$", re.DOTALL)
GLOB = re.compile(r"[*?\[]")
TRUE = (True, "true", "True", "yes", "on", "1", 1)


@dataclasses.dataclass
class ControllerFiles:
    """Files and folders. A name that leads nowhere now is found when there is a file of this name, so it need not be kept."""

    paths: set[Path] = dataclasses.field(default_factory=set)

    def add_statement(self, statement: Statement, scope: Scope, role: Path, base: Path) -> list[Path]:
        """Add what a task reads, and return it."""
        found: list[Path] = []
        # What these loops take is a statement of its own.
        if statement.loop_kind in FILE_LOOPS - {"with_first_found"}:
            return found
        for folder, raw in _sources(statement):
            try:
                for inner in scope.each(statement):
                    if not _is_remote(statement, inner):
                        found += self._add(_names(statement.action, inner.value(raw)), folder, role, base)
            except UnresolvedError:
                self._add_unresolved(raw, scope, folder, base)
        return found

    def add_lookups(self, text: str, scope: Scope, role: Path, base: Path) -> None:
        """Add what the lookups in a text read."""
        for found in LOOKUP.finditer(text):
            folder = "templates" if found[1] == "template" else "files"
            for term in terms_of(text[found.end() :], found[1]):
                try:
                    value = scope.value("{{ (" + term + ") }}")
                except UnresolvedError:
                    self._add_folder(base / folder)
                else:
                    names = value if isinstance(value, list) else [value]
                    self._add(first_found_candidates(names) if found[1] == "first_found" else names, folder, role, base)

    def _add(self, names: t.Iterable[t.Any], folder: str, role: Path, base: Path) -> list[Path]:
        found: list[Path] = []
        for name in names:
            if not isinstance(name, str) or not name.strip() or "://" in name or "\n" in name:
                continue
            found += located(name, folder, role, base)
        outside = [path for path in found if not path.resolve().is_relative_to(role.resolve())]
        self.paths.update(outside)
        return outside

    def _add_unresolved(self, raw: t.Any, scope: Scope, folder: str, base: Path) -> None:
        """A name that is known only while the image is built: all that it can be counts, as far as its folder is known."""
        start = raw
        while isinstance(start, str) and "{{" in start:
            start = start.rpartition("{{")[0]
            try:
                known = scope.value(start.rpartition("/")[0])
            except UnresolvedError:
                continue
            if isinstance(known, str) and known.startswith("/") and len(Path(known).parts) > 2:
                self._add_folder(Path(known))
                return
        self._add_folder(base / folder)

    def _add_folder(self, folder: Path) -> None:
        if folder.is_dir():
            self.paths.add(folder)


def located(name: str, folder: str, role: Path, base: Path) -> list[Path]:
    """The files that a name means: where Ansible finds it first, or all that a pattern matches there."""
    path = Path(name.strip()).expanduser()
    places = [Path()] if path.is_absolute() else [role / folder, role, role / "tasks", base / folder, base]
    for place in places:
        if GLOB.search(path.name):
            matched = sorted(entry for entry in (place / path.parent).glob(path.name) if entry.is_file())
            if matched:
                return matched
        elif (place / path).exists():
            return [Path(os.path.normpath(place / path))]
    return []


def terms_of(text: str, lookup: str) -> list[str]:
    """The arguments of a call up to its closing parenthesis that name files."""
    arguments, depth, quote, current = [], ["("], "", ""
    for character in text[:4000]:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in PAIRS:
            depth.append(character)
        elif character in PAIRS.values():
            depth.pop()
        if not depth or (not quote and character == "," and len(depth) == 1):
            arguments.append(current)
            current = ""
            if not depth:
                break
            continue
        current += character
    if lookup in ("csvfile", "ini"):
        return [found[1] for argument in arguments if (found := FILE_OPTION.search(argument))]
    return [argument.strip() for argument in arguments if argument.strip() and not NAMED.match(argument)]


def _sources(statement: Statement) -> t.Iterator[tuple[str, t.Any]]:
    if statement.action in FILE_LOOPS:
        yield "files", statement.arguments.get("_terms")
    elif statement.action == "artefact":
        source = statement.arguments.get("source")
        yield "files", source.get("path") if isinstance(source, dict) else None
    elif statement.action in FILE_ACTIONS:
        folder, options = FILE_ACTIONS[statement.action]
        for option in options:
            if statement.arguments.get(option):
                yield folder, statement.arguments[option]


def _names(action: str, value: t.Any) -> list[t.Any]:
    if action == "with_first_found":
        return first_found_candidates(value)
    if action == "script" and isinstance(value, str):
        return value.split()[:1]
    return value if isinstance(value, list) else [value]


def _is_remote(statement: Statement, scope: Scope) -> bool:
    """Whether a task reads on the host that it runs on."""
    if statement.action in TASK_ACTIONS:
        return False
    raw = statement.arguments.get("remote_src", statement.action == "assemble")
    return scope.value(raw) in TRUE
