#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pci_passthrough_info
short_description: Tell whether PCI devices of a host can be given to a virtual machine
version_added: "1.0.0"
author:
  - hyperscaler.images contributors (@hyperscaler)
description:
  - Reads IOMMU groups, drivers and the kernel command line, and says for each device what is missing and how to mend it. It changes nothing.
  - A device can be given to a machine when the kernel uses an IOMMU, the device has the driver vfio-pci, and everything else in its IOMMU group is given to the
    same machine, is a bridge, or has no driver of the host.
  - What is missing is data, not an error of the module.
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
  devices:
    description:
      - Addresses of PCI devices that one machine is to get, as C(lspci -D) prints them. The domain may be left out when it is V(0000).
      - All NVIDIA GPUs by default.
    type: list
    elements: str
    default: []
  programs:
    description: Programs that are needed to define the machine, for instance V(virsh). They are looked for on C(PATH).
    type: list
    elements: str
    default: []
  root:
    description: The folder that has C(sys) and C(proc), for instance a copy of those of another host.
    type: path
    default: /
"""

EXAMPLES = r"""
- name: Look at all NVIDIA GPUs
  hyperscaler.images.pci_passthrough_info:
    programs: [virsh]
  register: passthrough

- name: Require that they can be given to a machine
  ansible.builtin.assert:
    that: passthrough.ready
    fail_msg: "{{ passthrough.msg }}"

- name: Look at a GPU and its sound device
  hyperscaler.images.pci_passthrough_info:
    devices: ["0000:41:00.0", "0000:41:00.1"]
"""

RETURN = r"""
ready:
  description: Whether the host and all devices have what they need, and there is at least one device.
  returned: success
  type: bool
missing:
  description: What the host lacks for every device, a sentence each.
  returned: success
  type: list
  elements: str
devices:
  description: The devices in the order in which they were named, GPUs first.
  returned: success
  type: list
  elements: dict
  contains:
    pci_address:
      description: The address with its domain.
      type: str
      sample: "0000:41:00.0"
    vendor_id:
      description: The vendor, four hexadecimal digits.
      type: str
      sample: 10de
    device_id:
      description: The model, four hexadecimal digits.
      type: str
      sample: "20b5"
    is_gpu:
      description: Whether it is a GPU or another accelerator.
      type: bool
    driver:
      description: The driver that has it; empty when none has.
      type: str
      sample: vfio-pci
    iommu_group:
      description: The number of its IOMMU group; empty without an IOMMU.
      type: str
      sample: "27"
    group:
      description: The addresses of all devices in this group.
      type: list
      elements: str
    missing:
      description: What is missing for this device, a sentence each.
      type: list
      elements: str
msg:
  description: Everything that is missing, or that nothing is.
  returned: always
  type: str
"""

import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._pci_passthrough import missing_for, missing_on_host, read_host, wanted

ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "devices": {"type": "list", "elements": "str", "default": []},
    "programs": {"type": "list", "elements": "str", "default": []},
    "root": {"type": "path", "default": "/"},
}


def look(params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The result of the module."""
    host = read_host(Path(params["root"]))
    chosen = sorted(wanted(host, params["devices"]), key=lambda device: not device.is_gpu)
    addresses = [device.address for device in chosen]
    devices: list[dict[str, t.Any]] = [
        {
            "pci_address": device.address,
            "vendor_id": f"{device.vendor:04x}",
            "device_id": f"{device.device:04x}",
            "is_gpu": device.is_gpu,
            "driver": device.driver,
            "iommu_group": device.group,
            "group": [other.address for other in host.members(device.group)],
            "missing": missing_for(host, device, addresses),
        }
        for device in chosen
    ]
    missing = missing_on_host(host, params["programs"])
    told = [*missing, *([] if devices else ["This host has no NVIDIA GPU."]), *(text for device in devices for text in device["missing"])]
    msg = " ".join(dict.fromkeys(told)) or f"A machine can have {', '.join(addresses)}."
    return {"changed": False, "ready": not told, "missing": missing, "devices": devices, "msg": msg}


def main() -> t.NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        module.exit_json(**look(module.params))
    except ImageError as error:
        module.fail_json(msg=str(error), **error.details)


if __name__ == "__main__":
    main()
