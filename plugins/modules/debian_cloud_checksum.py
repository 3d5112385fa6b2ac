#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find, verify and download a Debian cloud image."""

from __future__ import annotations

DOCUMENTATION = r"""
module: debian_cloud_checksum
short_description: Find, verify and download a Debian cloud image
version_added: "1.0.0"
author: hyperscaler.images contributors (@hyperscaler)
description:
  - Finds a file of Debian's cloud images and its SHA-512 in the C(SHA512SUMS) of its version.
  - Resolves the latest release to a pinned version through the JSON manifest, whose digests must agree with C(SHA512SUMS).
  - With O(dest), downloads the file in one pass. It is hashed while it streams into a part file beside O(dest), and renamed only when its SHA-512 is right.
  - A download that breaks is continued with a range request, in the same run and by the next run.
  - Debian publishes no signature for these images. Trust comes from HTTPS, and from O(expected), which pins the digest in your own variables.
extends_documentation_fragment:
  - hyperscaler.images._attributes
  - hyperscaler.images._attributes.linux
attributes:
  check_mode:
    support: full
    details: Reads C(SHA512SUMS) and verifies O(dest), but downloads nothing.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details: With O(version=latest) a new release of Debian is a change. A pinned version never changes.
options:
  release:
    description: Code name of the Debian release.
    type: str
    default: trixie
    choices: [bullseye, bookworm, trixie, forky, sid]
  version:
    description:
      - Version of the image, which is a date and a build number like V(20250806-2196).
      - V(latest) stands for the newest one. It is resolved to the version that RV(version) returns.
    type: str
    required: true
  daily:
    description:
      - Use the daily builds instead of the releases.
      - Debian's server removes daily builds after a while, so a pinned one does not last.
    type: bool
    default: false
  flavour:
    description:
      - Kind of the image.
      - V(genericcloud) has the cloud kernel without drivers for hardware.
      - V(generic) has the standard kernel.
      - V(nocloud) has no cloud-init and a root user without a password.
    type: str
    default: genericcloud
    choices: [genericcloud, generic, nocloud]
  arch:
    description: Architecture by its Debian name.
    type: str
    default: amd64
    choices: [amd64, arm64]
  format:
    description:
      - Format of the file.
      - V(tar.xz) holds the raw image as C(disk.raw).
      - V(json) is the manifest with the list of packages.
    type: str
    default: qcow2
    choices: [qcow2, raw, tar.xz, json]
  server:
    description:
      - Where the folders of the releases are. An HTTPS or HTTP URL, a file URL, or the absolute path of a local folder.
      - A mirror has the layout of Debian's server, for instance C(trixie/20250806-2196/SHA512SUMS).
      - HTTP is meant for private mirrors. Pin O(expected) there, as nothing else protects the file on its way.
      - A redirect is followed to HTTPS, or from HTTP to HTTP, and to nothing else.
      - Credentials belong into C(~/.netrc). The proxy variables of the environment are respected.
    type: str
    default: https://cloud.debian.org/images/cloud
  dest:
    description:
      - Where the file is written. In an existing folder it gets its own name.
      - A file that is there with the right SHA-512 is left alone. Any other one is replaced when the new file is complete and verified.
      - Without it nothing is downloaded but C(SHA512SUMS).
    type: path
  expected:
    description:
      - SHA-512 that the file must have, as 128 hex digits, which may follow C(sha512:).
      - It must agree with C(SHA512SUMS).
      - With a pinned O(version), a O(dest) that has this SHA-512 is accepted without asking the server.
    type: str
  connect_timeout:
    description: Seconds to wait for a connection.
    type: float
    default: 15
  stall_timeout:
    description: Seconds without data, or with almost none, after which a transfer counts as stalled and is tried again.
    type: float
    default: 60
  retries:
    description:
      - How often to try again in a row without getting further.
      - The pauses between them grow from one second to one minute.
    type: int
    default: 5
  ca_path:
    description:
      - File or folder with the certificates of the authorities to trust.
      - Without it those of the Python library are used, or those of the variable E(REQUESTS_CA_BUNDLE).
    type: path
  progress_file:
    description:
      - File or named pipe that gets a line on the progress of the download every five seconds.
      - Without it, a download on the controller itself shows these lines on the screen.
      - A path that cannot be written at once is ignored.
    type: path
requirements:
  - requests (only for HTTP and HTTPS)
"""

