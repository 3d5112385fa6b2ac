# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of _packing with a qemu-img that keeps its files as one line of JSON and the content."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _packing, _qemu_img, _raw_formats
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import (
    BusyError,
    CommandError,
    ImageError,
    IntegrityError,
    LayoutError,
    SpaceError,
    ToolError,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._packing import Packer, PackRequest, needed_bytes

CONTENT = b"\0" * 4096 + b"the content of a disk, " * 100 + b"\0" * 1796
MAGIC = b"QFI\xfb"


class FakeQemu:
    """Does what QemuImg does, on files that it can read itself."""

    def __init__(self) -> None:
        self.conversions: list[_qemu_img.Conversion] = []
        self.checked: list[str] = []
        self.damage: dict[str, bytes] = {}
        self.zstd = True

    def __call__(self) -> FakeQemu:
        return self

    def require_zstd(self) -> None:
        if not self.zstd:
            raise ToolError("too old")

    def info(self, path: Path) -> _qemu_img.DiskInfo:
        head, content = self._read(path)
        known = {"format": "raw", "virtual_size": len(content), "allocated_size": len(content)}
        return _qemu_img.DiskInfo(path=path, **{**known, **head})

    def check(self, path: Path, _image_format: str) -> None:
        self.checked.append(path.name)
        if b"DAMAGED" in path.read_bytes():
            raise IntegrityError(f"{path} is damaged")

    def same_content(self, first: Path, _first_format: str, second: Path, _second_format: str) -> bool:
        return self._read(first)[1] == self._read(second)[1]

    def data_size(self, path: Path, _image_format: str) -> int:
        return path.stat().st_size

    def convert(self, conversion: _qemu_img.Conversion) -> None:
        self.conversions.append(conversion)
        content = self._read(conversion.source)[1] + self.damage.get(conversion.format, b"")
        head = {"format": "qcow2", "cluster_size": conversion.cluster_size, "compression": conversion.compression}
        conversion.destination.write_bytes(qcow2(content, **head) if conversion.format == "qcow2" else content)

    @staticmethod
    def _read(path: Path) -> tuple[dict[str, t.Any], bytes]:
        data = path.read_bytes()
        if not data.startswith(MAGIC):
            return {}, data
        head, content = data[len(MAGIC) :].split(b"\n", 1)
        try:
            return json.loads(head), content
        except ValueError as error:
            raise CommandError(f"{path} cannot be read") from error


def qcow2(content: bytes, **head: t.Any) -> bytes:
    return MAGIC + json.dumps({"format": "qcow2", "cluster_size": 131072, "compression": "zstd", **head}).encode() + b"\n" + content


@pytest.fixture(autouse=True)
def qemu(monkeypatch: pytest.MonkeyPatch) -> FakeQemu:
    fake = FakeQemu()
    monkeypatch.setattr(_qemu_img, "QemuImg", fake)
    monkeypatch.setattr(_qemu_img, "attached_devices", lambda _path: [])
    return fake


@pytest.fixture
def request_(tmp_path: Path) -> PackRequest:
    (tmp_path / "disk.raw").write_bytes(CONTENT)
    (tmp_path / "out").mkdir()
    return PackRequest(tmp_path / "disk.raw", tmp_path / "out" / "image.qcow2")


def pack(request: PackRequest, *, dry_run: bool = False, **changes: t.Any) -> _packing.PackResult:
    return Packer(dataclasses.replace(request, **changes)).pack(dry_run=dry_run)


def names(request: PackRequest) -> list[str]:
    return sorted(path.name for path in request.destination.parent.iterdir())


def test_all_formats_are_written_and_described(request_: PackRequest, qemu: FakeQemu) -> None:
    result = pack(request_, formats=("raw.gz", "raw"))
    assert names(request_) == ["image.qcow2", "image.raw", "image.raw.gz"]
    assert request_.destination.with_name("image.raw").read_bytes() == CONTENT
    assert gzip.decompress(request_.destination.with_name("image.raw.gz").read_bytes()) == CONTENT
    assert [file.format for file in result.files] == ["qcow2", "raw", "raw.gz"]
    for file in result.files:
        data = Path(file.path).read_bytes()
        assert (file.size, file.sha256, file.changed, file.previous_size) == (len(data), hashlib.sha256(data).hexdigest(), True, None)
    assert result.reasons == tuple(f"{request_.destination.with_name(name)} did not exist" for name in names(request_))
    assert set(result.seconds) == {"convert", "raw", "gzip", "verify", "checksum", "total"}
    assert len(qemu.conversions) == 2


def test_the_conversion_has_the_options(request_: PackRequest, qemu: FakeQemu) -> None:
    pack(request_, compression="zlib", cluster_size=65536, coroutines=3, out_of_order=False)
    (conversion,) = qemu.conversions
    assert conversion.destination.name == f".image.qcow2.{os.getpid()}.part"
    assert dataclasses.replace(conversion, destination=Path()) == _qemu_img.Conversion(
        request_.source, "raw", Path(), "qcow2", compression="zlib", cluster_size=65536, coroutines=3, out_of_order=False
    )


@pytest.mark.parametrize(("name", "raw"), [("image.qcow2", "image.raw"), ("image.img", "image.img.raw"), (".qcow2", ".raw")])
def test_names_beside_the_qcow2_file(name: str, raw: str) -> None:
    outputs = PackRequest(Path("/s"), Path("/d", name), formats=("raw", "raw.gz")).outputs()
    assert outputs == {"qcow2": Path("/d", name), "raw": Path("/d", raw), "raw.gz": Path("/d", raw + ".gz")}


def test_a_second_run_changes_nothing(request_: PackRequest, qemu: FakeQemu) -> None:
    first = pack(request_, formats=("raw", "raw.gz"))
    before = {name: request_.destination.with_name(name).stat().st_ino for name in names(request_)}
    again = pack(request_, formats=("raw", "raw.gz"))
    assert again.reasons == ()
    assert [(file.size, file.sha256, file.changed) for file in again.files] == [(file.size, file.sha256, False) for file in first.files]
    assert {name: request_.destination.with_name(name).stat().st_ino for name in names(request_)} == before
    assert len(qemu.conversions) == 2


def test_only_the_missing_format_is_written(request_: PackRequest) -> None:
    pack(request_, formats=("raw", "raw.gz"))
    request_.destination.with_name("image.raw").unlink()
    result = pack(request_, formats=("raw", "raw.gz"))
    assert [file.changed for file in result.files] == [False, True, False]


@pytest.mark.parametrize(
    ("existing", "reason"),
    [
        (qcow2(CONTENT, compression="zlib"), "had the compression zlib, not zstd"),
        (qcow2(CONTENT, cluster_size=65536), "had the cluster size 65536, not 131072"),
        (qcow2(CONTENT + bytes(512)), "had the virtual size 8704, not 8192"),
        (CONTENT, "had the format raw, not qcow2"),
        (qcow2(CONTENT.replace(b"disk", b"tape")), "had another content"),
        (qcow2(b"DAMAGED".ljust(len(CONTENT))), "was damaged or no complete image"),
        (qcow2(CONTENT, backing_file="/b"), "was damaged or no complete image"),
        (MAGIC + b"?\n", "was damaged or no complete image"),
    ],
)
def test_a_wrong_qcow2_file_is_replaced(request_: PackRequest, existing: bytes, reason: str) -> None:
    request_.destination.write_bytes(existing)
    result = pack(request_)
    assert result.reasons == (f"{request_.destination} {reason}",)
    assert request_.destination.read_bytes() == qcow2(CONTENT, cluster_size=131072, compression="zstd")
    assert result.files[0].previous_size == len(existing)


@pytest.mark.parametrize(
    ("name", "existing", "reason"),
    [
        ("image.raw", CONTENT[:-1], "had another content"),
        ("image.raw", CONTENT.replace(b"disk", b"tape"), "had another content"),
        ("image.raw.gz", gzip.compress(CONTENT, mtime=0), "had another content or was made by another program"),
    ],
)
def test_another_wrong_format_is_replaced(request_: PackRequest, name: str, existing: bytes, reason: str) -> None:
    pack(request_, formats=("raw", "raw.gz"))
    path = request_.destination.with_name(name)
    right = path.read_bytes()
    path.write_bytes(existing)
    assert pack(request_, formats=("raw", "raw.gz")).reasons == (f"{path} {reason}",)
    assert path.read_bytes() == right


def test_force_writes_again(request_: PackRequest) -> None:
    pack(request_)
    assert pack(request_, force=True).reasons == (f"{request_.destination} was to be written again (force)",)


def test_a_dry_run_writes_nothing(request_: PackRequest) -> None:
    result = pack(request_, dry_run=True, formats=("raw",))
    assert names(request_) == []
    assert [(file.size, file.sha256, file.changed) for file in result.files] == [(None, None, True)] * 2
    pack(request_, formats=("raw",))
    assert pack(request_, dry_run=True, formats=("raw",)).reasons == ()


def test_raw_gz_alone_from_qcow2_leaves_no_raw_file(request_: PackRequest, qemu: FakeQemu) -> None:
    request_.source.write_bytes(qcow2(CONTENT))
    pack(request_, formats=("raw.gz",))
    assert names(request_) == ["image.qcow2", "image.raw.gz"]
    assert qemu.checked[0] == "disk.raw"
    assert pack(request_, formats=("raw.gz",)).reasons == ()
    assert names(request_) == ["image.qcow2", "image.raw.gz"]


def test_the_time_of_the_gzip_header(request_: PackRequest) -> None:
    pack(request_, formats=("raw.gz",), gzip_mtime=1754000000)
    assert int.from_bytes(request_.destination.with_name("image.raw.gz").read_bytes()[4:8], "little") == 1754000000


def test_without_verify_nothing_is_compared(request_: PackRequest, qemu: FakeQemu) -> None:
    qemu.damage = {"qcow2": b"more"}
    assert "verify" not in pack(request_, verify=False).seconds
    assert qemu.checked == []


@pytest.mark.parametrize("formats", [(), ("raw",), ("raw.gz",)])
def test_what_was_written_wrongly_replaces_nothing(request_: PackRequest, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch, formats: tuple[str, ...]) -> None:
    pack(request_, formats=formats)
    before = {name: request_.destination.with_name(name).read_bytes() for name in names(request_)}
    request_.source.write_bytes(CONTENT.replace(b"disk", b"tape"))
    qemu.damage = {formats[0] if formats else "qcow2": b"more"}
    monkeypatch.setattr(_raw_formats, "write_gzip", lambda _source, part, _mtime: str(part.write_bytes(b"rubbish")))
    last = sorted(before)[-1]
    with pytest.raises(IntegrityError, match=rf"^Cannot write .*/out/{last}: what was written does not hold the content of the source\. Check the disk"):
        pack(request_, formats=formats)
    assert {name: request_.destination.with_name(name).read_bytes() for name in names(request_)} == before


def test_a_source_that_changes_meanwhile_replaces_nothing(request_: PackRequest, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch) -> None:
    request_.destination.write_bytes(b"former")
    check = qemu.check

    def change(path: Path, image_format: str) -> None:
        check(path, image_format)
        os.utime(request_.source, ns=(1, 1))

    monkeypatch.setattr(qemu, "check", change)
    with pytest.raises(IntegrityError, match=r"^Cannot pack the disk image .*/disk\.raw: it was changed while it was read\. Stop what writes to it"):
        pack(request_)
    assert names(request_) == ["image.qcow2"]
    assert request_.destination.read_bytes() == b"former"


def test_a_failing_conversion_leaves_nothing(request_: PackRequest, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(conversion: _qemu_img.Conversion) -> None:
        conversion.destination.write_bytes(b"half")
        raise CommandError("Cannot convert: no space")

    monkeypatch.setattr(qemu, "convert", fail)
    with pytest.raises(CommandError, match="no space"):
        pack(request_)
    assert names(request_) == []


def test_a_failing_write_is_explained(request_: PackRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_source: Path, _part: Path, _mtime: int) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_raw_formats, "write_gzip", fail)
    with pytest.raises(
        ImageError, match=r"^Cannot pack the disk image .*/disk\.raw: No space left on device\. Check the permissions and the disk, and try again\.$"
    ):
        pack(request_, formats=("raw.gz",))
    assert names(request_) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (gzip.compress(CONTENT, mtime=0), "it is a gzip file, where a raw disk is expected. Unpack it with gunzip first."),
        (CONTENT + b"conectix" + bytes(504), "it is a VHD file, where a raw disk is expected. Convert it with qemu-img convert -f vpc -O raw first."),
        (bytes(257) + b"ustar" + bytes(250), "it is a tar archive, as an OVA is, where a raw disk is expected."),
    ],
)
def test_what_is_no_raw_disk_is_not_packed_as_one(request_: PackRequest, qemu: FakeQemu, content: bytes, reason: str) -> None:
    request_.source.write_bytes(content)
    with pytest.raises(LayoutError) as caught:
        pack(request_)
    assert reason in str(caught.value)
    assert (names(request_), qemu.conversions) == ([], [])


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_source_and_destination_are_the_same_file(request_: PackRequest, link: str) -> None:
    getattr(request_.destination, link)(request_.source)
    with pytest.raises(LayoutError, match=r"^Cannot pack the disk image .*/disk\.raw as .*/image\.qcow2: both are the same file\. Give another destination\.$"):
        pack(request_)
    assert request_.source.read_bytes() == CONTENT


