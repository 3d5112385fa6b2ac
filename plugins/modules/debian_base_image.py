#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Provide a Debian base disk image."""

from __future__ import annotations

DOCUMENTATION = r"""
module: debian_base_image
short_description: Provide a Debian base disk image
version_added: "1.0.0"
author: hyperscaler.images contributors (@hyperscaler)
description:
  - Provides a raw, sparse disk image of Debian that other images are built from.
  - It is converted from O(cloud_image), or bootstrapped from a package mirror with C(mmdebstrap) where Debian's image server cannot be reached.
  - A bootstrapped image has the layout of Debian's cloud images, a GPT with BIOS boot (14), EFI system partition (15) and ext4 as root (1), the last one.
  - It boots with BIOS and with UEFI (shim, Secure Boot), has its console on C(ttyS0), grows with its disk, and is configured by cloud-init.
  - The suites of the release, its updates, backports and security updates are enabled. Signatures are always verified, also those of cached packages.
  - The image has no identity. Machine ID and host name are empty, there are no SSH host keys, root is locked.
  - How it was made is recorded in a JSON file beside it, whose name ends with C(.json).
  - A second run on the same O(path) waits for the first one.
extends_documentation_fragment:
  - hyperscaler.images._attributes
  - hyperscaler.images._attributes.linux
attributes:
  check_mode:
    support: full
    details: Tells whether the image would be made. A mirror is only asked where no package list tells whether it is Debian's.
  diff_mode:
    support: full
    details: The two documents of inputs are compared.
  idempotent:
    support: partial
    details:
      - An image whose recorded inputs agree is left alone, although the mirror may have newer packages.
      - It is made again when it is older than O(max_age_days), or with O(refresh).
options:
  path:
    description: The disk image to make. Its folder must exist.
    type: path
    required: true
  release:
    description: Code name of the Debian release.
    type: str
    default: trixie
  arch:
    description:
      - Architecture by its Debian name.
      - Only V(amd64) can be bootstrapped, on a build host of the same architecture. V(arm64) needs O(cloud_image).
    type: str
    default: amd64
    choices: [amd64, arm64]
  flavour:
    description:
      - Kind of the kernel, named as the flavours of Debian's cloud images.
      - V(genericcloud) is the cloud kernel without drivers for hardware, V(generic) the standard one.
    type: str
    default: genericcloud
    choices: [genericcloud, generic]
  mirror:
    description:
      - Address of the Debian package archive (C(http), C(https), C(file) or C(copy)).
      - The default is the first one in the package sources of the build host whose Release file is Debian's and signed by a key of O(keyring).
      - What apt of the build host needs to reach its mirrors, such as proxies and credentials, is used in either case.
    type: str
  security_mirror:
    description:
      - Address of the archive of security updates.
      - The default is the one in the package sources of the build host, or, when O(mirror) is given, O(mirror) followed by C(-security).
    type: str
  guest_mirror:
    description:
      - Address of the package archive that the finished image uses.
      - By default it is Debian's official one, as the cloud-init package of the image knows it, and cloud-init may replace it at first boot.
      - With a value cloud-init leaves it alone.
    type: str
  guest_security_mirror:
    description:
      - Address of the archive of security updates that the finished image uses.
      - The default is O(guest_mirror) followed by C(-security). It needs O(guest_mirror).
    type: str
  components:
    description: Components of the archive.
    type: list
    elements: str
    default: [main]
  extra_packages:
    description: Packages to install besides those of a cloud image.
    type: list
    elements: str
    default: []
  virtual_size:
    description: Size of the disk, a number with K, M, G or T (binary units).
    type: str
    default: 3G
  keyring:
    description: File with the keys that may sign the archive.
    type: path
    default: /usr/share/keyrings/debian-archive-keyring.gpg
  cache_dir:
    description:
      - Folder for packages and package lists that later runs use again. It is made when it does not exist. Several runs may share it at the same time.
      - By default nothing is kept.
    type: path
  max_age_days:
    description:
      - Days after which an image is made again, so that it has the security updates of that time.
      - V(0) keeps it for ever.
    type: int
    default: 7
  refresh:
    description: Make the image again even when an agreeing one is there.
    type: bool
    default: false
  cloud_image:
    description:
      - A cloud image of Debian that is converted to O(path) instead of a bootstrap, as M(hyperscaler.images.debian_cloud_checksum) returns it.
      - Its SHA-512 is verified again before the conversion. Root is not needed for it.
      - Of the other options only O(path), O(release), O(arch) and O(refresh) count then.
    type: dict
    suboptions:
      path:
        description: The cloud image, in qcow2 format.
        type: path
        required: true
      version:
        description: Its version.
        type: str
        required: true
      sha512:
        description: Its SHA-512, as 128 hex digits.
        type: str
        required: true
      url:
        description: Where it came from.
        type: str
        required: true
requirements:
  - root, mmdebstrap, fdisk, dosfstools, mtools, e2fsprogs, util-linux and a keyring such as debian-archive-keyring (for a bootstrap)
  - qemu-utils (for O(cloud_image))
seealso:
  - module: hyperscaler.images.debian_cloud_checksum
"""

