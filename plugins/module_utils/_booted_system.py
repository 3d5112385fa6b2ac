# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Look at a system that has just booted from an image, and judge whether it came up as it should."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import fnmatch
import hashlib
import json
import os
import re
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, ToolError, reason

IMAGE_DOCUMENT = "etc/hyperscaler-image.json"
JOURNAL_LINES = 6
# Clocks are set while the guest boots; a key that came with the image is older by much more.
CLOCK_SLACK = 30
# Alignment and the backup partition table take the end of a disk; a file system needs some of its partition for itself.
DISK_SLACK = 4 << 20
FILE_SYSTEM_SHARE = 0.85


class Check(t.NamedTuple):
    """One thing that was looked at; ``detail`` is a sentence in both cases."""

    name: str
    passed: bool
    detail: str


@dataclasses.dataclass(frozen=True)
class AllowedUnit:
    """A unit that may fail on the first boot, with the reason; ``unit`` is a name or a shell pattern."""

    unit: str
    reason: str

    def covers(self, name: str) -> bool:
        """Whether the unit is meant; a name without a type is that of a service, as for systemctl."""
        wanted = self.unit if re.search(r"\.[a-z]+$|[*?\]]$", self.unit) else f"{self.unit}.service"
        return fnmatch.fnmatchcase(name, wanted)


@dataclasses.dataclass(frozen=True)
class HostKey:
    """A public SSH host key."""

    path: str
    type: str
    fingerprint: str
    created: float


@dataclasses.dataclass(frozen=True)
class RootDisk:
    """Sizes in bytes: the file system, its partition, where that ends, and the disk."""

    device: str
    file_system: int
    partition: int
    partition_end: int
    disk: int


@dataclasses.dataclass(frozen=True)
class BootedSystem:
    """What was found."""

    cloud_init: dict[str, t.Any] | None
    system_state: str
    failed_units: tuple[dict[str, t.Any], ...]
    machine_id: str
    boot_time: float
    kernel: str
    firmware: str
    host_keys: tuple[HostKey, ...]
    root: RootDisk | None
    image: dict[str, t.Any] | None
    image_error: str = ""

    def to_dict(self) -> dict[str, t.Any]:
        """The findings as plain data."""
        return dataclasses.asdict(self)


def inspect_system(timeout: float, root: Path = Path("/")) -> BootedSystem:
    """Wait for the end of the boot and look around."""
    cloud_init = _cloud_init(timeout)
    state = _system_state(timeout)
    image, image_error = read_image_document(root)
    return BootedSystem(
        cloud_init=cloud_init,
        system_state=state,
        failed_units=_failed_units(),
        machine_id=_read(root / "etc/machine-id").strip(),
        boot_time=parse_boot_time(_read(root / "proc/stat")),
        kernel=os.uname().release,
        firmware="uefi" if (root / "sys/firmware/efi").is_dir() else "bios",
        host_keys=read_host_keys(root),
        root=_root_disk(root),
        image=image,
        image_error=image_error,
    )


def require_reasons(allowed: t.Iterable[AllowedUnit]) -> None:
    """Raise ImageError when a unit is allowed to fail without a name or a reason."""
    for each in allowed:
        if not each.unit.strip():
            raise ImageError("Cannot allow a unit to fail: its name is empty. Give the name that systemctl list-units --state=failed shows.")
        if not each.reason.strip():
            raise ImageError(f"Cannot allow {each.unit} to fail: the reason is empty. Say why the image may be published with it.", unit=each.unit)


def judge(system: BootedSystem, allowed: t.Sequence[AllowedUnit] = ()) -> list[Check]:
    """The checks that every image has to pass on its first boot; units that are ``allowed`` may fail, and so the system may be degraded by them."""
    return [
        _check_cloud_init(system.cloud_init),
        _check_units(system, allowed),
        Check("machine_id", re.fullmatch(r"[0-9a-f]{32}", system.machine_id) is not None, f"The machine id is {system.machine_id or 'empty'!r}."),
        _check_host_keys(system),
        _check_root(system.root),
        Check(
            "image_document",
            system.image is not None,
            f"/{IMAGE_DOCUMENT} {'is readable' if system.image is not None else 'cannot be read: ' + system.image_error}.",
        ),
    ]