def test_a_format_beside_is_the_source(request_: PackRequest) -> None:
    with pytest.raises(LayoutError, match=r"as .*/disk\.raw: both are the same file"):
        pack(request_, destination=request_.source.with_name("disk.qcow2"), formats=("raw",))


def test_the_file_behind_a_link_is_replaced(request_: PackRequest) -> None:
    target = request_.source.with_name("store.qcow2")
    target.write_bytes(b"former")
    request_.destination.symlink_to(target)
    pack(request_)
    assert request_.destination.is_symlink()
    assert target.read_bytes().startswith(MAGIC)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"source": Path("/dev/null")}, r"^Cannot pack the disk image /dev/null: it is not a regular file\. Give the path of a disk image file\.$"),
        ({"source": Path("/nowhere/disk.raw")}, r"^Cannot pack the disk image /nowhere/disk\.raw: there is no such file\. Give the path"),
        (
            {"destination": Path("/nowhere/a.qcow2")},
            r"^Cannot pack the disk image .* as /nowhere/a\.qcow2: the folder /nowhere does not exist\. Create it first\.$",
        ),
        ({"destination": Path("/dev/null")}, r"^Cannot pack the disk image .* as /dev/null: that is not a regular file\. Give another destination\.$"),
    ],
)
def test_paths_that_cannot_be(request_: PackRequest, changes: dict[str, t.Any], text: str) -> None:
    with pytest.raises(LayoutError, match=text):
        pack(request_, **changes)


