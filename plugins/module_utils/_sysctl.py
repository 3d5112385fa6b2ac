# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Keys and values of kernel settings, so that two spellings of the same are equal."""

from __future__ import annotations

import contextlib
import re


def normal_key(key: str) -> str:
    """A key as the path below /proc/sys: when the first separator is a dot, dots and slashes change places."""
    first = re.search(r"[./]", key)
    return key if first is None or first.group() == "/" else key.translate(str.maketrans("./", "/."))


def normal_value(value: str) -> tuple[int | str, ...]:
    """A value such that two spellings of what the kernel reads as the same are equal."""
    return tuple(_word(word) for word in value.split())


def _word(word: str) -> int | str:
    with contextlib.suppress(ValueError):
        return int(word, 8 if re.fullmatch(r"-?0[0-7]+", word) else 0)
    return word
