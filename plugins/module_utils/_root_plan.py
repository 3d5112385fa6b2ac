# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Decide which partition of a disk image is root and what has to be mounted to work inside it."""

from __future__ import annotations

import dataclasses
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._disk_layout import Partition, PartitionTable
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import LayoutError
from ansible_collections.hyperscaler.images.plugins.module_utils._file_systems import FOREIGN, KINDS
from ansible_collections.hyperscaler.images.plugins.module_utils._fstab import Volume
from ansible_collections.hyperscaler.images.plugins.module_utils._loop import partition_node

ROOT_TYPES = frozenset(
    {
        "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",  # Linux root (x86-64)
        "B921B045-1DF0-41C3-AF44-4C6F280D3FAE",  # Linux root (ARM 64)
    }
)


@dataclasses.dataclass(frozen=True)
class OpenFile:
    """A text that is shown at a path of the image while it is open."""

    path: str
    text: str
    mode: int = 0o644


@dataclasses.dataclass(frozen=True)
class RootPlan:
    """Everything that the process that holds an image open has to know.

    ``caches`` are folders of the build host with their place in the image, ``files`` what is shown while it is open,
    ``replacements`` texts that are shown only where the image has such a file, ``resolver`` what it finds in /etc/resolv.conf.
    ``ports`` are those of the build host's loopback interface that it may use, ``init`` is ``none`` or ``systemd``, ``memory`` is MiB,
    ``environment`` what commands inside are given besides the usual variables.
    """

    disk: Path
    device: str
    root: Volume
    volumes: tuple[Volume, ...]
    mount_point: Path
    caches: tuple[tuple[Path, str], ...]
    files: tuple[OpenFile, ...]
    replacements: tuple[tuple[str, str], ...]
    resolver: str
    ports: tuple[int, ...]
    init: str
    cpus: int
    memory: int
    environment: tuple[tuple[str, str], ...] = ()


def read_volumes(device: str, table: PartitionTable) -> tuple[Volume, ...]:
    """What blkid sees on each partition of an attached disk."""
    blkid = Command("blkid", reason="recognise file systems", package="util-linux")
    return tuple(_volume(blkid, partition_node(device, partition.number), partition) for partition in table.partitions)


def find_root(volumes: t.Sequence[Volume], table: PartitionTable, disk: Path) -> Volume:
    """The volume that holds the root file system: by partition type, else the largest Linux file system."""
    partitions = {partition.number: partition for partition in table.partitions}
    usable = [volume for volume in volumes if volume.type in KINDS]
    marked = [volume for volume in usable if partitions[volume.number].type.upper() in ROOT_TYPES]
    candidates = marked or sorted(usable, key=lambda volume: -partitions[volume.number].size)
    if candidates:
        return candidates[0]
    foreign = [f"partition {volume.number}: {FOREIGN.get(volume.type, volume.type or 'no known file system')}" for volume in volumes]
    raise LayoutError(
        f"Cannot find the root file system of {disk}: no partition holds ext4, xfs or btrfs ({'; '.join(foreign) or 'there is no partition'}). "
        "Use a disk image with a partition table whose root file system is directly on a partition."
    )


def require_growable(root: Volume, table: PartitionTable, disk: Path) -> None:
    """Raise LayoutError when another partition lies behind root, so that root cannot take the new space."""
    last = table.last
    if last.number != root.number:
        raise LayoutError(
            f"Cannot grow the root file system of {disk}: partition {last.number} lies behind the root partition {root.number}. "
            "Ask for the size that the image has, or use an image whose root is the last partition."
        )


def _volume(blkid: Command, node: str, partition: Partition) -> Volume:
    done = blkid.run("--probe", "--output", "export", node, attempt=f"recognise the file system of {node}", accepted=(0, 2))
    fields = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return Volume(
        number=partition.number,
        node=node,
        type=fields.get("TYPE", ""),
        uuid=fields.get("UUID", ""),
        label=fields.get("LABEL", ""),
        partition_uuid=partition.uuid,
        partition_label=partition.name,
    )
