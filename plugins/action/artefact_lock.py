# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell the module of the same name where the lock file of the project is."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.plugin_utils._project import project_lock


class ActionModule(ActionBase):
    """Fill in the path."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the module."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = dict(self._task.args)
        if not arguments.get("path"):
            try:
                named = {"artefact_lock": self._templar.template(variables.get("artefact_lock", ""))}
                arguments["path"] = str(project_lock(named, variables))
            except ImageError as error:
                raise AnsibleActionFail(str(error)) from None
        result: dict[str, t.Any] = self._execute_module(module_name="hyperscaler.images.artefact_lock", module_args=arguments, task_vars=variables)
        return result