def _check_cloud_init(status: dict[str, t.Any] | None) -> Check:
    if status is None:
        return Check("cloud_init", True, "cloud-init is not installed.")
    errors = [str(entry) for entry in status.get("errors") or []]
    warnings = [f"{level}: {entry}" for level, entries in (status.get("recoverable_errors") or {}).items() for entry in entries]
    passed = status.get("status") == "done" and not errors
    state = status.get("extended_status") or status.get("status") or "in an unknown state"
    details = errors + warnings
    return Check("cloud_init", passed, f"cloud-init is {state}{' (' + '; '.join(details) + ')' if details else ''}.")


def _check_units(system: BootedSystem, allowed: t.Sequence[AllowedUnit]) -> Check:
    reasons = {unit["unit"]: next((each.reason for each in allowed if each.covers(unit["unit"])), None) for unit in system.failed_units}
    failed = [unit for unit in system.failed_units if reasons[unit["unit"]] is None]
    accepted = "".join(f" {unit} failed, which is allowed: {reason.rstrip('.')}." for unit, reason in reasons.items() if reason is not None)
    unused = [each.unit for each in allowed if not any(each.covers(unit["unit"]) for unit in system.failed_units)]
    notes = accepted + (f" Allowed to fail without need, so remove it from what is allowed: {', '.join(unused)}." if unused else "")
    if failed:
        units = "; ".join(f"{unit['unit']} ({' | '.join(unit['journal'])})" for unit in failed)
        names = " and ".join(f"{{unit: {unit['unit']}, reason: …}}" for unit in failed)
        advice = f"When the hardware that they need is missing in a virtual machine, allow them in image_boot_allowed: {names}."
        return Check("units", False, f"Units failed: {units}. {advice}{notes}")
    state = system.system_state or "in an unknown state"
    passed = state == "running" or (state == "degraded" and bool(accepted))
    return Check("units", passed, f"The system is {state}; no {'other ' if accepted else ''}unit failed.{notes}")


def _check_host_keys(system: BootedSystem) -> Check:
    if not system.host_keys:
        return Check("host_keys", False, "There is no SSH host key.")
    old = [key.path for key in system.host_keys if key.created < system.boot_time - CLOCK_SLACK]
    if old:
        return Check("host_keys", False, f"SSH host keys are older than this boot, so they came with the image: {', '.join(old)}.")
    return Check("host_keys", True, f"{len(system.host_keys)} SSH host keys were made on this boot.")


def _check_root(root: RootDisk | None) -> Check:
    if root is None:
        return Check("root_grown", False, "The disk of the root file system was not found.")
    sizes = f"{root.device}: disk {root.disk >> 20} MiB, partition {root.partition >> 20} MiB, file system {root.file_system >> 20} MiB"
    if root.partition_end < root.disk - DISK_SLACK:
        return Check("root_grown", False, f"The root partition does not reach the end of the disk ({sizes}).")
    if root.file_system < root.partition * FILE_SYSTEM_SHARE:
        return Check("root_grown", False, f"The root file system does not fill its partition ({sizes}).")
    return Check("root_grown", True, f"The root file system fills the disk ({sizes}).")


