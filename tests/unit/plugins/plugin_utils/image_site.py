# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site with roles and a playbook, whose inputs are collected as the action plugin does it."""

from __future__ import annotations

import dataclasses
import typing as t
from pathlib import Path

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.hyperscaler.images.plugins.plugin_utils._image_sources import Host, Sources, sources_of
from ansible_collections.hyperscaler.images.plugins.plugin_utils._role_reach import Reach, Reached
from ansible_collections.hyperscaler.images.plugins.plugin_utils._role_search import RoleSearch
from ansible_collections.hyperscaler.images.plugins.plugin_utils._scope import Scope, scope_of_role, trusted
from ansible_collections.hyperscaler.images.plugins.plugin_utils._source_tree import read_role


@dataclasses.dataclass
class Site:
    """``base`` is the folder of the playbook."""

    base: Path
    variables: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    groups: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    others: dict[str, dict[str, t.Any]] = dataclasses.field(default_factory=dict)
    around: frozenset[str] = frozenset()
    extra: dict[str, t.Any] = dataclasses.field(default_factory=dict)

    def write(self, name: str, text: str = "---\n") -> Path:
        """A file of the site."""
        path = self.base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def role(self, name: str, tasks: str = "[]", **files: str) -> None:
        """A role with a task file, and further files whose names have two underscores for a slash and one for each dot."""
        self.write(f"roles/{name}/tasks/main.yml", tasks)
        for file, text in files.items():
            self.write(f"roles/{name}/{file.replace('__', '/').replace('_yml', '.yml')}", text)

    def reach(self, *names: str, recorded: t.Sequence[str] = ()) -> Reached:
        """The roles that these roles reach."""
        known = {**trusted(self.variables), "playbook_dir": trust_as_template(str(self.base)), **trusted(self.extra)}
        templar = Templar(DataLoader(), known)
        search = RoleSearch(self.base, [])
        return Reach(search, lambda role: scope_of_role(role, templar, known, trusted(self.extra)), self.base).follow(names, recorded)

    def sources(self, *names: str, recorded: t.Sequence[str] = ()) -> tuple[Sources, dict[str, list[str]]]:
        """All that shapes an image of these roles."""
        known = {**trusted(self.variables), "playbook_dir": trust_as_template(str(self.base))}
        scope = Scope(Templar(DataLoader(), known), known)
        host = Host(scope, self.around, self.groups, "node", lambda name: self.others.get(name, {}))
        empty = self.base / "no_role"
        empty.mkdir(exist_ok=True)
        return sources_of(self.reach(*names, recorded=recorded), read_role(empty), host, self.base, [str(self.base / "collections")])
