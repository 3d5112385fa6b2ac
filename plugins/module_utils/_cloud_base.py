# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Turn a verified Debian cloud image into a raw base image."""

from __future__ import annotations

import dataclasses
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, IntegrityError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import file_digest, part_file


@dataclasses.dataclass(frozen=True)
class CloudSource:
    """A cloud image in qcow2 format that was downloaded and verified."""

    path: Path
    version: str
    sha512: str
    url: str
    release: str
    arch: str

    def inputs(self) -> dict[str, t.Any]:
        """Everything that shapes the converted image."""
        return {"cloud_version": self.version, "cloud_sha512": self.sha512, "release": self.release, "arch": self.arch}


def convert(source: CloudSource, destination: Path) -> dict[str, t.Any]:
    """Write the raw image, and return its description."""
    if not source.path.is_file():
        raise ImageError(f"Cannot convert {source.path}: there is no such file. Download it again (hyperscaler.images.debian_cloud_checksum).")
    if file_digest(source.path, "sha512") != source.sha512.lower():
        raise IntegrityError(f"Cannot convert {source.path}: it does not have the SHA-512 {source.sha512}. Download it again.", path=str(source.path))
    qemu_img = Command("qemu-img", reason="convert cloud images", package="qemu-utils")
    with part_file(destination) as part:
        qemu_img.run("convert", "-f", "qcow2", "-O", "raw", source.path, part, attempt=f"convert {source.path} to {destination}")
        part.chmod(0o644)
        return {
            "sha256": file_digest(part),
            "virtual_size": part.stat().st_size,
            "release": source.release,
            "arch": source.arch,
            "version": source.version,
            "url": source.url,
            "sha512": source.sha512,
        }
