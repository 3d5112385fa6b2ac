# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian package files made in memory, whole or broken in one place."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
import typing as t
from pathlib import Path

CONTROL = (
    "Package: beegfs-meta\nVersion: 20:8.1.0-1\nArchitecture: amd64\nDepends: libc6 (>= 2.36), libbeegfs-ib:any | beegfs-other\nDescription: test\n more\n"
)
CONTENT = bytes(range(256)) * 64
PACK: dict[str, t.Callable[[bytes], bytes]] = {"": lambda data: data, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}
PACK[".lzma"] = lambda data: lzma.compress(data, lzma.FORMAT_ALONE)


def tar(files: t.Mapping[str, bytes]) -> bytes:
    """A tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def member(name: str, data: bytes, size: int | None = None) -> bytes:
    """A part of an ar archive; ``size`` may lie."""
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data) if size is None else size:<10}`\n".encode()
    return header + data + b"\n" * (len(data) % 2)


def deb(
    control: str = CONTROL,
    *,
    packing: str = ".xz",
    files: t.Mapping[str, bytes] | None = None,
    sums: str | None = None,
    mark: bytes = b"2.0\n",
    extra: bytes = b"",
    before_data: bytes = b"",
    without: str = "",
) -> bytes:
    """A whole package file, but for what the arguments say."""
    files = {"./usr/share/x": CONTENT} if files is None else files
    if sums is None:
        sums = "".join(f"{hashlib.md5(content).hexdigest()}  {name[2:]}\n" for name, content in files.items() if name.startswith("./"))
    control_packing = ".gz" if packing in (".bz2", ".lzma") else packing
    described = {"./control": control.encode(errors="surrogateescape"), "./md5sums": sums.encode(errors="surrogateescape")}
    parts = {
        "debian-binary": mark,
        f"control.tar{control_packing}": PACK[control_packing](tar(described if control else {"./md5sums": b""})),
        f"data.tar{packing}": PACK[packing](tar(files)),
    }
    kept = {name: member(name, data) for name, data in parts.items() if not without or not name.startswith(without)}
    return b"!<arch>\n" + b"".join((before_data if name.startswith("data") else b"") + part for name, part in kept.items()) + extra


def write_deb(folder: Path, name: str, version: str, architecture: str, depends: str = "", file_name: str = "", sums: str | None = None) -> Path:
    """A package file with these control fields."""
    control = f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n" + (f"Depends: {depends}\n" if depends else "")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (file_name or f"{name}_{version.partition(':')[2] or version}_{architecture}.deb")
    path.write_bytes(deb(control, sums=sums))
    return path
