#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Module dkms_module."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dkms_module
short_description: Compile kernel modules with DKMS for installed kernels and prove the result
version_added: "1.0.0"
description:
  - Compiles a DKMS package for the kernels in C(/lib/modules), whatever kernel is running.
  - Afterwards each module must exist for each kernel and must have been compiled for it. The exit code of DKMS alone does not prove that.
  - When the compiler fails, the message holds the end of its log.
  - The signing key that DKMS makes by itself is removed, because in an image it would be known to every machine made from it.
options:
  name:
    description: Name of the DKMS package, as in C(dkms status).
    type: str
    required: true
  modules:
    description: Modules that each kernel must have afterwards, without suffix.
    type: list
    elements: str
    required: true
  version:
    description: Version of the DKMS package. Without it, the highest one whose sources are in C(/usr/src).
    type: str
  kernels:
    description: Kernel releases to compile for. When empty, all that are installed.
    type: list
    elements: str
    default: []
  keep_signing_key:
    description: Leave the signing key in C(/var/lib/dkms), for instance because it is your own.
    type: bool
    default: false
extends_documentation_fragment:
  - hyperscaler.images._attributes
  - hyperscaler.images._attributes.linux
attributes:
  check_mode:
    support: partial
    details:
      - When the sources are not installed yet, check mode reports a change without looking further.
  diff_mode:
    support: none
  idempotent:
    support: full
requirements:
  - dkms
  - kmod
  - headers of exactly the kernels to compile for
author:
  - hyperscaler.images contributors (@hyperscaler)
"""

EXAMPLES = r"""
- name: Compile the NVIDIA driver for the kernels of the image
  hyperscaler.images.dkms_module:
    name: nvidia-current
    modules: [nvidia-current, nvidia-current-uvm]

- name: Assert that every kernel has the BeeGFS client
  hyperscaler.images.dkms_module:
    name: beegfs
    modules: [beegfs]
  check_mode: true
  register: beegfs
  failed_when: beegfs.changed or beegfs is failed
"""

RETURN = r"""
version:
  description: Version that is, or would be, compiled. Empty in check mode when the sources are not installed yet.
  returned: success
  type: str
  sample: 550.163.01
kernels:
  description: For each kernel the modules and what they were compiled for. Empty in check mode when something is to be compiled.
  returned: success
  type: dict
  sample: {"6.12.117+deb13-cloud-amd64": {"nvidia-current": "6.12.117+deb13-cloud-amd64 SMP preempt mod_unload modversions"}}
actions:
  description: What was done, or would be done in check mode, as sentences.
  returned: success
  type: list
  elements: str
  sample: ["compiled nvidia-current 550.163.01 for 6.12.117+deb13-cloud-amd64"]
msg:
  description: Why something was changed, or that nothing had to be.
  returned: always
  type: str
  sample: nvidia-current 550.163.01 fits 6.12.117+deb13-cloud-amd64.
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hyperscaler.images.plugins.module_utils._dkms import Dkms, Places, remove_signing_keys, signing_keys, wanted_from
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError


def ensure(params: t.Mapping[str, t.Any], places: Places, check_mode: bool) -> dict[str, t.Any]:
    """Compile what is missing and return the result."""
    wanted = wanted_from(params["name"], params["version"], params["modules"], params["kernels"], places)
    dkms = Dkms(places)
    missing = dkms.missing(wanted)
    keys = [] if params["keep_signing_key"] else signing_keys(places)
    title = f"{wanted.name} {wanted.version}"
    actions = [f"compiled {title} for {kernel}" for kernel in missing]
    if check_mode and missing:
        return {"changed": True, "version": wanted.version, "kernels": {}, "actions": actions, "msg": f"{title} has to be compiled for {', '.join(missing)}."}
    if not check_mode:
        try:
            for kernel in missing:
                dkms.compile(wanted, kernel)
                dkms.share(wanted, kernel)
        finally:
            if not params["keep_signing_key"]:
                remove_signing_keys(places)
    proof = dkms.prove(wanted)
    actions += [f"removed {key}" for key in keys]
    message = f"{title} fits {', '.join(wanted.kernels)}."
    return {"changed": bool(actions), "version": wanted.version, "kernels": proof, "actions": actions, "msg": message}


def main() -> t.NoReturn:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "modules": {"type": "list", "elements": "str", "required": True},
            "version": {"type": "str"},
            "kernels": {"type": "list", "elements": "str", "default": []},
            "keep_signing_key": {"type": "bool", "default": False, "no_log": False},
        },
        supports_check_mode=True,
    )
    places = Places()
    try:
        if module.check_mode and not any(places.sources.glob(f"{module.params['name']}-[0-9]*")):
            result: dict[str, t.Any] = {
                "changed": True,
                "version": "",
                "kernels": {},
                "actions": [],
                "msg": f"{module.params['name']} has to be installed first.",
            }
        else:
            result = ensure(module.params, places, module.check_mode)
    except ImageError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
