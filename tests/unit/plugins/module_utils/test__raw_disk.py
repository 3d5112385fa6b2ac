# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what is a raw disk and what only looks like one. The files are made by the real tools where there are some."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._disk_layout import read_table
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import IntegrityError, LayoutError
from ansible_collections.hyperscaler.images.plugins.module_utils._raw_disk import foreign_format, refuse_foreign, refuse_other_sectors, refuse_truncated

TOOLS = "/usr/sbin:/sbin:/usr/bin:/bin"
needs_qemu = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
needs_sfdisk = pytest.mark.skipif(shutil.which("sfdisk", path=TOOLS) is None, reason="sfdisk is not installed")
needs_mkfs = pytest.mark.skipif(shutil.which("mkfs.ext4", path=TOOLS) is None, reason="e2fsprogs are not installed")
MIB = 1 << 20


def tar(content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo("appliance.ovf")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def zipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("disk.raw", content)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (gzip.compress(bytes(4096), mtime=0), "a gzip file"),
        (lzma.compress(bytes(4096)), "an xz file"),
        (bz2.compress(bytes(4096)), "a bzip2 file"),
        (tar(bytes(4096)), "a tar archive, as an OVA is"),
        (zipped(bytes(4096)), "a zip archive"),
        (bytes(MIB) + b"conectix" + bytes(504), "a VHD file"),
        (bytes(MIB) + b"conectix" + bytes(503), "a VHD file"),
        (bytes(MIB) + b"koly" + bytes(508), "an Apple disk image (dmg)"),
        (b"\x3a\xff\x26\xed" + bytes(508), "an Android sparse image"),
        (b"# Disk DescriptorFile\n", "the description of a VMDK disk, not the disk"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(content)
    with pytest.raises(LayoutError) as caught:
        refuse_foreign(path, "pack it")
    assert str(caught.value).startswith(f"Cannot pack it: it is {name}, where a raw disk is expected. ")
    with pytest.raises(LayoutError, match="where a raw disk is expected" if len(content) > 4096 else "too small for a disk"):
        read_table(path)


@pytest.mark.parametrize("content", [b"", b"<html>404 Not Found</html>"])
def test_what_is_too_small_for_a_disk(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "disk.raw").write_bytes(content)
    with pytest.raises(LayoutError, match=rf"it has {len(content)} bytes, which is too small for a disk"):
        read_table(tmp_path / "disk.raw")


@needs_qemu
@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["-O", "vpc", "-o", "subformat=fixed"], "a VHD file"),
        (["-O", "vpc", "-o", "subformat=dynamic"], "a VHD file"),
        (["-O", "vmdk"], "a VMDK file"),
        (["-O", "vhdx"], "a VHDX file"),
        (["-O", "vdi"], "a VDI file"),
        (["-O", "qcow2"], "a qcow2 file"),
    ],
)
def test_formats_of_virtual_disks(tmp_path: Path, options: list[str], name: str) -> None:
    raw, other = tmp_path / "disk.raw", tmp_path / "other"
    raw.write_bytes(bytes(4 * MIB))
    subprocess.run(["qemu-img", "convert", "-f", "raw", *options, str(raw), str(other)], check=True)
    found = foreign_format(other)
    assert found is not None
    assert found[0] == name


@pytest.mark.parametrize("content", [b"", b"\xeb\x63\x90", bytes(511), bytes(MIB), b"\x33\xc0" + bytes(508) + b"\x55\xaa" + bytes(MIB)])
def test_raw_disks_are_none_of_them(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "disk.raw").write_bytes(content)
    assert foreign_format(tmp_path / "disk.raw") is None
    refuse_other_sectors(tmp_path / "disk.raw", "open it")


