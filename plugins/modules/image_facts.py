#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: image_facts
short_description: Gather facts that describe an opened image as the machine that it will be
version_added: "1.0.0"
author:
  - hyperscaler.images contributors (@hyperscaler)
description:
  - Runs M(ansible.builtin.setup) inside an opened image and replaces what describes the build host.
  - The kernel is the newest one in C(/lib/modules), the service manager is systemd, and processors, memory and disk are those of the image.
  - The network is the one that QEMU gives a guest by default, the boot command line is the one of the boot menu, and the hardware is that of a virtual
    machine under KVM.
  - Everything else, such as the distribution and the packages, is what the image has.
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
  cpus:
    description: The processors of the machine that will boot the image.
    type: int
    default: 2
  memory:
    description: Its memory in MiB.
    type: int
    default: 2048
  disk_size:
    description: The size of its disk, such as V(20G).
    type: str
    required: true
notes:
  - This is an action plugin. It needs the connection P(hyperscaler.images.image#connection), or another one into the root of an image.
seealso:
  - module: ansible.builtin.setup
  - module: hyperscaler.images.image_root
"""

EXAMPLES = r"""
- name: Gather facts of the image
  hyperscaler.images.image_facts:
    cpus: 4
    memory: 8192
    disk_size: 20G
"""

RETURN = r"""
ansible_facts:
  description: The facts, named as M(ansible.builtin.setup) names them.
  returned: success
  type: dict
  sample: {ansible_service_mgr: systemd, ansible_kernel: 6.12.48+deb13-amd64, ansible_processor_vcpus: 4}
msg:
  description: Why the facts cannot be gathered.
  returned: failure
  type: str
"""
