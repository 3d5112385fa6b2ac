# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Ask programs of a closed image how they read their own configuration.

They run in a container on the image as it is mounted, read-only, with owners, processes and network of its own, and nothing of the image is started.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils import _cgroup, _namespace, _user_range
from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._host_speed import grown
from ansible_collections.hyperscaler.images.plugins.module_utils._root_mounts import NSPAWN_STATE

TIMEOUT = 120.0
# A shell script by the name of the answer; a program that the image lacks, or that ends with an error, gives no answer.
Questions = t.Mapping[str, str]
Ask = t.Callable[[Questions], t.Mapping[str, str]]


class ImagePrograms:
    """The programs below ``top``, the root of an image in mounts of the calling process; ``place`` is an empty folder for the container."""

    def __init__(self, top: Path, place: Path) -> None:
        self._top, self._place = top, place

    def ask(self, questions: Questions) -> dict[str, str]:
        """What each question was answered, by its name; nothing where no container can be started on this machine."""
        try:
            with contextlib.ExitStack() as stack:
                return self._ask(stack, questions)
        except (ImageError, OSError):
            # Without these answers, the configuration is read by the collection alone.
            return {}

    def _ask(self, stack: contextlib.ExitStack, questions: Questions) -> dict[str, str]:
        nspawn = Command("systemd-nspawn", reason="ask programs of an image", package="systemd-container")
        first_id, lock = _user_range.take()
        stack.callback(os.close, lock)
        name = f"hyperscaler-inspect-{os.getpid()}"
        groups = _cgroup.make(name)
        stack.callback(_cgroup.remove, groups)
        self._mount(stack)
        token = secrets.token_hex(16)
        script = "\n".join(f"answer=$({text}\n) && printf '%s\\n' {token}:{shlex.quote(key)} \"$answer\"" for key, text in questions.items())
        arguments = (
            *(f"--directory={self._place}", "--read-only", f"--machine={name}", "--settings=no", "--register=no", "--keep-unit", "--link-journal=no"),
            *("--timezone=off", "--resolv-conf=off", "--console=pipe", "--quiet", "--private-network", "--no-new-privileges=yes", "--as-pid2"),
            *(f"--private-users={first_id}:{_user_range.SIZE}", "--private-users-ownership=map", "--drop-capability=CAP_MKNOD,CAP_SYS_BOOT,CAP_SYS_ADMIN"),
        )
        enter = "".join(f"echo $$ >{shlex.quote(str(group / 'cgroup.procs'))}\n" for group in groups)
        shell = Command("sh", reason="start a container", environment={"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"})
        inside = f"exec 2>/dev/null\nexport LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin\n{script}\ntrue"
        command = f"{enter}exec {shlex.join([*nspawn.argv(*arguments), '/bin/sh', '-c', inside])}"
        done = shell.run("-c", command, attempt="ask programs of the image", timeout=grown(TIMEOUT))
        return {part.split("\n", 1)[0]: part.split("\n", 1)[1] for part in done.stdout.split(f"{token}:")[1:]}

    def _mount(self, stack: contextlib.ExitStack) -> None:
        """Show the root file system alone at a place of its own, and keep in memory what systemd-nspawn writes."""
        self._place.mkdir(mode=0o700, parents=True, exist_ok=True)
        mount = Command("mount", reason="mount file systems", package="mount")
        mount.run("--bind", "--", self._top, self._place, attempt="show the root file system of the image")
        stack.callback(_namespace.unmount_lazily, self._place)
        NSPAWN_STATE.mkdir(parents=True, exist_ok=True)
        mount.run("--types", "tmpfs", "--options", "mode=0755", "--", "tmpfs", NSPAWN_STATE, attempt="keep what systemd-nspawn writes in memory")
        stack.callback(_namespace.unmount_lazily, NSPAWN_STATE)
