#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: image_manifest
short_description: Write the manifest, the checksums and the text files of an image
version_added: "1.0.0"
description:
  - Writes C(manifest.json), C(SHA256SUMS), C(build_timestamp.txt), C(image_type.txt) and C(contents.txt) beside an image.
  - The checksums cover every other file of the folder.
extends_documentation_fragment:
  - hyperscaler.images._attributes
  - hyperscaler.images._attributes.linux
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: partial
    details: The manifest holds the time of the build, so it is written anew each time. With E(SOURCE_DATE_EPOCH) its content stays the same.
options:
  folder:
    description: The folder that has the image.
    type: path
    required: true
  image:
    description: The name of the image.
    type: str
    required: true
  base:
    description: The base image, with C(release), C(version), C(source) and C(sha256).
    type: dict
    required: true
  inputs:
    description:
      - Digest and document of what shaped the image, as M(hyperscaler.images.image_inputs) returns them.
      - V(reached) is the list of the roles that the build really reached, by folder or by name.
    type: dict
    required: true
  roles:
    description: The roles that were applied.
    type: list
    elements: str
    required: true
  kernels:
    description: The kernel versions in the image.
    type: list
    elements: str
    default: []
  packages:
    description: The packages, one line C(name<TAB>version<TAB>architecture) for each.
    type: str
    default: ""
  facts:
    description: Further parts of the manifest, such as timings, sizes and the results of the gates.
    type: dict
    default: {}
  digests:
    description: The sha256 of files of the folder that are known already, by name, so that they are not read again.
    type: dict
    default: {}
  source_date_epoch:
    description: The time of the build in seconds since 1970. The default is E(SOURCE_DATE_EPOCH), else the clock.
    type: str
author:
  - hyperscaler.images contributors (@hyperscaler)
"""

EXAMPLES = r"""
- name: Describe the image
  hyperscaler.images.image_manifest:
    folder: /srv/build/packer/node/node
    image: node
    base: "{{ base_image_result }}"
    inputs: "{{ inputs }}"
    roles:
      - hyperscaler.images.container_runtime
"""

RETURN = r"""
files:
  description: Size in bytes and sha256 of each file, by name.
  returned: success
  type: dict
built:
  description: The time of the build, in UTC.
  returned: success
  type: str
  sample: "2026-11-21T03:20:00Z"
msg:
  description: What was done, in one sentence.
  returned: success
  type: str
"""

import os
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, reason
from ansible_collections.hyperscaler.images.plugins.module_utils._manifest import build_time, parse_packages, write_documents


def describe(params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The manifest as data."""
    inputs = {key: params["inputs"][key] for key in ("digest", "document", "reached") if key in params["inputs"]}
    return {
        "schema": 1,
        "image": params["image"],
        "built": build_time(params["source_date_epoch"] or os.environ.get("SOURCE_DATE_EPOCH")),
        "base": params["base"],
        "inputs": inputs,
        "roles": params["roles"],
        "kernels": sorted(params["kernels"]),
        "packages": parse_packages(params["packages"]),
        "digests": params["digests"],
        **params["facts"],
    }


def main() -> t.NoReturn:
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "image": {"type": "str", "required": True},
            "base": {"type": "dict", "required": True},
            "inputs": {"type": "dict", "required": True},
            "roles": {"type": "list", "elements": "str", "required": True},
            "kernels": {"type": "list", "elements": "str", "default": []},
            "packages": {"type": "str", "default": ""},
            "facts": {"type": "dict", "default": {}},
            "digests": {"type": "dict", "default": {}},
            "source_date_epoch": {"type": "str"},
        },
        supports_check_mode=True,
    )
    try:
        document = describe(module.params)
        folder = Path(module.params["folder"])
        if not folder.is_dir():
            raise ImageError(f"Cannot describe the image {module.params['image']}: the folder {folder} does not exist. Build the image first.")
        files = {} if module.check_mode else write_documents(folder, document)
    except ImageError as error:
        module.fail_json(msg=str(error), **error.details)
    except OSError as error:
        module.fail_json(msg=f"Cannot write the manifest of {module.params['image']}: {reason(error)}. Check the folder and its free space.")
    module.exit_json(changed=True, files=files, built=document["built"], msg=f"Described {module.params['image']} in {folder}.")


if __name__ == "__main__":
    main()
