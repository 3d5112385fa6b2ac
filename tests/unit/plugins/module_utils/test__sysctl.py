# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of keys and values of kernel settings."""

from __future__ import annotations

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._sysctl import normal_key, normal_value


@pytest.mark.parametrize(
    ("key", "normal"),
    [
        ("vm.swappiness", "vm/swappiness"),
        ("vm/swappiness", "vm/swappiness"),
        ("net.ipv4.conf.eth0/100.rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
        ("net/ipv4/conf/eth0.100/rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
    ],
)
def test_both_separators_name_the_same_key(key: str, normal: str) -> None:
    assert normal_key(key) == normal


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("4\t4\t1\t7", "4 4 1 7 ", True),
        ("0x10", "16", True),
        ("010", "8", True),
        ("08", "8", False),
        ("-1", "-01", True),
        ("7", "70", False),
        ("|/usr/bin/core %p", "|/usr/bin/core  %p", True),
        ("cubic", "bbr", False),
        ("", "", True),
    ],
)
def test_values(one: str, other: str, equal: bool) -> None:
    assert (normal_value(one) == normal_value(other)) is equal
