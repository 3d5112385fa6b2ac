# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show what Packer does while it does it, when it runs on the controller; otherwise just run the module."""

from __future__ import annotations

import contextlib
import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.hyperscaler.images.plugins.plugin_utils._shown_lines import shown_lines


class ActionModule(ActionBase):
    """Give the module a named pipe for its progress and print what comes out of it."""

    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the module and show its lines."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        with contextlib.ExitStack() as stack:
            if self._is_shown(arguments):
                arguments["progress_file"] = stack.enter_context(shown_lines(self._display.display))
            result: dict[str, t.Any] = self._execute_module(
                module_name="hyperscaler.images.packer_build", module_args=arguments, task_vars=task_vars, wrap_async=self._task.async_val
            )
        return result

    def _is_shown(self, arguments: dict[str, t.Any]) -> bool:
        here = self._connection.transport == "local" and not self._task.async_val and not self._task.no_log
        return here and not arguments.get("progress_file")
