# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Kernel modules as files: the index that depmod writes, and what a module says about itself."""

from __future__ import annotations

import dataclasses
import gzip
import lzma
import re
import struct
import zlib
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, IntegrityError, reason
from ansible_collections.hyperscaler.images.plugins.module_utils._zstd import unpacked_zstd

SUFFIXES = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")
ELF_MAGIC = b"\x7fELF"


@dataclasses.dataclass(frozen=True)
class ModuleFile:
    """A kernel module; ``path`` is inside the image and ``vermagic`` the kernel that it was built for with its options."""

    name: str
    path: str
    vermagic: str

    @property
    def release(self) -> str:
        """The version of the kernel that the module was built for."""
        return self.vermagic.partition(" ")[0]


def normal_name(name: str) -> str:
    """The name as the kernel knows it: dashes and underscores are the same."""
    return name.replace("-", "_")


def module_name(path: str) -> str:
    """The name of the module that a file holds, or nothing when it holds none."""
    name = path.rpartition("/")[2]
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return normal_name(name[: -len(suffix)])
    return ""


def parse_index(text: str) -> dict[str, str]:
    """The paths of the modules in modules.dep or modules.builtin, by name."""
    paths = (line.partition(":")[0].strip() for line in text.splitlines() if line.strip())
    return {module_name(path): path for path in paths if module_name(path)}


def read_vermagic(path: Path) -> str:
    """The vermagic of a module file, compressed or not. Raises IntegrityError when it is no module."""
    return parse_vermagic(_unpacked(path), str(path))


def parse_vermagic(data: bytes, where: str) -> str:
    """The vermagic in the ``.modinfo`` section of an ELF file."""
    try:
        section = elf_section(data, b".modinfo")
    except struct.error:
        section = None
    found = re.search(rb"(?:^|\0)vermagic=([^\0]*)\0", section or b"")
    if found is None:
        raise IntegrityError(f"Cannot read the kernel module {where}: it is damaged or no kernel module. Build it again.")
    return found.group(1).decode("ascii", errors="replace").strip()


def elf_section(data: bytes, name: bytes) -> bytes | None:
    """The content of a section of an ELF file of 64 bits, or None when there is none."""
    if data[:4] != ELF_MAGIC or data[4:5] != b"\x02":
        return None
    order = "<" if data[5:6] == b"\x01" else ">"
    (table,) = struct.unpack_from(order + "Q", data, 0x28)
    size, count, names_at = struct.unpack_from(order + "HHH", data, 0x3A)
    headers = [struct.unpack_from(order + "II16xQQ", data, table + number * size) for number in range(count)]
    if names_at >= len(headers):
        return None
    names = headers[names_at][2]
    for label, _kind, offset, length in headers:
        start = names + label
        if data[start : data.find(b"\0", start)] == name:
            return data[offset : offset + length]
    return None


def _unpacked(path: Path) -> bytes:
    try:
        if path.name.endswith(".zst"):
            with unpacked_zstd(path, reason="read kernel modules that are compressed with zstd", attempt=f"read {path}") as plain:
                return plain.read_bytes()
        data = path.read_bytes()
        if path.name.endswith(".xz"):
            return lzma.decompress(data)
        return gzip.decompress(data) if path.name.endswith(".gz") else data
    except (OSError, EOFError, lzma.LZMAError, zlib.error, CommandError) as problem:
        raise IntegrityError(f"Cannot read the kernel module {path}: {reason(problem)}. Build it again.") from problem
