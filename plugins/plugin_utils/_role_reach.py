# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Follow the roles of an image to every role that they take, by dependency or by task."""

from __future__ import annotations

import dataclasses
import re
import typing as t
from collections import deque
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.plugin_utils._controller_files import ControllerFiles
from ansible_collections.hyperscaler.images.plugins.plugin_utils._role_tasks import (
    ROLE_ACTIONS,
    TASK_ACTIONS,
    Statement,
    dependencies_of,
    statements_of,
)
from ansible_collections.hyperscaler.images.plugins.plugin_utils._scope import Scope, UnresolvedError
from ansible_collections.hyperscaler.images.plugins.plugin_utils._source_tree import SourceTree, read_role, text_of

IN_COLLECTION = re.compile(r"(?:^|/)ansible_collections/(\w+)/(\w+)/roles/(?:.*/)?([^/]+)$")
ROLE_PARTS = ("tasks", "meta", "handlers", "defaults", "vars")


class Finder(t.Protocol):
    """Finds the folder of a role like Ansible: ``beside`` is the role that names it."""

    def __call__(self, name: str, beside: Path | None) -> Path | None: ...


def role_name(path: Path) -> str:
    """The name of a role by its folder, with its collection if it is in one."""
    found = IN_COLLECTION.search(path.as_posix())
    return ".".join(found.groups()) if found else path.name


@dataclasses.dataclass
class Reached:
    """What the roles of an image reach. ``guessed`` are roles that may be taken, because a name is known only while the image is built.

    ``entries`` are the entry points other than main that tasks ask for, by the last part of the name of the role.
    """

    roles: dict[str, SourceTree] = dataclasses.field(default_factory=dict)
    scopes: dict[str, Scope] = dataclasses.field(default_factory=dict)
    entries: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    guessed: set[str] = dataclasses.field(default_factory=set)
    files: ControllerFiles = dataclasses.field(default_factory=ControllerFiles)
    guessed_files: ControllerFiles = dataclasses.field(default_factory=ControllerFiles)


class Reach:
    """One walk; ``scope_of`` makes the scope of a role, ``base`` is the folder of the playbook."""

    def __init__(self, find: Finder, scope_of: t.Callable[[SourceTree], Scope], base: Path) -> None:
        self._find = find
        self._scope_of = scope_of
        self._base = base
        self._queue: deque[tuple[str, Path | None]] = deque()
        self._beside: set[Path] = set()
        self._read: set[Path] = set()
        self._later: set[str] = set()
        self.reached = Reached()
        self._files = self.reached.files

    def follow(self, names: t.Iterable[str], recorded: t.Iterable[str]) -> Reached:
        """Everything that the named roles reach. ``recorded`` are the roles that the last build reached; without any, a name that cannot be known yet
        stands for every role beside the one that has it."""
        known = list(recorded)
        self._queue.extend((name, None) for name in names)
        self._queue.extend((name, self._base) for name in known)
        self._drain()
        if self._beside and not known:
            before = set(self.reached.roles)
            self._files = self.reached.guessed_files
            for folder in sorted(self._beside):
                self._queue.extend((str(path), None) for path in sorted(folder.iterdir()) if any((path / part).is_dir() for part in ROLE_PARTS))
            self._drain()
            self.reached.guessed = set(self.reached.roles) - before
        return self.reached

    def _drain(self) -> None:
        while self._queue:
            name, beside = self._queue.popleft()
            path = self._find(name, beside)
            # A role that is nowhere may stand under a condition. When it is installed one day, it is new here.
            if path is not None and path.resolve() not in self._read:
                self._read.add(path.resolve())
                self._enter(path)

    def _enter(self, path: Path) -> None:
        role = read_role(path)
        name = role_name(path) if role_name(path) not in self.reached.roles else str(path)
        own = self._scope_of(role)
        # Facts that a role sets are there for those after it.
        self._later |= own.later
        scope = Scope(own.templar, own.variables, frozenset(self._later))
        self.reached.roles[name], self.reached.scopes[name] = role, scope
        for file, text in role.under("meta").items():
            if file.startswith("meta/main."):
                self._queue.extend((dependency, path) for dependency in self._dependencies(text, scope))
        for text in role.under("tasks", "handlers").values():
            self._tasks(text, role, scope)
        for text in role.texts.values():
            self._files.add_lookups(text, scope, path, self._base)

    def _dependencies(self, text: str, scope: Scope) -> list[str]:
        found = []
        for name in dependencies_of(text):
            try:
                found.append(str(scope.value(name)))
            except UnresolvedError:
                self._beside.add(Path(scope.variables["role_path"]).parent)
        return found

    def _tasks(self, text: str, role: SourceTree, scope: Scope) -> None:
        for statement in statements_of(text):
            if statement.action in ROLE_ACTIONS:
                self._take_roles(statement, role, scope)
                continue
            for file in self._files.add_statement(statement, scope, role.path, self._base):
                # A task file that lies elsewhere can take roles, too.
                if statement.action in TASK_ACTIONS and file.is_file() and file.resolve() not in self._read:
                    self._read.add(file.resolve())
                    self._tasks(text_of(file), role, scope)

    def _take_roles(self, statement: Statement, role: SourceTree, scope: Scope) -> None:
        raw = statement.arguments.get("name") or statement.arguments.get("role")
        try:
            for inner in scope.each(statement):
                name = inner.value(raw)
                if not isinstance(name, str) or not name:
                    raise UnresolvedError(f"{raw} is no name")
                entry = inner.value(statement.arguments.get("tasks_from", "main"))
                self.reached.entries.setdefault(Path(name).name.rpartition(".")[2], set()).add(str(entry).rpartition(".")[0] or str(entry))
                self._queue.append((name, role.path))
        except UnresolvedError:
            self._beside.add(role.path.parent)
