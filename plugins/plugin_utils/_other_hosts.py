# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose what roles can read of groups and of other hosts."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.plugin_utils._input_variables import read_names, reads_any_name
from ansible_collections.hyperscaler.images.plugins.plugin_utils._role_tasks import load_yaml
from ansible_collections.hyperscaler.images.plugins.plugin_utils._source_tree import WORD

# What takes all of a mapping, or puts a name together.
WHOLE = r"\.(?:items|keys|values)\b"
COMPOSED = r"\[[^\]]*(?:[~+%]|format|join)"
HOSTVARS = re.compile(r"\bhostvars\b")
GROUPS = re.compile(r"(?<![\w.])groups\s*[\[.|]|(?<![\w.])in\s+groups\b")
LITERAL_GROUP = re.compile(
    r"(?<![\w.])groups\s*(?:\[\s*['\"]([^'\"]+)['\"]\s*\]|\.get\(\s*['\"]([^'\"]+)['\"]|\.(?!get|items|keys|values)(\w+))"
    r"|['\"]([^'\"]+)['\"]\s+(?:not\s+)?in\s+groups\b"
)
ANY_GROUP = re.compile(rf"(?<![\w.])groups\s*(?:\||{WHOLE}|{COMPOSED})|\{{%[^}}]*\bin\s+groups\b(?!\s*[\[.])")
SUBSCRIPT = re.compile(r"\b(?:hostvars|groups)\s*\[([^\]]*)\]")
ANY_HOST = re.compile(rf"\bplay_hosts\b|\bansible_play_(?:hosts|batch)\w*|\bhostvars\s*(?:\||{WHOLE}|{COMPOSED})|\{{%[^}}]*\bin\s+hostvars\b(?!\s*\[)")


def texts_in(value: t.Any) -> t.Iterator[str]:
    """Every text in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from texts_in(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from texts_in(entry)


def names_in(texts: t.Iterable[str], values: t.Iterable[t.Any]) -> set[str]:
    """Every whole text that task files and values have: names of groups and hosts are among them."""
    found = {text for value in values for text in texts_in(value)}
    for text in texts:
        found.update(texts_in(load_yaml(text)) if "groups" in text or "hostvars" in text else ())
    return found


def is_open(texts: str, later: t.Collection[str]) -> bool:
    """Whether a group or host is chosen by what is known only while the image is built."""
    return any(not set(later).isdisjoint(WORD.findall(found[1])) for found in SUBSCRIPT.finditer(texts))


def read_groups(texts: str, names: t.Collection[str], groups: t.Mapping[str, t.Sequence[str]], later: t.Collection[str] = ()) -> dict[str, list[str]]:
    """The groups whose members texts can read, with these members."""
    if not GROUPS.search(texts):
        return {}
    literal = {name for found in LITERAL_GROUP.finditer(texts) for name in found.groups() if name}
    anyone = ANY_GROUP.search(texts) or is_open(texts, later)
    return {name: list(members) for name, members in sorted(groups.items()) if anyone or name in literal or name in names}


def read_hosts(
    texts: str, names: t.Collection[str], groups: t.Mapping[str, t.Sequence[str]], hosts: t.Iterable[str], later: t.Collection[str] = ()
) -> list[str]:
    """The hosts whose variables texts can read."""
    if not HOSTVARS.search(texts):
        return []
    members = {member for group in read_groups(texts, names, groups, later).values() for member in group}
    anyone = ANY_HOST.search(texts) or ANY_GROUP.search(texts) or is_open(texts, later)
    return [host for host in hosts if anyone or host in members or host in names or re.search(rf"['\"]{re.escape(host)}['\"]|\bhostvars\.{host}\b", texts)]


def names_of_host(words: t.Collection[str], texts: str, variables: t.Mapping[str, t.Any]) -> set[str]:
    """The names of the variables of another host that texts can read."""
    return set(variables) if reads_any_name(texts) else read_names(words, variables)
