# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests for _disk_layout."""

from __future__ import annotations

import json
import shutil
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _disk_layout
from ansible_collections.hyperscaler.images.plugins.module_utils._disk_layout import (
    GPT_BIOS_BOOT,
    GPT_ESP,
    GPT_ROOT,
    MIB,
    Partition,
    PartitionTable,
    gpt_script,
    grow_last,
    parse_table,
    read_table,
    write_table,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, LayoutError

FIXTURES = Path(__file__).parent / "fixtures"
needs_sfdisk = pytest.mark.skipif(shutil.which("sfdisk", path="/usr/sbin:/sbin:/usr/bin") is None, reason="sfdisk is not installed")


def table_of(name: str) -> PartitionTable:
    return parse_table(json.loads((FIXTURES / name).read_text(encoding="utf-8")))


def test_gpt_in_disk_order() -> None:
    table = table_of("sfdisk-2.38-gpt-base.json")
    assert (table.label, table.sector_size) == ("gpt", 512)
    assert [partition.number for partition in table.partitions] == [14, 15, 1]
    root = table.last
    assert (root.number, root.start, root.end, root.type) == (1, 128 * MIB, 3 * 1024 * MIB - MIB, GPT_ROOT["amd64"])
    assert (table.get(15).start, table.get(15).size) == (4 * MIB, 124 * MIB)
    assert [partition.number for partition in table.of_type(GPT_ESP.lower())] == [15]


def test_dos_and_a_name_that_ends_with_a_digit() -> None:
    table = table_of("sfdisk-2.38-dos.json")
    assert table.label == "dos"
    assert table.partitions == (Partition(1, MIB, 100 * MIB, "83", bootable=True),)


def test_sectors_of_4096_bytes() -> None:
    document = {
        "partitiontable": {
            "label": "gpt",
            "device": "d",
            "sectorsize": 4096,
            "partitions": [{"node": "d1", "start": 256, "size": 512, "type": "X", "attrs": "GUID:59", "name": "root"}],
        }
    }
    assert parse_table(document).partitions == (Partition(1, MIB, 2 * MIB, "X", name="root", attrs="GUID:59"),)


def test_an_empty_table() -> None:
    table = parse_table({"partitiontable": {"label": "gpt", "device": "d"}})
    with pytest.raises(LayoutError, match="the partition table is empty"):
        table.last  # noqa: B018 (reading it is the test)
    with pytest.raises(LayoutError, match="Cannot find partition 1: the table has no partition"):
        table.get(1)


def test_a_partition_that_is_not_there() -> None:
    with pytest.raises(LayoutError, match="Cannot find partition 2: the table has 14, 15, 1"):
        table_of("sfdisk-2.38-gpt-base.json").get(2)


def test_a_node_of_another_device() -> None:
    with pytest.raises(LayoutError, match="Cannot read the number of partition /dev/sdb1: it does not begin with /dev/sda"):
        parse_table({"partitiontable": {"label": "gpt", "device": "/dev/sda", "partitions": [{"node": "/dev/sdb1", "start": 1, "size": 1, "type": "X"}]}})


@pytest.mark.parametrize(
    ("partition", "line"),
    [
        (Partition(1, MIB, 2 * MIB, "T"), "1 : start=2048, size=4096, type=T"),
        (Partition(1, MIB, 0, "T"), "1 : start=2048, type=T"),
        (Partition(2, MIB, 0, "T", uuid="U"), "2 : start=2048, type=T, uuid=U"),
        (Partition(2, MIB, 0, "T", name="a b"), '2 : start=2048, type=T, name="a b"'),
    ],
)
def test_script_line(partition: Partition, line: str) -> None:
    assert gpt_script([partition]) == f"label: gpt\nunit: sectors\nsector-size: 512\n\n{line}\n"


def test_script_with_disk_id_and_large_sectors() -> None:
    assert (
        gpt_script([Partition(1, MIB, 0, "T")], disk_id="ID", sector_size=4096)
        == "label: gpt\nlabel-id: ID\nunit: sectors\nsector-size: 4096\n\n1 : start=256, type=T\n"
    )


def test_script_refuses_half_sectors() -> None:
    with pytest.raises(LayoutError, match="partition 3: its start and size must be multiples of 512 bytes"):
        gpt_script([Partition(3, 100, 0, "T")])


@needs_sfdisk
class TestOnFiles:
    """With the real sfdisk, which needs no root for regular files."""

    @pytest.fixture
    def disk(self, tmp_path: Path) -> Path:
        disk = tmp_path / "disk1"
        with disk.open("wb") as stream:
            stream.truncate(16 * MIB)
        return disk

    def test_write_and_read(self, disk: Path) -> None:
        table = write_table(
            disk, gpt_script([Partition(14, MIB, MIB, GPT_BIOS_BOOT), Partition(1, 4 * MIB, 0, GPT_ROOT["amd64"], "F133C082-9167-994E-A504-19E4059339B3")])
        )
        assert table == read_table(disk)
        assert [partition.number for partition in table.partitions] == [14, 1]
        assert table.get(1).uuid == "F133C082-9167-994E-A504-19E4059339B3"

    def test_grow_moves_the_backup_table(self, disk: Path) -> None:
        before = write_table(disk, gpt_script([Partition(2, MIB, MIB, GPT_ESP), Partition(1, 2 * MIB, 4 * MIB, GPT_ROOT["amd64"])]))
        with disk.open("r+b") as stream:
            stream.truncate(64 * MIB)
        after = grow_last(disk, 1)
        assert after.get(1).end > 63 * MIB
        assert (after.get(1).uuid, after.get(1).type, after.get(2)) == (before.get(1).uuid, before.get(1).type, before.get(2))
        with disk.open("rb") as stream:
            stream.seek(64 * MIB - 512)
            assert stream.read(8) == b"EFI PART"

    def test_grow_only_the_last_one(self, disk: Path) -> None:
        write_table(disk, gpt_script([Partition(1, MIB, MIB, GPT_ROOT["amd64"]), Partition(2, 2 * MIB, MIB, GPT_ESP)]))
        with pytest.raises(LayoutError, match=r"Cannot grow partition 1 of .*: partition 2 lies behind it"):
            grow_last(disk, 1)

    def test_grow_no_logical_partition(self, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_disk_layout, "read_table", lambda _path: PartitionTable("dos", "", 512, (Partition(5, MIB, MIB, "83"),)))
        with pytest.raises(LayoutError, match="it belongs to an extended partition"):
            grow_last(disk, 5)

    def test_no_table(self, disk: Path) -> None:
        with pytest.raises(LayoutError, match=r"Cannot read the partition table of .*: there is none. Convert it to the raw format"):
            read_table(disk)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match=r"Cannot read the partition table of .*nothing"):
            read_table(tmp_path / "nothing")


def test_the_fixture_is_a_cloud_layout() -> None:
    document: dict[str, t.Any] = json.loads((FIXTURES / "sfdisk-2.38-gpt-base.json").read_text(encoding="utf-8"))
    assert {entry["type"] for entry in document["partitiontable"]["partitions"]} == {GPT_BIOS_BOOT, GPT_ESP, GPT_ROOT["amd64"]}
