# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find in the tasks of a role what would not mean inside an image what it means on a machine."""

from __future__ import annotations

import typing as t

BLOCKS = ("block", "rescue", "always")
PREFIXES = ("ansible.builtin.", "ansible.legacy.")
ENDING = ("end_host", "end_play", "end_batch")
SYNCHRONIZE = ("synchronize", "ansible.posix.synchronize")
LOCAL = ("local", "ansible.builtin.local")
ROLE_ACTIONS = ("include_role", "import_role")


def tasks_of(document: t.Any) -> t.Iterator[dict[str, t.Any]]:
    """Every task and block of a task file, also those in blocks."""
    for task in document if isinstance(document, list) else []:
        if isinstance(task, dict):
            yield task
            for part in BLOCKS:
                yield from tasks_of(task.get(part))


def action_of(task: t.Mapping[str, t.Any], *names: str) -> t.Any:
    """The arguments of a task if its action has one of these names, otherwise None; however the action is written."""
    for key, value in task.items():
        if _short(str(key)) in names:
            return value if value is not None else {}
    for key in ("action", "local_action"):
        value = task.get(key)
        if isinstance(value, dict) and _short(str(value.get("module", ""))) in names:
            return value
        if isinstance(value, str) and _short(value.partition(" ")[0]) in names:
            return value.partition(" ")[2]
    return None


def _short(name: str) -> str:
    for prefix in PREFIXES:
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


def refusal(task: t.Mapping[str, t.Any], independent: bool) -> str:
    """Why a task cannot be part of a build, and what to do; empty when it can. ``independent`` says that the strategy is the one of this collection."""
    ending = action_of(task, "meta")
    word = str(ending.get("_raw_params", "") if isinstance(ending, dict) else ending or "").strip()
    if word in ENDING and not independent:
        return (
            f"meta {word} would end the whole build with the strategy of this play, and leave the image open. "
            "Write 'strategy: hyperscaler.images.per_image' into the play, which ends the roles of that image and seals it"
        )
    if action_of(task, *SYNCHRONIZE) is not None and not into_itself(task.get("delegate_to")):
        return "synchronize would start rsync for a machine that has the name of the image. Use ansible.builtin.copy or ansible.builtin.unarchive"
    if task.get("connection") in LOCAL:
        return "connection: local has no effect, because the connection of the image wins, so it would run inside. Write 'delegate_to: localhost' instead"
    return ""


def into_itself(delegate_to: t.Any) -> bool:
    """Whether a task is delegated to its own host."""
    return isinstance(delegate_to, str) and delegate_to.strip().strip("{} ") == "inventory_hostname"


def roles_of(tasks: t.Iterable[t.Mapping[str, t.Any]], meta: t.Any) -> list[str]:
    """The roles that the tasks and the meta data of a role take, by names that are written down."""
    names = [item if isinstance(item, str) else item.get("role") or item.get("name") for item in (meta or {}).get("dependencies") or []]
    for task in tasks:
        arguments = action_of(task, *ROLE_ACTIONS)
        if isinstance(arguments, dict):
            names.append(arguments.get("name") or arguments.get("role"))
    return [str(name) for name in names if name and "{{" not in str(name)]


def refused_arguments(arguments: t.Mapping[str, t.Any]) -> str:
    """The command line arguments that a build refuses, and what to do; empty when there is none."""
    tags = [tag for tag in arguments.get("tags") or () if tag != "all"]
    if tags:
        return f"--tags {','.join(tags)}: only a part of its tasks makes no image. Leave tasks out with --skip-tags, which counts as an input."
    if arguments.get("start_at_task"):
        return f"--start-at-task: an image is built from its base, in one go. Leave '{arguments['start_at_task']}' out; what is up to date is not built again."
    return ""