def test_a_source_in_use_is_refused(request_: PackRequest) -> None:
    with request_.source.open("r+b"), pytest.raises(BusyError, match=rf"^Cannot pack the disk image .*/disk\.raw: .* by process {os.getpid()} \("):
        pack(request_)


def test_a_destination_in_use_is_refused(request_: PackRequest) -> None:
    with request_.destination.open("wb"), pytest.raises(BusyError, match=r"^Cannot replace the file .*/image\.qcow2: .* open for writing"):
        pack(request_)


@pytest.mark.parametrize(
    ("head", "text"), [({"snapshots": ["a"]}, "internal snapshots a"), ({"dirty": True}, "dirty bit"), ({"backing_file": "/b"}, "backing file /b")]
)
def test_an_unusable_source_is_refused(request_: PackRequest, head: dict[str, t.Any], text: str) -> None:
    request_.source.write_bytes(qcow2(CONTENT, **head))
    with pytest.raises(ImageError, match=rf"^Cannot pack the disk image .*/disk\.raw: .*{text}"):
        pack(request_)


def test_snapshots_can_be_left_out(request_: PackRequest) -> None:
    request_.source.write_bytes(qcow2(CONTENT, snapshots=["a"]))
    assert pack(request_, discard_snapshots=True).files[0].changed