def partitioned(path: Path, script: str, size: int = 64 * MIB) -> Path:
    with path.open("wb") as stream:
        stream.truncate(size)
    subprocess.run(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", str(path)], input=script.encode(), check=True, env={"PATH": TOOLS})
    return path


def with_large_sectors(path: Path) -> Path:
    """A GPT for sectors of 4096 bytes, as it is on such a disk: the header in the second sector and in the last one."""
    small = partitioned(path.with_name("small"), "label: gpt\nsize=8MiB\n").read_bytes()
    content = bytearray(64 * MIB)
    content[:512] = small[:512]
    content[4096:4608] = small[512:1024]
    content[-4096:-3584] = small[-512:]
    path.write_bytes(content)
    return path


@needs_sfdisk
def test_a_gpt_for_large_sectors_is_refused_for_that_reason(tmp_path: Path) -> None:
    path = with_large_sectors(tmp_path / "disk.raw")
    with pytest.raises(LayoutError, match=r"its partition table is for sectors of 4096 bytes, and virtual machines have disks with 512\. Make"):
        read_table(path)
    content = bytearray(path.read_bytes())
    content[4096:4608] = bytes(512)
    path.write_bytes(content)
    with pytest.raises(LayoutError, match="for sectors of 4096 bytes"):
        read_table(path)


@needs_sfdisk
@needs_mkfs
@pytest.mark.parametrize(("scale", "refused"), [(8, True), (1, False)])
def test_an_mbr_for_large_sectors_is_refused_for_that_reason(tmp_path: Path, scale: int, refused: bool) -> None:
    path = partitioned(tmp_path / "disk.raw", "label: dos\nstart=2048, size=8192, type=83\n")
    offset = 2048 * 512 * scale
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", f"offset={offset}", str(path), "8M"], check=True, env={"PATH": TOOLS}, stderr=subprocess.DEVNULL)
    if refused:
        with pytest.raises(LayoutError, match="for sectors of 4096 bytes"):
            read_table(path)
    else:
        assert len(read_table(path).partitions) == 1


@needs_sfdisk
def test_a_gpt_that_is_damaged_is_no_mbr(tmp_path: Path) -> None:
    path = partitioned(tmp_path / "disk.raw", "label: gpt\nsize=8MiB\n")
    content = bytearray(path.read_bytes())
    content[512:1024] = content[-512:] = bytes(512)
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"it has a GPT that is damaged\. Make or fetch it again"):
        read_table(path)


@needs_sfdisk
@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_a_disk_that_was_cut_is_refused(tmp_path: Path, label: str) -> None:
    path = partitioned(tmp_path / "disk.raw", f"label: {label}\nsize=8MiB\nsize=40MiB\n")
    with path.open("r+b") as stream:
        stream.truncate(32 * MIB)
    with pytest.raises(IntegrityError, match=r"but the file ends at 33554432\. It is truncated: make or fetch it again"):
        read_table(path)


@needs_sfdisk
@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_a_disk_that_is_cut_short_is_refused(tmp_path: Path, label: str) -> None:
    disk = tmp_path / "disk.raw"
    disk.touch()
    os.truncate(disk, 8 * MIB)
    subprocess.run(["sfdisk", "--quiet", disk], input=f"label: {label}\n, , L\n", text=True, check=True, env={"PATH": TOOLS})
    refuse_truncated(disk, "pack it")
    os.truncate(disk, 8 * MIB - 4096)
    with pytest.raises(IntegrityError, match=f"Cannot pack it: its partition table is for a disk of {8 * MIB} bytes, but the file ends at {8 * MIB - 4096}"):
        refuse_truncated(disk, "pack it")


@pytest.mark.parametrize("program", ["mkfs.ext4", "mkfs.vfat"])
def test_a_disk_that_is_one_file_system_is_whole(tmp_path: Path, program: str) -> None:
    tool = shutil.which(program, path=TOOLS)
    if tool is None:
        pytest.skip(f"{program} is not installed")
    disk = tmp_path / "disk.raw"
    disk.touch()
    os.truncate(disk, 64 * MIB)
    subprocess.run([tool, disk], check=True, capture_output=True)
    refuse_truncated(disk, "pack it")
