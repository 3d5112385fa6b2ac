#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: image_inputs
short_description: Tell whether an image is up to date, and why not
version_added: "1.0.0"
description:
  - Collects everything that shapes an image, compares it with what shaped the image that is there, and tells whether it has to be built.
  - The files of the roles and the variables of the image are read on the controller, by the action plugin of the same name.
  - Of the values of variables, and of files, only digests with a key are kept, so that nobody can find a value by trying.
  - Every variable that a role can read counts, whatever its name is. What cannot be known before the build counts as read.
  - The content of the package mirror is not an input. A new base image is.
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
options:
  output:
    description: The folder that has the image and its C(manifest.json), or will have them.
    type: path
    required: true
  definition:
    description: What the image is made of besides roles, such as its disk size and formats.
    type: dict
    required: true
  base:
    description: What identifies the base image.
    type: dict
    required: true
  roles:
    description:
      - The names of the roles that are applied.
      - The roles that they take count too, by dependency or by task.
    type: list
    elements: str
    required: true
  files:
    description: Files and directories of the build host that shape the image, such as staged packages.
    type: list
    elements: path
    default: []
  rebuild:
    description:
      - V(auto) builds when an input changed or the output is damaged.
      - V(always) builds.
      - V(never) builds only when the output is missing or damaged.
    type: str
    choices: [auto, always, never]
    default: auto
  key_file:
    description:
      - The file with the key of the digests. It is made when there is none. It must not be in O(output).
      - An image that was recorded with another key is built anew.
    type: path
    required: true
  collected:
    description: What the action plugin read on the controller. It fills this in.
    type: dict
    default: {}
  digests:
    description: The digests, without the key, of what the action plugin read on the controller, as JSON. It fills this in.
    type: str
    default: "{}"
author:
  - hyperscaler.images contributors (@hyperscaler)
"""

EXAMPLES = r"""
- name: Ask whether the image has to be built
  hyperscaler.images.image_inputs:
    output: /srv/build/packer/node/node
    definition:
      disk_size: 20G
    base:
      sha256: 7d3c3a4f0a1f2f1c6a4b6d1f2f8f7b0f3c1d6f5e4d3c2b1a0f9e8d7c6b5a4f3e
    roles:
      - hyperscaler.images.container_runtime
    key_file: /srv/build/cache/inputs.key
  register: inputs
"""

RETURN = r"""
stale:
  description: Whether the image has to be built.
  returned: success
  type: bool
reason:
  description: Why, as a sentence.
  returned: success
  type: str
  sample: the files of role hyperscaler.images.container_runtime changed
missing:
  description: The components that the image that is there was made without.
  returned: success
  type: list
  elements: str
  sample: [beegfs]
artefact_lock:
  description: The lock file of third-party components that holds for the image.
  returned: success
  type: str
  sample: /home/me/site/artefacts.lock.json
digest:
  description: The sha256 of the document.
  returned: success
  type: str
document:
  description: Everything that shapes the image. It has no value of a variable of a user.
  returned: success
  type: dict
msg:
  description: The answer, as a sentence.
  returned: success
  type: str
"""

import json
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._digest import document_digest
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._image_inputs import FORMAT, answer, file_digests, rebuild_reason
from ansible_collections.hyperscaler.images.plugins.module_utils._input_key import keyed, read_key

# The sections of the document that the action plugin fills with digests.
SECTIONS = ("variables", "groups", "components", "controller_files")


def judge(params: t.Mapping[str, t.Any], *, check_mode: bool) -> dict[str, t.Any]:
    """Complete the document and compare it with the recorded one."""
    version = Command("qemu-img", reason="write disk images", package="qemu-utils").version()
    output = Path(params["output"])
    key = read_key(Path(params["key_file"]), output, make=not check_mode)
    digests = json.loads(params["digests"])
    document = {
        "format": FORMAT,
        "key": key.name,
        "definition": params["definition"],
        "base": params["base"],
        "files": keyed(key, file_digests(params["files"])),
        "tools": {"qemu-img": ".".join(str(part) for part in version)},
        **{section: keyed(key, digests.get(section, {})) for section in SECTIONS},
        **params["collected"],
    }
    reason = rebuild_reason(document, output, params["rebuild"])
    return {"changed": False, "digest": document_digest(document), "document": document, **answer(output.name, reason)}


def main() -> t.NoReturn:
    module = AnsibleModule(
        argument_spec={
            "output": {"type": "path", "required": True},
            "definition": {"type": "dict", "required": True},
            "base": {"type": "dict", "required": True},
            "roles": {"type": "list", "elements": "str", "required": True},
            "files": {"type": "list", "elements": "path", "default": []},
            "rebuild": {"type": "str", "choices": ["auto", "always", "never"], "default": "auto"},
            "key_file": {"type": "path", "required": True, "no_log": False},
            "collected": {"type": "dict", "default": {}},
            "digests": {"type": "str", "default": "{}", "no_log": True},
        },
        supports_check_mode=True,
    )
    try:
        result = judge(module.params, check_mode=module.check_mode)
    except ImageError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
