# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this plugin util is private to the hyperscaler.images collection.
"""What the action plugin ``artefact`` does on the machine itself: install packages, and keep a record of them."""

from __future__ import annotations

import shlex
import tempfile
import time
import typing as t
from pathlib import Path

from ansible.plugins.action import ActionBase
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_record import Record
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError

APT = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "--allow-downgrades"]
APT += ["--allow-change-held-packages", "--option=DPkg::Lock::Timeout=300", "--option=Dpkg::Options::=--force-confold"]
LOCK_TIMEOUT = 300.0
LOCK_PAUSE = 5.0
RECORDS = "/usr/local/share/hyperscaler/artefacts"


class OnMachine(ActionBase):
    """The part of an action that works on the machine."""

    TRANSFERS_FILES = True

    def _record(self, component: str) -> Record | None:
        read = self._low_level_execute_command(f"cat {shlex.quote(f'{RECORDS}/{component}.json')}", sudoable=True)
        return Record.parse(read["stdout"]) if read["rc"] == 0 else None

    def _is_installed(self, record: Record) -> bool:
        names = " ".join(shlex.quote(package["name"]) for package in record.packages)
        shown = self._low_level_execute_command(f"dpkg-query --show --showformat='${{db:Status-Status}} ${{Package}} ${{Version}}\\n' {names}")
        return bool(names) and record.dpkg_lines() <= set(shown["stdout"].splitlines())

    def _install(self, record: Record, files: t.Sequence[Path], variables: dict[str, t.Any]) -> None:
        """All packages in one call of apt-get: they depend on each other."""
        until = time.monotonic() + LOCK_TIMEOUT
        # apt-get waits for the lock of dpkg, but not for that of its cache. The lock is on the host, where nothing tells of its release.
        while "Could not get lock" in (problem := self._run_with(APT, files, [], variables)) and time.monotonic() < until:
            time.sleep(LOCK_PAUSE)
        if problem:
            raise ImageError(f"Cannot install {record.component} from {', '.join(path.name for path in files)}: apt-get says {problem}.")

    def _write(self, record: Record, variables: dict[str, t.Any]) -> None:
        with tempfile.NamedTemporaryFile("w", prefix="hyperscaler-record-", encoding="utf-8") as local:
            local.write(record.text())
            local.flush()
            target = f"{RECORDS}/{record.component}.json"
            problem = self._run_with(["install", "-D", "--mode=0644"], [Path(local.name)], [target], variables)
        if problem:
            raise ImageError(f"Cannot record in {target} what was installed: {problem}.")

    def _run_with(self, before: t.Sequence[str], files: t.Sequence[Path], after: t.Sequence[str], variables: dict[str, t.Any]) -> str:
        """Run a program on the host with copies of local files; return the last lines that it wrote when it failed."""
        folder = self._make_tmp_path()
        try:
            remote = [self._transfer_file(str(path), self._connection._shell.join_path(folder, path.name)) for path in files]
            self._fixup_perms2([folder, *remote])
            arguments = {"argv": [*before, *remote, *after]}
            done = self._execute_module(module_name="ansible.builtin.command", module_args=arguments, task_vars=variables)
        finally:
            self._remove_tmp_path(folder)
        text = done.get("stderr") or done.get("stdout") or str(done.get("msg"))
        return " | ".join(text.strip().splitlines()[-12:]) if done.get("failed") else ""
