# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluate what a role has written with the variables that it would have."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleError
from ansible.template import trust_as_template
from ansible_collections.hyperscaler.images.plugins.plugin_utils._role_tasks import Statement, assigned_in, load_yaml
from ansible_collections.hyperscaler.images.plugins.plugin_utils._source_tree import WORD, SourceTree

FACTS = "ansible_facts"
MAIN = ("main", "main.yml", "main.yaml")


class UnresolvedError(Exception):
    """An expression needs something that is known only while the image is built."""


class Templar(t.Protocol):
    """What is needed of Ansible's templar."""

    def copy_with_new_env(self, *, available_variables: dict[str, t.Any]) -> Templar: ...

    def template(self, variable: t.Any) -> t.Any: ...


class Scope:
    """The variables at one place of a role. ``later`` are those that get their values only while the image is built."""

    def __init__(self, templar: Templar, variables: dict[str, t.Any], later: frozenset[str] = frozenset()) -> None:
        self.variables = variables
        self.later = later
        self.templar = templar
        self._templar = templar.copy_with_new_env(available_variables=variables)

    def under(self, more: t.Mapping[str, t.Any]) -> Scope:
        """The scope with further variables."""
        return Scope(self.templar, {**self.variables, **more}, self.later - set(more)) if more else self

    def value(self, raw: t.Any) -> t.Any:
        """The value of what was written; raises UnresolvedError when it cannot be known yet."""
        if self._is_later(raw):
            raise UnresolvedError(f"{raw} is known only while the image is built")
        try:
            return self._templar.template(trusted(raw))
        except AnsibleError as error:
            raise UnresolvedError(str(error)) from error

    def _is_later(self, raw: t.Any) -> bool:
        """Whether a value needs the image: a default in its place would hide that."""
        seen: set[str] = set()
        fresh = set(WORD.findall(raw)) if isinstance(raw, str) and "{" in raw else set()
        while fresh:
            if any(word in self.later or word == FACTS or (word.startswith("ansible_") and word not in self.variables) for word in fresh):
                return True
            seen |= fresh
            texts = [self.variables[word] for word in fresh if not word.startswith("ansible_") and isinstance(self.variables.get(word), str)]
            fresh = {word for text in texts if "{" in text for word in WORD.findall(text)} - seen
        return False

    def each(self, statement: Statement) -> t.Iterator[Scope]:
        """The scope of a task, once for each item of its loop; raises UnresolvedError when the items cannot be known yet."""
        inner = self.under(trusted(statement.variables))
        if not statement.loop_kind:
            yield inner
            return
        if statement.loop_kind not in ("loop", "with_items", "with_list", "with_flattened", "with_dict", "with_first_found"):
            raise UnresolvedError(f"the items of {statement.loop_kind} are not known")
        for item in _items(statement.loop_kind, inner.value(statement.loop)):
            yield inner.under({statement.loop_variable: item})


def _items(kind: str, value: t.Any) -> list[t.Any]:
    if kind == "with_dict" and isinstance(value, dict):
        return [{"key": key, "value": entry} for key, entry in value.items()]
    if kind == "with_first_found":
        return first_found_candidates(value)
    flat: list[t.Any] = []
    for entry in value if isinstance(value, (list, tuple)) else [value]:
        flat.extend(entry if kind != "loop" and isinstance(entry, (list, tuple)) else [entry])
    return flat


def first_found_candidates(value: t.Any) -> list[str]:
    """All files that the lookup first_found may choose from."""
    found: list[str] = []
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, dict):
            files = _listed(entry.get("files"))
            found += files + [f"{folder}/{name}" for folder in _listed(entry.get("paths")) for name in files]
        elif isinstance(entry, str):
            found.append(entry)
    return found


def _listed(value: t.Any) -> list[str]:
    return [str(entry) for entry in (value if isinstance(value, list) else [value] if value else [])]


def trusted(value: t.Any) -> t.Any:
    """The value with its texts marked as templates: they were read from files of a role, like those that Ansible itself reads."""
    if isinstance(value, str):
        return trust_as_template(value)
    if isinstance(value, dict):
        return {trusted(key): trusted(entry) for key, entry in value.items()}
    return [trusted(entry) for entry in value] if isinstance(value, list) else value


def scope_of_role(role: SourceTree, templar: Templar, variables: t.Mapping[str, t.Any], extra: t.Mapping[str, t.Any]) -> Scope:
    """What a task of a role sees: the defaults of the role, the variables of the host, those of the role, and those of the command line."""
    magic = {"role_path": str(role.path), "role_name": role.path.name, "ansible_search_path": [str(role.path), str(variables.get("playbook_dir", ""))]}
    later = {name for text in role.under("tasks", "handlers").values() for name in assigned_in(text)} | _chosen_later(role)
    return Scope(templar, {**_main_of(role, "defaults"), **variables, **_main_of(role, "vars"), **extra, **magic}, frozenset(later - set(extra)))


def _chosen_later(role: SourceTree) -> set[str]:
    """The variables in files that tasks include: which of them, is decided while the image is built."""
    found: set[str] = set()
    for name, text in role.under("vars").items():
        document = load_yaml(text) if name.split("/")[1] not in MAIN else None
        found.update(str(key) for key in (document if isinstance(document, dict) else ()))
    return found


def _main_of(role: SourceTree, folder: str) -> dict[str, t.Any]:
    found: dict[str, t.Any] = {}
    for name, text in sorted(role.under(folder).items()):
        document = load_yaml(text) if name.split("/")[1] in MAIN else None
        found.update(trusted(document) if isinstance(document, dict) else {})
    return found
