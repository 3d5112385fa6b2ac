#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Module apt_seed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: apt_seed
short_description: Write what apt of a build host needs as a script for the virtual machine that becomes an image
version_added: "1.0.0"
description:
  - Finds out how apt of this machine reaches its mirrors. This is the proxies of its settings, of the environment and of a detection program,
    the credentials of C(auth.conf) and C(auth.conf.d), client certificates and CAs that its settings name, the address family, and how old lists may be.
  - Writes it as a shell script. Run by root at each boot of the virtual machine, it puts everything below C(/run), so that nothing of it stays in the image.
  - The script has passwords and keys in it. Only its owner can read it, who is that of its folder, and the result of the module has nothing of it.
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
  path:
    description: The script. Its folder must exist.
    type: path
    required: true
  address:
    description:
      - The address at which the virtual machine reaches this machine.
      - It takes the place of the loopback interface in addresses of proxies and mirrors.
    type: str
    default: 10.0.2.2
seealso:
  - module: hyperscaler.images.image_root
author:
  - hyperscaler.images contributors (@hyperscaler)
"""

EXAMPLES = r"""
- name: Write what apt needs beside the seed of the virtual machine
  hyperscaler.images.apt_seed:
    path: /srv/build/seed/apt.sh
  become: true
"""

RETURN = r"""
path:
  description: The script.
  returned: success
  type: str
msg:
  description: What was done, as a sentence.
  returned: always
  type: str
  sample: /srv/build/seed/apt.sh was written.
"""

import os
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_access import read_access
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_seed import script
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._open_files import host_addresses, host_mirror_lists


def ensure(path: Path, address: str, check_mode: bool) -> bool:
    """Write the script unless it is there with this content; return whether it was not."""
    lists = host_mirror_lists()
    text = script(read_access(host_addresses(lists)), lists, address)
    if not path.parent.is_dir():
        raise ImageError(f"Cannot write {path}: there is no folder {path.parent}. Make it first.")
    if path.is_file() and path.read_bytes() == text.encode("utf-8"):
        return False
    if not check_mode:
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
    return True


def main() -> t.NoReturn:
    module = AnsibleModule(
        argument_spec={"path": {"type": "path", "required": True}, "address": {"type": "str", "default": "10.0.2.2"}},
        supports_check_mode=True,
    )
    path = module.params["path"]
    try:
        changed = ensure(Path(path), module.params["address"], module.check_mode)
    except ImageError as error:
        module.fail_json(msg=str(error), **error.details)
    except OSError as error:
        module.fail_json(msg=f"Cannot write {path}: {error.strerror}. Choose a folder that can be written.")
    module.exit_json(changed=changed, path=path, msg=f"{path} {'was written' if changed else 'is up to date'}.")


if __name__ == "__main__":
    main()
