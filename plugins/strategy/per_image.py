# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Build images side by side, each as if it were the only host of its play."""

from __future__ import annotations

DOCUMENTATION = r"""
name: per_image
short_description: Builds each image as if it were the only host of the play
version_added: "1.0.0"
description:
  - Works like P(ansible.builtin.host_pinned#strategy), for plays that build images with the role P(hyperscaler.images.image#role).
  - C(meta) tasks C(end_host), C(end_play) and C(end_batch) of a role end the provisioning of the image that meets them. The image is then sealed as usual.
  - C(run_once) and C(any_errors_fatal) apply to each image by itself, and C(pause) and C(add_host) can be used.
  - Handlers run for the image whose role notified them, with the variables of that role, also when other images have roles with handlers of the same name.
  - Roles are also searched for in C(roles) of the current directory and beside the inventory.
  - The roles that an image has reached are recorded in its variable C(__image_reached).
author:
  - hyperscaler.images contributors (@hyperscaler)
"""

import contextlib
import typing as t
from pathlib import Path

from ansible import constants, context
from ansible.errors import AnsibleError
from ansible.playbook.handler import Handler
from ansible.plugins.loader import action_loader
from ansible.plugins.strategy.host_pinned import StrategyModule as HostPinned
from ansible_collections.hyperscaler.images.plugins.plugin_utils._role_promises import ENDING, SYNCHRONIZE, into_itself, refused_arguments

FOR_ALL_HOSTS = ("clear_facts", "clear_host_errors")
FOR_EACH_HOST = ("add_host", "pause")
# The variable of the loop over image_roles: tasks that see it were reached from a role of the image.
ROLE = "__image_role"
# The task behind the last role carries it.
ROLES_END = "__image_roles_end"


class StrategyModule(HostPinned):
    """Run the tasks of each host without regard to the other hosts."""

    def __init__(self, tqm: t.Any) -> None:
        super().__init__(tqm)
        self._subject: t.Any = None
        self._reached: dict[str, list[str]] = {}

    def run(self, iterator: t.Any, play_context: t.Any, result: t.Any = 0) -> t.Any:  # noqa: ARG002 (Ansible gives it to the class below only)
        """Run the play."""
        reason = refused_arguments(context.CLIARGS)
        if reason:
            raise AnsibleError(f"Cannot build images with {reason}")
        advance = iterator.get_next_task_for_host

        def next_task(host: t.Any, peek: bool = False) -> tuple[t.Any, t.Any]:
            state, task = advance(host, peek=peek)
            if task is not None:
                # For a play of one host they mean nothing; here, they would warn, and fail the other images.
                task.run_once = False
                task.any_errors_fatal = False
            return state, task

        iterator.get_next_task_for_host = next_task
        sources: t.Iterable[str] = self._inventory._sources  # type: ignore[attr-defined] # It is an InventoryManager, which Ansible's hints do not say.
        with _roles_path(sources), _for_each_host():
            return super().run(iterator, play_context)

    def add_tqm_variables(self, vars: dict[str, t.Any], play: t.Any) -> None:
        """Tell tasks that each image is independent of the others, and where roles are searched for."""
        super().add_tqm_variables(vars, play)
        vars["__image_independent"] = True
        vars["__image_roles_path"] = list(constants.DEFAULT_ROLES_PATH)  # type: ignore[attr-defined]

    def _queue_task(self, host: t.Any, task: t.Any, task_vars: dict[str, t.Any], play_context: t.Any) -> None:
        if ROLE in task_vars:
            if task.action in SYNCHRONIZE and not into_itself(task.delegate_to):
                task = task.copy()
                task.action = "ansible.builtin.fail"
                task.args = {"msg": "Cannot run synchronize inside an image: rsync would look for a machine of that name. Use ansible.builtin.copy."}
            self._record(host, task)
        super()._queue_task(host, task, task_vars, play_context)

    def _record(self, host: t.Any, task: t.Any) -> None:
        """Note the role of a task as reached by a host."""
        reached = self._reached.setdefault(host.name, [])
        role = task._role
        if role is None:
            return
        name = role.get_name(include_role_fqcn=True) if role._role_collection else role._role_path
        if name not in reached and name != "hyperscaler.images.image":
            reached.append(name)
            self._variable_manager.set_nonpersistent_facts(host.name, {"__image_reached": list(reached)})

    def _execute_meta(self, task: t.Any, play_context: t.Any, iterator: t.Any, target_host: t.Any) -> t.Any:
        self._subject = target_host
        action = task._get_meta()
        if action in ENDING and self._is_met(task, iterator, target_host) and self._skip_roles(iterator, target_host):
            self._display.display(f"{target_host.name}: {action} ended the provisioning")
            return []
        if action == "flush_handlers" and iterator.is_failed(target_host):
            # With force_handlers they would run in an image that was closed.
            _forget_handlers(iterator, target_host)
        if action not in FOR_ALL_HOSTS:
            return super()._execute_meta(task, play_context, iterator, target_host)
        hosts = iterator._play.hosts
        iterator._play.hosts = [target_host.name]
        try:
            return super()._execute_meta(task, play_context, iterator, target_host)
        finally:
            iterator._play.hosts = hosts

    def _is_met(self, task: t.Any, iterator: t.Any, host: t.Any) -> bool:
        """Whether the condition of a task of a role is met."""
        variables = self._variable_manager.get_vars(play=iterator._play, host=host, task=task, _hosts=self._hosts_cache, _hosts_all=self._hosts_cache_all)
        return ROLE in variables and (not task.when or bool(task._resolve_conditional(task.when, variables)))

    def _skip_roles(self, iterator: t.Any, host: t.Any) -> bool:
        """Leave out all tasks up to the one behind the last role; nothing changes when there is none."""
        before = iterator.get_host_state(host)
        while True:
            state, task = iterator.get_next_task_for_host(host, peek=True)
            if task is None:
                iterator.set_state_for_host(host.name, before)
                return False
            if ROLES_END in task.vars:
                break
            iterator.set_state_for_host(host.name, state)
        # On a machine, too, what was notified before the end of the play does not run.
        _forget_handlers(iterator, host)
        return True

    def _copy_included_file(self, included_file: t.Any) -> t.Any:
        copied: t.Any = super()._copy_included_file(included_file)
        copied.image_hosts = list(included_file._hosts)
        return copied

    def _process_pending_results(self, iterator: t.Any, one_pass: bool = False, max_passes: int | None = None) -> list[t.Any]:
        """One result after the other, to know whose notifications are looked at."""
        processed: list[t.Any] = []
        while self._results:
            self._subject = self._results[0].host
            processed += super()._process_pending_results(iterator, one_pass=True)
            if one_pass or (max_passes is not None and len(processed) >= max_passes):
                break
        return processed

    def search_handlers_by_notification(self, notification: str, iterator: t.Any) -> t.Generator[Handler, None, None]:
        """The handlers of the play and of the roles that the host itself has included."""
        blocks = iterator._play.handlers
        iterator._play.handlers = [block for block in blocks if _is_for(block, self._subject)]
        try:
            found = list(super().search_handlers_by_notification(notification, iterator))
        finally:
            iterator._play.handlers = blocks
        yield from found


