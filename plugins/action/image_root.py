# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell the module image_root which run opens the image; only the controller knows that."""

from __future__ import annotations

import os
import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.hyperscaler.images.plugins.module_utils._process import ProcessIdentity


class ActionModule(ActionBase):
    """Run the module with the process of this run as owner."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Add the owner and run the module."""
        super().run(tmp, task_vars)
        run = ProcessIdentity.of(os.getppid())
        arguments = {"owner": run.to_dict() if run else None, **self._task.args}
        result: dict[str, t.Any] = self._execute_module(module_name="hyperscaler.images.image_root", module_args=arguments, task_vars=task_vars)
        return result
