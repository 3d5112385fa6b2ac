# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""The documents that lie beside an image."""

from __future__ import annotations

import datetime
import os
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._digest import canonical_json
from ansible_collections.hyperscaler.images.plugins.module_utils._files import file_digest, write_atomic
from ansible_collections.hyperscaler.images.plugins.module_utils._image_inputs import MANIFEST

SUMS = "SHA256SUMS"
TEXTS = ("build_timestamp.txt", "image_type.txt", "contents.txt")


def parse_packages(listing: str) -> list[dict[str, str]]:
    """The packages of a listing with a line ``name<TAB>version<TAB>architecture`` for each."""
    fields = [line.split("\t") for line in listing.splitlines()]
    return [{"name": line[0], "version": line[1], "architecture": line[2]} for line in sorted(fields) if len(line) == 3]


def build_time(epoch: str | None) -> str:
    """The time of the build as ISO 8601 in UTC; SOURCE_DATE_EPOCH (seconds since 1970) takes the place of the clock."""
    moment = datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc) if epoch else datetime.datetime.now(datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def contents_text(document: t.Mapping[str, t.Any]) -> str:
    """What is in the image, for people."""
    base = document["base"]
    lines = [
        f"Image: {document['image']}",
        f"Base: {base.get('release', 'unknown')} {base.get('version', '')} ({base.get('source', 'unknown')})".replace("  ", " "),
        f"Kernels: {', '.join(document['kernels']) or 'none'}",
        "Roles:",
        *(f"  - {role}" for role in document["roles"]),
        f"Packages ({len(document['packages'])}):",
        *(f"  {package['name']} {package['version']}" for package in document["packages"]),
    ]
    return "\n".join(lines) + "\n"


def write_documents(folder: Path, document: dict[str, t.Any]) -> dict[str, dict[str, t.Any]]:
    """Write the texts, the checksums and, last, the manifest; return size and sha256 of each file that the manifest lists."""
    texts = {
        "build_timestamp.txt": f"{document['built']}\n",
        "image_type.txt": f"{document['image']}\n",
        "contents.txt": contents_text(document),
    }
    for name, text in texts.items():
        write_atomic(folder / name, text)
    known = document.pop("digests", {})
    files = {path.name: _describe(path, known.get(path.name)) for path in sorted(folder.iterdir()) if path.is_file() and path.name not in (SUMS, MANIFEST)}
    document["files"] = files
    write_atomic(folder / SUMS, "".join(f"{entry['sha256']}  {name}\n" for name, entry in files.items()))
    write_atomic(folder / MANIFEST, canonical_json(document))
    _settle_times(folder, document["built"])
    return files


def _describe(path: Path, digest: str | None) -> dict[str, t.Any]:
    return {"size": path.stat().st_size, "sha256": digest or file_digest(path)}


def _settle_times(folder: Path, built: str) -> None:
    """Give the files the time of the build, so that archives of the folder are the same for the same build."""
    moment = datetime.datetime.strptime(built, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc).timestamp()
    for path in folder.iterdir():
        os.utime(path, (moment, moment))