EXAMPLES = r"""
- name: Download a pinned release, verified against SHA512SUMS and a pinned digest
  hyperscaler.images.debian_cloud_checksum:
    version: 20250806-2196
    expected: "{{ debian_image_sha512 }}"
    dest: /var/cache/images/

- name: Find out what the latest release is
  hyperscaler.images.debian_cloud_checksum:
    version: latest
  register: debian_image

- name: Use a private mirror and a certificate authority of its own
  hyperscaler.images.debian_cloud_checksum:
    server: https://mirror.example.org/debian-cloud
    ca_path: /etc/ssl/certs/example.pem
    version: 20250806-2196
    flavour: generic
    arch: arm64
    dest: /var/cache/images/debian-13.qcow2

- name: Take the file from a folder, for a machine without a network
  hyperscaler.images.debian_cloud_checksum:
    server: /srv/mirror/debian-cloud
    version: 20250806-2196
    dest: /var/cache/images/
"""

RETURN = r"""
url:
  description: Address of the file.
  returned: success
  type: str
  sample: https://cloud.debian.org/images/cloud/trixie/20250806-2196/debian-13-genericcloud-amd64-20250806-2196.qcow2
file_name:
  description: Name of the file on the server.
  returned: success
  type: str
  sample: debian-13-genericcloud-amd64-20250806-2196.qcow2
version:
  description: Version of the image, never C(latest).
  returned: success
  type: str
  sample: 20250806-2196
sha512:
  description: SHA-512 of the file, as 128 hex digits.
  returned: success
  type: str
dest:
  description: Path of the file on this host.
  returned: when O(dest) is given
  type: str
  sample: /var/cache/images/debian-13-genericcloud-amd64-20250806-2196.qcow2
size:
  description: Size of the file in bytes.
  returned: when RV(dest) is there and verified
  type: int
  sample: 347996160
received:
  description: Bytes of the image that were read from the server or the folder.
  returned: when O(dest) is given
  type: int
  sample: 347996160
resumed:
  description: Whether a broken download, of this run or an earlier one, was continued.
  returned: when O(dest) is given
  type: bool
  sample: false
seconds:
  description: Seconds that the download took.
  returned: when something was downloaded
  type: float
  sample: 12.4
msg:
  description: What was done and why, or why it failed.
  returned: always
  type: str
cause:
  description:
    - Kind of the failure.
    - V(unreachable) stands for no connection, a stall, or a server that breaks off or answers with a passing error, after all retries.
    - V(missing) means that the server has no such version or file.
    - V(denied) means that access is refused.
    - V(untrusted) stands for a certificate that is not trusted, or a redirect that is not followed.
    - V(integrity) stands for files that are damaged or contradict each other or O(expected).
    - V(input) is a wrong option.
    - V(local) is a problem on this host.
  returned: failure
  type: str
  sample: integrity
"""

import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hyperscaler.images.plugins.module_utils._debian_cloud import (
    ARCHES,
    FLAVOURS,
    FORMATS,
    LATEST,
    RELEASES,
    CloudFile,
    CloudImage,
    parse_digest,
    parse_server,
    parse_version,
    resolve,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._download import download, fetch, place, verified
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._progress import report_to
from ansible_collections.hyperscaler.images.plugins.module_utils._transport import Policy

ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "release": {"type": "str", "default": "trixie", "choices": list(RELEASES)},
    "version": {"type": "str", "required": True},
    "daily": {"type": "bool", "default": False},
    "flavour": {"type": "str", "default": "genericcloud", "choices": list(FLAVOURS)},
    "arch": {"type": "str", "default": "amd64", "choices": list(ARCHES)},
    "format": {"type": "str", "default": "qcow2", "choices": list(FORMATS)},
    "server": {"type": "str", "default": "https://cloud.debian.org/images/cloud"},
    "dest": {"type": "path"},
    "expected": {"type": "str"},
    "connect_timeout": {"type": "float", "default": 15},
    "stall_timeout": {"type": "float", "default": 60},
    "retries": {"type": "int", "default": 5},
    "ca_path": {"type": "path"},
    "progress_file": {"type": "path"},
}


