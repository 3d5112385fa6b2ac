# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of _qemu_img; the JSON is what qemu-img 10.0 prints, without parts that are not read."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _qemu_img
from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import BusyError, CommandError, ImageError, IntegrityError, LayoutError, ToolError
from ansible_collections.hyperscaler.images.plugins.module_utils._qemu_img import Conversion, DiskInfo, QemuImg, split_evenly

DISK = Path("/images/disk.raw")
RAW_INFO = """{
    "children": [{"name": "file", "info": {"children": [], "virtual-size": 67108864, "filename": "a.raw", "format": "file", "actual-size": 3145728,
        "format-specific": {"type": "file", "data": {}}, "dirty-flag": false}}],
    "virtual-size": 67108864, "filename": "a.raw", "format": "raw", "actual-size": 3145728, "dirty-flag": false
}"""
QCOW2_INFO = """{
    "snapshots": [{"icount": 0, "vm-clock-nsec": 0, "name": "s1", "date-sec": 1795229927, "id": "1", "vm-state-size": 0}],
    "virtual-size": 67108864, "filename": "a.qcow2", "cluster-size": 1048576, "format": "qcow2", "actual-size": 7352320,
    "format-specific": {"type": "qcow2", "data": {"compat": "1.1", "compression-type": "zstd", "lazy-refcounts": false, "refcount-bits": 16,
        "data-file": "d.raw", "data-file-raw": true, "corrupt": true, "extended-l2": false}},
    "full-backing-filename": "/b/a.qcow2", "backing-filename": "a.qcow2", "encrypted": true, "dirty-flag": true
}"""
OLD_QCOW2_INFO = """{
    "virtual-size": 1048576, "filename": "o.qcow2", "cluster-size": 65536, "format": "qcow2", "actual-size": 200704,
    "format-specific": {"type": "qcow2", "data": {"compat": "0.10", "refcount-bits": 16}}, "dirty-flag": false
}"""
CHECK_DAMAGED = '{"image-end-offset": 2097152, "total-clusters": 1024, "corruptions": 21, "check-errors": 0}'
LOCKED = "qemu-img: Could not open 'q.qcow2': Failed to get shared \"write\" lock\nIs another process using the image [q.qcow2]?\n"


