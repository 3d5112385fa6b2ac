#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Module seal_root."""

from __future__ import annotations

DOCUMENTATION = r"""
module: seal_root
short_description: Take identity, secrets, caches and logs out of a root file system
version_added: "1.0.0"
description:
  - Removes what makes one machine different from another and what a build leaves behind, so that any number of machines can start from the image.
  - Identity are the SSH host keys, the machine id (the file stays and is empty), the random seed and similar files.
  - C(/etc/hostname) and C(/etc/resolv.conf) are emptied, and C(/etc/mailname) becomes C(localhost), when cloud-init, the network or the name of the build
    machine gave what is in them. What a role wrote stays. RV(msg) names each setting that lost its content.
  - What names the disks and cards of the build machine is removed, such as the device list of LVM, bindings of multipath and rules for network cards.
  - The self-signed certificate of C(ssl-cert) is removed only when the unit of the role P(hyperscaler.images.seal#role) that makes it again is enabled.
    A C(/etc/machine-id) that is a link becomes an empty file.
  - Secrets are the keys and tokens of MUNGE, Slurm, BeeGFS, WireGuard, K3s, Kubernetes, the module signing key of DKMS and credentials of accounts.
  - What a boot and services that ran leave is removed as well, such as timer stamps, leases, queued mail, the state of Slurm and identities of container
    engines. The environment block of GRUB forgets what boots wrote; C(saved_entry) stays when C(GRUB_DEFAULT=saved) makes it a choice of the image.
  - Containers, container images, volumes, databases and lingering users are content that somebody asked for, and stay.
    M(hyperscaler.images.image_inspect) reports the first four.
  - Packaged files, documentation, locales and time zones are never removed; logs that were created with an owner and a mode are emptied.
  - Nothing is touched that is a mount point, nor anything below it. Such paths are reported in RV(mounted).
  - When O(root) is V(/) and cloud-init is installed, C(cloud-init clean) runs as well, so that its clean-up hooks are honoured.
options:
  root:
    description:
      - Folder in which the root file system is mounted.
      - Symbolic links in it are read as the image itself would read them, so nothing outside of it is reached.
    type: path
    default: /
  categories:
    description:
      - What to remove. On a machine that has booted everything but V(secrets) has come back by itself.
      - V(identity) is what must be unique to a machine.
      - V(secrets) is what must not be known to others.
      - V(access) is who may log in, authorized keys and O(users).
      - V(state) is what programs remember, among it the state of cloud-init, leases, proxies, histories and temporary files.
      - V(logs) and V(caches) are what their names say.
    type: list
    elements: str
    choices: [identity, secrets, access, state, logs, caches]
    default: [identity, secrets, access, state, logs, caches]
  users:
    description:
      - Accounts that exist only for the build. They are removed with their group, home below C(/home), mail, timers and sudo rules.
      - An account that does not exist is fine. An account of uid 0 is refused.
    type: list
    elements: str
    default: []
  keep:
    description:
      - Paths that stay although a rule names them, seen from inside O(root). Wildcards are allowed, C(**) stands for any number of folders.
    type: list
    elements: str
    default: []
  extra:
    description:
      - Further paths to remove, seen from inside O(root), with the same wildcards.
    type: list
    elements: str
    default: []
  live:
    description:
      - Allow a O(root) of V(/) on a machine whose systemd is running.
      - Without it the module refuses, because there it would take the identity of a machine that is in use.
    type: bool
    default: false
  defer:
    description:
      - Seal the machine that runs when it shuts down or reboots, after every service has ended, and discard the free space of its root file system.
      - What the shutdown itself writes is sealed as well, and the user who is logged in can still end the machine.
      - Nothing is changed before. RV(actions) are those that would be done now. The outcome is written to the console, in a line that begins
        with C(hyperscaler-seal:).
      - Needs a O(root) of V(/) and O(live).
    type: bool
    default: false
extends_documentation_fragment:
  - hyperscaler.images._attributes
  - hyperscaler.images._attributes.linux
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - On a running machine, logs and temporary files come back between two runs.
notes:
  - Run it last, and close the image or stop the machine right after it.
seealso:
  - name: machine-id(5)
    description: Why the file is left empty and not removed.
    link: https://manpages.debian.org/trixie/systemd/machine-id.5.en.html
author:
  - hyperscaler.images contributors (@hyperscaler)
"""