def ensure(params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Bring the file to its destination and return the result of the module."""
    policy = _policy(params)
    server = parse_server(params["server"])
    fields = ("release", "daily", "flavour", "arch", "format")
    image = CloudImage(version=parse_version(params["version"]), **{field: params[field] for field in fields})
    expected = None if params["expected"] is None else parse_digest(params["expected"], "expected")
    if expected and params["dest"] and image.version != LATEST:
        pinned = CloudFile(f"{server}/{image.folder}/{image.file_name()}", image.file_name(), image.version, expected)
        dest = place(params["dest"], pinned.file_name)
        if verified(dest, expected):
            return _unchanged(pinned, dest, "has the pinned SHA-512; the server was not asked")
    found = resolve(image, server, expected, lambda source, limit: fetch(source, limit, policy))
    if params["dest"] is None:
        return {**_result(found), "changed": False, "msg": f"{found.file_name} has the SHA-512 {found.sha512}."}
    dest = place(params["dest"], found.file_name)
    if verified(dest, found.sha512):
        return _unchanged(found, dest, "has the SHA-512 that the server lists")
    return _replace(found, dest, policy, params["progress_file"], check_mode)


def _replace(found: CloudFile, dest: Path, policy: Policy, progress_file: str | None, check_mode: bool) -> dict[str, t.Any]:
    old_size = dest.stat().st_size if dest.is_file() else None
    reason = f"{dest} does not exist" if old_size is None else f"{dest} does not have the SHA-512 of {found.file_name}"
    before = {"path": str(dest), "state": "absent"} if old_size is None else {"path": str(dest), "state": "other content", "size": old_size}
    after: dict[str, t.Any] = {"path": str(dest), "state": "verified", "sha512": found.sha512}
    result = {**_result(found), "changed": True, "dest": str(dest), "received": 0, "resumed": False}
    if check_mode:
        return {**result, "msg": f"{found.url} would be downloaded: {reason}.", "diff": {"before": before, "after": after}}
    done = download(found.url, dest, found.sha512, policy=policy, report=report_to(progress_file, found.file_name))
    after["size"] = done.size
    result.update(changed=done.changed, size=done.size, received=done.received, resumed=done.resumed, seconds=round(done.seconds, 3))
    said = f"{found.url} was downloaded" if done.changed else f"{found.url} was downloaded by another process"
    return {**result, "msg": f"{said}: {reason}.", "diff": {"before": before, "after": after}}


def _unchanged(found: CloudFile, dest: Path, why: str) -> dict[str, t.Any]:
    state = {"path": str(dest), "state": "verified", "sha512": found.sha512, "size": dest.stat().st_size}
    return {
        **_result(found),
        "changed": False,
        "dest": str(dest),
        "size": state["size"],
        "received": 0,
        "resumed": False,
        "msg": f"{dest} {why}.",
        "diff": {"before": state, "after": state},
    }


def _result(found: CloudFile) -> dict[str, t.Any]:
    return {"url": found.url, "file_name": found.file_name, "version": found.version, "sha512": found.sha512}


def _policy(params: dict[str, t.Any]) -> Policy:
    if params["retries"] < 0 or params["connect_timeout"] <= 0 or params["stall_timeout"] <= 0:
        raise ImageError("Cannot use the limits: retries must be at least 0, connect_timeout and stall_timeout above 0 seconds.", cause="input")
    return Policy(params["retries"], params["connect_timeout"], params["stall_timeout"], ca_path=params["ca_path"])


def main() -> t.NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = ensure(module.params, module.check_mode)
    except ImageError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
