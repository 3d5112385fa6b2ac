#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Module qcow2_compress."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qcow2_compress
short_description: Pack a disk image as a compressed qcow2 file, and as raw and raw.gz
version_added: "1.0.0"
description:
  - Makes a compressed qcow2 file from a raw or qcow2 disk image, and the formats of O(formats) beside it.
  - Every file is written under a temporary name in the folder of O(dest), checked, compared with the source and renamed when all of them are right.
    After any failure the former files are still there, complete.
  - Holes of a raw image are not read, neither for qcow2 nor for raw and raw.gz, so the time depends on the data and not on the virtual size.
  - Refuses a source that is in use, encrypted, corrupt, truncated or not closed cleanly, that has a backing file, an external data file or internal
    snapshots, and a destination that is the source or is open for writing.
  - Refuses to start when the folder of O(dest) has too little space for the case that nothing can be compressed.
options:
  src:
    description:
      - Disk image to pack, raw or qcow2. It is only read.
      - Its format is found by looking into it, not by its name.
    type: path
    required: true
  dest:
    description:
      - Path of the qcow2 file, usually with the suffix C(.qcow2). Its folder has to exist.
      - An existing file is replaced when it is not what is wanted. A symbolic link is followed.
    type: path
    required: true
  formats:
    description:
      - Further formats. Their files have the name of O(dest) with the suffix C(.qcow2) replaced.
      - V(raw) is a sparse file C(<name>.raw).
      - V(raw.gz) is C(<name>.raw.gz), an ordinary gzip file of the raw image. The same content always gives the same file.
        The time in its header is the environment variable E(SOURCE_DATE_EPOCH), or 0.
      - For V(raw.gz) without V(raw) from a qcow2 source, a temporary raw file is made in the folder of O(dest), in check mode too when there is a
        C(<name>.raw.gz) to compare with.
    type: list
    elements: str
    choices: [raw, raw.gz]
    default: []
  compression:
    description:
      - How the clusters of the qcow2 file are compressed.
      - V(zstd) is many times faster and smaller. Its readers need QEMU 5.1 or newer; some cloud importers and other hypervisors refuse it.
      - V(zlib) is understood by every reader of qcow2.
    type: str
    choices: [zstd, zlib]
    default: zstd
  cluster_size:
    description:
      - Size of a cluster of the qcow2 file, which is what is compressed, and decompressed for every read, in one piece.
      - Larger clusters make a smaller file and slower small reads by the guest.
      - The default is the read-ahead of Linux, so that a guest that reads a file does not decompress a cluster twice.
    type: str
    choices: [64k, 128k, 256k, 512k, 1M, 2M]
    default: 128k
  coroutines:
    description:
      - Number of pieces that C(qemu-img convert) has in work at the same time, from 1 to 16.
    type: int
    default: 8
  out_of_order:
    description:
      - Write compressed clusters in the order in which they are ready.
      - With V(false) the same source and the same version of qemu-img give the same bytes, but packing takes longer on more than one processor.
    type: bool
    default: true
  verify:
    description:
      - Check what was written with C(qemu-img check) and compare all of its content with the source before it replaces anything.
    type: bool
    default: true
  discard_snapshots:
    description:
      - Accept a source with internal snapshots. The result has the current state only.
    type: bool
    default: false
  force:
    description:
      - Write the files again even when they are right.
    type: bool
    default: false
extends_documentation_fragment:
  - ansible.builtin.files
  - hyperscaler.images._attributes
  - hyperscaler.images._attributes.linux
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Shows the sizes of the files. The size of a file that check mode would write is not known.
  idempotent:
    support: full
    details:
      - Nothing is kept about former runs. An existing file is right when its format, compression, cluster size and virtual size are those that are
        wanted, it is sound, and all of its content is that of the source. This takes a few seconds for each GiB of data.
      - A C(raw.gz) file that another program made is written again.
      - O(out_of_order) and O(coroutines) do not change the content, so a change of them alone writes nothing.
notes:
  - A file that is written has the owner, group and mode of any new file of the user, unless the options say otherwise.
  - An ordinary user sees only their own processes, so a writer of another user is found only when it is QEMU, which locks its images.
requirements:
  - qemu-img of QEMU 5.1 or newer (package C(qemu-utils)); older versions can do O(compression=zlib)
  - losetup (package C(mount))
seealso:
  - name: qemu-img(1)
    description: The program that converts, checks and compares.
    link: https://www.qemu.org/docs/master/tools/qemu-img.html
author:
  - hyperscaler.images contributors (@hyperscaler)
"""

EXAMPLES = r"""
- name: Pack the disk of an image
  hyperscaler.images.qcow2_compress:
    src: /srv/build/cloud-base/disk.raw
    dest: /srv/images/cloud-base.qcow2
    mode: "0644"

- name: Pack for readers that know only zlib, and for writing to a disk
  hyperscaler.images.qcow2_compress:
    src: /srv/build/node/disk.raw
    dest: /srv/images/node.qcow2
    compression: zlib
    cluster_size: 64k
    formats:
      - raw
      - raw.gz
  register: packed

- name: Show the checksums
  ansible.builtin.debug:
    msg: "{{ packed.files | items2dict(key_name='path', value_name='sha256') }}"
"""

RETURN = r"""
msg:
  description: Why files were written, or that nothing had to be.
  type: str
  returned: always
  sample: /srv/images/cloud-base.qcow2 did not exist