EXAMPLES = r"""
- name: Seal the image that is open
  hyperscaler.images.seal_root:
    users: [packer]

- name: Seal a root file system that is mounted on the build host
  hyperscaler.images.seal_root:
    root: /mnt/image
    keep: [/var/lib/dkms/mok.pub]

- name: Assert that an image holds no secret
  hyperscaler.images.seal_root:
    categories: [secrets]
  check_mode: true
  register: seal
  failed_when: seal.changed
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, as one sentence for each path.
  returned: success
  type: list
  elements: str
  sample: ["removed /etc/ssh/ssh_host_ed25519_key (SSH host keys)", "emptied /etc/machine-id (machine id)"]
paths:
  description: The paths that were changed, seen from inside O(root).
  returned: success
  type: list
  elements: str
  sample: [/etc/ssh/ssh_host_ed25519_key, /etc/machine-id]
mounted:
  description: Paths that a rule names but that were left alone because something is mounted there.
  returned: success
  type: list
  elements: str
  sample: [/var/cache/apt/archives]
freed:
  description: Bytes on disk that the removed and emptied files occupied.
  returned: success
  type: int
  sample: 73400320
msg:
  description: Why something was changed, or that nothing had to be.
  returned: always
  type: str
  sample: "/ was sealed: 12 paths of identity, secrets, logs."
"""

import sys
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._seal import Plan, SealError, Wishes, apply_seal, plan_seal, refuse_running, settings_told
from ansible_collections.hyperscaler.images.plugins.module_utils._seal_later import schedule
from ansible_collections.hyperscaler.images.plugins.module_utils._seal_rules import Category


def own_files() -> tuple[str, ...]:
    """The temporary folders that this very process was loaded from and still reads."""
    places = (Path(entry).parts for entry in sys.path)
    return tuple("/".join(parts[1 : depth + 1]) for parts in places for depth in (_depth(parts),) if depth)


def _depth(parts: tuple[str, ...]) -> int:
    for folder in (("/", "tmp"), ("/", "var", "tmp"), ("/", "run")):
        if parts[: len(folder)] == folder and len(parts) > len(folder):
            return len(folder)
    return 0


def result_of(root: Path, plan: Plan, diff: bool) -> dict[str, t.Any]:
    """The return values for a plan."""
    effects = plan.effects
    kinds = sorted({effect.category.value for effect in effects})
    paths = [effect.path for effect in effects]
    result: dict[str, t.Any] = {
        "changed": bool(effects),
        "msg": f"{root} was sealed: {len(effects)} paths of {', '.join(kinds)}.{settings_told(effects)}" if effects else f"{root} is sealed already.",
        "actions": [effect.sentence() for effect in effects],
        "paths": paths,
        "mounted": plan.mounted,
        "freed": sum(effect.size for effect in effects),
    }
    if diff:
        result["diff"] = {"before": "".join(f"{path}\n" for path in paths), "after": "", "before_header": f"not sealed in {root}", "after_header": "sealed"}
    return result


def finish(root: Path, wishes: Wishes, plan: Plan, params: t.Mapping[str, t.Any]) -> None:
    """Seal now, or have it done at the shutdown."""
    if not params["defer"]:
        apply_seal(root, plan)
    elif root != Path("/") or not params["live"]:
        raise SealError(f"Cannot seal {root} at the shutdown of this machine: defer needs a root of / and live. Set both, or leave out defer.")
    else:
        schedule(wishes)


def main() -> t.NoReturn:
    categories = [category.value for category in Category]
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/"},
            "categories": {"type": "list", "elements": "str", "choices": categories, "default": categories},
            "users": {"type": "list", "elements": "str", "default": []},
            "keep": {"type": "list", "elements": "str", "default": []},
            "extra": {"type": "list", "elements": "str", "default": []},
            "live": {"type": "bool", "default": False},
            "defer": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    root = Path(params["root"]).resolve()
    wishes = Wishes(
        categories=frozenset(Category(name) for name in params["categories"]),
        users=tuple(params["users"]),
        keep=tuple(params["keep"]),
        extra=tuple(params["extra"]),
        in_use=own_files() if root == Path("/") else (),
    )
    try:
        if not (params["live"] or module.check_mode):
            refuse_running(root)
        plan = plan_seal(root, wishes)
        result = result_of(root, plan, module._diff)
        if params["defer"]:
            result.update(changed=True, msg=f"{root} will be sealed when this machine shuts down.")
        if not module.check_mode:
            finish(root, wishes, plan, params)
    except ImageError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
