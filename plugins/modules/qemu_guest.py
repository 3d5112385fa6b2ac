#!/usr/bin/python
# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_guest
short_description: Boot a disk image in a throw-away QEMU guest
version_added: "1.0.0"
author:
  - hyperscaler.images contributors (@hyperscaler)
description:
  - Starts a QEMU guest from a disk image, waits until it can be logged in to, and ends it.
  - The image is never written to. The guest writes to an overlay file that is removed when the guest ends.
  - The guest has one virtio disk with discard, an optional NoCloud seed, one virtio network interface with user-mode networking, and a serial console
    that is kept in a file. Its SSH port is forwarded from a port of 127.0.0.1 only.
  - A guest is known by its work folder. A guest that a killed run left behind is found there, and is used or ended. Only a process that was started for this
    work folder, with the same start time and arguments, is ever ended.
  - When the guest cannot be reached, the error says what kind of failure it is, with the last lines of the console, and the guest is ended.
  - Runs without special rights. KVM needs access to C(/dev/kvm).
requirements:
  - qemu-system-x86 (10 or newer when the host has no working KVM)
  - qemu-utils
  - openssh-client (for O(wait_for=login))
  - ovmf (for O(firmware=uefi))
extends_documentation_fragment:
  - hyperscaler.images._attributes
  - hyperscaler.images._attributes.linux
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description:
      - The name of the guest, for messages and for the list of processes.
      - Letters, digits, dots, dashes and underscores.
    type: str
    required: true
  state:
    description:
      - V(started) starts the guest when it does not run. A guest that runs with the same settings is left alone.
      - A guest that runs with other settings is an error, because ending it could destroy what somebody is looking at.
      - V(stopped) ends the guest and removes its overlay. The logs stay.
    type: str
    choices: [started, stopped]
    default: started
  work_dir:
    description:
      - An existing folder for the files of this guest.
      - One folder serves one guest.
    type: path
    required: true
  image:
    description:
      - The disk image to boot.
      - Required when O(state=started).
    type: path
  image_format:
    description: The format of O(image).
    type: str
    choices: [qcow2, raw]
    default: qcow2
  disk_size:
    description:
      - The size of the disk that the guest sees, for instance V(20G), or by how much it is larger than the image, for instance V(+1G).
      - Not smaller than the image. The size of the image by default.
    type: str
  firmware:
    description: The firmware that starts the disk.
    type: str
    choices: [bios, uefi]
    default: bios
  memory:
    description: The memory of the guest in MiB.
    type: int
    default: 1024
  cpus:
    description: The number of virtual processors.
    type: int
    default: 2
  seed:
    description: An ISO image that is attached as a second, read-only disk, for instance a NoCloud seed.
    type: path
  outbound:
    description: Whether the guest may open connections to the host and the world. SSH from the host works in either case.
    type: bool
    default: true
  allow_reboot:
    description:
      - Whether the guest may reboot.
      - V(false) ends the guest when it reboots, so that a guest that reboots over and over is noticed.
    type: bool
    default: false
  accelerator:
    description:
      - V(kvm) uses the processor of the host, and is an error where that does not work.
      - V(tcg) emulates a processor, which works everywhere and is slow. When the module runs as root, such a guest is preferred to other processes, because
        systemd in the guest gives up on slow devices.
      - V(auto) runs probe guests to find out whether KVM works and is clearly quicker than emulation, and emulates otherwise. A guest that stands still under
        a KVM that was chosen so is started once more, emulated, before the image is blamed. V(kvm) and V(tcg) are never replaced.
    type: str
    choices: [auto, kvm, tcg]
    default: auto
  accelerator_cache:
    description:
      - A file that keeps the outcome of the probe, or that a guest came up only when it was emulated.
        O(hyperscaler.images.qemu_accelerator_info#module:cache) says for how long.
      - The probe runs each time by default. It takes a few seconds.
    type: path
  ssh_port:
    description:
      - The port of 127.0.0.1 that leads to the SSH server of the guest.
      - V(0) lets the kernel choose a free one.
    type: int
    default: 0
  wait_for:
    description:
      - V(none) returns when QEMU runs.
      - V(ssh) waits until the SSH server greets.
      - V(login) waits until a login as O(ssh_user) with O(ssh_private_key) succeeds.
    type: str
    choices: [none, ssh, login]
    default: none
  timeout:
    description:
      - How many seconds to wait for O(wait_for) under KVM.
      - Six times as many when the guest is emulated, and more on a host that is slow or busy (RV(guest.patience)).
      - The wait ends at once when the guest ends or its console shows a failure from which it does not recover.
    type: int
    default: 180
  ssh_user:
    description: The user for O(wait_for=login).
    type: str
  ssh_private_key:
    description: The private key file for O(wait_for=login).
    type: path
  serial_log:
    description:
      - The file that keeps the serial console. It is emptied when the guest starts.
      - C(serial.log) in O(work_dir) by default.
    type: path
  end_with_playbook:
    description:
      - Whether the guest is ended when the C(ansible-playbook) that started it ends, however it ends.
      - A small process watches both. It can only see an C(ansible-playbook) that runs on the same machine as the guest; elsewhere this has no effect,
        which RV(guest.owner_pid) shows.
    type: bool
    default: false
  owner_pid:
    description:
      - The guest is ended when the process with this pid ends.
      - Takes precedence over O(end_with_playbook).
    type: int
  powerdown_timeout:
    description:
      - How many seconds the guest may take to shut itself down when O(state=stopped). It gets RV(guest.patience) times as many.
      - V(0) ends it at once.
    type: int
    default: 30
seealso:
  - module: hyperscaler.images.qemu_accelerator_info
"""

EXAMPLES = r"""
- name: Boot an image and wait until it can be logged in to
  hyperscaler.images.qemu_guest:
    name: cloud-base
    work_dir: /srv/images/boot/cloud-base
    image: /srv/images/cloud-base.qcow2
    seed: /srv/images/boot/cloud-base/seed.iso
    memory: 2048
    wait_for: login
    ssh_user: admin
    ssh_private_key: /srv/images/keys/id_ed25519
    end_with_playbook: true
  register: booted

- name: End the guest and throw away what it wrote
  hyperscaler.images.qemu_guest:
    name: cloud-base
    work_dir: /srv/images/boot/cloud-base
    state: stopped
"""

RETURN = r"""
guest:
  description: The guest that runs, or the one that was ended. Empty when there is none.
  returned: success
  type: dict
  contains:
    name:
      description: The name of the guest.
      type: str
      sample: cloud-base
    pid:
      description: The pid of QEMU.
      type: int
      sample: 4711
    ssh_host:
      description: The address that leads to the SSH server of the guest.
      type: str
      sample: 127.0.0.1
    ssh_port:
      description: The port that leads to the SSH server of the guest.
      type: int
      sample: 40123
    qmp_socket:
      description: The control socket of QEMU.
      type: str
    serial_log:
      description: The file with the serial console.
      type: str
    qemu_log:
      description: The file with the messages of QEMU.
      type: str
    accelerator:
      description: How the guest runs, V(kvm) or V(tcg).
      type: str
      sample: kvm
    reason:
      description: Why it runs in this way.
      type: str
      sample: 3 probe guests ran 64-bit code under KVM in 0.3 s or less, an emulated one took 1.1 s.
    patience:
      description: The factor by which time limits grow for this guest.
      type: int
      sample: 1
    boot_seconds:
      description: Seconds from the start of QEMU until O(wait_for) was seen for the first time; null when nothing was waited for.
      type: float
      sample: 9.4
    owner_pid:
      description: The process whose end ends the guest; null when there is none. Only set by the task that starts the guest.
      type: int
left_behind:
  description: Whether a guest of a run that was killed was found, and ended.
  returned: success
  type: bool
serial_tail:
  description: The last lines of the serial console.
  returned: success, and when the guest could not be reached
  type: list
  elements: str
kind:
  description:
    - What kind of failure it is.
    - One of V(no_boot_loader), V(grub_prompt), V(grub_error), V(kernel_panic), V(root_not_found), V(emergency_mode), V(no_network), V(cloud_init_error),
      V(sshd_not_up), V(authentication_refused), V(guest_ended), V(boot_incomplete), V(no_console_output).
  returned: when the guest could not be reached
  type: str
evidence:
  description: The lines of the console that show the failure.
  returned: when the guest could not be reached
  type: list
  elements: str
accelerator:
  description: How the guest ran, V(kvm) or V(tcg).
  returned: when the guest could not be reached
  type: str
advice:
  description: What to do about it.
  returned: when the guest could not be reached
  type: str
msg:
  description: What was done and why.
  returned: always
  type: str
"""

import contextlib
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hyperscaler.images.plugins.module_utils._accelerator import Accelerator
from ansible_collections.hyperscaler.images.plugins.module_utils._digest import changes
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import BusyError, ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._guest_boot import BootWait, wait_for_boot
from ansible_collections.hyperscaler.images.plugins.module_utils._guest_fallback import boot_with_fallback
from ansible_collections.hyperscaler.images.plugins.module_utils._guest_watch import playbook_pid, watch
from ansible_collections.hyperscaler.images.plugins.module_utils._process import ProcessIdentity
from ansible_collections.hyperscaler.images.plugins.module_utils._qemu_guest import SSH_HOST, GuestError, GuestFiles, GuestSettings, settings_from
from ansible_collections.hyperscaler.images.plugins.module_utils._qemu_process import GuestRecord, find_guest, guest_lock, start_guest, stop_guest
from ansible_collections.hyperscaler.images.plugins.module_utils._serial_log import read_console, tail

ARGUMENTS: dict[str, t.Any] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
    "work_dir": {"type": "path", "required": True},
    "image": {"type": "path"},
    "image_format": {"type": "str", "choices": ["qcow2", "raw"], "default": "qcow2"},
    "disk_size": {"type": "str"},
    "firmware": {"type": "str", "choices": ["bios", "uefi"], "default": "bios"},
    "memory": {"type": "int", "default": 1024},
    "cpus": {"type": "int", "default": 2},
    "seed": {"type": "path"},
    "outbound": {"type": "bool", "default": True},
    "allow_reboot": {"type": "bool", "default": False},
    "accelerator": {"type": "str", "choices": ["auto", "kvm", "tcg"], "default": "auto"},
    "accelerator_cache": {"type": "path"},
    "ssh_port": {"type": "int", "default": 0},
    "wait_for": {"type": "str", "choices": ["none", "ssh", "login"], "default": "none"},
    "timeout": {"type": "int", "default": 180},
    "ssh_user": {"type": "str"},
    "ssh_private_key": {"type": "path", "no_log": False},
    "serial_log": {"type": "path"},
    "end_with_playbook": {"type": "bool", "default": False},
    "owner_pid": {"type": "int"},
    "powerdown_timeout": {"type": "int", "default": 30},
}
CONDITIONS: list[t.Any] = [("state", "started", ["image"]), ("wait_for", "login", ["ssh_user", "ssh_private_key"])]


def describe(settings: GuestSettings, record: GuestRecord | None) -> dict[str, t.Any]:
    """The guest as the module returns it."""
    if record is None:
        return {}
    files = GuestFiles(settings.work_dir)
    kept = {key: getattr(record, key) for key in ("ssh_port", "accelerator", "reason", "patience", "boot_seconds")}
    paths = {"qmp_socket": str(files.qmp), "serial_log": str(settings.serial_log), "qemu_log": str(files.log)}
    return {"name": settings.name, "pid": record.process.pid, "ssh_host": SSH_HOST, **paths, **kept, "owner_pid": None}


def tie(p: dict[str, t.Any], files: GuestFiles, record: GuestRecord) -> int | None:
    """Let the guest end with its owner; return the pid of the owner."""
    pid = p["owner_pid"] or (playbook_pid() if p["end_with_playbook"] else None)
    if pid is None:
        return None
    owner = ProcessIdentity.of(pid)
    if owner is None:
        raise GuestError(f"Cannot tie the guest {p['name']} to the process {pid}: there is no such process. Correct owner_pid.")

    def end_guest() -> None:
        # A task that still waits for the guest holds the lock; it sees the end of QEMU and removes the files itself.
        record.process.end()
        with contextlib.suppress(BusyError), guest_lock(files):
            if find_guest(files) is None:
                stop_guest(files, powerdown=0)

    watch(owner, record.process, end_guest)
    return pid


def start(p: dict[str, t.Any], settings: GuestSettings, current: GuestRecord | None, check_mode: bool) -> dict[str, t.Any]:
    """Bring the guest up unless it is."""
    files = GuestFiles(settings.work_dir)
    left_behind = current is not None and not current.settings
    running = current is not None and not left_behind
    if current is not None and running:
        differences = changes(current.settings, settings.to_dict())
        if differences:
            raise GuestError(
                f"Cannot start the guest {settings.name}: it runs as pid {current.process.pid} with other settings ({'; '.join(differences)}). Stop it first."
            )
    if check_mode:
        msg = f"{settings.name} runs already." if running else f"{settings.name} does not run and would be started."
        return {"changed": not running, "msg": msg, "guest": describe(settings, current), "left_behind": left_behind}
    wait = BootWait(p["wait_for"], p["timeout"], p["ssh_user"] or "", Path(p["ssh_private_key"]) if p["ssh_private_key"] else None)
    cache = Path(p["accelerator_cache"]) if p["accelerator_cache"] else None
    owner = None

    def boot(accelerator: Accelerator) -> GuestRecord:
        nonlocal owner
        started = start_guest(settings, accelerator)
        owner = tie(p, files, started)
        return wait_for_boot(settings, started, wait)

    try:
        record = wait_for_boot(settings, current, wait) if current is not None and running else boot_with_fallback(settings, cache, boot)
    except BaseException:
        stop_guest(files, powerdown=0)
        raise
    msg = f"{settings.name} runs already." if running else f"{settings.name} did not run and was started ({record.accelerator}: {record.reason})"
    return {"changed": not running, "msg": msg, "guest": {**describe(settings, record), "owner_pid": owner}, "left_behind": left_behind}


def stop(p: dict[str, t.Any], settings: GuestSettings, current: GuestRecord | None, check_mode: bool) -> dict[str, t.Any]:
    """End the guest if there is one."""
    left_behind = current is not None and not current.settings
    if not check_mode:
        stop_guest(GuestFiles(settings.work_dir), powerdown=p["powerdown_timeout"] * (current.patience if current else 1))
    verb = "would be ended" if check_mode else "was ended"
    msg = f"{settings.name} does not run." if current is None else f"{settings.name} ran as pid {current.process.pid} and {verb}."
    return {"changed": current is not None, "msg": msg, "guest": describe(settings, current), "left_behind": left_behind}


def main() -> t.NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENTS, required_if=CONDITIONS, supports_check_mode=True)
    p = module.params
    try:
        settings = settings_from(p)
        files = GuestFiles(settings.work_dir)
        with guest_lock(files):
            current = find_guest(files)
            act = start if p["state"] == "started" else stop
            result = act(p, settings, current, module.check_mode)
        before, after = ("started" if current else "stopped"), p["state"]
        diff = {"before": {"state": before}, "after": {"state": after}}
        module.exit_json(**result, serial_tail=tail(read_console(settings.serial_log)), diff=diff)
    except ImageError as error:
        module.fail_json(msg=str(error), **error.details)


if __name__ == "__main__":
    main()
