#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: image_root
short_description: Open the root file system of a disk image, and close it
version_added: "1.0.0"
description:
  - Opens a raw disk image on the build host, so that the connection plugin P(hyperscaler.images.image#connection) can run tasks inside it.
  - C(systemd-nspawn) runs it in user, mount, pid, network, IPC, UTS and cgroup namespaces of its own. No other process of the build host sees its mounts.
  - What runs inside reaches servers through C(pasta). It cannot reach the build host, its devices, its processes or its kernel's settings.
  - While it is open, the image has C(/proc), C(/sys), C(/dev), name resolution and a package cache. Packages do not start their services.
  - Mirror lists as in Debian's cloud images (C(/etc/apt/mirrors)) show the mirrors of the build host while it is open.
  - Closing removes everything that opening brought, discards free space and releases mounts, loop device and processes.
  - The image is released as well when the run that opened it ends, however it ends.
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
    description:
      - The raw disk image to open.
      - With O(source) it is the working copy, and is written anew.
    type: path
    required: true
  state:
    description:
      - V(open) opens the image. When this run has it open already, nothing is done.
      - V(closed) closes it. When it is not open, nothing is done, except that what a killed run left behind is released.
    type: str
    choices: [open, closed]
    default: open
  state_file:
    description:
      - Where the open image is described for the connection plugin. It exists only while the image is open.
      - The default is C(root.json) beside O(path).
    type: path
  source:
    description:
      - A raw disk image that is copied to O(path) before it is opened. Holes stay holes.
    type: path
  size:
    description:
      - The size that the disk gets, such as V(20G). The last partition and its file system grow with it.
      - The root partition must be the last one. A disk is never made smaller.
      - When it is not set, the size stays as it is.
    type: str
  package_cache:
    description:
      - A folder of the build host whose packages and package lists the image uses while it is open, and to which new ones are added.
      - Downloaded packages and package lists that the image has of its own are removed.
    type: path
  files:
    description:
      - Texts that are shown at a path of the image while it is open, for instance a list of mirrors.
      - A file that the image has is hidden, not changed. A file that it lacks is removed when the image is closed.
    type: dict
    default: {}
  init:
    description:
      - What process 1 of the open image is. V(systemd) boots it, so that services can be started.
      - V(none) starts nothing. Units can be enabled, and starting one is skipped by the modules of Ansible.
    type: str
    choices: [none, systemd]
    default: none
  cpus:
    description: How many processors the image is told to have. It uses those of the build host.
    type: int
    default: 2
  memory:
    description: How much memory the image is told to have, in MiB. It uses that of the build host.
    type: int
    default: 2048
  trim:
    description:
      - Discard the free space of all file systems when closing.
    type: bool
    default: true
  wait:
    description:
      - How many seconds to wait when another run has the image open. V(0) fails at once and names the pid of that run.
    type: int
    default: 0
  owner:
    description:
      - The process on whose end the image is released. The action plugin of the same name fills this in.
    type: dict
requirements:
  - root
  - Linux 5.12 or newer with user namespaces and control groups of version 2
  - systemd-container, passt, iproute2, libseccomp2, util-linux, e2fsprogs and, for such images, xfsprogs or btrfs-progs on the build host
author:
  - hyperscaler.images contributors (@hyperscaler)
seealso:
  - plugin: hyperscaler.images.image
    plugin_type: connection
"""

EXAMPLES = r"""
- name: Open a copy of the base image
  hyperscaler.images.image_root:
    path: /srv/build/work/node/disk.raw
    source: /srv/build/cache/base/debian-13.raw
    size: 20G
    package_cache: /srv/build/cache/apt
  become: true
  delegate_to: localhost

- name: Close it
  hyperscaler.images.image_root:
    path: /srv/build/work/node/disk.raw
    state: closed
  become: true
  delegate_to: localhost
"""

RETURN = r"""
root:
  description: The open image. Empty when it is closed.
  returned: success
  type: dict
  contains:
    path:
      description: The disk image.
      type: str
      returned: when open
    device:
      description: The loop device.
      type: str
      returned: when open
    mounts:
      description: Where file systems of the image are mounted inside it.
      type: list
      elements: str
      returned: when open
    hidden:
      description:
        - Mount points of C(/etc/fstab) whose file system the kernel of the build host does not know.
        - An EFI system partition is never one of them. Where the kernel has no FAT, C(mtools) reads it and writes back what changed.
        - They are empty while the image is open, and what is on their partitions stays as it is.
      type: list
      elements: str
      returned: when open
    init:
      description: What process 1 is, V(none) or V(systemd).
      type: str
      returned: when open
    cgroup:
      description: The name of its control group.
      type: str
      returned: when open
    failed_units:
      description: The units that failed when systemd started.
      type: list
      elements: str
      returned: with O(init=systemd), when this call opened the image
    enter:
      description: The socket that takes commands for the image.
      type: str
      returned: when open
    first:
      description: Pid, start time and boot of the process that is process 1 inside.
      type: dict
      returned: when open
    owner:
      description: Pid, start time and boot of the process on whose end the image is released.
      type: dict
      returned: when open
trimmed:
  description: The bytes that were discarded.
  returned: when closed
  type: int
  sample: 18253611008
settings:
  description: Settings of the kernel that were changed while the image was open, and what they were set to. They are not in the image unless a file sets them.
  returned: when closed
  type: list
  elements: dict
  sample: [{"key": "vm.swappiness", "value": "10"}]
msg:
  description: What was done, in one sentence.
  returned: success
  type: str
  sample: Opened /srv/build/work/node/disk.raw.
"""

import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.formatters import human_to_bytes
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._image_root import Wanted, close_image, open_image, read_state, same_owner
from ansible_collections.hyperscaler.images.plugins.module_utils._process import ProcessIdentity


def wanted_from(params: t.Mapping[str, t.Any]) -> Wanted:
    """The typed form of the options."""
    path = Path(params["path"]).absolute()
    try:
        size = human_to_bytes(params["size"], default_unit="B") if params["size"] else 0
    except ValueError as error:
        raise ImageError(f"Cannot open {path}: size is {params['size']!r}, which is no size. Give a number with a unit, such as 20G.") from error
    return Wanted(
        path=path,
        state_file=Path(params["state_file"]).absolute() if params["state_file"] else path.with_name("root.json"),
        source=Path(params["source"]).absolute() if params["source"] else None,
        size=size,
        cache=Path(params["package_cache"]).absolute() if params["package_cache"] else None,
        files=tuple((str(name), str(text)) for name, text in params["files"].items()),
        owner=ProcessIdentity.from_dict(params["owner"]),
        wait=float(params["wait"]),
        init=params["init"],
        cpus=params["cpus"],
        memory=params["memory"],
    )


def ensure(wanted: Wanted, params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Bring the image into the state that is asked for."""
    state = read_state(wanted.state_file)
    if params["state"] == "open":
        if state and same_owner(state, wanted.owner):
            return {"changed": False, "root": state, "msg": f"{wanted.path} is open already."}
        opened = {} if check_mode else open_image(wanted)
        return {"changed": True, "root": opened, "msg": f"Opened {wanted.path}."}
    if check_mode:
        return {
            "changed": state is not None,
            "root": {},
            "trimmed": 0,
            "settings": [],
            "msg": f"Closed {wanted.path}." if state else f"{wanted.path} is not open.",
        }
    closed = close_image(wanted.path, wanted.state_file, trim=params["trim"])
    return {**closed, "root": {}, "msg": f"Closed {wanted.path}." if closed["changed"] else f"{wanted.path} is not open."}


def main() -> t.NoReturn:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["open", "closed"], "default": "open"},
            "state_file": {"type": "path"},
            "source": {"type": "path"},
            "size": {"type": "str"},
            "package_cache": {"type": "path"},
            "files": {"type": "dict", "default": {}},
            "trim": {"type": "bool", "default": True},
            "init": {"type": "str", "choices": ["none", "systemd"], "default": "none"},
            "cpus": {"type": "int", "default": 2},
            "memory": {"type": "int", "default": 2048},
            "wait": {"type": "int", "default": 0},
            "owner": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    try:
        result = ensure(wanted_from(module.params), module.params, module.check_mode)
    except ImageError as error:
        module.fail_json(msg=str(error), **error.details)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        attempt = "open" if module.params["state"] == "open" else "close"
        module.fail_json(msg=f"Cannot {attempt} {module.params['path']}: {error.strerror}{place}. Check free space, permissions and the disk, and try again.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
