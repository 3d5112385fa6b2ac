# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put together, on the controller, what shapes an image: roles, files, variables, groups and the code that tasks use."""

from __future__ import annotations

import dataclasses
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._digest import document_digest
from ansible_collections.hyperscaler.images.plugins.plugin_utils._collections_used import collection_digest, collections_used, plugin_folders
from ansible_collections.hyperscaler.images.plugins.plugin_utils._entry_points import definitions_of, texts_used
from ansible_collections.hyperscaler.images.plugins.plugin_utils._input_variables import AROUND, raw_text, read_facts, read_names, reads_any_name, users
from ansible_collections.hyperscaler.images.plugins.plugin_utils._other_hosts import names_in, names_of_host, read_groups, read_hosts, texts_in
from ansible_collections.hyperscaler.images.plugins.plugin_utils._role_reach import Reached
from ansible_collections.hyperscaler.images.plugins.plugin_utils._role_tasks import assigned_in
from ansible_collections.hyperscaler.images.plugins.plugin_utils._scope import FACTS, Scope, UnresolvedError
from ansible_collections.hyperscaler.images.plugins.plugin_utils._source_tree import SourceTree, path_digest, texts_at, without_comments, words_of

Variables = t.Mapping[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Host:
    """An image as a host of the inventory. ``around`` are the variables that act around the image, ``others`` gives those of another host."""

    scope: Scope
    around: frozenset[str]
    groups: dict[str, list[str]]
    name: str
    others: t.Callable[[str], Variables]


@dataclasses.dataclass
class Sources:
    """Digests by section and name. Their form is that of the document of the inputs."""

    roles: dict[str, str] = dataclasses.field(default_factory=dict)
    collections: dict[str, str] = dataclasses.field(default_factory=dict)
    variables: dict[str, str] = dataclasses.field(default_factory=dict)
    groups: dict[str, str] = dataclasses.field(default_factory=dict)
    controller_files: dict[str, str] = dataclasses.field(default_factory=dict)


def sources_of(reached: Reached, seal: SourceTree, host: Host, base: Path, collection_folders: t.Sequence[str]) -> tuple[Sources, dict[str, list[str]]]:
    """What shapes the image, and by section the names that count only because it is not known which roles will be reached."""
    everything = _collect(reached, frozenset(reached.roles), seal, host, base, collection_folders)
    if not reached.guessed:
        return everything, {}
    certain = _collect(reached, frozenset(reached.roles) - reached.guessed, seal, host, base, collection_folders)
    sections = [field.name for field in dataclasses.fields(Sources)]
    return everything, {section: sorted(set(getattr(everything, section)) - set(getattr(certain, section))) for section in sections}


def _collect(reached: Reached, names: frozenset[str], seal: SourceTree, host: Host, base: Path, collection_folders: t.Sequence[str]) -> Sources:
    roles = [reached.roles[name] for name in sorted(names)]
    plugins = plugin_folders(base)
    files = reached.files.paths | (reached.guessed_files.paths if names >= reached.guessed else set())
    own = users(host.scope.variables, host.around)
    read = _read(reached, [*roles, seal], [*files, *plugins], own)
    values, variables = _variables(read, host, own)
    local = _packages([*values, *(value for name in names for value in _paths_of(read, reached.scopes[name]))])
    found = names_in(read.texts, [*values, *read.definitions.values()])
    return Sources(
        {name: reached.roles[name].digest for name in names},
        {name: collection_digest(path) for name, path in collections_used(roles, collection_folders).items()},
        {**variables, **_of_others(read, found, host)},
        {name: document_digest(members) for name, members in read_groups(read.whole, found, host.groups, read.later).items()},
        {str(path): path_digest(path) for path in sorted({*files, *local, *plugins})},
    )


@dataclasses.dataclass(frozen=True)
class Read:
    """What the roles read: their texts, all words, the variables that they define and read, and those that get their values later."""

    texts: list[str]
    whole: str
    words: frozenset[str]
    definitions: dict[str, t.Any]
    later: frozenset[str]


def _read(reached: Reached, roles: t.Sequence[SourceTree], outside: t.Sequence[Path], own: Variables) -> Read:
    named = [(name, text) for role in roles for name, text in texts_used(role, {"main", *reached.entries.get(role.path.name, ())}).items()]
    named += [text for path in outside for text in texts_at(path)]
    texts = [without_comments(text, name) for name, text in named]
    words = {word for text in texts for word in words_of(text)}
    defined = {key: value for role in roles for key, value in definitions_of(role).items()}
    everything = {**own, **defined}
    names = set(everything) if reads_any_name("\n".join(texts)) else read_names(words, everything)
    definitions = {name: value for name, value in defined.items() if name in names}
    told = [raw_text(value) for value in definitions.values()]
    words |= names | {word for text in told for word in words_of(text)}
    later = {FACTS, *(name for text in texts for name in assigned_in(text))}
    return Read(texts, "\n".join([*texts, *told]), frozenset(words), definitions, frozenset(later))


def _variables(read: Read, host: Host, own: Variables) -> tuple[list[t.Any], dict[str, str]]:
    """The values that count, and their digests by the names of their variables."""
    known = host.scope.variables
    names = set(own) if reads_any_name(read.whole) else read_names(read.words, own)
    # What acts around the image shapes it, too, when a role itself names it.
    names |= ((read.words & host.around) - AROUND | read_facts(read.whole)) & set(known)
    values = {name: _value(host.scope, known[name]) for name in sorted(names)}
    if "group_names" in read.words:
        values["group_names"] = known.get("group_names")
    return list(values.values()), {name: document_digest(value) for name, value in values.items()}


def _value(scope: Scope, raw: t.Any) -> t.Any:
    """The value of a variable; one that needs the image counts as it is written, also where facts of an earlier run are kept."""
    try:
        return scope.value(raw)
    except UnresolvedError:
        return raw_text(raw)


def _of_others(read: Read, found: set[str], host: Host) -> dict[str, str]:
    others = sorted({member for members in host.groups.values() for member in members} - {host.name})
    digests = {}
    for other in read_hosts(read.whole, found, host.groups, others, read.later):
        variables = users(host.others(other), host.around)
        for name in names_of_host(read.words, read.whole, variables):
            digests[f"{name} of {other}"] = document_digest(raw_text(variables[name]))
    return digests


def _paths_of(read: Read, scope: Scope) -> t.Iterator[t.Any]:
    """The values of what roles define that have a path in them."""
    for name, raw in read.definitions.items():
        # What a lookup finds is counted where lookups are read.
        if isinstance(raw, str) and "/" in raw and "{{" in raw and "lookup" not in raw and "query" not in raw and name in scope.variables:
            try:
                yield scope.value(scope.variables[name])
            except UnresolvedError:
                continue


def _packages(values: t.Iterable[t.Any]) -> set[Path]:
    """The package files that values name, by themselves or by their folder."""
    found: set[Path] = set()
    for text in {text for value in values for text in texts_in(value)}:
        path = Path(text) if text.startswith("/") and "\n" not in text and len(text) < 4096 else None
        if path is not None and path.is_dir():
            found.update(path.glob("*.deb"))
        elif path is not None and path.suffix == ".deb" and path.is_file():
            found.add(path)
    return found
