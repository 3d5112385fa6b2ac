# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leave out of a role what only other entry points use: what verifies or configures a machine does not shape its image."""

from __future__ import annotations

import typing as t
from pathlib import PurePosixPath

from ansible_collections.hyperscaler.images.plugins.plugin_utils._role_tasks import TASK_ACTIONS, load_yaml, statements_of
from ansible_collections.hyperscaler.images.plugins.plugin_utils._source_tree import SourceTree, text_of

DEFINITIONS = ("defaults", "vars")
MAIN = ("main.yml", "main.yaml", "main")
Graph = t.Mapping[str, t.Collection[str]]


def definitions_of(role: SourceTree) -> dict[str, t.Any]:
    """The variables that a role defines by itself. They are evaluated only when they are read."""
    found: dict[str, t.Any] = {}
    for folder in DEFINITIONS:
        for name, text in role.under(folder).items():
            document = load_yaml(text) if _defines(name) else None
            found.update({f"{key}": value for key, value in document.items()} if isinstance(document, dict) else {})
    return found


def texts_used(role: SourceTree, entries: t.Collection[str]) -> dict[str, str]:
    """The texts of a role that these entry points can use, by name, without the variables that it defines."""
    texts = {name: text for name, text in role.texts.items() if not (_defines(name) and isinstance(load_yaml(text), dict))}
    graph = _graph(role)
    others = _declared(role) - set(entries)
    if not others or graph is None:
        return texts
    of_others = _reachable(graph, {name for name in graph if _entry(name) in others})
    used = _reachable(graph, {name for name in graph if name not in of_others or _entry(name) in entries})
    dropped = of_others - used
    kept = "\n".join(text for name, text in texts.items() if name not in dropped and not name.startswith(("templates/", "files/")))
    unused = "\n".join(texts[name] for name in dropped if name in texts)
    return {name: text for name, text in texts.items() if name not in dropped and not _only_in(name, unused, kept)}


def _defines(name: str) -> bool:
    parts = name.split("/")
    return parts[0] in DEFINITIONS and len(parts) > 1 and parts[1] in MAIN


def _declared(role: SourceTree) -> set[str]:
    document = load_yaml(text_of(role.path / "meta" / "argument_specs.yml"))
    specs = document.get("argument_specs") if isinstance(document, dict) else None
    return {str(name) for name in specs} if isinstance(specs, dict) else set()


def _entry(name: str) -> str:
    path = PurePosixPath(name)
    return path.stem if path.parent.as_posix() == "tasks" else ""


def _graph(role: SourceTree) -> Graph | None:
    """Which task files include which; None when a name is computed, so that it can be any."""
    graph: dict[str, set[str]] = {name: set() for name in role.under("tasks")}
    for name in graph:
        for statement in statements_of(role.texts[name]):
            if statement.action not in TASK_ACTIONS:
                continue
            file = str(statement.arguments.get("file") or statement.arguments.get("_raw_params") or "")
            if "{{" in file:
                return None
            graph[name].update({f"tasks/{file}", (PurePosixPath(name).parent / file).as_posix()} & set(graph))
    return graph


def _reachable(graph: Graph, start: t.Iterable[str]) -> set[str]:
    found, fresh = set(), set(start)
    while fresh:
        found |= fresh
        fresh = {inner for name in fresh for inner in graph[name]} - found
    return found


def _only_in(name: str, unused: str, kept: str) -> bool:
    """Whether only left out tasks name a template or file."""
    folder, _slash, below = name.partition("/")
    return folder in ("templates", "files") and below in unused and PurePosixPath(below).name.removesuffix(".j2") not in kept
