#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Inspect a closed disk image before it is published."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_inspect
short_description: Inspect a closed disk image before it is published
version_added: "1.0.0"
author:
  - hyperscaler.images contributors (@hyperscaler)
description:
  - Opens a disk image in raw format read-only, in mounts of its own that end with the module, and checks it by rules.
  - The rules are about the partition table, boot code, health of the file systems, boot menu, fstab, kernels with their modules and settings,
    identity of the machine, what pins it to the disks of one machine, cloud-init, secrets, ways in, databases and other state of services,
    what the build left behind, settings of the build host's network, permissions, packages and their files, and the record of the image.
  - Every breach is a finding with the rule, a severity, the path, what is wrong and what to do about it.
  - The module fails when there is a finding of the severity O(fail_on) or worse, and returns all findings then, too.
  - Private keys are looked for in the first MiB of every file that belongs to no package in C(/etc), C(/root), C(/home), C(/var/lib),
    C(/opt), C(/srv), C(/usr/local) and C(/boot).
  - Files of packages are compared with the MD5 sums of their packages.
    Files that C(path-exclude) in the image's own dpkg configuration leaves out may be missing; conffiles may be changed or removed.
extends_documentation_fragment:
  - hyperscaler.images._attributes
  - hyperscaler.images._attributes.linux
attributes:
  check_mode:
    support: full
    details: The module only reads.
  diff_mode:
    support: N/A
    details: The module changes nothing.
  idempotent:
    support: full
requirements:
  - root on the machine that the module runs on
  - "programs: sfdisk, blkid, losetup, mount; e2fsck and fsck.fat; xfs_repair or btrfs for images with these file systems"
  - "program: zstd, when O(kernel_modules) are compressed with it"
options:
  path:
    description:
      - The disk image, in raw format and with a partition table.
      - It must not be open for writing.
    type: path
    required: true
  kernel_modules:
    description:
      - Kernel modules that must be there for the kernel that the boot loader starts by default, and for every other installed kernel.
      - Each must be listed by depmod and must be built for exactly that kernel (vermagic), or be part of the kernel itself.
      - When one is missing, the finding has the end of the log of its DKMS build.
    type: list
    elements: str
    default: []
  allowed:
    description:
      - Findings that are accepted. Each finding has the entry that accepts it (RV(findings[].allow)), which lacks the reason only.
      - An entry that accepts no finding is itself reported by the rule V(waiver.unused).
    type: list
    elements: dict
    default: []
    suboptions:
      rule:
        description: The rule, for instance V(identity.hostname). An unknown rule is refused, with the names of similar ones.
        type: str
        required: true
      path:
        description: The path of the finding. Shell patterns are understood; V(*) also matches slashes.
        type: str
        required: true
      reason:
        description: Why the image may be published with it. It is returned in RV(waived).
        type: str
        required: true
  forbidden_hosts:
    description:
      - Hosts, or domains of hosts, that no package source of the image may name, for instance the mirror of the build host.
      - Names without a domain, private addresses and private domains are refused in any case.
    type: list
    elements: str
    default: []
  archive_domains:
    description:
      - Hosts, or domains of hosts, that package sources of the image may name.
      - Other public hosts make a warning.
    type: list
    elements: str
    default:
      - debian.org
      - ubuntu.com
      - nvidia.com
      - nvidia.github.io
      - beegfs.io
      - pkgs.k8s.io
  require_record:
    description: Whether a missing C(/etc/hyperscaler-image.json) is an error. Otherwise it is a warning.
    type: bool
    default: false
  session_settings:
    description:
      - Kernel settings that were changed while the image was open. One that no file of the image sets to that value at boot makes a warning.
      - The files are those that systemd-sysctl reads, in C(/etc/sysctl.d), C(/usr/local/lib/sysctl.d) and C(/usr/lib/sysctl.d), with its rules.
      - Values that differ only in white space or in the spelling of numbers are equal.
    type: list
    elements: dict
    default: []
    suboptions:
      key:
        description: The setting, for instance V(vm.swappiness) or V(net/ipv4/conf/eth0.100/rp_filter).
        type: str
        required: true
      value:
        description: The value that it had last.
        type: str
        required: true
  fail_on:
    description: The severity that makes the module fail.
    type: str
    choices:
      error: Fail when there is an error.
      warning: Fail when there is an error or a warning.
      never: Only return the findings.
    default: error
seealso:
  - module: hyperscaler.images.image_root
"""

EXAMPLES = r"""
- name: Inspect an image before it is packed
  hyperscaler.images.image_inspect:
    path: /srv/build/hpc-compute/disk.raw
    kernel_modules:
      - nvidia-current
    require_record: true
  become: true

- name: Accept one finding for a good reason
  hyperscaler.images.image_inspect:
    path: /srv/build/appliance/disk.raw
    allowed:
      - rule: identity.hostname
        path: /etc/hostname
        reason: There is only one machine of this kind in a network.
  become: true

- name: List what would have to be done, without failing
  hyperscaler.images.image_inspect:
    path: /srv/images/foreign.raw
    fail_on: never
  become: true
  register: inspection

- name: Show the errors
  ansible.builtin.debug:
    msg: "{{ inspection.findings | selectattr('severity', 'eq', 'error') | map(attribute='message') }}"
"""

RETURN = r"""
msg:
  description: The verdict, as a sentence.
  returned: always
  type: str
