# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests for _apt_sources."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_sources import (
    Mirrors,
    Source,
    find_mirrors,
    parse_deb822,
    parse_one_line,
    read_sources,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DEB822 = """\
# A comment
Types: deb deb-src
# http://old.example.org/debian
URIs: http://mirror.example.org/debian/
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example.org/debian-security
Suites:
 bookworm-security
Components: main

Types: deb-src
URIs: http://sources.example.org/debian
Suites: bookworm

Enabled: no
Types: deb
URIs: http://off.example.org/debian
Suites: bookworm
"""
ONE_LINE = """\
# deb http://off.example.org/debian bookworm main
deb-src http://sources.example.org/debian bookworm main
deb [arch=amd64 signed-by=/etc/apt/keyrings/a.gpg] https://a.example.org/debian/ bookworm main contrib
  deb http://security.example.org/debian-security bookworm-security main # with a comment
"""


def test_deb822() -> None:
    assert parse_deb822(DEB822) == [
        Source("http://mirror.example.org/debian", "bookworm"),
        Source("http://mirror.example.org/debian", "bookworm-updates"),
        Source("http://mirror.example.org/debian-security", "bookworm-security"),
    ]


def test_one_line() -> None:
    assert parse_one_line(ONE_LINE) == [
        Source("https://a.example.org/debian", "bookworm"),
        Source("http://security.example.org/debian-security", "bookworm-security"),
    ]


@pytest.mark.parametrize(
    ("suite", "kind"),
    [
        ("trixie", "archive"),
        ("trixie-backports", "archive"),
        ("trixie-backports-sloppy", "archive"),
        ("trixie-security", "security"),
        ("buster/updates", "security"),
        ("stable", "archive"),
        ("noble", None),
        ("noble-security", None),
        ("cloud-sdk-bookworm", None),
        ("trixie-debug", None),
        ("trixie-pgdg", None),
        ("./", None),
    ],
)
def test_kind(suite: str, kind: str | None) -> None:
    assert Source("http://m.example.org/d", suite).kind == kind


def test_folder(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    own = "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://first.example.org/debian trixie main\n"
    (tmp_path / "sources.list").write_text(own, encoding="utf-8")
    (parts / "b.sources").write_text(DEB822, encoding="utf-8")
    (parts / "a.list").write_text("deb http://other.example.org/tool stable-tool main\n", encoding="utf-8")
    (parts / "c.sources.disabled").write_text(DEB822, encoding="utf-8")
    sources = read_sources(tmp_path)
    assert [source.uri.split("/")[2].split(".")[0] for source in sources] == ["first", "other", "mirror", "mirror", "mirror"]
    assert find_mirrors(sources, "here") == Mirrors("http://first.example.org/debian", "http://mirror.example.org/debian-security")


def test_the_keyring_of_a_source() -> None:
    assert [source.signed_by for source in parse_deb822(DEB822)] == [KEYRING, KEYRING, ""]
    assert [source.signed_by for source in parse_one_line(ONE_LINE)] == ["/etc/apt/keyrings/a.gpg", ""]


def test_an_empty_folder(tmp_path: Path) -> None:
    assert read_sources(tmp_path) == []


def test_mirror_lists_of_cloud_images(tmp_path: Path) -> None:
    listed = tmp_path / "debian.list"
    listed.write_text("# comment\nhttps://m.example.org/debian/\tpriority:1\nhttps://n.example.org/debian\n", encoding="utf-8")
    (tmp_path / "sources.list").write_text(
        f"deb mirror+file://{listed} trixie main\ndeb mirror+file:{tmp_path}/missing.list trixie-security main\n", encoding="utf-8"
    )
    assert read_sources(tmp_path) == [Source("https://m.example.org/debian", "trixie"), Source("https://n.example.org/debian", "trixie")]


def test_security_beside_the_archive() -> None:
    assert find_mirrors([Source("file:/srv/debian", "trixie")], "here") == Mirrors("file:/srv/debian", "file:/srv/debian-security")


@pytest.mark.parametrize("uri", ["cdrom:[Debian]/", "tor+http://m.example.org/debian", "ftp://m.example.org/debian"])
def test_no_mirror(uri: str) -> None:
    with pytest.raises(ImageError, match=r"the package sources of the build host name none. Give the address of one \(option mirror\)") as raised:
        find_mirrors([Source(uri, "trixie"), Source("http://user:secret@ubuntu.example.org/ubuntu", "noble")], "the build host")
    assert "secret" not in str(raised.value.details)
