# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests for _boot_loader."""

from __future__ import annotations

import os
import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _boot_loader
from ansible_collections.hyperscaler.images.plugins.module_utils._boot_loader import (
    EFI_FILES,
    device_nodes,
    efi_configuration,
    install_bios,
    make_devices,
    stage_efi,
    write_efi,
    write_menu,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._disk_layout import MIB, Partition, PartitionTable
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import LayoutError

TABLE = PartitionTable("gpt", "", 512, (Partition(14, MIB, MIB, "B", "BIOS-UUID"), Partition(1, 2 * MIB, MIB, "R", "ROOT-UUID")))
SBIN = "/usr/sbin:/sbin:/usr/bin:/bin"


class FakeInside:
    """Records the programs that run in the image."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []

    def __call__(self, program: str) -> t.Any:
        calls = self.calls

        class Recorder:
            def run(self, *arguments: str, attempt: str) -> None:
                assert attempt
                calls.append((program, *arguments))

        return Recorder()


def make_root(root: Path) -> Path:
    for source in {*EFI_FILES.values(), "usr/lib/grub/x86_64-efi/ext2.mod", "usr/lib/grub/x86_64-efi/fs.lst", "usr/lib/grub/x86_64-efi/kernel.img"}:
        (root / source).parent.mkdir(parents=True, exist_ok=True)
        (root / source).write_text(source, encoding="ascii")
    return root


def test_device_nodes() -> None:
    assert device_nodes("/dev/loop7", TABLE) == ["/dev/loop7", "/dev/loop7p14", "/dev/loop7p1"]


def test_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def mknod(path: Path, mode: int, number: int) -> None:
        made.append((Path(path).name, mode & 0o777, number))
        Path(path).touch()

    monkeypatch.setattr(_boot_loader.os, "mknod", mknod)
    monkeypatch.setattr(_boot_loader, "device_nodes", lambda _device, _table: [os.devnull])
    make_devices(tmp_path, "/dev/loop7", TABLE)
    assert ("urandom", 0o666, os.makedev(1, 9)) in made
    assert made[-1] == ("null", 0o600, os.makedev(1, 3))
    assert (tmp_path / "disk/by-partuuid/root-uuid").readlink() == Path("../../loop7p1")
    assert (tmp_path / "disk/by-partuuid/bios-uuid").readlink() == Path("../../loop7p14")


def test_programs_of_the_image() -> None:
    inside = FakeInside()
    install_bios(inside, "/dev/loop7")
    write_menu(inside)
    assert inside.calls == [("grub-install", "--target=i386-pc", "--no-floppy", "/dev/loop7"), ("update-grub",)]


def test_stage(tmp_path: Path) -> None:
    root, stage = make_root(tmp_path / "root"), tmp_path / "stage"
    stage_efi(root, stage, "1234")
    assert {str(file.relative_to(stage)) for file in stage.rglob("*") if file.is_file()} == {*EFI_FILES, "EFI/debian/grub.cfg"}
    assert (stage / "EFI/BOOT/BOOTX64.EFI").read_text(encoding="ascii") == "usr/lib/shim/shimx64.efi.signed"
    assert (stage / "EFI/debian/grub.cfg").read_text(encoding="ascii") == efi_configuration("1234")
    assert sorted(file.name for file in (root / "boot/grub/x86_64-efi").iterdir()) == ["ext2.mod", "fs.lst"]


def test_configuration() -> None:
    assert efi_configuration("1234").splitlines()[0] == "search.fs_uuid 1234 root"


def test_stage_without_shim(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"the image has no /usr/lib/shim/shimx64.efi.signed. Install shim-signed and grub-efi-amd64-signed"):
        stage_efi(tmp_path, tmp_path / "stage", "1234")


@pytest.mark.skipif(not all(shutil.which(tool, path=SBIN) for tool in ("mcopy", "mkfs.vfat")), reason="mtools or dosfstools are not installed")
def test_write(tmp_path: Path) -> None:
    disk, stage = tmp_path / "disk.raw", tmp_path / "stage"
    with disk.open("wb") as stream:
        stream.truncate(132 * MIB)
    mkfs = shutil.which("mkfs.vfat", path=SBIN)
    subprocess.run([str(mkfs), "-F", "32", "-s", "1", "--offset=8192", str(disk), "126976"], check=True, capture_output=True)
    stage_efi(make_root(tmp_path / "root"), stage, "1234")
    write_efi(disk, Partition(15, 4 * MIB, 124 * MIB, "E"), stage)
    mtype = shutil.which("mtype", path=SBIN)
    read = subprocess.run([str(mtype), "-i", f"{disk}@@4M", "::/EFI/debian/grub.cfg"], check=True, capture_output=True, env={"MTOOLS_SKIP_CHECK": "1"})
    assert read.stdout.decode("ascii") == efi_configuration("1234")
