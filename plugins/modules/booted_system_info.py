#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: booted_system_info
short_description: Look at a system on its first boot from an image
version_added: "1.0.0"
author:
  - hyperscaler.images contributors (@hyperscaler)
description:
  - Waits until cloud-init and the boot have ended, and looks whether the system came up as a system from a sealed image should.
  - Everything is done in one call, because each call takes many seconds on an emulated guest.
  - Checks that fail are data, not errors of the module.
requirements:
  - systemd
extends_documentation_fragment:
  - hyperscaler.images._attributes
  - hyperscaler.images._attributes.linux
attributes:
  check_mode:
    support: full
  diff_mode:
    support: N/A
    details: Changes nothing.
  idempotent:
    support: full
options:
  timeout:
    description: How many seconds to wait for cloud-init, and again for the end of the boot.
    type: int
    default: 300
  allowed:
    description:
      - Units that may fail, and that may leave the system degraded, because they need hardware that a virtual machine lacks.
      - One that does not fail is named in the check V(units), so that it does not hide a later failure. Every other check stays.
    type: list
    elements: dict
    default: []
    suboptions:
      unit:
        description: The name of the unit, for instance V(nvidia-persistenced.service). Shell patterns are understood.
        type: str
        required: true
      reason:
        description: Why the image may be published with it. It is returned in RV(checks).
        type: str
        required: true
seealso:
  - module: hyperscaler.images.qemu_guest
"""

EXAMPLES = r"""
- name: Look at the guest
  hyperscaler.images.booted_system_info:
  register: booted

- name: Every check has passed
  ansible.builtin.assert:
    that: booted.passed
    fail_msg: "{{ booted.msg }}"

- name: Look at a guest without the card that a service needs
  hyperscaler.images.booted_system_info:
    allowed:
      - unit: rdma-load-modules@infiniband.service
        reason: The virtual machine has no InfiniBand card.
"""

RETURN = r"""
passed:
  description: Whether all checks passed.
  returned: success
  type: bool
checks:
  description:
    - The checks with a sentence each.
    - V(cloud_init) is done without errors (errors that it recovered from are named, and pass); V(units) the system is running and no unit failed;
      V(machine_id) is set; V(host_keys) SSH host keys are there and were made on this boot; V(root_grown) the root file system fills the disk;
      V(image_document) C(/etc/hyperscaler-image.json) is readable.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name of the check.
      type: str
      sample: units
    passed:
      description: Whether it passed.
      type: bool
    detail:
      description: What was found.
      type: str
      sample: The system is running; no unit failed.
system:
  description: What was found, as data.
  returned: success
  type: dict
  contains:
    cloud_init:
      description: The status document of cloud-init; null when it is not installed.
      type: dict
    system_state:
      description: The state of the system as systemd names it.
      type: str
      sample: running
    failed_units:
      description: The units that failed, with the last lines of their journal.
      type: list
      elements: dict
    machine_id:
      description: The machine id.
      type: str
    boot_time:
      description: The time of the boot in seconds since 1970.
      type: float
    kernel:
      description: The release of the running kernel.
      type: str
    firmware:
      description: The firmware that started the system, V(bios) or V(uefi).
      type: str
    host_keys:
      description: The SSH host keys with type, fingerprint and time of creation.
      type: list
      elements: dict
    root:
      description: The sizes of root file system, partition and disk in bytes.
      type: dict
    image:
      description: The content of C(/etc/hyperscaler-image.json).
      type: dict
    image_error:
      description: Why that cannot be read; empty when it can.
      type: str
msg:
  description: The checks that failed, or that all passed.
  returned: always
  type: str
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hyperscaler.images.plugins.module_utils._booted_system import AllowedUnit, inspect_system, judge, require_reasons
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError

ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "timeout": {"type": "int", "default": 300},
    "allowed": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"unit": {"type": "str", "required": True}, "reason": {"type": "str", "required": True}},
    },
}


def main() -> t.NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    allowed = [AllowedUnit(**entry) for entry in module.params["allowed"]]
    try:
        require_reasons(allowed)
        system = inspect_system(module.params["timeout"])
        checks = judge(system, allowed)
        failed = [check for check in checks if not check.passed]
        msg = " ".join(check.detail for check in failed) if failed else f"All {len(checks)} checks passed."
        module.exit_json(changed=False, msg=msg, passed=not failed, checks=[check._asdict() for check in checks], system=system.to_dict())
    except ImageError as error:
        module.fail_json(msg=str(error), **error.details)


if __name__ == "__main__":
    main()
