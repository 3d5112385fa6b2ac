# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Read /etc/fstab and find the partitions that it means."""

from __future__ import annotations

import dataclasses
import re
import typing as t


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


def parse_fstab(text: str) -> list[FstabEntry]:
    """The entries of a fstab; lines that are no entry are left out, as mount(8) does."""
    entries = []
    for line in text.splitlines():
        fields = line.split("#", 1)[0].split()
        if len(fields) >= 3:
            options = fields[3] if len(fields) > 3 else "defaults"
            entries.append(FstabEntry(_unescape(fields[0]), _unescape(fields[1]), fields[2], tuple(options.split(","))))
    return entries


def find_volume(entry: FstabEntry, volumes: t.Iterable[Volume]) -> Volume | None:
    """The partition that an entry means, or None."""
    tag = entry.tag
    return next((volume for volume in volumes if tag and volume.answers_to(tag)), None)


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), field)
