# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Compare versions of Debian packages, as deb-version(7) says; releases of kernels and of other software are in order by it as well."""

from __future__ import annotations

import functools
import itertools
import re


def _order(character: str) -> int:
    """A tilde sorts before the end of a part, letters before everything else."""
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256


def _compare_part(left: str, right: str) -> int:
    """Compare upstream versions or revisions: text and numbers in turns."""
    pieces = [re.findall(r"(\D*)(\d*)", part) for part in (left, right)]
    for one, other in itertools.zip_longest(*pieces, fillvalue=("", "")):
        for mine, yours in itertools.zip_longest(one[0], other[0], fillvalue=""):
            difference = (_order(mine) if mine else 0) - (_order(yours) if yours else 0)
            if difference:
                return difference
        number = int(one[1] or 0) - int(other[1] or 0)
        if number:
            return number
    return 0


def _split(version: str) -> tuple[int, str, str]:
    epoch, colon, rest = version.partition(":")
    if not re.fullmatch(r"\+?\d+", epoch):
        colon = ""
    upstream, _dash, revision = (rest if colon else version).rpartition("-")
    return (int(epoch) if colon else 0, upstream or (rest if colon else version), revision if upstream else "")


def compare(left: str, right: str) -> int:
    """Less than, equal to or greater than zero when ``left`` is older than, the same as or newer than ``right``."""
    one, other = _split(left), _split(right)
    return (one[0] - other[0]) or _compare_part(one[1], other[1]) or _compare_part(one[2], other[2])


version_order = functools.cmp_to_key(compare)
