#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Module mig_layout."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mig_layout
short_description: Check a MIG layout and write it for the program that applies it
version_added: "1.0.0"
description:
  - Checks into which instances GPUs are to be divided. Profiles, numbers, slices and places must fit the model, or the module fails.
  - A profile that the table of this collection lacks is taken with a warning when a GPU of this size could have it. The driver decides when it is applied.
  - Writes the layout as a JSON document. The unit C(hyperscaler-mig.service) of the role C(nvidia_gpu_drivers) applies it at each boot of a machine with GPUs.
  - No GPU is needed and none is touched.
options:
  layout:
    description:
      - One entry for each kind of GPU. GPUs that no entry names are left alone.
      - It is needed with O(state=present).
    type: list
    elements: dict
    suboptions:
      model:
        description: Model of the GPU, such as V(h200) or V(a100-80gb).
        type: str
        required: true
      devices:
        description: Numbers of the GPUs as C(nvidia-smi -L) shows them. Without it, all GPUs of the model.
        type: list
        elements: int
      instances:
        description: Profiles and how many instances of each. When empty, MIG is turned off for these GPUs.
        type: dict
        required: true
      pci_ids:
        description:
          - PCI device ids of further editions that the entry is for, beside those of the model, such as V("2330").
          - Write them in quotes. The memory of another edition is not compared with that of the model.
        type: list
        elements: raw
  path:
    description: The document.
    type: path
    default: /etc/hyperscaler/mig.json
  reboot:
    description: Allow one restart of the machine when a GPU cannot change its mode without.
    type: bool
    default: true
  state:
    description: V(present) writes the document, V(absent) removes it.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - hyperscaler.images._attributes
  - hyperscaler.images._attributes.linux
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
seealso:
  - module: hyperscaler.images.nvidia_driver_info
  - plugin: hyperscaler.images.mig_gres
    plugin_type: filter
author:
  - hyperscaler.images contributors (@hyperscaler)
"""

EXAMPLES = r"""
- name: Divide the first GPU, leave the second whole
  hyperscaler.images.mig_layout:
    layout:
      - model: h200
        devices: [0]
        instances: {"1g.18gb": 2, "2g.35gb": 1, "3g.71gb": 1}
      - model: h200
        devices: [1]
        instances: {}

- name: Divide an edition that the table of models does not have
  hyperscaler.images.mig_layout:
    layout:
      - model: a100-80gb
        pci_ids: ["20B3"]
        instances: {"1g.8gb": 7}
"""

RETURN = r"""
layout:
  description: The document as it is, or would be, written.
  returned: when O(state=present)
  type: dict
path:
  description: Where it is.
  returned: success
  type: str
  sample: /etc/hyperscaler/mig.json
msg:
  description: What was done, or what is wrong with the layout.
  returned: always
  type: str
  sample: /etc/hyperscaler/mig.json was written.
"""

import json
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import write_atomic
from ansible_collections.hyperscaler.images.plugins.module_utils._mig import Entry, MigError, document, layout_from

ENTRY = {
    "model": {"type": "str", "required": True},
    "devices": {"type": "list", "elements": "int"},
    "instances": {"type": "dict", "required": True},
    "pci_ids": {"type": "list", "elements": "raw"},
}


def doubts(entry: Entry) -> list[str]:
    """What only the driver can decide of an entry."""
    return [
        f"The profile {name} of {entry.model.name} is not in the table of this collection. Its driver decides on the machine; hyperscaler-mig check tells."
        for name in entry.unknown
    ]


def ensure(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Bring the document into the wanted state and return the result."""
    path = Path(params["path"])
    try:
        before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        after, result = "", {}
        if params["state"] == "present":
            entries = layout_from(params["layout"])
            found = {**document(entries), "reboot": params["reboot"]}
            after, result = json.dumps(found, indent=2) + "\n", {"layout": found, "warnings": [text for entry in entries for text in doubts(entry)]}
        changed = before != after
        if changed and not check_mode:
            if after:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
                write_atomic(path, after)
            else:
                path.unlink()
    except OSError as error:
        raise MigError(f"Cannot write the MIG layout to {path}: {error.strerror}. Choose another path.") from error
    done = ("written" if after else "removed") if changed else "as wanted already"
    return {"changed": changed, "path": str(path), "msg": f"{path} was {done}.", "diff": {"before": before, "after": after}, **result}


def main() -> t.NoReturn:
    module = AnsibleModule(
        argument_spec={
            "layout": {"type": "list", "elements": "dict", "options": ENTRY},
            "path": {"type": "path", "default": "/etc/hyperscaler/mig.json"},
            "reboot": {"type": "bool", "default": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["layout"])],
        supports_check_mode=True,
    )
    try:
        result = ensure(module.params, module.check_mode)
    except ImageError as error:
        module.fail_json(msg=str(error), **error.details)
    for text in result.pop("warnings", ()):
        module.warn(text)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
