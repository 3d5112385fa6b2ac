# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""The record of how a base image was made, and whether it must be made again."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import time
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._digest import canonical_json, changes, document_digest
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import file_digest, write_atomic

DAY = 86400


def record_path(image: Path) -> Path:
    """The record beside an image."""
    return image.with_name(f"{image.name}.json")


def read_record(image: Path) -> dict[str, t.Any] | None:
    """The record of an image, or None when there is none that can be read."""
    try:
        record: dict[str, t.Any] = json.loads(record_path(image).read_text(encoding="utf-8"))
        complete = {"inputs", "inputs_digest", "image", "created_at", "modified_ns"} <= record.keys()
        if complete:
            # The cache may have been moved or copied since.
            record["image"] = {**record["image"], "path": str(image)}
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    return record if complete else None


def write_record(image: Path, inputs: t.Mapping[str, t.Any], description: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Write the record of an image that was just made, and return it. Image and record get the owner of their folder."""
    now = time.time()
    created = datetime.datetime.fromtimestamp(int(now), datetime.timezone.utc).isoformat()
    record = {
        "inputs": dict(inputs),
        "inputs_digest": document_digest(inputs),
        "created_at": now,
        "modified_ns": image.stat().st_mtime_ns,
        "image": {"path": str(image), "created": created, **description},
    }
    write_atomic(record_path(image), canonical_json(record))
    owner = image.parent.stat()
    for file in (image, record_path(image)):
        os.chown(file, owner.st_uid, owner.st_gid)
    return record


def decide(image: Path, record: dict[str, t.Any] | None, inputs: t.Mapping[str, t.Any], max_age_days: int, refresh: bool) -> str | None:
    """Why an image has to be made, in a few words, or None when it can stay."""
    if not image.is_file():
        return "no image yet"
    if record is None:
        return "no record of how the file that is there was made"
    different = changes(record["inputs"], dict(inputs))
    if different:
        return "; ".join(different)
    if refresh:
        return "refresh asked for"
    age = (time.time() - record["created_at"]) / DAY
    if max_age_days and age > max_age_days:
        return f"{age:.0f} days old, at most {max_age_days} are allowed"
    return _damage(image, record)


def _damage(image: Path, record: dict[str, t.Any]) -> str | None:
    """A file with the recorded size and time is trusted; otherwise its content is compared (a copy has another time)."""
    status = image.stat()
    if status.st_size != record["image"]["virtual_size"]:
        return f"size of {status.st_size} bytes instead of {record['image']['virtual_size']}"
    if status.st_mtime_ns != record["modified_ns"] and file_digest(image) != record["image"]["sha256"]:
        return "content changed since it was made"
    return None


@contextlib.contextmanager
def locked(image: Path) -> t.Iterator[None]:
    """Hold the lock of an image; a second run waits here until the first one is done."""
    lock = image.with_name(f".{image.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise ImageError(f"Cannot make {image}: its lock {lock} cannot be opened: {error.strerror}. Create the folder, or run as its owner or root.") from error
    with os.fdopen(descriptor, "wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        owner = image.parent.stat()
        with contextlib.suppress(PermissionError):
            os.fchown(stream.fileno(), owner.st_uid, owner.st_gid)
        yield
