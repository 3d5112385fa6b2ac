# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening an image for its inspection, with stand-ins for everything that needs root."""

from __future__ import annotations

import contextlib
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _inspect_image
from ansible_collections.hyperscaler.images.plugins.module_utils._command import CommandResult
from ansible_collections.hyperscaler.images.plugins.module_utils._disk_layout import Partition, PartitionTable
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import BusyError, CommandError, ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Expectations
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils.inspect_fake_image import ESP, EXPECTED, KERNEL, ROOT, VOLUMES, clean_image

TABLE = PartitionTable("dos", "", 512, tuple(Partition(volume.number, 0, 0, "83", volume.partition_uuid) for volume in VOLUMES))


class FakeMount:
    """Stands for mount and mcopy: remembers the calls, and fails for a chosen node."""

    calls: t.ClassVar[list[tuple[str, ...]]] = []
    fails: t.ClassVar[set[str]] = set()

    def __init__(self, program: str, **_options: t.Any) -> None:
        self.program = program

    def run(self, *args: str | os.PathLike[str], attempt: str) -> CommandResult:
        words = tuple(str(arg) for arg in args)
        self.calls.append((self.program, *words))
        if self.fails.intersection(words):
            raise CommandError(f"Cannot {attempt}: {self.program} ended with exit code 32.")
        return CommandResult((), 0, "", "", 0.0)


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Path]:
    """A disk whose root is a clean tree; yields its path."""
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(1 << 20))
    root = clean_image(tmp_path / "root").root

    @contextlib.contextmanager
    def attached(_path: Path, _table: PartitionTable) -> t.Iterator[str]:
        yield "/dev/loop9"

    monkeypatch.setattr(_inspect_image, "_attached", attached)
    monkeypatch.setattr(_inspect_image, "MOUNT_FOLDER", root)
    monkeypatch.setattr(_inspect_image, "_require_closed", lambda _path: None)
    monkeypatch.setattr(_inspect_image, "read_table", lambda _path: TABLE)
    monkeypatch.setattr(_inspect_image, "read_volumes", lambda _device, _table: VOLUMES)
    monkeypatch.setattr(_inspect_image, "find_root", lambda _volumes, _table, _path: ROOT)
    monkeypatch.setattr(_inspect_image, "_inspect_disk_of", lambda _path, _table, _volumes: ([], {"disk": 0.0}))
    for name in ("unshare", "make_mounts_private", "unmount"):
        monkeypatch.setattr(_inspect_image._namespace, name, lambda *_args: None)
    monkeypatch.setattr(_inspect_image, "Command", FakeMount)
    monkeypatch.setattr(FakeMount, "calls", [])
    monkeypatch.setattr(FakeMount, "fails", set())
    yield path


def test_a_clean_image_is_described(opened: Path, tmp_path: Path) -> None:
    inspection = _inspect_image.inspect_image(opened, EXPECTED)
    assert inspection.findings == ()
    assert inspection.packages == 2
    assert inspection.files > 50
    assert inspection.os_release == {"id": "debian", "version_id": "13", "version_codename": "", "pretty_name": "Debian GNU/Linux 13 (trixie)"}
    assert [kernel.as_result() for kernel in inspection.kernels] == [
        {
            "version": KERNEL,
            "flavour": "cloud-amd64",
            "default": True,
            "modules": [
                {"name": "wireguard", "path": f"/lib/modules/{KERNEL}/kernel/net/wireguard.ko.xz", "vermagic": f"{KERNEL} SMP preempt mod_unload modversions"},
                {
                    "name": "nvidia-current",
                    "path": f"/lib/modules/{KERNEL}/updates/dkms/nvidia-current.ko",
                    "vermagic": f"{KERNEL} SMP preempt mod_unload modversions",
                },
                {"name": "ext4", "path": "(built in)", "vermagic": ""},
            ],
        }
    ]
    assert [(volume["partition"], volume["mount_point"]) for volume in inspection.file_systems] == [(14, ""), (15, "/boot/efi"), (1, "/")]
    root = str(tmp_path / "root")
    assert FakeMount.calls == [
        ("mount", "--types", "ext4", "--options", "ro,noload", "--", "", root),
        ("mount", "--types", "tmpfs", "--options", "mode=0755", "--", "tmpfs", f"{root}/boot/efi"),
        ("mcopy", "-s", "-m", "-n", "-i", "", "::/", f"{root}/boot/efi"),
    ]
    assert {"disk", "files", "packages", "private_keys"} <= set(inspection.seconds)