EXAMPLES = r"""
- name: Bootstrap a base image from the mirror of the build host
  hyperscaler.images.debian_base_image:
    path: /srv/images/debian-13.raw
    cache_dir: /srv/images/packages
  become: true

- name: Bootstrap from a private mirror that the image goes on using
  hyperscaler.images.debian_base_image:
    path: /srv/images/debian-13-private.raw
    mirror: https://mirror.example.org/debian
    guest_mirror: https://mirror.example.org/debian
    keyring: /etc/apt/keyrings/example.gpg
    extra_packages: [qemu-guest-agent]
  become: true

- name: Convert a cloud image that was downloaded before
  hyperscaler.images.debian_base_image:
    path: /srv/images/debian-13-cloud.raw
    cloud_image:
      path: "{{ debian_image.dest }}"
      version: "{{ debian_image.version }}"
      sha512: "{{ debian_image.sha512 }}"
      url: "{{ debian_image.url }}"
"""

RETURN = r"""
image:
  description: The image as it is now, or as it was before in check mode. Empty when there is none.
  returned: success
  type: dict
  contains:
    path:
      description: Path of the raw disk image.
      type: str
    sha256:
      description: SHA-256 of the whole file.
      type: str
    virtual_size:
      description: Size of the disk in bytes.
      type: int
    release:
      description: Code name of the release.
      type: str
    arch:
      description: Architecture.
      type: str
    kernels:
      description: Versions of the kernels in a bootstrapped image.
      type: list
      elements: str
    packages:
      description: Versions of all packages of a bootstrapped image by name.
      type: dict
    mirror:
      description: Address that the packages of a bootstrapped image came from, without credentials.
      type: str
    guest_mirror:
      description: Address that a bootstrapped image itself uses.
      type: str
    suites:
      description: Date and SHA-256 of the C(InRelease) file by suite, for a bootstrapped image.
      type: dict
    version:
      description: Version of the cloud image.
      type: str
    url:
      description: Where the cloud image came from.
      type: str
    sha512:
      description: SHA-512 of the cloud image.
      type: str
    created:
      description: When it was made, in UTC (ISO 8601).
      type: str
inputs_digest:
  description: SHA-256 over everything that shapes the image apart from the state of the mirror.
  returned: success
  type: str
package_count:
  description: Number of packages in a bootstrapped image.
  returned: success
  type: int
  sample: 278
seconds:
  description: Seconds that it took to make the image, 0 when there was nothing to do.
  returned: success
  type: float
  sample: 41.7
msg:
  description: What was done and why.
  returned: always
  type: str
"""

