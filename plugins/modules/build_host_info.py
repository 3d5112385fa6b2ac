#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: build_host_info
short_description: Check that a build host has the tools, the disk space and the memory to build images
version_added: "1.0.0"
description:
  - Looks for every program and every library of Python that building needs, and for free disk space and memory, before anything is changed.
  - Everything that is missing is told in one message, with the packages to install.
extends_documentation_fragment:
  - hyperscaler.images._attributes
  - hyperscaler.images._attributes.linux
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  tools:
    description: The programs that are needed.
    type: list
    elements: dict
    required: true
    suboptions:
      program:
        description: The name of the program.
        type: str
        required: true
      package:
        description: The Debian package that has it.
        type: str
        required: true
      reason:
        description: What it is needed for. The text completes "is required to".
        type: str
        required: true
      minimum:
        description: The lowest version that will do, such as V(5.1). Any version does by default.
        type: str
  libraries:
    description: The libraries of Python that modules need on this machine, in the Python that runs them.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name that Python imports it by.
        type: str
        required: true
      package:
        description: The Debian package that has it.
        type: str
        required: true
      reason:
        description: What it is needed for. The text completes "is required to".
        type: str
        required: true
  folder:
    description: The folder whose file system must have O(space) free. It need not exist yet.
    type: path
    required: true
  space:
    description: The free disk space that is needed, in MiB.
    type: int
    default: 0
  memory:
    description: The memory that has to be available, in MiB.
    type: int
    default: 0
author:
  - hyperscaler.images contributors (@hyperscaler)
"""

EXAMPLES = r"""
- name: Check the build host
  hyperscaler.images.build_host_info:
    folder: /srv/build
    space: 20480
    memory: 2048
    tools:
      - program: qemu-img
        package: qemu-utils
        reason: write disk images
        minimum: "5.1"
    libraries:
      - name: yaml
        package: python3-yaml
        reason: read the configuration of cloud-init in images
"""

RETURN = r"""
tools:
  description: Path and, where a minimum was asked for, version of each program.
  returned: success
  type: dict
free_space:
  description: The free space of the file system of O(folder), in MiB.
  returned: success
  type: int
available_memory:
  description: The available memory, in MiB.
  returned: success
  type: int
mirror_lists:
  description: The mirror lists of Debian's cloud images, C(path) and C(content), with the mirrors that this machine uses, without passwords.
    Empty when it uses none of Debian.
  returned: success
  type: list
  elements: dict
apt_settings:
  description:
    - The apt settings of this machine that tell how it reaches its mirror, as lines of C(apt.conf), without passwords.
    - They have what a program that finds out the proxy answered for its mirrors, and the proxies of the environment.
  returned: success
  type: list
  elements: str
uefi_firmware:
  description: The UEFI firmware of this machine, C(code) and C(variables). Empty when there is none.
  returned: success
  type: dict
msg:
  description: The answer, as a sentence.
  returned: success
  type: str
  sample: This machine can build images.
"""

import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_access import read_settings
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_failure import without_password
from ansible_collections.hyperscaler.images.plugins.module_utils._build_host import available_memory, find_tools, free_space, shortage
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, ToolError
from ansible_collections.hyperscaler.images.plugins.module_utils._open_files import host_addresses, host_mirror_lists
from ansible_collections.hyperscaler.images.plugins.module_utils._qemu_guest import find_firmware


def uefi_firmware() -> dict[str, str]:
    """The files of the UEFI firmware."""
    try:
        found = find_firmware("uefi")
    except ToolError:
        found = None
    return {"code": str(found.code), "variables": str(found.variables)} if found else {}


def main() -> t.NoReturn:
    tool = {
        "program": {"type": "str", "required": True},
        "package": {"type": "str", "required": True},
        "reason": {"type": "str", "required": True},
        "minimum": {"type": "str"},
    }
    library = {name: {"type": "str", "required": True} for name in ("name", "package", "reason")}
    module = AnsibleModule(
        argument_spec={
            "tools": {"type": "list", "elements": "dict", "required": True, "options": tool},
            "libraries": {"type": "list", "elements": "dict", "default": [], "options": library},
            "folder": {"type": "path", "required": True},
            "space": {"type": "int", "default": 0},
            "memory": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    try:
        tools, missing = find_tools(module.params["tools"], module.params["libraries"])
        free, memory = free_space(Path(module.params["folder"])), available_memory()
        problems = [*missing, *shortage(module.params["folder"], free, module.params["space"], memory, module.params["memory"])]
        if problems:
            raise ImageError("This machine cannot build images yet: " + " ".join(problems), problems=problems)
        lists = host_mirror_lists()
        settings = read_settings(host_addresses(lists))
    except ImageError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(
        changed=False,
        msg="This machine can build images.",
        tools=tools,
        free_space=free,
        available_memory=memory,
        mirror_lists=[{"path": path, "content": without_password(content)} for path, content in lists],
        apt_settings=[f'{name} "{without_password(value)}";' for name, value in settings.items()],
        uefi_firmware=uefi_firmware(),
    )


if __name__ == "__main__":
    main()
