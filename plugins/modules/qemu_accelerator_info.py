#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_accelerator_info
short_description: Find out whether guests run under KVM on this host
version_added: "1.0.0"
author:
  - hyperscaler.images contributors (@hyperscaler)
description:
  - Runs a tiny guest, once emulated and three times under KVM, because a C(/dev/kvm) that opens does not prove that guests run. KVM counts when each guest
    ends as it should, in at most half of the time that the emulated one took. KVM inside a virtual machine can be slower than emulation, or stop in a boot.
  - Says how guests are run on this host, and why.
  - Fails when KVM does not work and the QEMU of the host is too old to emulate current kernels.
requirements:
  - qemu-system-x86 (10 or newer when the host has no working KVM)
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
  accelerator:
    description:
      - V(auto) tries KVM and falls back to emulation.
      - V(kvm) fails when KVM does not work. It is not compared with emulation.
      - V(tcg) only checks that QEMU can emulate.
    type: str
    choices: [auto, kvm, tcg]
    default: auto
  cache:
    description:
      - A file that keeps the outcome for 24 hours at most.
      - The probe runs again before that after a boot of the host, with another kernel or another QEMU, when the owner or the mode of C(/dev/kvm) has changed,
        for another user and for another O(accelerator). Removing the file makes it run at once.
      - The probe runs each time by default.
    type: path
seealso:
  - module: hyperscaler.images.qemu_guest
"""

EXAMPLES = r"""
- name: Find out how guests run here
  hyperscaler.images.qemu_accelerator_info:
  register: found

- name: Show it
  ansible.builtin.debug:
    msg: "{{ found.accelerator }}: {{ found.reason }}"
"""

RETURN = r"""
accelerator:
  description: How guests run on this host, V(kvm) or V(tcg).
  returned: success
  type: str
  sample: tcg
reason:
  description: Why, as a sentence.
  returned: success
  type: str
  sample: /dev/kvm does not exist on this host. Guests are emulated (TCG) and take about 6 times as long.
patience:
  description: The factor by which time limits of guests grow. 1 under KVM, 6 when emulated, and more on a host that is slow or busy at the moment.
  returned: success
  type: int
  sample: 6
qemu_version:
  description: The version of QEMU, also when it is too old.
  returned: when QEMU was found
  type: str
  sample: 10.0.2
msg:
  description: The choice and its reason.
  returned: always
  type: str
"""

import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hyperscaler.images.plugins.module_utils._accelerator import select
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError


def main() -> t.NoReturn:
    module = AnsibleModule(
        argument_spec={
            "accelerator": {"type": "str", "choices": ["auto", "kvm", "tcg"], "default": "auto"},
            "cache": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        cache = module.params["cache"]
        # In check mode nothing is written, not even the cache.
        found = select(module.params["accelerator"], cache=Path(cache) if cache and not module.check_mode else None)
        module.exit_json(
            changed=False,
            msg=f"{found.name}: {found.reason}",
            accelerator=found.name,
            reason=found.reason,
            patience=found.patience,
            qemu_version=found.qemu_version,
        )
    except ImageError as error:
        module.fail_json(msg=str(error), **error.details)


if __name__ == "__main__":
    main()
