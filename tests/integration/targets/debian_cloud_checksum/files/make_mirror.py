# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a small mirror with the layout of Debian's cloud image server: make_mirror.py FOLDER."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from pathlib import Path

VERSION = "20250806-2196"
DAILY = "20251101-2285"
PIECE = 1 << 20


def write_file(path: Path, size: int) -> None:
    """A file whose bytes differ everywhere, or a sparse one when it is large."""
    with path.open("wb") as stream:
        for number in range(size // PIECE if size <= 16 * PIECE else 0):
            block = hashlib.sha512(f"{path.name} {number}".encode()).digest()
            stream.write(b"".join(hashlib.sha512(block + bytes([step % 256, step // 256])).digest() for step in range(PIECE // 64)))
        stream.truncate(size)


def digest_of(path: Path) -> bytes:
    digest = hashlib.sha512()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(PIECE), b""):
            digest.update(block)
    return digest.digest()


def manifest(relative: str, flavour: str, version: str, digests: dict[str, bytes]) -> str:
    info = {"arch": "amd64", "release": "trixie", "release_id": "13", "type": "official", "vendor": flavour, "version": version}
    uploads = [
        {
            "kind": "Upload",
            "data": {"ref": f"{relative}/{name}"},
            "metadata": {"annotations": {"cloud.debian.org/digest": "sha512:" + base64.b64encode(digest).decode().rstrip("=")}},
        }
        for name, digest in digests.items()
    ]
    build = {"kind": "Build", "data": {"info": info, "packages": [{"name": "adduser", "version": "3.152"}]}}
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [build, *uploads]})


def make_version(root: Path, relative: str, version: str, tag: str, sizes: dict[str, dict[str, int]]) -> None:
    folder = root / relative
    folder.mkdir(parents=True)
    latest = folder.parent / "latest"
    latest.mkdir()
    sums: dict[str, bytes] = {}
    for flavour, formats in sizes.items():
        stem = f"debian-13-{flavour}-amd64{tag}"
        digests = {}
        for extension, size in formats.items():
            path = folder / f"{stem}-{version}.{extension}"
            write_file(path, size)
            digests[path.name] = digest_of(path)
        described = folder / f"{stem}-{version}.json"
        described.write_text(manifest(relative, flavour, version, digests), encoding="utf-8")
        (latest / f"{stem}.json").write_text(described.read_text(encoding="utf-8"), encoding="utf-8")
        sums.update(digests)
        sums[described.name] = digest_of(described)
    (folder / "SHA512SUMS").write_text("".join(f"{digest.hex()}  {name}\n" for name, digest in sorted(sums.items())), encoding="utf-8")


def main() -> None:
    root = Path(sys.argv[1])
    make_version(root, f"trixie/{VERSION}", VERSION, "", {"genericcloud": {"qcow2": 8 * PIECE, "tar.xz": PIECE}, "generic": {"raw": 200 * PIECE}})
    make_version(root, f"trixie/daily/{DAILY}", DAILY, "-daily", {"genericcloud": {"qcow2": PIECE}})


if __name__ == "__main__":
    main()
