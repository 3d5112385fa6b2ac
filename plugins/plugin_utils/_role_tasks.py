# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read from the task files of a role which roles they take and which files of the controller they name."""

from __future__ import annotations

import dataclasses
import functools
import re
import typing as t

import yaml
from ansible.errors import AnsibleError
from ansible.parsing.splitter import parse_kv

ROLE_ACTIONS = frozenset({"include_role", "import_role"})
TASK_ACTIONS = frozenset({"include_tasks", "import_tasks", "include"})
# The folder of a role, or beside the playbook, in which Ansible looks for what the action names, and the options that name it.
FILE_ACTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "copy": ("files", ("src",)),
    "unarchive": ("files", ("src",)),
    "assemble": ("files", ("src",)),
    "patch": ("files", ("src",)),
    "synchronize": ("files", ("src",)),
    "script": ("files", ("cmd", "_raw_params")),
    "template": ("templates", ("src",)),
    "include_vars": ("vars", ("file", "dir", "_raw_params")),
    **{action: ("tasks", ("file", "_raw_params")) for action in TASK_ACTIONS},
}
FREE_FORM = frozenset({"script", "include_vars", *TASK_ACTIONS})
# The loops whose items are files of the controller.
FILE_LOOPS = frozenset({"with_file", "with_fileglob", "with_first_found", "with_lines", "with_filetree"})
ACTIONS = frozenset({*ROLE_ACTIONS, *FILE_ACTIONS, "artefact", "set_fact"})
BLOCKS = ("block", "rescue", "always")
# Parsing YAML is the slow part: a file without any of these words has nothing to tell.
TELLING = re.compile(r"\b(" + "|".join(sorted({*ACTIONS, *FILE_LOOPS})) + r"|with_ansible\.builtin\.\w+)\b")
REGISTERED = re.compile(r"\bregister\s*[:=]\s*['\"]?(\w+)")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Takes tags such as !vault and !unsafe for plain values."""


def _plain(loader: t.Any, _suffix: str, node: yaml.Node) -> t.Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    return loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else loader.construct_mapping(node, deep=True)


_Loader.add_multi_constructor("!", _plain)


@dataclasses.dataclass(frozen=True)
class Statement:
    """A task that names a role or a file. ``loop_kind`` is the keyword of its loop, empty when it has none."""

    action: str
    arguments: dict[str, t.Any]
    variables: dict[str, t.Any]
    loop_kind: str = ""
    loop: t.Any = None
    loop_variable: str = "item"


def load_yaml(text: str) -> t.Any:
    """The document; None for one that cannot be read, of which the build itself tells more."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        return None


@functools.cache
def statements_of(text: str) -> tuple[Statement, ...]:
    """The tasks of a file, in blocks too, that name a role or a file or set variables."""
    if not TELLING.search(text):
        return ()
    document = load_yaml(text)
    return tuple(_walk(document, {})) if isinstance(document, list) else ()


def assigned_in(text: str) -> set[str]:
    """The variables that get their values from the tasks of a file."""
    facts = {str(name) for statement in statements_of(text) if statement.action == "set_fact" for name in statement.arguments}
    return facts | set(REGISTERED.findall(text))


def dependencies_of(text: str) -> list[str]:
    """The roles that meta/main.yml names."""
    document = load_yaml(text)
    entries = document.get("dependencies") if isinstance(document, dict) else None
    named = [entry.get("role") or entry.get("name") if isinstance(entry, dict) else entry for entry in entries or []]
    return [str(name) for name in named if name]


def _walk(nodes: t.Iterable[t.Any], inherited: t.Mapping[str, t.Any]) -> t.Iterator[Statement]:
    for node in nodes:
        if not isinstance(node, dict):
            continue
        own = node.get("vars")
        variables = {**inherited, **(own if isinstance(own, dict) else {})}
        for block in BLOCKS:
            if isinstance(node.get(block), list):
                yield from _walk(node[block], variables)
        yield from _of_task(node, variables)


def _of_task(node: dict[str, t.Any], variables: dict[str, t.Any]) -> t.Iterator[Statement]:
    kind = next((str(key) for key in node if key == "loop" or str(key).startswith("with_")), "")
    control = node.get("loop_control")
    name = control.get("loop_var") if isinstance(control, dict) else None
    more = node.get("args")
    loop_kind = kind.replace("ansible.builtin.", "")
    for action, raw in _actions(node):
        arguments = {**_arguments(action, raw), **(more if isinstance(more, dict) else {})}
        yield Statement(action, arguments, variables, loop_kind, node.get(kind), str(name or "item"))
    if loop_kind in FILE_LOOPS:
        yield Statement(loop_kind, {"_terms": node[kind]}, variables)


def _actions(node: dict[str, t.Any]) -> t.Iterator[tuple[str, t.Any]]:
    for key, value in node.items():
        name, given = str(key), value
        if name in ("action", "local_action"):
            if isinstance(value, dict):
                name, given = str(value.get("module", "")), {option: text for option, text in value.items() if option != "module"}
            else:
                name, _space, given = str(value).partition(" ")
        if (short := name.rpartition(".")[2]) in ACTIONS:
            yield short, given


def _arguments(action: str, raw: t.Any) -> dict[str, t.Any]:
    if isinstance(raw, dict):
        return raw
    try:
        return dict(parse_kv(str(raw or ""), check_raw=action in FREE_FORM))
    except AnsibleError:
        return {}