def _forget_handlers(iterator: t.Any, host: t.Any) -> None:
    """Run none of the handlers that a host has notified."""
    iterator.get_state_for_host(host.name).handler_notifications.clear()
    for handler in iterator.handlers:
        if handler.is_host_notified(host):
            handler.remove_host(host)


def _is_for(block: t.Any, host: t.Any) -> bool:
    """Whether a block of handlers was brought by a role that this host has included, or belongs to the whole play."""
    parent = block
    while parent is not None:
        hosts = getattr(parent, "image_hosts", None)
        if hosts is not None:
            return host in hosts
        parent = parent._parent
    return True


@contextlib.contextmanager
def _for_each_host() -> t.Iterator[None]:
    """Let actions that otherwise run once for all hosts run for the host that meets them."""
    # The loader has classes of its own: those that an import gives are others.
    actions = [action_loader.get(name, class_only=True) for name in FOR_EACH_HOST]
    for action in actions:
        action.BYPASS_HOST_LOOP = False
    try:
        yield
    finally:
        for action in actions:
            action.BYPASS_HOST_LOOP = True


def role_folders(sources: t.Iterable[str], current: Path) -> list[str]:
    """The folders of roles in the current directory and beside the inventory."""
    places = [current]
    for source in sources:
        path = Path(source)
        if path.exists():
            places += [path, path.parent] if path.is_dir() else [path.parent]
    return list(dict.fromkeys(str(place.resolve() / "roles") for place in places if (place / "roles").is_dir()))


@contextlib.contextmanager
def _roles_path(sources: t.Iterable[str]) -> t.Iterator[None]:
    """Search for roles also there, for the time of the play."""
    configured: list[str] = constants.DEFAULT_ROLES_PATH  # type: ignore[attr-defined]
    added = [folder for folder in role_folders(sources, Path.cwd()) if folder not in configured]
    configured.extend(added)
    try:
        yield
    finally:
        for folder in added:
            configured.remove(folder)