import time
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hyperscaler.images.plugins.module_utils._base_recipe import KERNELS, read_recipe
from ansible_collections.hyperscaler.images.plugins.module_utils._base_record import decide, locked, read_record, write_record
from ansible_collections.hyperscaler.images.plugins.module_utils._bootstrap import bootstrap
from ansible_collections.hyperscaler.images.plugins.module_utils._cloud_base import CloudSource, convert
from ansible_collections.hyperscaler.images.plugins.module_utils._digest import document_digest
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError

ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "path": {"type": "path", "required": True},
    "release": {"type": "str", "default": "trixie"},
    "arch": {"type": "str", "default": "amd64", "choices": ["amd64", "arm64"]},
    "flavour": {"type": "str", "default": "genericcloud", "choices": list(KERNELS)},
    "mirror": {"type": "str"},
    "security_mirror": {"type": "str"},
    "guest_mirror": {"type": "str"},
    "guest_security_mirror": {"type": "str"},
    "components": {"type": "list", "elements": "str", "default": ["main"]},
    "extra_packages": {"type": "list", "elements": "str", "default": []},
    "virtual_size": {"type": "str", "default": "3G"},
    "keyring": {"type": "path", "default": "/usr/share/keyrings/debian-archive-keyring.gpg"},
    "cache_dir": {"type": "path"},
    "max_age_days": {"type": "int", "default": 7},
    "refresh": {"type": "bool", "default": False},
    "cloud_image": {
        "type": "dict",
        "options": {
            "path": {"type": "path", "required": True},
            "version": {"type": "str", "required": True},
            "sha512": {"type": "str", "required": True},
            "url": {"type": "str", "required": True},
        },
    },
}


def ensure(params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Bring the image to its place and return the result of the module."""
    path = Path(params["path"])
    if params["cloud_image"]:
        cloud = CloudSource(Path(params["cloud_image"]["path"]), release=params["release"], arch=params["arch"], **_facts_of(params["cloud_image"]))
        return _provide(path, cloud.inputs(), lambda: convert(cloud, path), (0, params["refresh"]), check_mode)
    recipe = read_recipe(params, Path("/etc/apt"))
    cache = Path(params["cache_dir"]) if params["cache_dir"] else None
    return _provide(path, recipe.inputs(), lambda: bootstrap(recipe, path, cache), (params["max_age_days"], params["refresh"]), check_mode)


def _facts_of(cloud_image: dict[str, t.Any]) -> dict[str, t.Any]:
    return {key: cloud_image[key] for key in ("version", "sha512", "url")}


def _provide(path: Path, inputs: dict[str, t.Any], make: t.Callable[[], dict[str, t.Any]], limits: tuple[int, bool], check_mode: bool) -> dict[str, t.Any]:
    if check_mode:
        before = read_record(path)
        reason = decide(path, before, inputs, *limits)
        return _result(before, before, inputs, f"{path} would be made ({reason})." if reason else None, path)
    with locked(path):
        before = read_record(path)
        reason = decide(path, before, inputs, *limits)
        if reason is None:
            return _result(before, before, inputs, None, path)
        started = time.monotonic()
        record = write_record(path, inputs, make())
    return {**_result(before, record, inputs, f"{path} was made ({reason}).", path), "seconds": round(time.monotonic() - started, 1)}


def _result(before: dict[str, t.Any] | None, record: dict[str, t.Any] | None, inputs: dict[str, t.Any], change: str | None, path: Path) -> dict[str, t.Any]:
    image = record["image"] if record else {}
    return {
        "changed": change is not None,
        "msg": change or f"{path} is up to date.",
        "image": image,
        "inputs_digest": document_digest(inputs),
        "package_count": len(image.get("packages", {})),
        "seconds": 0.0,
        "diff": {"before": before["inputs"] if before else {}, "after": inputs},
    }


def main() -> t.NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENTS, required_by={"guest_security_mirror": "guest_mirror"}, supports_check_mode=True)
    try:
        result = ensure(module.params, module.check_mode)
    except ImageError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