def test_a_root_that_cannot_be_mounted_is_a_finding(opened: Path) -> None:
    FakeMount.fails = {"ext4"}
    inspection = _inspect_image.inspect_image(opened, EXPECTED)
    assert [(finding.rule, finding.path) for finding in inspection.findings] == [("file_system.unreadable", "partition 1")]
    assert (
        inspection.findings[0].message == "holds a root file system that cannot be mounted. Cannot mount partition 1 read-only: mount ended with exit code 32."
    )
    assert inspection.kernels == ()


def test_an_esp_that_cannot_be_read_is_a_finding(opened: Path) -> None:
    FakeMount.fails = {"::/"}
    inspection = _inspect_image.inspect_image(opened, EXPECTED)
    assert [(finding.rule, finding.path) for finding in inspection.findings] == [("file_system.unreadable", f"partition {ESP.number}")]


def test_no_root_file_system_is_a_finding(opened: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_root(*_args: t.Any) -> t.NoReturn:
        raise _inspect_image.LayoutError("Cannot find the root file system.")

    monkeypatch.setattr(_inspect_image, "find_root", no_root)
    inspection = _inspect_image.inspect_image(opened, EXPECTED)
    assert [(finding.rule, finding.path, finding.message) for finding in inspection.findings] == [
        ("file_system.unreadable", "disk", "has no root file system whose files could be inspected. Cannot find the root file system.")
    ]


def test_a_mount_point_that_leads_out_of_the_image_is_left_alone(opened: Path, tmp_path: Path) -> None:
    (tmp_path / "outside" / "efi").mkdir(parents=True)
    boot = tmp_path / "root" / "boot"
    boot.rename(tmp_path / "root" / "kept")
    boot.symlink_to(tmp_path / "outside")
    _inspect_image.inspect_image(opened, Expectations())
    assert [call[0] for call in FakeMount.calls] == ["mount"]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        _inspect_image.inspect_image(tmp_path / "no.raw", Expectations())
    assert str(caught.value) == f"Cannot inspect {tmp_path}/no.raw: there is no such file. Name a disk image in raw format."


def test_root_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.raw"
    path.touch()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ImageError) as caught:
        _inspect_image.inspect_image(path, Expectations())
    assert str(caught.value) == f"Cannot inspect {path}: mounting its file systems needs root. Run the task with become."


@pytest.mark.parametrize(("read_only", "busy"), [("0\n", True), ("1\n", False)])
def test_an_open_image_is_refused(read_only: str, busy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.raw"
    path.touch()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(_inspect_image, "attached_devices", lambda _path: ["/dev/loop5"])
    monkeypatch.setattr(Path, "read_text", lambda self, **_options: read_only if str(self) == "/sys/class/block/loop5/ro" else "")
    if not busy:
        _inspect_image._require_closed(path)
        return
    with pytest.raises(BusyError) as caught:
        _inspect_image._require_closed(path)
    assert str(caught.value) == f"Cannot inspect {path}: it is open for writing (/dev/loop5). Close the image first."


def test_the_loop_device_goes_away_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "loop"
    device.touch()
    released: list[str] = []
    monkeypatch.setattr(_inspect_image, "attach_disk", lambda _path, _table, read_only: str(device) if read_only else "")
    monkeypatch.setattr(_inspect_image, "release_when_unused", released.append)
    with pytest.raises(ValueError, match="inside"), _inspect_image._attached(tmp_path, TABLE):
        assert released == [str(device)]
        raise ValueError("inside")
    assert device.resolve() not in [handle.resolve() for handle in Path("/proc/self/fd").iterdir()]


def test_what_cannot_be_read_is_a_finding(opened: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def damaged(path: str) -> t.Any:
        if str(path).endswith("/var/log"):
            raise OSError(117, "Structure needs cleaning")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", damaged)
    inspection = _inspect_image.inspect_image(opened, EXPECTED)
    assert [(finding.rule, finding.path, finding.message) for finding in inspection.findings] == [
        ("file_system.unreadable", "/var/log", "cannot be read: Structure needs cleaning.")
    ]


def test_files_that_cannot_be_opened_are_findings(opened: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opener = Path.open

    def damaged(self: Path, *args: t.Any, **options: t.Any) -> t.Any:
        if str(self).endswith("/etc/hosts"):
            raise OSError(5, "Input/output error")
        return opener(self, *args, **options)

    monkeypatch.setattr(Path, "open", damaged)
    inspection = _inspect_image.inspect_image(opened, EXPECTED)
    assert [(finding.path, finding.message) for finding in inspection.findings] == [("/etc/hosts", "cannot be read: Input/output error.")]