findings:
  description: What the rules found and nobody allowed, errors first.
  returned: always
  type: list
  elements: dict
  contains:
    rule:
      description: The rule.
      type: str
      sample: identity.ssh_host_key
    severity:
      description: One of V(error), V(warning) and V(info).
      type: str
      sample: error
    path:
      description: The path in the image; C(disk) or C(partition) with a number for what lies below the files.
      type: str
      sample: /etc/ssh/ssh_host_ed25519_key
    message:
      description: What is wrong; the path is the subject of the sentence.
      type: str
      sample: is an SSH host key, which every machine from this image would share.
    remedy:
      description: What to do about it.
      type: str
      sample: Remove it; each machine makes its own on first boot.
    allow:
      description: The entry of O(allowed) that accepts the finding for this image. The reason is yours.
      type: str
      sample: "{rule: identity.ssh_host_key, path: \"/etc/ssh/ssh_host_ed25519_key\", reason: …}"
waived:
  description: The findings that O(allowed) accepts. Each has the fields of RV(findings), and C(reason).
  returned: always
  type: list
  elements: dict
  sample: []
counts:
  description: The number of findings of each severity, and of those that are waived.
  returned: always
  type: dict
  sample: {"error": 0, "warning": 1, "info": 11, "waived": 0}
kernels:
  description: The kernels of the image, the newest first, with the modules of O(kernel_modules) that were found.
  returned: always
  type: list
  elements: dict
  sample:
    - version: 6.12.107+deb13-cloud-amd64
      flavour: cloud-amd64
      default: true
      modules:
        - name: wireguard
          path: /lib/modules/6.12.107+deb13-cloud-amd64/kernel/drivers/net/wireguard/wireguard.ko.xz
          vermagic: 6.12.107+deb13-cloud-amd64 SMP preempt mod_unload modversions
packages:
  description: The number of installed packages.
  returned: always
  type: int
  sample: 312
files:
  description: The number of files and folders in the image.
  returned: always
  type: int
  sample: 31844
os:
  description: Fields of os-release(5).
  returned: always
  type: dict
  sample: {"id": "debian", "version_id": "13", "version_codename": "trixie", "pretty_name": "Debian GNU/Linux 13 (trixie)"}
file_systems:
  description: The partitions in the order of the disk. Sizes are in bytes; C(used) is 0 and C(mount_point) empty for those that were not mounted.
  returned: always
  type: list
  elements: dict
  sample:
    - partition: 1
      type: ext4
      uuid: 0b3c4b0e-61bd-4a76-9d8b-0cf8aa1c2f52
      label: ""
      partition_uuid: 6E1B2C3D-0A1B-4C2D-8E3F-123456789ABC
      partition_type: 4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709
      size: 3086991872
      mount_point: /
      used: 1035280384
seconds:
  description: The seconds that each group of rules took.
  returned: always
  type: dict
  sample: {"disk": 0.002, "file_systems": 0.61, "files": 0.4, "packages": 2.3}
"""

import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import (
    Expectations,
    Severity,
    Verdict,
    Waiver,
    failing,
    failure,
    judge,
    require_known,
    summary,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_image import RULES, Inspection, inspect_image

ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "path": {"type": "path", "required": True},
    "kernel_modules": {"type": "list", "elements": "str", "default": []},
    "allowed": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "rule": {"type": "str", "required": True},
            "path": {"type": "str", "required": True},
            "reason": {"type": "str", "required": True},
        },
    },
    "forbidden_hosts": {"type": "list", "elements": "str", "default": []},
    "archive_domains": {
        "type": "list",
        "elements": "str",
        "default": ["debian.org", "ubuntu.com", "nvidia.com", "nvidia.github.io", "beegfs.io", "pkgs.k8s.io"],
    },
    "require_record": {"type": "bool", "default": False},
    "session_settings": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"key": {"type": "str", "required": True, "no_log": False}, "value": {"type": "str", "required": True}},
    },
    "fail_on": {"type": "str", "choices": ["error", "warning", "never"], "default": "error"},
}


def result_of(inspection: Inspection, verdict: Verdict) -> dict[str, t.Any]:
    """What the module returns besides its message."""
    return {
        "changed": False,
        "findings": [finding.as_result() for finding in verdict.findings],
        "waived": [{**finding.as_result(), "reason": reason} for finding, reason in verdict.waived],
        "counts": {**{severity.value: verdict.count(severity) for severity in Severity}, "waived": len(verdict.waived)},
        "kernels": [kernel.as_result() for kernel in inspection.kernels],
        "packages": inspection.packages,
        "files": inspection.files,
        "os": inspection.os_release,
        "file_systems": list(inspection.file_systems),
        "seconds": inspection.seconds,
    }


def inspect(params: t.Mapping[str, t.Any]) -> tuple[str, dict[str, t.Any]]:
    """The message and result of an inspection. Raises ImageError when the image must not be published."""
    waivers = [Waiver(**entry) for entry in params["allowed"]]
    require_known(waivers, {rule.id for rule in RULES})
    path = params["path"]
    expectations = Expectations(
        kernel_modules=tuple(params["kernel_modules"]),
        forbidden_hosts=tuple(params["forbidden_hosts"]),
        archive_domains=tuple(params["archive_domains"]),
        require_record=params["require_record"],
        session_settings=tuple((setting["key"], setting["value"]) for setting in params["session_settings"]),
    )
    inspection = inspect_image(Path(path), expectations)
    verdict = judge(inspection.findings, waivers)
    result = result_of(inspection, verdict)
    bad = failing(verdict, params["fail_on"])
    if bad:
        raise ImageError(failure(path, verdict, bad), **result)
    return summary(path, verdict), result


def main() -> t.NoReturn:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        message, result = inspect(module.params)
    except ImageError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(msg=message, **result)


if __name__ == "__main__":
    main()