class FakeProgram:
    """Takes the place of the calls of Command: keeps the arguments and gives the answers in turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[list[str]] = []
        self.answers: list[tuple[int, str, str]] = []
        monkeypatch.setattr(Command, "__init__", self._found)
        monkeypatch.setattr(subprocess, "run", self._run)

    def answer(self, stdout: str = "", rc: int = 0, stderr: str = "") -> None:
        self.answers.append((rc, stdout, stderr))

    @staticmethod
    def _found(command: Command, program: str, **_options: object) -> None:
        command.program, command.path = program, program
        command._prefix, command._environment = (), {}

    def _run(self, argv: list[str], **_options: object) -> t.Any:
        self.calls.append(argv)
        rc, stdout, stderr = self.answers.pop(0)
        return subprocess.CompletedProcess(argv, rc, stdout.encode(), stderr.encode())


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> FakeProgram:
    return FakeProgram(monkeypatch)


@pytest.fixture
def sound() -> DiskInfo:
    return DiskInfo(path=DISK, format="qcow2", virtual_size=1 << 30, allocated_size=1 << 20, cluster_size=65536, compression="zlib")


def test_info_of_a_raw_file() -> None:
    assert DiskInfo.from_json(DISK, json.loads(RAW_INFO)) == DiskInfo(DISK, "raw", 67108864, 3145728)


def test_info_of_a_qcow2_file_with_everything() -> None:
    assert DiskInfo.from_json(DISK, json.loads(QCOW2_INFO)) == DiskInfo(
        path=DISK,
        format="qcow2",
        virtual_size=67108864,
        allocated_size=7352320,
        cluster_size=1048576,
        compression="zstd",
        backing_file="a.qcow2",
        data_file="d.raw",
        snapshots=("s1",),
        encrypted=True,
        corrupt=True,
        dirty=True,
    )


def test_an_old_qcow2_file_is_zlib() -> None:
    assert DiskInfo.from_json(DISK, json.loads(OLD_QCOW2_INFO)).compression == "zlib"


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"format": "vmdk"}, LayoutError, "its format is vmdk, not raw or qcow2"),
        ({"encrypted": True}, LayoutError, "it is encrypted"),
        ({"backing_file": "/srv/base.qcow2"}, LayoutError, "overlay of the backing file /srv/base.qcow2. Merge them with qemu-img convert or qemu-img rebase"),
        ({"data_file": "d.raw"}, LayoutError, "its data is in the external file d.raw"),
        ({"corrupt": True}, IntegrityError, "marked as corrupt"),
        ({"dirty": True}, IntegrityError, "not closed cleanly (dirty bit). Repair it with qemu-img check -r all"),
        (
            {"snapshots": ("a", "b")},
            LayoutError,
            "internal snapshots a, b, which a copy would lose. Delete them with qemu-img snapshot -d, or set discard_snapshots",
        ),
        ({"virtual_size": 0}, IntegrityError, "it is empty"),
    ],
)
def test_unusable_images_are_refused(sound: DiskInfo, changed: dict[str, t.Any], error: type[ImageError], text: str) -> None:
    with pytest.raises(error) as caught:
        _qemu_img.refuse_unusable(dataclasses.replace(sound, **changed), "pack the disk image /images/disk.raw")
    assert str(caught.value).startswith("Cannot pack the disk image /images/disk.raw: ")
    assert text in str(caught.value)


def test_sound_images_are_not_refused(sound: DiskInfo) -> None:
    _qemu_img.refuse_unusable(sound, "pack it")
    _qemu_img.refuse_unusable(dataclasses.replace(sound, snapshots=("a",)), "pack it", discard_snapshots=True)


def test_a_raw_file_that_ends_within_a_sector_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(1024))
    _qemu_img.refuse_partial_sector(disk, "pack it")
    disk.write_bytes(bytes(1000))
    with pytest.raises(IntegrityError, match=r"^Cannot pack it: its size of 1000 bytes is not a multiple of 512, so it is truncated or no disk\."):
        _qemu_img.refuse_partial_sector(disk, "pack it")


BASE = Conversion(Path("/a.raw"), "raw", Path("/b.qcow2"), "qcow2")


@pytest.mark.parametrize(
    ("conversion", "arguments"),
    [
        (BASE, "convert -f raw -O qcow2 -m 8 -- /a.raw /b.qcow2"),
        (dataclasses.replace(BASE, source_format="qcow2", format="raw"), "convert -f qcow2 -O raw -m 8 -- /a.raw /b.qcow2"),
        (dataclasses.replace(BASE, compression="zstd"), "convert -f raw -O qcow2 -c -m 8 -o compression_type=zstd -- /a.raw /b.qcow2"),
        (dataclasses.replace(BASE, compression="zlib"), "convert -f raw -O qcow2 -c -m 8 -- /a.raw /b.qcow2"),
        (dataclasses.replace(BASE, cluster_size=65536), "convert -f raw -O qcow2 -m 8 -o cluster_size=65536 -- /a.raw /b.qcow2"),
        (dataclasses.replace(BASE, coroutines=16), "convert -f raw -O qcow2 -m 16 -- /a.raw /b.qcow2"),
        (dataclasses.replace(BASE, out_of_order=True), "convert -f raw -O qcow2 -m 8 -W -- /a.raw /b.qcow2"),
        (
            dataclasses.replace(BASE, compression="zstd", cluster_size=131072, out_of_order=True),
            "convert -f raw -O qcow2 -c -m 8 -W -o compression_type=zstd,cluster_size=131072 -- /a.raw /b.qcow2",
        ),
    ],
)
def test_arguments_of_a_conversion(conversion: Conversion, arguments: str) -> None:
    assert conversion.argv() == arguments.split()


def test_info_asks_for_json(program: FakeProgram) -> None:
    program.answer(RAW_INFO)
    assert QemuImg().info(DISK).virtual_size == 67108864
    assert program.calls == [["qemu-img", "info", "--output=json", "--", "/images/disk.raw"]]


def test_convert_runs_the_conversion(program: FakeProgram) -> None:
    program.answer()
    QemuImg().convert(BASE)
    assert program.calls == [["qemu-img", *BASE.argv()]]


def test_convert_that_fails_names_both_files(program: FakeProgram) -> None:
    program.answer(rc=1, stderr="qemu-img: error while writing at byte 0: No space left on device\n")
    with pytest.raises(CommandError, match=r"^Cannot convert /a\.raw to /b\.qcow2: qemu-img ended with exit code 1: .*No space left on device") as caught:
        QemuImg().convert(BASE)
    assert caught.value.details["rc"] == 1


@pytest.mark.parametrize("rc", [0, 3, 63])
def test_check_accepts_leaks_and_formats_without_a_check(program: FakeProgram, rc: int) -> None:
    program.answer("{}", rc=rc)
    QemuImg().check(DISK, "qcow2")
    assert program.calls == [["qemu-img", "check", "--output=json", "-f", "qcow2", "--", "/images/disk.raw"]]


@pytest.mark.parametrize("rc", [1, 2])
def test_check_refuses_damage(program: FakeProgram, rc: int) -> None:
    program.answer(CHECK_DAMAGED, rc=rc, stderr="ERROR: counting reference for region exceeding the end of the file\n")
    with pytest.raises(
        IntegrityError, match=r"^Cannot use the disk image /images/disk\.raw: it is damaged or truncated, .*exceeding the end of the file.*again\.$"
    ) as caught:
        QemuImg().check(DISK, "qcow2")
    assert caught.value.details["rc"] == rc
    assert caught.value.details["stdout"] == CHECK_DAMAGED


RANGE = "driver=raw,offset={},size={},file.driver={},file.file.driver=file,file.file.filename={}"
MAP = """[{"start": 0, "length": 4194304, "data": true}, {"start": 4194304, "length": 58720256, "data": false},
    {"start": 62914560, "length": 4194304, "data": true}]"""


@pytest.mark.parametrize(("second", "same"), [(0, True), (1, False)])
def test_comparison_is_shared_by_the_processors(program: FakeProgram, monkeypatch: pytest.MonkeyPatch, second: int, same: bool) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    for answer in (RAW_INFO, RAW_INFO, MAP, ""):
        program.answer(answer)
    program.answer(rc=second)
    assert QemuImg().same_content(DISK, "raw", Path("/b,c.qcow2"), "qcow2") is same
    assert program.calls[:3] == [
        ["qemu-img", "info", "--output=json", "-f", "raw", "--", "/images/disk.raw"],
        ["qemu-img", "info", "--output=json", "-f", "qcow2", "--", "/b,c.qcow2"],
        ["qemu-img", "map", "--output=json", "-f", "raw", "--", "/images/disk.raw"],
    ]
    assert sorted(program.calls[3:]) == [
        [
            "qemu-img",
            "compare",
            "--image-opts",
            "--",
            RANGE.format(start, length, "raw", "/images/disk.raw"),
            RANGE.format(start, length, "qcow2", "/b,,c.qcow2"),
        ]
        for start, length in ((0, 4194304), (4194304, 62914560))
    ]


def test_images_of_different_sizes_differ(program: FakeProgram) -> None:
    program.answer(RAW_INFO)
    program.answer(RAW_INFO.replace("67108864", "67108352"))
    assert not QemuImg().same_content(DISK, "raw", Path("/b.raw"), "raw")


def test_comparison_that_fails_is_no_difference(program: FakeProgram, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    for answer in (RAW_INFO, RAW_INFO, "[]"):
        program.answer(answer)
    program.answer(rc=4, stderr="qemu-img: Error while reading offset 0: Input/output error\n")
    with pytest.raises(CommandError, match="Input/output error"):
        QemuImg().same_content(DISK, "raw", Path("/b.qcow2"), "qcow2")


@pytest.mark.parametrize(
    ("extents", "parts", "ranges"),
    [
        ([], 4, [(0, 40 << 20)]),
        ([(0, 40 << 20)], 1, [(0, 40 << 20)]),
        ([(0, 40 << 20)], 4, [(0, 10 << 20), (10 << 20, 10 << 20), (20 << 20, 10 << 20), (30 << 20, 10 << 20)]),
        ([(30 << 20, 8 << 20)], 2, [(0, 34 << 20), (34 << 20, 6 << 20)]),
        # One unit cannot be cut.
        ([(0, 1 << 20)], 4, [(0, 40 << 20)]),
        ([(3 << 20, 4096), (39 << 20, 4096)], 2, [(0, 2 << 20), (2 << 20, 38 << 20)]),
    ],
)
def test_ranges_hold_about_as_much_data_each(extents: list[tuple[int, int]], parts: int, ranges: list[tuple[int, int]]) -> None:
    assert split_evenly(extents, 40 << 20, parts) == ranges


def test_data_size_is_measured(program: FakeProgram) -> None:
    program.answer('{"required": 3473408, "fully-allocated": 67436544}')
    assert QemuImg().data_size(DISK, "raw") == 3473408
    assert program.calls == [["qemu-img", "measure", "--output=json", "-f", "raw", "-O", "qcow2", "/images/disk.raw"]]


@pytest.mark.parametrize("version", ["5.1.0", "10.0.2"])
def test_zstd_is_known(program: FakeProgram, version: str) -> None:
    program.answer(f"qemu-img version {version} (Debian 1:10.0.2+ds-2)\nCopyright (c) 2003-2025\n")
    QemuImg().require_zstd()


def test_zstd_needs_a_newer_version(program: FakeProgram) -> None:
    program.answer("qemu-img version 4.2.1 (Debian 1:4.2)\n")
    with pytest.raises(
        ToolError, match=r"^Found qemu-img 4\.2\.1, need 5\.1 or newer to compress with zstd; install a newer qemu-utils or set compression to zlib\.$"
    ):
        QemuImg().require_zstd()


@pytest.mark.parametrize(("holders", "text"), [((), "another process or host"), (("process 7 (qemu)",), r"process 7 \(qemu\)")])
def test_a_lock_is_explained(program: FakeProgram, monkeypatch: pytest.MonkeyPatch, holders: tuple[str, ...], text: str) -> None:
    monkeypatch.setattr(_qemu_img, "writers", lambda _path: holders)
    program.answer(rc=1, stderr=LOCKED)
    with pytest.raises(
        BusyError, match=rf"^Cannot read the disk image /images/disk\.raw: /images/disk\.raw is open for writing by {text}\. Stop the virtual machine"
    ):
        QemuImg().info(DISK)


def test_writers_are_processes_with_a_writable_descriptor(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.touch()
    other = tmp_path / "other.raw"
    other.touch()
    proc = tmp_path / "proc"
    for pid, target, flags in ((12, disk, "0100002"), (13, disk, "0100000"), (14, other, "0100002"), (9, disk, "0100001")):
        for folder in ("fd", "fdinfo"):
            (proc / str(pid) / folder).mkdir(parents=True)
        (proc / str(pid) / "comm").write_text("qemu-system-x86\n")
        (proc / str(pid) / "fd" / "4").symlink_to(target)
        (proc / str(pid) / "fdinfo" / "4").write_text(f"pos:\t0\nflags:\t{flags}\nmnt_id:\t29\n")
    (proc / "13" / "fd" / "5").symlink_to(tmp_path / "gone")
    (proc / "self").mkdir()
    assert _qemu_img.writing_processes(disk, proc) == ("process 9 (qemu-system-x86)", "process 12 (qemu-system-x86)")


def test_this_process_is_found_by_name_of_a_hard_link(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    with disk.open("wb"):
        (tmp_path / "link.raw").hardlink_to(disk)
        assert any(holder.startswith(f"process {os.getpid()} (") for holder in _qemu_img.writing_processes(tmp_path / "link.raw"))
    with disk.open("rb"):
        assert _qemu_img.writing_processes(disk) == ()


@pytest.mark.parametrize(("read_only", "found"), [("0", ("the loop device /dev/loop7",)), ("1", ())])
def test_writable_loop_devices_are_writers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_only: str, found: tuple[str, ...]) -> None:
    (tmp_path / "block" / "loop7").mkdir(parents=True)
    (tmp_path / "block" / "loop7" / "ro").write_text(read_only + "\n")
    monkeypatch.setattr(_qemu_img, "attached_devices", lambda _path: ["/dev/loop7"])
    assert _qemu_img.writers(tmp_path, proc=tmp_path / "block", sys_block=tmp_path / "block") == found


def test_a_file_in_use_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_qemu_img, "writers", lambda _path: ("process 812 (qemu)", "the loop device /dev/loop3"))
    with pytest.raises(BusyError, match=r"^Cannot pack it: /images/disk\.raw is open for writing by process 812 \(qemu\), the loop device /dev/loop3\. Stop"):
        _qemu_img.refuse_in_use(DISK, "pack it")
    monkeypatch.setattr(_qemu_img, "writers", lambda _path: ())
    _qemu_img.refuse_in_use(DISK, "pack it")