source:
  description: The disk image that was packed.
  type: dict
  returned: success
  contains:
    path:
      description: Its path.
      type: str
    format:
      description: V(raw) or V(qcow2).
      type: str
    virtual_size:
      description: Size of the disk that a guest sees, in bytes.
      type: int
    allocated_size:
      description: What the file occupies, in bytes.
      type: int
  sample:
    path: /srv/build/cloud-base/disk.raw
    format: raw
    virtual_size: 21474836480
    allocated_size: 1965158400
files:
  description: The files of the result, the qcow2 file first.
  type: list
  elements: dict
  returned: success
  contains:
    format:
      description: V(qcow2), V(raw) or V(raw.gz).
      type: str
    path:
      description: Its path.
      type: str
    size:
      description: Its length in bytes. It is null for a file that check mode would write.
      type: int
    sha256:
      description: Its SHA-256 as 64 hex digits. It is null for a file that check mode would write.
      type: str
    changed:
      description: Whether it was written, or would be in check mode.
      type: bool
  sample:
    - format: qcow2
      path: /srv/images/cloud-base.qcow2
      size: 685768704
      sha256: 86fadbcece0cd1aeee6efe505b9ad6504c14b2cd6ef52aaade3da61a2528bb1a
      changed: true
ratio:
  description: RV(source.allocated_size) divided by the size of the qcow2 file. It is null when check mode would write that file.
  type: float
  returned: success
  sample: 2.87
seconds:
  description:
    - Wall time of the steps that were taken, in seconds.
    - The steps are C(compare) (existing files), C(convert) (to qcow2), C(raw), C(gzip), C(verify), C(checksum) and C(total).
  type: dict
  returned: success
  sample:
    convert: 5.4
    verify: 3.1
    checksum: 0.4
    total: 9.0
cmd:
  description: The command that failed.
  type: list
  elements: str
  returned: when a command failed
rc:
  description: Its exit code.
  type: int
  returned: when a command failed
stdout:
  description: Its standard output.
  type: str
  returned: when a command failed
stderr:
  description: Its standard error.
  type: str
  returned: when a command failed
"""

import os
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._packing import Packer, PackRequest, PackResult

CLUSTER_SIZES = {"64k": 64 << 10, "128k": 128 << 10, "256k": 256 << 10, "512k": 512 << 10, "1M": 1 << 20, "2M": 2 << 20}
MAX_COROUTINES = 16


def request_from(params: dict[str, t.Any], epoch: str | None) -> PackRequest:
    """Read the options; ``epoch`` is the value of SOURCE_DATE_EPOCH."""
    if not 1 <= params["coroutines"] <= MAX_COROUTINES:
        raise ImageError(f"Cannot pack the disk image {params['src']}: coroutines is {params['coroutines']}, give a number from 1 to {MAX_COROUTINES}.")
    if epoch and not epoch.isdecimal():
        raise ImageError(f"Cannot pack the disk image {params['src']}: SOURCE_DATE_EPOCH is {epoch!r}, set it to seconds since 1970 or unset it.")
    names = ("compression", "coroutines", "out_of_order", "verify", "force", "discard_snapshots")
    return PackRequest(
        source=Path(params["src"]).absolute(),
        destination=Path(params["dest"]).absolute(),
        formats=tuple(params["formats"]),
        cluster_size=CLUSTER_SIZES[params["cluster_size"]],
        gzip_mtime=int(epoch or 0),
        **{name: params[name] for name in names},
    )


def returned(result: PackResult) -> dict[str, t.Any]:
    """The return values, with the sizes before and after as a difference."""
    size = result.files[0].size
    return {
        "changed": bool(result.reasons),
        "msg": "; ".join(result.reasons) or "All files were right already",
        "source": {name: getattr(result.source, name) for name in ("format", "virtual_size", "allocated_size")} | {"path": str(result.source.path)},
        "files": [{name: getattr(file, name) for name in ("format", "path", "size", "sha256", "changed")} for file in result.files],
        "ratio": round(result.source.allocated_size / size, 2) if size else None,
        "seconds": {step: round(seconds, 2) for step, seconds in result.seconds.items()},
        "diff": {
            "before": {file.path: "absent" if file.previous_size is None else file.previous_size for file in result.files},
            "after": {file.path: "not known yet" if file.size is None else file.size for file in result.files},
        },
    }


def main() -> t.NoReturn:
    module = AnsibleModule(
        argument_spec={
            "src": {"type": "path", "required": True},
            "dest": {"type": "path", "required": True},
            "formats": {"type": "list", "elements": "str", "choices": ["raw", "raw.gz"], "default": []},
            "compression": {"type": "str", "choices": ["zstd", "zlib"], "default": "zstd"},
            "cluster_size": {"type": "str", "choices": list(CLUSTER_SIZES), "default": "128k"},
            "coroutines": {"type": "int", "default": 8},
            "out_of_order": {"type": "bool", "default": True},
            "verify": {"type": "bool", "default": True},
            "discard_snapshots": {"type": "bool", "default": False},
            "force": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
        add_file_common_args=True,
    )
    try:
        result = Packer(request_from(module.params, os.environ.get("SOURCE_DATE_EPOCH"))).pack(dry_run=module.check_mode)
    except ImageError as error:
        module.fail_json(msg=str(error), **error.details)
    values = returned(result)
    for file in result.files:
        if file.size is not None:
            arguments = module.load_file_common_arguments(module.params, path=file.path)
            if module.set_fs_attributes_if_different(arguments, changed=False):
                values["msg"] += "" if file.changed else f"; {file.path} had another owner or mode"
                values["changed"] = True
    module.exit_json(**values)


if __name__ == "__main__":
    main()
