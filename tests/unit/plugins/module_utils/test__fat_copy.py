# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of a FAT file system that mtools reads and writes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, LayoutError
from ansible_collections.hyperscaler.images.plugins.module_utils._fat_copy import FatCopy

pytestmark = pytest.mark.skipif(not (shutil.which("mcopy") and shutil.which("mkfs.vfat")), reason="needs mtools and dosfstools")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    disk, stage = tmp_path / "esp.img", tmp_path / "stage"
    subprocess.run(["mkfs.vfat", "-C", disk, "4096"], check=True, stdout=subprocess.DEVNULL)
    (stage / "EFI/BOOT").mkdir(parents=True)
    (stage / "EFI/debian").mkdir()
    (stage / "EFI/BOOT/BOOTX64.EFI").write_bytes(b"shim")
    (stage / "EFI/debian/grub.cfg").write_bytes(b"old")
    subprocess.run(["mcopy", "-s", "-i", disk, stage / "EFI", "::/"], check=True)
    return disk


def opened(image: Path, folder: Path) -> FatCopy:
    folder.mkdir()
    return FatCopy.read(str(image), folder, os.getuid())


def files_of(image: Path, folder: Path) -> dict[str, bytes]:
    opened(image, folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_written_when_nothing_changed(image: Path, tmp_path: Path) -> None:
    before = image.read_bytes()
    assert not opened(image, tmp_path / "open").store()
    assert image.read_bytes() == before


def test_changes_arrive_on_the_partition(image: Path, tmp_path: Path) -> None:
    copy = opened(image, tmp_path / "open")
    (copy.folder / "EFI/debian/grub.cfg").write_bytes(b"a new and longer one")
    (copy.folder / "EFI/Other folder").mkdir()
    (copy.folder / "EFI/Other folder/with a name that is longer than eight letters.efi").write_bytes(b"x" * 70000)
    (copy.folder / "EFI/empty").mkdir()
    shutil.rmtree(copy.folder / "EFI/BOOT")
    assert copy.store()
    assert files_of(image, tmp_path / "again") == {
        "EFI/debian/grub.cfg": b"a new and longer one",
        "EFI/Other folder/with a name that is longer than eight letters.efi": b"x" * 70000,
    }
    assert sorted(path.name for path in (tmp_path / "again/EFI").iterdir()) == ["Other folder", "debian", "empty"]
    assert subprocess.run(["fsck.vfat", "-n", image], check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_a_folder_takes_the_place_of_a_file(image: Path, tmp_path: Path) -> None:
    copy = opened(image, tmp_path / "open")
    (copy.folder / "EFI/debian/grub.cfg").unlink()
    (copy.folder / "EFI/debian/grub.cfg").mkdir()
    (copy.folder / "EFI/debian/grub.cfg/part").write_bytes(b"1")
    copy.store()
    assert files_of(image, tmp_path / "again") == {"EFI/BOOT/BOOTX64.EFI": b"shim", "EFI/debian/grub.cfg/part": b"1"}


def test_an_empty_partition_can_be_read(tmp_path: Path) -> None:
    disk = tmp_path / "esp.img"
    subprocess.run(["mkfs.vfat", "-C", disk, "1024"], check=True, stdout=subprocess.DEVNULL)
    assert files_of(disk, tmp_path / "open") == {}


def test_what_fat_cannot_hold_is_an_error(image: Path, tmp_path: Path) -> None:
    copy = opened(image, tmp_path / "open")
    (copy.folder / "EFI/link").symlink_to("debian")
    with pytest.raises(LayoutError, match="/EFI/link cannot be written to the EFI system partition: FAT has only files and folders"):
        copy.store()
    (copy.folder / "EFI/link").unlink()
    (copy.folder / "EFI/large").write_bytes(b"x" * 8_000_000)
    with pytest.raises(CommandError, match=r"write the files of .*esp\.img back: mcopy ended with exit code"):
        copy.store()
