# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Settings that are one of several words: the kernel shows them all, and the chosen one in brackets. Copies in memory do as the kernel does."""

from __future__ import annotations

import ctypes
import os
import re
import struct
import typing as t
from pathlib import Path

CHOICE = re.compile(r"\A(?:[\w.:+-]+\s+)*\[[\w.:+-]+\](?:\s+[\w.:+-]+)*\s*\Z")
SIZE = 4096
IN_CLOSE_WRITE = 0x8
EVENT = struct.Struct("iIII")


def chosen(words: t.Sequence[str], text: str) -> str | None:
    """What the kernel shows of a choice after ``text`` was written, such as ``always madvise [never]``; None when it refuses it."""
    wanted = text.strip()
    if wanted not in words:
        return None
    return " ".join(f"[{word}]" if word == wanted else word for word in words) + "\n"


def _number(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"watch settings: {os.strerror(ctypes.get_errno())}")
    return result


class Choices:
    """Watches copies of settings. ``descriptor`` is readable when one was written.

    The files are opened while nothing else can have changed them, and are not looked up by name again.
    """

    def __init__(self, folders: t.Iterable[Path]) -> None:
        """Find the choices below ``folders``."""
        library = ctypes.CDLL(None, use_errno=True)
        self.descriptor = _number(library.inotify_init1(ctypes.c_int(os.O_CLOEXEC | os.O_NONBLOCK)))
        self._files: dict[int, int] = {}
        self._shown: dict[int, str] = {}
        for folder in folders:
            for path in sorted(each for each in folder.rglob("*") if each.is_file()):
                text = path.read_bytes().decode("utf-8", errors="replace")
                if CHOICE.match(text):
                    watch = _number(library.inotify_add_watch(ctypes.c_int(self.descriptor), os.fsencode(path), ctypes.c_uint32(IN_CLOSE_WRITE)))
                    self._files[watch] = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                    self._shown[watch] = text

    def settle(self) -> None:
        """Show what was written as the kernel does; what it would refuse changes nothing."""
        events = os.read(self.descriptor, SIZE)
        for watch in {watch for watch, _mask, _cookie, _length in EVENT.iter_unpack(events)} & set(self._files):
            text = os.pread(self._files[watch], SIZE, 0).decode("utf-8", errors="replace")
            shown = chosen(re.sub(r"[\[\]]", "", self._shown[watch]).split(), text) or self._shown[watch]
            self._shown[watch] = shown
            os.ftruncate(self._files[watch], 0)
            os.pwrite(self._files[watch], shown.encode("utf-8"), 0)