def test_a_damaged_source_is_refused(request_: PackRequest) -> None:
    request_.source.write_bytes(qcow2(b"DAMAGED"))
    with pytest.raises(IntegrityError, match="is damaged"):
        pack(request_)


def test_a_truncated_raw_source_is_refused(request_: PackRequest) -> None:
    request_.source.write_bytes(CONTENT[:-1])
    with pytest.raises(IntegrityError, match="not a multiple of 512"):
        pack(request_)


def test_an_old_qemu_is_refused_for_zstd_only(request_: PackRequest, qemu: FakeQemu) -> None:
    qemu.zstd = False
    with pytest.raises(ToolError):
        pack(request_)
    assert pack(request_, compression="zlib").files[0].changed


def test_too_little_space_is_refused_before_anything_is_written(request_: PackRequest, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "data_size", lambda _path, _format: 1 << 60)
    with pytest.raises(SpaceError, match=r"^Cannot pack the disk image .*/disk\.raw: 1099511627776 MiB are needed in .*/out, "):
        pack(request_)
    assert qemu.conversions == []
    request_.source.write_bytes(qcow2(CONTENT))
    with pytest.raises(SpaceError):
        pack(request_, formats=("raw.gz",))
    assert qemu.conversions == []


@pytest.mark.parametrize(
    ("formats", "has_raw", "needed"),
    [
        (["qcow2"], True, 1_000_000),
        (["raw"], True, 1_000_000),
        (["raw.gz"], True, 1_011_000),
        (["raw.gz"], False, 2_011_000),
        (["qcow2", "raw", "raw.gz"], False, 3_011_000),
    ],
)
def test_needed_space(formats: list[str], has_raw: bool, needed: int) -> None:
    assert needed_bytes(1_000_000, 10_000_000, formats, has_raw=has_raw) == needed


def test_parts_of_killed_runs_are_removed(request_: PackRequest) -> None:
    folder = request_.destination.parent
    gone = 2**22 + 1
    for name in (f".image.qcow2.{gone}.part", f".image.qcow2.raw.{gone}.part", f".image.raw.{gone}.part", ".image.qcow2.1.part", f".other.qcow2.{gone}.part"):
        (folder / name).touch()
    pack(request_, dry_run=True, formats=("raw",))
    assert len(names(request_)) == 5
    pack(request_, formats=("raw",))
    assert names(request_) == [".image.qcow2.1.part", f".other.qcow2.{gone}.part", "image.qcow2", "image.raw"]
