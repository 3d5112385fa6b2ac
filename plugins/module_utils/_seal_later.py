# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Seal a machine while it shuts down: after the last service that could write something has ended.

All that is needed lies below /run, which is memory: nothing of it is left in the image.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import json
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, reason
from ansible_collections.hyperscaler.images.plugins.module_utils._seal import SealError, Wishes, apply_seal, plan_seal, settings_told
from ansible_collections.hyperscaler.images.plugins.module_utils._seal_rules import Category

PACKAGE = "ansible_collections.hyperscaler.images.plugins.module_utils"
# This module and everything that it imports, directly or not.
SOURCES = ("_command", "_errors", "_files", "_pins", "_seal", "_seal_grub", "_seal_later", "_seal_names", "_seal_rules")
UNIT = "hyperscaler-seal.service"
SYSTEMD = Path("/run/systemd/system")
FOLDER = Path("/run/hyperscaler-images/seal")
CONSOLE = Path("/dev/console")
UNIT_TEXT = """\
# Units stop in the order opposite to that in which they start: this one last of all that write to the disk.
[Unit]
Description=Seal this machine when it shuts down
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target sysinit.target systemd-random-seed.service systemd-update-utmp.service systemd-timesyncd.service
Before=systemd-networkd.service systemd-resolved.service systemd-journal-flush.service systemd-tmpfiles-setup.service
Before=cloud-init-local.service systemd-pstore.service systemd-rfkill.service
After=local-fs.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/true
ExecStop=/usr/bin/python3 -B {folder}/run.py
TimeoutStopSec=15min
"""
PROGRAM = """\
import sys

sys.path.insert(0, {folder!r})
from {package}._seal_later import seal_now

seal_now()
"""


def schedule(wishes: Wishes, *, folder: Path = FOLDER, systemd: Path = SYSTEMD) -> None:
    """Have the machine sealed when it shuts down or reboots. Raises SealError on a machine without a running systemd."""
    if not systemd.parent.is_dir():
        raise SealError("Cannot seal this machine at its shutdown: systemd does not run here. Leave out defer to seal it now.")
    library = folder.joinpath(*PACKAGE.split("."))
    library.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name in SOURCES:
        (library / f"{name}.py").write_text(_source_of(f"{PACKAGE}.{name}"), encoding="utf-8")
    (folder / "wishes.json").write_text(json.dumps(wishes_to_dict(wishes)), encoding="utf-8")
    (folder / "run.py").write_text(PROGRAM.format(folder=str(folder), package=PACKAGE), encoding="utf-8")
    systemd.mkdir(exist_ok=True)
    (systemd / UNIT).write_text(UNIT_TEXT.format(folder=folder), encoding="utf-8")
    systemctl = Command("systemctl", reason="run units", package="systemd")
    systemctl.run("daemon-reload", attempt="announce the unit that seals at the shutdown")
    systemctl.run("start", UNIT, attempt=f"start {UNIT}")


def _source_of(module: str) -> str:
    """The text of a module, whether it lies in a folder or in the archive that Ansible sends."""
    try:
        return inspect.getsource(importlib.import_module(module))
    except (ImportError, OSError, TypeError) as error:
        raise SealError(f"Cannot seal this machine at its shutdown: the program {module} cannot be read. Install the collection again.") from error


def seal_now(root: Path = Path("/"), folder: Path = FOLDER, console: Path = CONSOLE) -> None:
    """What the unit does. Whether it went well is said on the console: nobody else is there any more."""
    wishes = wishes_from_dict(json.loads((folder / "wishes.json").read_text(encoding="utf-8")))
    try:
        with contextlib.suppress(ImageError):
            # The journal goes on in memory.
            Command("journalctl", reason="close the journal", package="systemd").run("--relinquish-var", attempt="close the journal", timeout=60)
        plan = plan_seal(root, wishes)
        apply_seal(root, plan)
        trim = Command("fstrim", reason="discard free space", package="util-linux")
        trimmed = trim.run("--verbose", str(root), attempt="discard the free space of the root file system", accepted=(0, 1, 32))
        said = f"{len(plan.effects)} paths.{settings_told(plan.effects)} {trimmed.stdout.strip()}"
    except (ImageError, OSError) as error:
        said = f"FAILED: {error if isinstance(error, ImageError) else reason(error)}"
    with contextlib.suppress(OSError), console.open("w", encoding="utf-8") as stream:
        stream.write(f"hyperscaler-seal: {said}\n")


def wishes_to_dict(wishes: Wishes) -> dict[str, t.Any]:
    """The wishes as plain data."""
    return {**dataclasses.asdict(wishes), "categories": sorted(category.value for category in wishes.categories), "in_use": []}


def wishes_from_dict(data: t.Mapping[str, t.Any]) -> Wishes:
    """The wishes that ``wishes_to_dict`` wrote."""
    lists = {name: tuple(data[name]) for name in ("users", "keep", "extra", "in_use")}
    return Wishes(categories=frozenset(Category(name) for name in data["categories"]), **lists)
