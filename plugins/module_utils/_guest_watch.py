# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""A small process that ends a guest when the process that wanted it is gone."""

from __future__ import annotations

import os
import select
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._process import ProcessIdentity

PLAYBOOK_PROGRAMS = ("ansible-playbook", "ansible", "ansible-console")


def playbook_pid(process_folder: Path = Path("/proc"), pid: int | None = None) -> int | None:
    """The topmost Ansible process above this one; None when Ansible reached this host from elsewhere."""
    found = None
    pid = os.getppid() if pid is None else pid
    while pid > 1:
        try:
            arguments = (process_folder / str(pid) / "cmdline").read_bytes().decode("utf-8", errors="replace").split("\0")
            status = (process_folder / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            break
        if any(Path(argument).name in PLAYBOOK_PROGRAMS for argument in arguments[:2]):
            found = pid
        pid = int(status.rpartition(")")[2].split()[1])
    return found


def watch(owner: ProcessIdentity, guest: ProcessIdentity, end_guest: t.Callable[[], object]) -> None:
    """Start the watcher: it calls ``end_guest`` when ``owner`` ends before ``guest``, and goes when the guest goes."""
    middle = os.fork()
    if middle:
        os.waitpid(middle, 0)
        return
    # The watcher must not run the handlers that Ansible registered for the end of the module.
    try:
        os.setsid()
        # While this process is waited for: whoever holds a lock must be able to give it up as soon as this function has returned.
        _detach()
        if os.fork() == 0 and _outlives(guest, owner):
            end_guest()
    finally:
        os._exit(0)


def _detach() -> None:
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))


def _outlives(guest: ProcessIdentity, owner: ProcessIdentity) -> bool:
    """Wait for the end of one of the two; tell whether the guest is the one that is left."""
    guest_fd, owner_fd = guest.open_pidfd(), owner.open_pidfd()
    if guest_fd is None:
        return False
    return owner_fd is None or guest_fd not in select.select([guest_fd, owner_fd], [], [])[0]
