# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Partition tables of raw disk images."""

from __future__ import annotations

import dataclasses
import os
import re
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, IntegrityError, LayoutError
from ansible_collections.hyperscaler.images.plugins.module_utils._raw_disk import gpt_end, refuse_foreign, refuse_fragment, refuse_other_sectors

MIB = 1 << 20
GPT_BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"
GPT_ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
GPT_ROOT = {
    "amd64": "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
    "arm64": "B921B045-1DF0-41C3-AF44-4C6F280D3FAE",
}
PROTECTIVE = "ee"
DOS_EXTENDED = frozenset({"5", "f", "85"})
DEFAULT_SECTOR = 512


@dataclasses.dataclass(frozen=True)
class Partition:
    """One partition; ``start`` and ``size`` are bytes, ``type`` and ``uuid`` are as sfdisk prints them (GUIDs in capitals for GPT)."""

    number: int
    start: int
    size: int
    type: str
    uuid: str = ""
    name: str = ""
    attrs: str = ""
    bootable: bool = False

    @property
    def end(self) -> int:
        """The first byte behind the partition."""
        return self.start + self.size


@dataclasses.dataclass(frozen=True)
class PartitionTable:
    """A partition table; ``partitions`` are in the order in which they lie on the disk."""

    label: str
    disk_id: str
    sector_size: int
    partitions: tuple[Partition, ...]

    def get(self, number: int) -> Partition:
        """The partition of that number."""
        for partition in self.partitions:
            if partition.number == number:
                return partition
        raise LayoutError(f"Cannot find partition {number}: the table has {', '.join(str(p.number) for p in self.partitions) or 'no partition'}.")

    def of_type(self, kind: str) -> tuple[Partition, ...]:
        """The partitions of a type, in disk order."""
        return tuple(partition for partition in self.partitions if partition.type.upper() == kind.upper())

    @property
    def last(self) -> Partition:
        """The partition that lies last on the disk."""
        if not self.partitions:
            raise LayoutError("Cannot find the last partition: the partition table is empty.")
        return self.partitions[-1]


def parse_table(document: t.Mapping[str, t.Any]) -> PartitionTable:
    """The table in the output of ``sfdisk --json``."""
    table = document["partitiontable"]
    sector = int(table.get("sectorsize", DEFAULT_SECTOR))
    partitions = [_parse_partition(entry, table["device"], sector) for entry in table.get("partitions", ())]
    return PartitionTable(
        label=table["label"],
        disk_id=table.get("id", ""),
        sector_size=sector,
        partitions=tuple(sorted(partitions, key=lambda partition: partition.start)),
    )


def _parse_partition(entry: t.Mapping[str, t.Any], device: str, sector: int) -> Partition:
    number = re.fullmatch(re.escape(device) + r"p?(\d+)", entry["node"])
    if number is None:
        raise LayoutError(f"Cannot read the number of partition {entry['node']}: it does not begin with {device}.")
    return Partition(
        number=int(number.group(1)),
        start=int(entry["start"]) * sector,
        size=int(entry["size"]) * sector,
        type=entry["type"],
        uuid=entry.get("uuid", ""),
        name=entry.get("name", ""),
        attrs=entry.get("attrs", ""),
        bootable=bool(entry.get("bootable", False)),
    )


def _sfdisk(reason: str) -> Command:
    return Command("sfdisk", reason=reason, package="fdisk")


def read_table(path: str | os.PathLike[str]) -> PartitionTable:
    """The partition table of a disk image or block device."""
    name = os.fspath(path)
    attempt = f"read the partition table of {name}"
    is_file = Path(name).is_file()
    if is_file:
        refuse_fragment(Path(name), attempt)
        refuse_foreign(Path(name), attempt)
        refuse_other_sectors(Path(name), attempt)
    try:
        document = _sfdisk("read partition tables").run_json("--json", "--", name, attempt=attempt)
    except CommandError as error:
        if "does not contain a recognized partition table" in error.details.get("stderr", ""):
            raise LayoutError(
                f"Cannot {attempt}: there is none. Convert it to the raw format with qemu-img first, or choose a disk image.",
                **error.details,
            ) from error
        raise
    table = parse_table(document)
    if is_file:
        _require_complete(Path(name), table, attempt)
    return table


def _require_complete(path: Path, table: PartitionTable, attempt: str) -> None:
    """Raise IntegrityError for a file that ends before its last partition, or whose GPT sfdisk does not take for one."""
    size = path.stat().st_size
    end = max((partition.end for partition in table.partitions), default=0)
    if any(partition.type == PROTECTIVE for partition in table.partitions):
        # Without a sound GPT sfdisk shows the entry that protects it.
        end = gpt_end(path)
        if end <= size:
            raise IntegrityError(f"Cannot {attempt}: it has a GPT that is damaged. Make or fetch it again.")
    if end > size:
        raise IntegrityError(f"Cannot {attempt}: its partitions take {end} bytes, but the file ends at {size}. It is truncated: make or fetch it again.")


def gpt_script(partitions: t.Sequence[Partition], *, disk_id: str = "", sector_size: int = DEFAULT_SECTOR) -> str:
    """The sfdisk script of a GPT; a size of 0 means up to the end of the disk, an empty UUID means a new one."""
    header = ["label: gpt", *([f"label-id: {disk_id}"] if disk_id else []), "unit: sectors", f"sector-size: {sector_size}", ""]
    return "\n".join([*header, *(_script_line(partition, sector_size) for partition in partitions), ""])


def _script_line(partition: Partition, sector: int) -> str:
    if partition.start % sector or partition.size % sector:
        raise LayoutError(f"Cannot lay out partition {partition.number}: its start and size must be multiples of {sector} bytes.")
    fields = [f"start={partition.start // sector}"]
    if partition.size:
        fields.append(f"size={partition.size // sector}")
    fields.append(f"type={partition.type}")
    if partition.uuid:
        fields.append(f"uuid={partition.uuid}")
    if partition.name:
        fields.append(f'name="{partition.name}"')
    return f"{partition.number} : {', '.join(fields)}"


def write_table(path: str | os.PathLike[str], script: str) -> PartitionTable:
    """Replace the partition table of a disk image by that of an sfdisk script."""
    name = os.fspath(path)
    _sfdisk("write partition tables").run(
        "--quiet",
        "--wipe",
        "always",
        "--no-reread",
        "--no-tell-kernel",
        "--",
        name,
        stdin=script.encode("ascii"),
        attempt=f"write the partition table of {name}",
    )
    return read_table(name)


def grow_last(path: str | os.PathLike[str], number: int) -> PartitionTable:
    """Let a partition end with the disk, and move the backup GPT there.

    Raises LayoutError when the partition is not the last one on the disk or lies in an extended partition.
    """
    name = os.fspath(path)
    table = read_table(name)
    partition = table.get(number)
    if partition != table.last:
        raise LayoutError(
            f"Cannot grow partition {number} of {name}: partition {table.last.number} lies behind it. Choose an image whose root partition is the last one."
        )
    if table.label == "dos" and (number > 4 or partition.type.lower() in DOS_EXTENDED):
        raise LayoutError(
            f"Cannot grow partition {number} of {name}: it belongs to an extended partition. Choose an image whose root partition is a primary one."
        )
    _sfdisk("grow partitions").run(
        "--quiet", "--no-reread", "--no-tell-kernel", "-N", str(number), "--", name, stdin=b", +\n", attempt=f"grow partition {number} of {name}"
    )
    return read_table(name)
