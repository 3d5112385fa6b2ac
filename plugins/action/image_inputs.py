# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read on the controller what shapes an image: its roles with all that they take and read, and whether a missing component can be had."""

from __future__ import annotations

import base64
import contextlib
import json
import typing as t
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.collection_loader import AnsibleCollectionConfig
from ansible.utils.vars import load_extra_vars
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_record import Settings, is_setting, settings_from
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._image_inputs import MANIFEST, answer
from ansible_collections.hyperscaler.images.plugins.plugin_utils._components import can_be_had, component_digests, component_paths, locked_otherwise
from ansible_collections.hyperscaler.images.plugins.plugin_utils._image_sources import Host, sources_of
from ansible_collections.hyperscaler.images.plugins.plugin_utils._input_variables import own_variables
from ansible_collections.hyperscaler.images.plugins.plugin_utils._project import project_lock
from ansible_collections.hyperscaler.images.plugins.plugin_utils._role_reach import Reach, Reached, role_name
from ansible_collections.hyperscaler.images.plugins.plugin_utils._role_search import RoleSearch
from ansible_collections.hyperscaler.images.plugins.plugin_utils._scope import Scope, UnresolvedError, scope_of_role
from ansible_collections.hyperscaler.images.plugins.plugin_utils._source_tree import path_digest, read_role, tree_digest

COLLECTION = Path(__file__).resolve().parents[2]
DATA = COLLECTION / "playbooks" / "vars"
# The roles of the build itself: they are code of the collection, whatever an image is made of.
OWN_ROLES = ("base_image", "image", "seal")
AROUND_ROLES = frozenset({*OWN_ROLES, "builder"})
CODE = ("action", "connection", "filter", "lookup", "module_utils", "modules", "plugin_utils", "strategy")


class ActionModule(ActionBase):
    """Collect the inputs and let the module judge them on the build host."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Add what was collected and run the module."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        manifest = self._manifest(variables)
        try:
            return self._judge(variables, manifest)
        except ImageError as error:
            raise AnsibleActionFail(str(error)) from None
        except OSError as error:
            raise AnsibleActionFail(f"Cannot read {error.filename}, which shapes the image: {error.strerror}. Correct its permissions.") from None

    def _judge(self, variables: dict[str, t.Any], manifest: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        scope = Scope(self._templar, variables)
        values = _resolved(scope, [key for key in variables if is_setting(key)])
        settings = settings_from(values, project_lock(values, variables))
        reached = self._reach(variables, [str(name) for name in manifest.get("inputs", {}).get("reached") or []])
        names = {role.path.name for role in reached.roles.values()}
        sources, guessed = sources_of(reached, read_role(COLLECTION / "roles" / "seal"), self._host(variables, scope), self._base, self._collection_folders())
        files = {path: path_digest(Path(path)) for path in component_paths(settings, DATA, names) if Path(path).exists()}
        secret = {
            "variables": sources.variables,
            "groups": sources.groups,
            "components": component_digests(settings, DATA, names),
            "controller_files": {**sources.controller_files, **files},
        }
        collected = {
            "roles": sources.roles,
            "collections": sources.collections,
            "guessed": guessed,
            "builder": self._builder(),
        }
        arguments = {**self._task.args, "collected": collected, "digests": json.dumps(secret)}
        result: dict[str, t.Any] = self._execute_module(module_name="hyperscaler.images.image_inputs", module_args=arguments, task_vars=variables)
        return self._with_components(result, manifest, settings)

    def _with_components(self, result: dict[str, t.Any], manifest: t.Mapping[str, t.Any], settings: Settings) -> dict[str, t.Any]:
        """An image that is up to date is stale all the same when the lock says otherwise, or something can be had that it had to be made without."""
        components = [entry for entry in manifest.get("components") or [] if isinstance(entry, dict)]
        missing = [str(entry.get("component")) for entry in components if entry.get("state") == "missing"]
        result = {**result, "missing": missing, "artefact_lock": settings.lock}
        if result.get("failed") or result.get("stale") or self._task.args.get("rebuild", "auto") != "auto":
            return result
        reasons = [f"what is locked of {name} changed" for name in locked_otherwise(components, settings, DATA)]
        reasons += [f"{name} was missing and can be had now" for name in can_be_had(missing, settings, DATA)]
        return {**result, **answer(Path(str(self._task.args["output"])).name, ", ".join(reasons))}

    def _reach(self, variables: dict[str, t.Any], recorded: t.Sequence[str]) -> Reached:
        extra = load_extra_vars(self._loader)
        reach = Reach(RoleSearch(self._base, self._task.collections or []), lambda role: scope_of_role(role, self._templar, variables, extra), self._base)
        return reach.follow([str(name) for name in self._task.args.get("roles", [])], [name for name in recorded if not _is_around(name)])

    def _builder(self) -> dict[str, str]:
        roles = {f"role {name}": read_role(COLLECTION / "roles" / name).digest for name in OWN_ROLES}
        return {"plugins": tree_digest(*(COLLECTION / "plugins" / folder for folder in CODE)), **roles}

    @property
    def _base(self) -> Path:
        return Path(self._loader.get_basedir())

    def _host(self, variables: dict[str, t.Any], scope: Scope) -> Host:
        hostvars, groups = variables.get("hostvars", {}), variables.get("groups", {})
        raw = getattr(hostvars, "raw_get", lambda name: hostvars.get(name, {}))
        members = {str(name): [str(host) for host in hosts] for name, hosts in groups.items()}
        return Host(scope, own_variables(COLLECTION), members, str(variables.get("inventory_hostname", "")), raw)

    def _collection_folders(self) -> list[str]:
        return [str(folder) for folder in AnsibleCollectionConfig.collection_paths]

    def _manifest(self, variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """What is recorded of the image that is there; nothing for one that cannot be read, of which the module tells."""
        path = Path(str(self._task.args.get("output"))) / MANIFEST
        try:
            if self._connection.transport == "local":
                text = path.read_text(encoding="utf-8") if path.is_file() else "{}"
            else:
                read = self._execute_module(module_name="ansible.builtin.slurp", module_args={"src": str(path)}, task_vars=variables)
                text = base64.b64decode(read["content"]).decode("utf-8") if "content" in read else "{}"
            manifest = json.loads(text)
        except (OSError, ValueError):
            return {}
        return manifest if isinstance(manifest, dict) else {}


def _resolved(scope: Scope, names: t.Iterable[str]) -> dict[str, t.Any]:
    """The values of variables; one that needs the image has none yet."""
    found = {}
    for name in names:
        with contextlib.suppress(UnresolvedError):
            found[name] = scope.value(scope.variables[name])
    return found


def _is_around(name: str) -> bool:
    """Whether a recorded role is one of the build itself."""
    return role_name(Path(name)) in {f"hyperscaler.images.{role}" for role in AROUND_ROLES}
