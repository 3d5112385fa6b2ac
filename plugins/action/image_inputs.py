# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read on the controller what shapes an image: the files of its roles and their variables."""

from __future__ import annotations

import hashlib
import typing as t
from pathlib import Path

import yaml
from ansible import constants
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.collection_loader._collection_finder import _get_collection_role_path
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact import merge
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_lock import read_lock
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_record import settings_from
from ansible_collections.hyperscaler.images.plugins.module_utils._image_inputs import without_secrets

DATA = Path(__file__).resolve().parents[2] / "playbooks" / "vars"

OWN_ROLES = ("base_image", "image", "seal")
UNREAD = frozenset({"__pycache__", "README.md", "meta/argument_specs.yml"})
MODULE_FOLDERS = ("action", "connection", "module_utils", "modules")


class ActionModule(ActionBase):
    """Collect the inputs and let the module judge them on the build host."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Add what was collected and run the module."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        collection = Path(__file__).resolve().parents[2]
        collected = {
            "roles": {name: self._role(name, variables) for name in self._task.args.get("roles", [])},
            "builder": {
                "plugins": tree_digest(*(collection / "plugins" / folder for folder in MODULE_FOLDERS)),
                **{f"role {name}": tree_digest(collection / "roles" / name) for name in OWN_ROLES},
            },
        }
        arguments = {**self._task.args, "collected": collected}
        result: dict[str, t.Any] = self._execute_module(module_name="hyperscaler.images.image_inputs", module_args=arguments, task_vars=task_vars)
        return result

    def _role(self, name: str, variables: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        prefix = name.rpartition(".")[2] + "_"
        read = {key: without_secrets(key, self._value(variables[key])) for key in sorted(variables) if key.startswith(prefix)}
        return {
            "files": {role: tree_digest(path) for role, path in sorted(self._with_dependencies(name, {}).items())},
            "variables": {**read, **self._artefacts(name.rpartition(".")[2], variables)},
        }

    def _artefacts(self, role: str, variables: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """Where the third-party components of a role come from, and what is locked of them."""
        settings = settings_from({key: self._value(variables[key]) for key in variables if key.startswith("artefact_")}, DATA)
        locked = read_lock(Path(settings.lock))
        catalogue = yaml.safe_load((DATA / "artefacts.yml").read_text(encoding="utf-8"))["artefact_catalogue"]
        described = {name: merge(entry, settings.sources.get(name, {})) for name, entry in catalogue.items() if entry["role"] == role}
        return {f"artefact {name}": {"source": entry, "locked": str(locked.get(name, ""))} for name, entry in described.items()}

    def _value(self, raw: t.Any) -> t.Any:
        """The value of a variable; one that cannot be resolved yet counts as it is written."""
        try:
            return self._templar.template(raw)
        except AnsibleError:
            return str(raw)

    def _with_dependencies(self, name: str, found: dict[str, Path]) -> dict[str, Path]:
        """The folders of a role and of the roles that its meta/main.yml depends on."""
        if name in found:
            return found
        found[name] = self._role_path(name)
        meta = found[name] / "meta" / "main.yml"
        document = yaml.safe_load(meta.read_text(encoding="utf-8")) if meta.is_file() else None
        for dependency in (document or {}).get("dependencies") or []:
            inner = dependency if isinstance(dependency, str) else dependency.get("role") or dependency.get("name")
            if inner:
                self._with_dependencies(str(inner), found)
        return found

    def _role_path(self, name: str) -> Path:
        in_collection = _get_collection_role_path(name, self._task.collections)
        if in_collection:
            return Path(in_collection[1])
        folders = [
            Path(self._loader.get_basedir()) / "roles",
            *(Path(folder).expanduser() for folder in constants.DEFAULT_ROLES_PATH),  # type: ignore[attr-defined]
        ]
        for folder in folders:
            if (folder / name).is_dir():
                return folder / name
        raise AnsibleActionFail(
            f"Cannot find role {name} of the image: it is in no collection and in none of {', '.join(str(folder) for folder in folders)}. "
            "Correct image_roles or install the role."
        )


def tree_digest(*folders: Path) -> str:
    """A digest over the names and contents of the files below some folders; documentation does not count."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and name not in UNREAD and UNREAD.isdisjoint(path.parts):
                digest.update(f"{name}\0{path.stat().st_mode & 0o111:o}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
