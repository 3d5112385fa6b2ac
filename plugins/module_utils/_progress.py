# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Tell how far a transfer is: in a sentence, and line by line in a file that somebody may be reading."""

from __future__ import annotations

import dataclasses
import os
import typing as t

MEBIBYTE = 1 << 20


@dataclasses.dataclass(frozen=True)
class Progress:
    """The state of a transfer: bytes of the file that are there, bytes of the whole file if known, and the speed of this transfer in bytes per second."""

    present: int
    total: int | None
    rate: float


Report = t.Callable[[Progress], None]


def progress_sentence(name: str, progress: Progress) -> str:
    """One line, for instance ``a.qcow2: 120 of 332 MiB (36 %), 11.2 MiB/s, 19 s left``."""
    present, rate = progress.present / MEBIBYTE, progress.rate / MEBIBYTE
    if progress.total is None:
        return f"{name}: {present:.0f} MiB, {rate:.1f} MiB/s"
    share = 100 * progress.present // progress.total if progress.total else 100
    left = f", {(progress.total - progress.present) / progress.rate:.0f} s left" if progress.rate > 0 else ""
    return f"{name}: {present:.0f} of {progress.total / MEBIBYTE:.0f} MiB ({share} %), {rate:.1f} MiB/s{left}"


def report_to(path: str | None, name: str) -> Report | None:
    """A reporter that adds a line to the file or named pipe ``path`` for each call."""
    if path is None:
        return None
    write = line_writer(path)
    return lambda progress: write(progress_sentence(name, progress))


def line_writer(path: str | None) -> t.Callable[[str], None]:
    """A function that adds a line to the file or named pipe ``path``, or does nothing without one.

    Work must not fail or wait because nobody reads along: what cannot be written at once is dropped.
    """

    def write(line: str) -> None:
        if path is None:
            return
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
        except OSError:
            return
        try:
            os.write(descriptor, (line + "\n").encode("utf-8"))
        except OSError:
            return
        finally:
            os.close(descriptor)

    return write
