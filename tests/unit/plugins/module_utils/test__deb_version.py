# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing versions of Debian packages."""

from __future__ import annotations

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_version import compare, version_order

# Each was compared with dpkg --compare-versions.
ORDERED = ["0.9", "1.0~~", "1.0~rc1", "1.0", "1.0-1~bpo13+1", "1.0-1", "1.0-1+deb13u1", "1.0-2", "1.0-10", "1.0a", "1.0+b", "1.9", "1.10", "1:0.1", "20:8.1.0"]


@pytest.mark.parametrize(("older", "newer"), list(zip(ORDERED, ORDERED[1:])))
def test_order(older: str, newer: str) -> None:
    assert compare(older, newer) < 0 < compare(newer, older)


@pytest.mark.parametrize(("left", "right"), [("1.0", "1.0"), ("0:1.0", "1.0"), ("1.0-0", "1.0"), ("1.00", "1.0"), ("1.5.4-trixie+", "1.5.4-trixie+")])
def test_same(left: str, right: str) -> None:
    assert compare(left, right) == 0


def test_newest() -> None:
    assert max(["1.35.2-1.1", "1.35.10-1.1", "1.35.9-2.1"], key=version_order) == "1.35.10-1.1"


@pytest.mark.parametrize(
    "ordered",
    [
        ["7.4", "7.4.6", "8.0~rc1", "8.0", "8.0.1", "8.1.0", "8.10.0"],
        ["6.1.0-28-amd64", "6.9.1", "6.12.9+deb13-amd64", "6.12.17+deb13-amd64", "6.12.107+deb13-amd64"],
        ["5.10.0-9-amd64", "5.10.0-10-amd64", "6.8.0-45-generic", "6.8.0-100-generic"],
    ],
)
def test_releases_of_software_and_kernels(ordered: list[str]) -> None:
    assert sorted(reversed(ordered), key=version_order) == ordered


def test_any_text_has_an_order() -> None:
    """Folders in /lib/modules may have any name."""
    assert sorted(["c", "old:6.1", "6.1"], key=version_order) == ["6.1", "c", "old:6.1"]
