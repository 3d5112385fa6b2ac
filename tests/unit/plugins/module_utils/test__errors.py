# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reasons in messages."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import reason


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError(2, "No such file or directory", "/a"), "No such file or directory (/a)"),
        (OSError(18, "Invalid cross-device link", "/a", None, "/b"), "Invalid cross-device link (/a, /b)"),
        (OSError("too many links in /a."), "too many links in /a"),
        (gzip.BadGzipFile("Not a gzipped file"), "Not a gzipped file"),
        (EOFError(), "EOFError"),
        (ValueError("it has no dot."), "it has no dot"),
    ],
)
def test_no_number_and_no_class(error: Exception, expected: str) -> None:
    assert reason(error) == expected


def test_a_real_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Errno") as caught:
        (tmp_path / "none").rename(tmp_path / "other")
    assert reason(caught.value) == f"No such file or directory ({tmp_path / 'none'}, {tmp_path / 'other'})"
