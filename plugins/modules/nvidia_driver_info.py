#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Module nvidia_driver_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_driver_info
short_description: Choose the NVIDIA driver that serves all GPUs of an image
version_added: "1.0.0"
description:
  - Chooses source, branch and flavour of the NVIDIA driver from the GPUs that a machine or an image must serve and the kernels that it has.
  - When no driver serves all of them, it fails and tells for each driver what speaks against it.
  - Nothing is installed and no GPU is needed.
options:
  gpus:
    description:
      - Families of GPUs that must be served, such as V(a100) or V(b200).
      - When empty, the driver that is preferred anyway is chosen.
    type: list
    elements: str
    default: []
  mig:
    description: Models of GPUs that are to be divided with MIG, such as V(a100-80gb). They must be served as well.
    type: list
    elements: str
    default: []
  source:
    description:
      - Where the packages come from.
      - V(debian) is Debian's archive, V(nvidia) NVIDIA's repository for Debian 13, V(local) a repository of your own with NVIDIA's packages.
      - V(auto) prefers Debian's archive.
    type: str
    choices: [auto, debian, nvidia, local]
    default: auto
  flavour:
    description: The kernel modules to use.
    type: str
    choices: [auto, proprietary, open]
    default: auto
  branch:
    description: The driver branch, such as V(550). V(0) leaves it open. It is needed with O(source=local).
    type: int
    default: 0
  kernels:
    description: Releases of the kernels that the driver is compiled for. When empty, those in C(/lib/modules) that have modules of their own.
    type: list
    elements: str
    default: []
  architecture:
    description: Debian's name of the processor architecture.
    type: str
    default: amd64
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
seealso:
  - module: hyperscaler.images.dkms_module
  - module: hyperscaler.images.mig_layout
author:
  - hyperscaler.images contributors (@hyperscaler)
"""

EXAMPLES = r"""
- name: Choose a driver for nodes with A100 and B200
  hyperscaler.images.nvidia_driver_info:
    gpus: [a100, b200]
  register: nvidia

- name: Say which it is
  ansible.builtin.debug:
    msg: "{{ nvidia.driver.title }}, in place of {{ nvidia.rejected | length }} others"
"""

RETURN = r"""
driver:
  description: The driver.
  returned: success
  type: dict
  contains:
    source:
      description: Where its packages come from.
      type: str
      sample: debian
    branch:
      description: Its branch.
      type: int
      sample: 550
    version:
      description: Its version; empty when the newest one of the branch is taken.
      type: str
      sample: 550.163.01
    flavour:
      description: Its kernel modules, V(proprietary) or V(open).
      type: str
      sample: proprietary
    kernel_package:
      description: The package with the sources of the kernel modules.
      type: str
      sample: nvidia-kernel-dkms
    dkms:
      description: The name of the kernel modules in DKMS.
      type: str
      sample: nvidia-current
    modules:
      description: The kernel modules that a headless machine needs.
      type: list
      elements: str
      sample: [nvidia-current, nvidia-current-uvm]
    packages:
      description: Headless tools and libraries.
      type: list
      elements: str
    cuda_package:
      description: The CUDA toolkit of the same source.
      type: str
      sample: nvidia-cuda-toolkit
    title:
      description: A name for messages.
      type: str
      sample: debian 550.163.01 proprietary
kernels:
  description: Releases of the kernels that the driver is compiled for.
  returned: success
  type: list
  elements: str
  sample: [6.12.117+deb13-cloud-amd64]
rejected:
  description: Drivers that would have been preferred, and what speaks against each.
  returned: always
  type: dict
  sample: {"debian 550.163.01 proprietary": ["b200 needs branch 570 or newer"]}
warnings_of_choice:
  description: What is worth knowing about the driver.
  returned: success
  type: list
  elements: str
msg:
  description: The driver in one sentence, or why there is none.
  returned: always
  type: str
"""

import dataclasses
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hyperscaler.images.plugins.module_utils._dkms import Places, installed_kernels
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._nvidia_resolver import DriverError, Request, resolve


def choose(params: t.Mapping[str, t.Any], places: Places) -> dict[str, t.Any]:
    """Choose a driver and return the result."""
    kernels = tuple(params["kernels"]) or installed_kernels(places)
    if not kernels:
        raise DriverError(
            f"Cannot choose an NVIDIA driver: {places.kernels} holds no kernel to compile it for. Install the kernel of the image first, for instance "
            "linux-image-cloud-amd64, or name the kernel releases."
        )
    request = Request(
        gpus=tuple(params["gpus"]),
        mig=tuple(params["mig"]),
        source=params["source"],
        flavour=params["flavour"],
        branch=params["branch"] or None,
        kernels=kernels,
        architecture=params["architecture"],
    )
    choice = resolve(request)
    driver = choice.driver
    found = {**dataclasses.asdict(driver), "modules": driver.modules, "cuda_package": driver.cuda_package, "title": driver.title}
    served = ", ".join(dict.fromkeys(model.family for model in request.models())) or "any GPU that it knows"
    return {
        "changed": False,
        "driver": found,
        "kernels": list(kernels),
        "rejected": choice.rejected,
        "warnings_of_choice": choice.warnings,
        "msg": f"{driver.title} serves {served} on {', '.join(kernels)}.",
    }


def main() -> t.NoReturn:
    module = AnsibleModule(
        argument_spec={
            "gpus": {"type": "list", "elements": "str", "default": []},
            "mig": {"type": "list", "elements": "str", "default": []},
            "source": {"type": "str", "choices": ["auto", "debian", "nvidia", "local"], "default": "auto"},
            "flavour": {"type": "str", "choices": ["auto", "proprietary", "open"], "default": "auto"},
            "branch": {"type": "int", "default": 0},
            "kernels": {"type": "list", "elements": "str", "default": []},
            "architecture": {"type": "str", "default": "amd64"},
        },
        supports_check_mode=True,
    )
    try:
        result = choose(module.params, Places())
    except ImageError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
