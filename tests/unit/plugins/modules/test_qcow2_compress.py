# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module qcow2_compress."""

from __future__ import annotations

import dataclasses
import stat
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import BusyError
from ansible_collections.hyperscaler.images.plugins.module_utils._packing import PackedFile, PackRequest, PackResult
from ansible_collections.hyperscaler.images.plugins.module_utils._qemu_img import DiskInfo
from ansible_collections.hyperscaler.images.plugins.modules import qcow2_compress

Runner = t.Callable[..., "dict[str, t.Any]"]
SHA256 = "86fadbcece0cd1aeee6efe505b9ad6504c14b2cd6ef52aaade3da61a2528bb1a"


class FakePacker:
    """Keeps what it was asked for and returns what it was given."""

    requests: t.ClassVar[list[tuple[PackRequest, bool]]] = []
    result: t.ClassVar[PackResult]
    error: t.ClassVar[Exception | None] = None

    def __init__(self, request: PackRequest) -> None:
        self._request = request

    def pack(self, *, dry_run: bool) -> PackResult:
        self.requests.append((self._request, dry_run))
        if self.error:
            raise self.error  # pylint: disable=raising-bad-type
        return self.result


@pytest.fixture
def packer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[FakePacker]:
    image = tmp_path / "a.qcow2"
    image.write_bytes(bytes(1000))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.setattr(qcow2_compress, "Packer", FakePacker)
    monkeypatch.setattr(FakePacker, "requests", [])
    written = PackedFile("qcow2", str(image), 1000, SHA256, True, None)
    source = DiskInfo(Path("/s/disk.raw"), "raw", virtual_size=1 << 30, allocated_size=3456)
    monkeypatch.setattr(FakePacker, "result", PackResult(source, (written,), (f"{image} did not exist",), {"convert": 1.23456, "total": 2.0}), raising=False)
    return FakePacker


def set_file(packer: type[FakePacker], monkeypatch: pytest.MonkeyPatch, reasons: tuple[str, ...], **changes: t.Any) -> None:
    file = dataclasses.replace(packer.result.files[0], **changes)
    monkeypatch.setattr(packer, "result", dataclasses.replace(packer.result, files=(file,), reasons=reasons))


def test_defaults(run_module: Runner, packer: type[FakePacker]) -> None:
    run_module(qcow2_compress.main, src="/s/disk.raw", dest="/d/a.qcow2")
    assert packer.requests == [(PackRequest(Path("/s/disk.raw"), Path("/d/a.qcow2")), False)]


def test_every_option_arrives(run_module: Runner, packer: type[FakePacker], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1754000000")
    run_module(
        qcow2_compress.main,
        check_mode=True,
        src="/s/disk.raw",
        dest="/d/a.qcow2",
        formats=["raw", "raw.gz"],
        compression="zlib",
        cluster_size="2M",
        coroutines=16,
        out_of_order=False,
        verify=False,
        force=True,
        discard_snapshots=True,
    )
    wanted = PackRequest(
        source=Path("/s/disk.raw"),
        destination=Path("/d/a.qcow2"),
        formats=("raw", "raw.gz"),
        compression="zlib",
        cluster_size=2097152,
        coroutines=16,
        out_of_order=False,
        verify=False,
        force=True,
        discard_snapshots=True,
        gzip_mtime=1754000000,
    )
    assert packer.requests == [(wanted, True)]


def test_result(run_module: Runner, packer: type[FakePacker]) -> None:
    path = packer.result.files[0].path
    result = run_module(qcow2_compress.main, src="/s/disk.raw", dest=path)
    result.pop("invocation")
    assert result == {
        "changed": True,
        "msg": f"{path} did not exist",
        "source": {"path": "/s/disk.raw", "format": "raw", "virtual_size": 1 << 30, "allocated_size": 3456},
        "files": [{"format": "qcow2", "path": path, "size": 1000, "sha256": SHA256, "changed": True}],
        "ratio": 3.46,
        "seconds": {"convert": 1.23, "total": 2.0},
        "diff": {"before": {path: "absent"}, "after": {path: 1000}},
    }


def test_nothing_to_do(run_module: Runner, packer: type[FakePacker], monkeypatch: pytest.MonkeyPatch) -> None:
    set_file(packer, monkeypatch, (), changed=False, previous_size=1000)
    result = run_module(qcow2_compress.main, src="/s/disk.raw", dest="/d/a.qcow2")
    assert result["changed"] is False
    assert result["msg"] == "All files were right already"
    assert result["diff"]["before"] == result["diff"]["after"]


def test_what_check_mode_would_write(run_module: Runner, packer: type[FakePacker], monkeypatch: pytest.MonkeyPatch) -> None:
    set_file(packer, monkeypatch, ("reason",), size=None, sha256=None, previous_size=7)
    result = run_module(qcow2_compress.main, check_mode=True, src="/s/disk.raw", dest="/d/a.qcow2", mode="0600")
    path = packer.result.files[0].path
    assert result["changed"] is True
    assert result["ratio"] is None
    assert result["diff"] == {"before": {path: 7}, "after": {path: "not known yet"}}
    assert stat.S_IMODE(Path(path).stat().st_mode) != 0o600


def test_mode_of_a_file_that_is_right(run_module: Runner, packer: type[FakePacker], monkeypatch: pytest.MonkeyPatch) -> None:
    set_file(packer, monkeypatch, (), changed=False, previous_size=1000)
    path = packer.result.files[0].path
    for check_mode, changed in ((True, True), (False, True), (True, False), (False, False)):
        result = run_module(qcow2_compress.main, check_mode=check_mode, src="/s/disk.raw", dest=path, mode="0600")
        assert result["changed"] is changed
        assert (f"{path} had another owner or mode" in result["msg"]) is changed
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600


def test_an_error_is_reported_with_its_details(run_module: Runner, packer: type[FakePacker], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packer, "error", BusyError("Cannot pack it: in use.", cmd=["qemu-img"], rc=1))
    result = run_module(qcow2_compress.main, src="/s/disk.raw", dest="/d/a.qcow2")
    assert (result["failed"], result["msg"], result["cmd"], result["rc"]) == (True, "Cannot pack it: in use.", ["qemu-img"], 1)


@pytest.mark.parametrize("coroutines", [0, 17])
def test_coroutines_out_of_range(run_module: Runner, packer: type[FakePacker], coroutines: int) -> None:
    result = run_module(qcow2_compress.main, src="/s/disk.raw", dest="/d/a.qcow2", coroutines=coroutines)
    assert result["msg"] == f"Cannot pack the disk image /s/disk.raw: coroutines is {coroutines}, give a number from 1 to 16."
    assert packer.requests == []


def test_a_time_that_is_no_number(run_module: Runner, packer: type[FakePacker], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    result = run_module(qcow2_compress.main, src="/s/disk.raw", dest="/d/a.qcow2")
    assert result["msg"] == "Cannot pack the disk image /s/disk.raw: SOURCE_DATE_EPOCH is 'yesterday', set it to seconds since 1970 or unset it."
    assert packer.requests == []
