#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: image_output
short_description: Put a finished set of image files in its place, all at once
version_added: "1.0.0"
description:
  - Exchanges the folder that users read with a finished one in a single step. No reader ever sees half of a new set.
  - Files of the former folder that the manifest in it does not list, such as notes of a user, are kept.
  - The former set is removed only after the exchange.
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
  src:
    description:
      - The folder with the finished set. It must be on the same file system as O(dest).
      - It is gone afterwards. When it does not exist but O(dest) does, nothing is done.
    type: path
    required: true
  dest:
    description: The folder that users read.
    type: path
    required: true
author:
  - hyperscaler.images contributors (@hyperscaler)
"""

EXAMPLES = r"""
- name: Put the new image in its place
  hyperscaler.images.image_output:
    src: /srv/build/packer/node/.node.new
    dest: /srv/build/packer/node/node
"""

RETURN = r"""
kept:
  description: The files of the former folder that were kept.
  returned: success
  type: list
  elements: str
msg:
  description: What was done, in one sentence.
  returned: success
  type: str
"""

import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, reason
from ansible_collections.hyperscaler.images.plugins.module_utils._output import put_in_place


def main() -> t.NoReturn:
    module = AnsibleModule(
        argument_spec={"src": {"type": "path", "required": True}, "dest": {"type": "path", "required": True}},
        supports_check_mode=True,
    )
    source, destination = Path(module.params["src"]), Path(module.params["dest"])
    try:
        if not source.is_dir() and destination.is_dir():
            module.exit_json(changed=False, kept=[], msg=f"{destination} is in its place already.")
        if not source.is_dir():
            raise ImageError(f"Cannot put {source} in the place of {destination}: there is no such folder. Build the image first.")
        kept = [] if module.check_mode else put_in_place(source, destination)
    except ImageError as error:
        module.fail_json(msg=str(error), **error.details)
    except OSError as error:
        module.fail_json(msg=f"Cannot put {source} in the place of {destination}: {reason(error)}. The former files are as they were.")
    module.exit_json(changed=True, kept=kept, msg=f"Put the new files in {destination}.")


if __name__ == "__main__":
    main()