def parse_boot_time(stat: str) -> float:
    """The boot time of /proc/stat in seconds since 1970."""
    found = re.search(r"^btime (\d+)$", stat, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def parse_host_key(path: str, text: str, created: float) -> HostKey | None:
    """A public key file, or None when it holds no key."""
    fields = text.split()
    try:
        data = base64.b64decode(fields[1], validate=True)
    except (IndexError, binascii.Error):
        return None
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode("ascii").rstrip("=")
    return HostKey(path, fields[0], f"SHA256:{digest}", created)


def read_host_keys(root: Path) -> tuple[HostKey, ...]:
    """The SSH host keys of a system."""
    found = (parse_host_key(str(path), _read(path), path.stat().st_mtime) for path in sorted((root / "etc/ssh").glob("ssh_host_*_key.pub")))
    return tuple(key for key in found if key is not None)


def read_image_document(root: Path) -> tuple[dict[str, t.Any] | None, str]:
    """What the image says of itself, or why that cannot be read."""
    try:
        document = json.loads((root / IMAGE_DOCUMENT).read_text(encoding="utf-8"))
    except OSError as error:
        return None, reason(error)
    except ValueError:
        return None, "it is not JSON"
    return (document, "") if isinstance(document, dict) else (None, "it is not a JSON object")


def parse_failed_units(text: str) -> list[dict[str, t.Any]]:
    """The units in the JSON output of systemctl."""
    return [{"unit": str(entry["unit"]), "description": str(entry.get("description", ""))} for entry in json.loads(text or "[]")]


def _cloud_init(timeout: float) -> dict[str, t.Any] | None:
    try:
        command = Command("cloud-init", reason="wait for the end of cloud-init")
    except ToolError:
        return None
    result = command.run("status", "--wait", "--format", "json", attempt="wait for the end of cloud-init", accepted=(0, 1, 2), timeout=timeout)
    try:
        return t.cast("dict[str, t.Any]", json.loads(result.stdout))
    except ValueError as error:
        raise ImageError(f"Cannot read the status of cloud-init: it is not JSON. It said: {(result.stdout + result.stderr).strip()}", rc=result.rc) from error


def _system_state(timeout: float) -> str:
    systemctl = Command("systemctl", reason="look at the state of the system", package="systemd")
    # The exit code only repeats what is printed.
    result = systemctl.run("is-system-running", "--wait", attempt="wait for the end of the boot", accepted=range(256), timeout=timeout)
    return result.stdout.strip()


def _failed_units() -> tuple[dict[str, t.Any], ...]:
    systemctl = Command("systemctl", reason="look for units that failed", package="systemd")
    journalctl = Command("journalctl", reason="show why a unit failed", package="systemd")
    listed = systemctl.run("list-units", "--state=failed", "--all", "--no-pager", "--output=json", attempt="list the units that failed")
    units = []
    for unit in parse_failed_units(listed.stdout):
        arguments = ("--unit", unit["unit"], "--lines", str(JOURNAL_LINES), "--output=cat", "--no-pager")
        journal = journalctl.run(*arguments, attempt=f"read the journal of {unit['unit']}", accepted=range(256))
        units.append({**unit, "journal": journal.stdout.strip().splitlines()})
    return tuple(units)


def _root_disk(root: Path) -> RootDisk | None:
    findmnt = Command("findmnt", reason="find the disk of the root file system", package="mount")
    mounted = findmnt.run_json("--json", "--output", "SOURCE", "/", attempt="find the disk of the root file system")
    device = os.path.realpath(str(mounted["filesystems"][0]["source"]).partition("[")[0])
    usage = os.statvfs("/")
    return read_disk(root / "sys/class/block" / Path(device).name, device, usage.f_blocks * usage.f_frsize)


def read_disk(entry: Path, device: str, file_system: int) -> RootDisk | None:
    """The sizes of a partition and its disk from sysfs, or None when it is no partition of a disk."""
    try:
        real = entry.resolve(strict=True)
        size, start = (int((real / name).read_text(encoding="ascii")) * 512 for name in ("size", "start"))
        disk = int((real.parent / "size").read_text(encoding="ascii")) * 512
    except (OSError, ValueError):
        return None
    return RootDisk(device, file_system, size, start + size, disk)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
