# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""The errors that module utilities raise and that modules turn into one message."""

from __future__ import annotations

import typing as t


class ImageError(Exception):
    """A failure that a user can act on.

    The message names what was attempted, on what, why it failed and what to do.
    ``details`` holds further return values of the module (``cmd``, ``rc``, ``stdout``, ``stderr`` …).
    """

    def __init__(self, message: str, **details: t.Any) -> None:
        super().__init__(message)
        self.details = details


def reason(error: Exception) -> str:
    """Why something was refused, for a message: without the number of the system's error, and with the files that it names."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    names = [str(name) for name in (getattr(error, "filename", None), getattr(error, "filename2", None)) if name]
    return f"{text.rstrip('.')} ({', '.join(names)})" if names else text.rstrip(".")


class ToolError(ImageError):
    """A program is missing or too old."""


class CommandError(ImageError):
    """A program ended with an exit code that was not expected."""


class BusyError(ImageError):
    """The object is in use by another process."""


class IntegrityError(ImageError):
    """A file is not what it should be: wrong checksum, damaged or truncated."""


class DownloadError(ImageError):
    """A file could not be fetched."""


class LayoutError(ImageError):
    """A disk image has a partition table or file system that cannot be handled."""


class SpaceError(ImageError):
    """There is not enough free space or memory."""
