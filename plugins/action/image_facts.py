# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gather facts inside an image and let them describe the machine that it will be."""

from __future__ import annotations

import shlex
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.text.formatters import human_to_bytes
from ansible.plugins.action import ActionBase
from ansible_collections.hyperscaler.images.plugins.module_utils._image_facts import PROBE, Machine, Probed, describe

ARGUMENTS = {
    "cpus": {"type": "int", "default": 2},
    "memory": {"type": "int", "default": 2048},
    "disk_size": {"type": "str", "required": True},
}
# The inventories of other tools would describe the build host.
SUBSETS = ["all", "!facter", "!ohai"]


class ActionModule(ActionBase):
    """Run setup inside, and replace what describes the build host."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """The facts of the image."""
        super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)
        try:
            disk_size = human_to_bytes(arguments["disk_size"], default_unit="B")
        except ValueError:
            raise AnsibleActionFail(f"Cannot describe the image: disk_size is {arguments['disk_size']!r}, which is no size. Give one such as 20G.") from None
        result: dict[str, t.Any] = self._execute_module(module_name="ansible.builtin.setup", module_args={"gather_subset": SUBSETS}, task_vars=task_vars)
        if result.get("failed"):
            return result
        probe = self._low_level_execute_command(f"/bin/sh -c {shlex.quote(PROBE)}")
        if probe["rc"] != 0:
            raise AnsibleActionFail(f"Cannot describe the image: its kernels, boot menu and fstab cannot be read. {probe['stderr'].strip()}")
        machine = Machine(cpus=arguments["cpus"], memory=arguments["memory"], disk_size=disk_size)
        result["ansible_facts"] = describe(result["ansible_facts"], Probed.from_output(probe["stdout"]), machine)
        return result
