# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse, before an image is opened, what would not mean inside it what it means on a machine."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible import constants, context
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.collection_loader._collection_finder import _get_collection_role_path
from ansible_collections.hyperscaler.images.plugins.plugin_utils._former_names import former_name
from ansible_collections.hyperscaler.images.plugins.plugin_utils._role_promises import refusal, refused_arguments, roles_of, tasks_of

INIT = ("none", "systemd")


class ActionModule(ActionBase):
    """Read the roles on the controller; nothing runs anywhere else."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Fail with a sentence, or say how the roles can be applied."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        _validated, arguments = self.validate_argument_spec(argument_spec={"roles": {"type": "list", "elements": "str", "default": []}})
        reason = refused_arguments(context.CLIARGS)
        if reason:
            raise AnsibleActionFail(f"Cannot build images with {reason}")
        self._name = str(variables.get("inventory_hostname"))
        former = former_name(arguments["roles"], variables)
        if former:
            raise AnsibleActionFail(f"Cannot build {self._name}: {former}.")
        self._independent = "__image_independent" in variables
        self._seen: set[Path] = set()
        declared = {}
        for name in arguments["roles"]:
            path = self._find(name, [])
            if path is not None:
                self._check(name, path)
                declared[name] = self._declared(path)
        started = [name for name in declared if declared[name] != "none"]
        return {"changed": False, "needs_init": started, "msg": f"{len(self._seen)} roles can be applied in an image."}

    def _check(self, name: str, path: Path) -> None:
        """Check a role and all that it takes."""
        if path in self._seen:
            return
        self._seen.add(path)
        tasks = []
        for file in sorted([*path.glob("tasks/**/*.y*ml"), *path.glob("handlers/**/*.y*ml")]):
            for task in tasks_of(self._read(file)):
                reason = refusal(task, self._independent)
                if reason:
                    raise AnsibleActionFail(f"Cannot build {self._name}: role {name}, {file}, task {task.get('name', 'without a name')!r}: {reason}.")
                tasks.append(task)
        for inner in roles_of(tasks, self._read(path / "meta" / "main.yml")):
            found = self._find(inner, [path.parent])
            if found is not None:
                self._check(inner, found)

    def _declared(self, path: Path) -> str:
        """What a role says in meta/image.yml about the init that it needs."""
        data = self._read(path / "meta" / "image.yml") or {}
        init = str(data.get("init", "systemd")) if isinstance(data, dict) else ""
        if init not in INIT:
            raise AnsibleActionFail(f"Cannot build {self._name}: {path}/meta/image.yml must be a dictionary whose init is none or systemd.")
        return init

    def _read(self, file: Path) -> t.Any:
        """A YAML file; what cannot be read says so when it is used."""
        try:
            return self._loader.load_from_file(str(file), cache="none") if file.is_file() else None
        except AnsibleError:
            return None

    def _find(self, name: str, beside: list[Path]) -> Path | None:
        in_collection = _get_collection_role_path(name, self._task.collections)
        if in_collection:
            return Path(in_collection[1])
        base = Path(self._loader.get_basedir())
        named = [Path(folder).expanduser() for folder in constants.DEFAULT_ROLES_PATH]  # type: ignore[attr-defined]
        for folder in [base / "roles", *named, *beside, base]:
            if (folder / name).is_dir():
                return folder / name
        if not beside:
            searched = ", ".join(str(folder) for folder in [base / "roles", *named])
            raise AnsibleActionFail(
                f"Cannot build {self._name}: role {name} was not found in a collection or in {searched}. Correct image_roles, install the role, "
                "or name its folder: write 'roles_path = FOLDER' below [defaults] in ansible.cfg, or set ANSIBLE_ROLES_PATH=FOLDER."
            )
        return None
