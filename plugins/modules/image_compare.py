#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: image_compare
short_description: Tell whether two closed disk images hold the same system
version_added: "1.0.0"
author:
  - hyperscaler.images contributors (@hyperscaler)
description:
  - Reads two closed images, read-only, and compares their packages with version and state, enabled and masked units, users and groups, and all files with
    type, mode, owner, capabilities and SHA-256 of the content or target.
  - Times of files, and where they lie on the disk, do not count. Neither do the days of password changes in C(/etc/shadow), the order of the packages in
    dpkg's database, and comments in the boot menu.
  - What may differ is a short list with reasons, in the module and in O(allowed). Every difference that it allows is returned with its reason.
extends_documentation_fragment:
  - hyperscaler.images._attributes
  - hyperscaler.images._attributes.linux
attributes:
  check_mode:
    support: full
    details: Everything is compared, and O(report) is not written.
  diff_mode:
    support: N/A
    details: The images are not changed.
  idempotent:
    support: full
requirements:
  - root on the machine that the module runs on
  - "programs: sfdisk, blkid, losetup, mount; qemu-img for images that are not in raw format"
options:
  first:
    description: A disk image with a partition table, in raw or qcow2 format. It must not be open for writing.
    type: path
    required: true
  second:
    description: The image that is compared with it.
    type: path
    required: true
  allowed:
    description: Further differences that may be.
    type: list
    elements: dict
    default: []
    suboptions:
      section:
        description: What the name belongs to.
        type: str
        choices: [packages, units, users, groups, files]
        default: files
      path:
        description: The path or name. Shell patterns are understood; V(*) also matches slashes.
        type: str
        required: true
      reason:
        description: Why it may differ.
        type: str
        required: true
  fail_on_difference:
    description: Whether a difference that is not allowed makes the module fail.
    type: bool
    default: true
  report:
    description: A file that gets the result as a page in Markdown.
    type: path
  work_dir:
    description: The folder for raw copies of images in other formats. They take the space of the data in them, and are removed in the end.
    type: path
    default: /var/tmp
seealso:
  - module: hyperscaler.images.image_inspect
"""

EXAMPLES = r"""
- name: The two ways to build an image must give the same image
  hyperscaler.images.image_compare:
    first: /srv/direct/packer/cloud-base/cloud-base/cloud-base.qcow2
    second: /srv/virtual/packer/cloud-base/cloud-base/cloud-base.qcow2
    report: /srv/equality.md
  become: true
"""

RETURN = r"""
msg:
  description: The verdict, with the first differences.
  returned: always
  type: str
equal:
  description: Whether nothing differs that may not.
  returned: when both images could be read
  type: bool
differences:
  description: What differs and may not, with C(section), C(name), C(fact), and its value in the C(first) and C(second) image.
  returned: when both images could be read
  type: list
  elements: dict
  sample:
    - section: files
      name: /etc/motd
      fact: mode
      first: "0644"
      second: "0600"
allowed:
  description: What differs and may, with a C(reason) as well.
  returned: when both images could be read
  type: list
  elements: dict
counts:
  description: How many names there are of each section, in the first and in the second image.
  returned: when both images could be read
  type: dict
  sample: {"packages": [312, 312], "files": [31844, 31844]}
"""

import contextlib
import tempfile
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hyperscaler.images.plugins.module_utils._compare import ALLOWED, NORMALIZE, Allowance, Comparison, compare, report, verdict
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import write_atomic
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_image import readable_tree
from ansible_collections.hyperscaler.images.plugins.module_utils._qemu_img import Conversion, QemuImg
from ansible_collections.hyperscaler.images.plugins.module_utils._snapshot import Snapshot, take_snapshot

ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "first": {"type": "path", "required": True},
    "second": {"type": "path", "required": True},
    "allowed": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "section": {"type": "str", "choices": ["packages", "units", "users", "groups", "files"], "default": "files"},
            "path": {"type": "str", "required": True},
            "reason": {"type": "str", "required": True},
        },
    },
    "fail_on_difference": {"type": "bool", "default": True},
    "report": {"type": "path"},
    "work_dir": {"type": "path", "default": "/var/tmp"},
}


@contextlib.contextmanager
def raw_image(path: Path, work_dir: Path) -> t.Iterator[Path]:
    """The image in raw format: itself, or a copy for the time of the block."""
    if not path.is_file():
        raise ImageError(f"Cannot compare {path}: there is no such file. Name a disk image.", path=str(path))
    with path.open("rb") as stream:
        is_qcow2 = stream.read(4) == b"QFI\xfb"
    if not is_qcow2:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="image-compare-", dir=work_dir) as folder:
        copy = Path(folder, "disk.raw")
        QemuImg().convert(Conversion(path, "qcow2", copy, "raw"))
        yield copy


def snapshot(path: Path, work_dir: Path) -> Snapshot:
    """Read one image."""
    with raw_image(path, work_dir) as raw, readable_tree(raw) as tree:
        return take_snapshot(tree, NORMALIZE)


def result_of(comparison: Comparison) -> dict[str, t.Any]:
    """What the module returns besides its message."""
    return {
        "equal": comparison.equal,
        "differences": [difference.to_dict() for difference in comparison.differences],
        "allowed": [{**difference.to_dict(), "reason": reason} for difference, reason in comparison.allowed],
        "counts": {section: list(counts) for section, counts in comparison.counts.items()},
    }


def main() -> t.NoReturn:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    try:
        allowed = [*ALLOWED, *(Allowance(**entry) for entry in params["allowed"])]
        first, second = (snapshot(Path(params[name]), Path(params["work_dir"])) for name in ("first", "second"))
        comparison = compare(first, second, allowed)
        message, result = verdict(params["first"], params["second"], comparison), result_of(comparison)
        if params["report"] and not module.check_mode:
            write_atomic(Path(params["report"]), report(params["first"], params["second"], comparison))
        if params["fail_on_difference"] and not comparison.equal:
            raise ImageError(message, **result)
    except ImageError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(changed=False, msg=message, **result)


if __name__ == "__main__":
    main()
