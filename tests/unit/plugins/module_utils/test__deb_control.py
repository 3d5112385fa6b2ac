# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control fields of Debian packages."""

from __future__ import annotations

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_control import Package, package_from, parse_depends, parse_fields, split_paragraphs


@pytest.mark.parametrize(
    ("version", "release", "file_name"),
    [
        ("20:8.1.0-1", "8.1.0", "p_8.1.0-1_all.deb"),
        ("20:8.1.0", "8.1.0", "p_8.1.0_all.deb"),
        ("8.1.0-1", "8.1.0", "p_8.1.0-1_all.deb"),
        ("7.4.6", "7.4.6", "p_7.4.6_all.deb"),
        ("1:2:3.0", "2:3.0", "p_2:3.0_all.deb"),
        ("8.1.0~beta1-2-3", "8.1.0~beta1-2", "p_8.1.0~beta1-2-3_all.deb"),
    ],
)
def test_release_and_file_name(version: str, release: str, file_name: str) -> None:
    package = Package("p", version, "all")
    assert (package.release, package.file_name) == (release, file_name)


def test_dependencies() -> None:
    assert parse_depends("aa (>= 1), bb [amd64] | cc:any,  , dd") == (("aa",), ("bb", "cc"), ("dd",))
    assert parse_depends("") == ()
    fields = {"package": "p1", "version": "1", "architecture": "all", "pre-depends": "xx", "depends": "yy"}
    assert package_from(fields).depends == (("xx",), ("yy",))


@pytest.mark.parametrize("version", ["1", "1:2:3", "1.0-1", "2147483647:1", "1-2-3", "0~", "1:1-1"])
def test_versions(version: str) -> None:
    assert package_from({"package": "p", "version": version, "architecture": "all"}).version == version


@pytest.mark.parametrize("version", ["", "a1", "1:", ":1", "x:1", "1-", "1:2-3:4", "1 2", "1_2", "1/2"])
def test_versions_that_dpkg_refuses(version: str) -> None:
    with pytest.raises(ValueError, match="Version"):
        package_from({"package": "p", "version": version, "architecture": "all"})


def test_paragraphs() -> None:
    assert split_paragraphs("\n\nA: 1\nB: 2\n 3\n\n\nC:\n") == ["A: 1\nB: 2\n 3", "C:"]
    assert split_paragraphs("A: 1\r\n\r\n\r\nC:\r\n") == ["A: 1\r", "C:\r"]
    # Some tools write such a line within a description; for apt, the paragraph goes on.
    assert split_paragraphs("A: 1\n \nC:\n\n") == ["A: 1\n \nC:"]
    assert parse_fields("A: 1\nB: 2\n 3\n\t4") == {"a": "1", "b": "2\n3\n4"}
    for text, why in (
        (" x", "a line continues no field"),
        ("A: 1\na: 2", "the field a is there twice"),
        ("A b: 1", "a line is no field"),
        ("-A: 1", "no field"),
    ):
        with pytest.raises(ValueError, match=why):
            parse_fields(text)
