# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Read /etc/fstab and find the partitions that it means."""

from __future__ import annotations

import dataclasses
import re
import typing as t

# File systems on a disk or in a file of one machine. Every other type has no device, or a source that is none: of the kernel, of a server, of a
# cluster, of a pool, or of a program.
DISK_TYPES = frozenset(
    {"auto", "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "bcachefs", "jfs", "reiserfs", "nilfs2", "ntfs", "ntfs3", "ntfs-3g", "hfs", "hfsplus"}
    | {"vfat", "msdos", "exfat", "umsdos", "iso9660", "udf", "squashfs", "erofs", "cramfs", "romfs", "minix", "swap"}
)
# They are on a disk that several machines share, so that no image has it.
SHARED_TYPES = frozenset({"gfs2", "ocfs2"})
OPTIONAL = frozenset({"noauto", "nofail", "x-systemd.automount"})
BIND = frozenset({"bind", "rbind"})


@dataclasses.dataclass(frozen=True)
class FstabEntry:
    """One line of fstab(5)."""

    source: str
    target: str
    type: str
    options: tuple[str, ...]

    @property
    def tag(self) -> tuple[str, str] | None:
        """``("PARTUUID", value)`` and the like, or None when the source is a path or a name."""
        found = re.fullmatch(r"(PARTUUID|UUID|LABEL|PARTLABEL)=\"?([^\"]+)\"?", self.source)
        if found:
            return found.group(1), found.group(2)
        by_path = re.fullmatch(r"/dev/disk/by-(partuuid|uuid|label|partlabel)/(.+)", self.source)
        return (by_path.group(1).upper(), by_path.group(2)) if by_path else None

    @property
    def is_optional(self) -> bool:
        """Whether a machine boots where the source does not exist."""
        return not OPTIONAL.isdisjoint(self.options)

    @property
    def is_bind(self) -> bool:
        """Whether the source is a folder or file of the machine itself."""
        return not BIND.isdisjoint(self.options)

    @property
    def is_on_disk(self) -> bool:
        """Whether the source is a disk or file of the machine that mounts it; a tag means a disk for types that are not known, too."""
        if "_netdev" in self.options or re.match(r"//|[^/=]+:/", self.source):
            return False
        types = set(self.type.split(","))
        return bool(types & DISK_TYPES) or self.is_bind or (self.tag is not None and not types & SHARED_TYPES)


@dataclasses.dataclass(frozen=True)
class Volume:
    """A partition with everything that fstab can call it."""

    number: int
    node: str
    type: str
    uuid: str
    label: str
    partition_uuid: str
    partition_label: str

    def answers_to(self, tag: tuple[str, str]) -> bool:
        """Whether a tag of fstab means this partition; UUIDs are compared without regard to case."""
        names = {"UUID": self.uuid, "LABEL": self.label, "PARTUUID": self.partition_uuid, "PARTLABEL": self.partition_label}
        own, wanted = names[tag[0]], tag[1]
        return bool(own) and (own.lower() == wanted.lower() if "UUID" in tag[0] else own == wanted)


def significant_fields(text: str) -> t.Iterator[list[str]]:
    """The fields of each line that is no comment; a number sign begins one at the start of a line only."""
    for line in text.splitlines():
        fields = line.split()
        if fields and not fields[0].startswith("#"):
            yield fields


def parse_fstab(text: str) -> list[FstabEntry]:
    """The entries of a fstab; lines that are no entry are left out, as mount(8) does."""
    entries = []
    for fields in significant_fields(text):
        if len(fields) >= 3:
            options = fields[3] if len(fields) > 3 and not fields[3].startswith("#") else "defaults"
            entries.append(FstabEntry(_unescape(fields[0]), _unescape(fields[1]), fields[2], tuple(options.split(","))))
    return entries


def find_volume(entry: FstabEntry, volumes: t.Iterable[Volume]) -> Volume | None:
    """The partition that an entry means, or None."""
    tag = entry.tag
    return next((volume for volume in volumes if tag and volume.answers_to(tag)), None)


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), field)
