# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose the variables of a host that the roles of its image can read."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.lookup.image_variables import handed_over
from ansible_collections.hyperscaler.images.plugins.plugin_utils._role_tasks import load_yaml
from ansible_collections.hyperscaler.images.plugins.plugin_utils._source_tree import WORD

# These roles prepare, prove and describe. What of their variables shapes the image stands in its definition or in its base.
ROLES_AROUND = ("base_image", "builder", "image")
# Further names of this collection that shape nothing by themselves: results, names of what is asked for, and how and from where components are fetched.
# What is fetched counts with each component.
AROUND = frozenset(
    {
        *("base_image_result", "image_result", "image_hosts", "image_guest_record", "image_packer_command", "image_build_host"),
        *("artefact_policy", "artefact_lock", "artefact_cache", "artefact_sources", "artefact_retries", "artefact_connect_timeout", "artefact_architecture"),
    }
)
# What the machine is given becomes facts: they count for roles that read these.
FACTS = {
    "image_boot_memory": re.compile(r"\bansible_(?:facts\s*(?:\.|\[\s*['\"]))?(?:memtotal_mb|memfree_mb|memory_mb)\b"),
    "image_boot_cpus": re.compile(r"\bansible_(?:facts\s*(?:\.|\[\s*['\"]))?processor(?:_\w+)?\b"),
}
# Names that are put together while the image is built: lookups of names, and subscripts that are no plain text.
LOOKED_UP = re.compile(
    r"\b(?:lookup|query|q)\s*\(\s*['\"](?:ansible\.builtin\.(?:vars|varnames)|vars|varnames|hyperscaler\.images\.image_variables)['\"]"
    r"|\bwith_(?:varnames|vars)\b"
)
COMPUTED = re.compile(r"(?<![\w.'\"-])vars\s*(?:\[(?!\s*(['\"])\w+\1\s*\])|\.(?:get|items|keys|values)\b|-?\}\})|\{[{%][^}]*(?<![\w.'\"-])vars\s*[,)|]")
# A second subscript of hostvars that is no plain text, or all of a host at once.
OF_HOST = re.compile(
    r"\bhostvars\s*(?:\[(?:[^\[\]]|\[[^\]]*\])*\]|\.(?!get|items|keys|values)\w+)\s*"
    r"(?:\[(?!\s*(['\"])\w+\1\s*\])|\.(?:get|items|keys|values)\b|\|\s*dict2items)"
)
# The variables of a host under another name.
ALIAS = re.compile(r"\b(\w+)\s*[=:]\s*['\"]?(?:\{\{)?\s*hostvars\s*[\[.]")
Raw = t.Mapping[str, t.Any]


def own_variables(collection: Path) -> frozenset[str]:
    """The variables of the roles around an image, by their described options."""
    found: set[str] = set()
    for role in ROLES_AROUND:
        specs = load_yaml((collection / "roles" / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
        found.update(name for spec in specs.values() for name in spec.get("options", {}))
    return frozenset(found | AROUND)


def users(variables: Raw, around: t.Collection[str]) -> dict[str, t.Any]:
    """The variables that a user wrote: neither Ansible's own nor those around the image nor results of tasks, which differ each time."""
    return {name: value for name, value in variables.items() if handed_over(name, around) and not _is_result(value)}


def read_names(words: t.Collection[str], variables: Raw) -> set[str]:
    """The names of the variables that texts with these words read, directly or by the values of others."""
    found: set[str] = set()
    fresh = set(words) & set(variables)
    while fresh:
        found |= fresh
        fresh = {word for name in fresh for word in WORD.findall(raw_text(variables[name])) if word in variables} - found
    return found


def reads_any_name(texts: str) -> bool:
    """Whether texts read variables by names that cannot be seen in them."""
    return bool(LOOKED_UP.search(texts) or COMPUTED.search(texts) or OF_HOST.search(texts)) or any(
        re.search(rf"\b{found[1]}\s*(?:\[(?!\s*(['\"])\w+\1\s*\])|\.(?:get|items|keys|values)\b|\|\s*dict2items)", texts) for found in ALIAS.finditer(texts)
    )


def read_facts(texts: str) -> set[str]:
    """The variables around the image that texts read as facts of the machine."""
    return {name for name, pattern in FACTS.items() if pattern.search(texts)}


def raw_text(value: t.Any) -> str:
    """All texts of a value as they are written, without resolving anything in them."""
    if isinstance(value, dict):
        return "\n".join(f"{key}: {raw_text(entry)}" for key, entry in value.items())
    return "\n".join(raw_text(entry) for entry in value) if isinstance(value, (list, tuple)) else str(value)


def _is_result(value: t.Any) -> bool:
    return isinstance(value, dict) and {"changed", "failed"} <= set(value)
