# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of how Debian's mirror is told from others: with archives that apt reads, signed by keys of the test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _apt_release
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_release import list_name
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_sources import Mirrors, Source, find_mirrors, parse_deb822, read_sources
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils.signed_archives import Archives, open_archives

THIRD_PARTY = """\
Types: deb
URIs: http://hypervisor.invalid/debian/storage
Suites: trixie
Components: no-subscription
Signed-By: /usr/share/keyrings/hypervisor-archive-keyring.gpg
"""
DEBIAN = """\
Types: deb
URIs: http://mirror.invalid/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.invalid/debian-security
Suites: trixie-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


@pytest.fixture
def archives() -> Iterator[Archives]:
    with open_archives() as archives:
        yield archives


@pytest.fixture
def no_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Package lists of this machine: none."""
    monkeypatch.setattr(_apt_release, "LISTS", tmp_path / "lists")
    (tmp_path / "lists").mkdir()
    return tmp_path / "lists"


@pytest.mark.usefixtures("no_lists")
@pytest.mark.parametrize(("origin", "key"), [("Proxmox", "other"), ("Debian", "other"), ("Docker", "debian")])
def test_origin_and_signature_decide_and_not_the_order(archives: Archives, origin: str, key: str) -> None:
    third = archives.archive(f"third-{origin}-{key}", origin, key)
    own = archives.archive("own", "Debian", "debian")
    security = archives.archive("own-security", "Debian", "debian", "trixie-security")
    other_security = archives.archive("third-security", "Debian", "other", "trixie-security")
    found = find_mirrors([third, other_security, own, security], "here", archives.folder / "debian.gpg")
    assert found == Mirrors(own.uri, security.uri)


@pytest.mark.usefixtures("no_lists")
def test_apt_verifies_what_it_asks(archives: Archives) -> None:
    asked = [archives.archive("verified", "Debian", "debian"), archives.archive("forged", "Debian", "other"), Source("file:/no/such/archive", "trixie")]
    answered, said = _apt_release.Releases(archives.folder / "debian.gpg")._ask(asked)
    assert answered == {asked[0].uri: "Debian"}
    assert [_apt_release._was_refused(source, said) for source in asked] == [False, True, False]


@pytest.mark.usefixtures("no_lists")
def test_only_archives_of_others_is_no_mirror(archives: Archives) -> None:
    third = archives.archive("only", "Debian", "other")
    keyring = archives.folder / "debian.gpg"
    told = (
        f"the package sources of here: the keyring {keyring} does not have the key of any of them ({third.uri} is signed with {archives.key_id('other')}). "
        "Give the keyring that has the key of your mirror (option keyring), or give the address of one (option mirror)."
    )
    with pytest.raises(ImageError, match=re.escape(told)):
        find_mirrors([third], "here", keyring)
    with pytest.raises(ImageError, match=r"the package sources of here name none\. Give the address of one \(option mirror\)"):
        find_mirrors([archives.archive("named", "Ceph", "debian")], "here", keyring)


def test_lists_that_apt_has_answer_without_the_mirror(archives: Archives, no_lists: Path) -> None:
    third, own = Source("http://third.invalid/debian", "trixie"), Source("http://mirror.invalid/debian", "trixie")
    archives.release(no_lists / "third.invalid_debian_dists_trixie_InRelease", "Ceph", "debian", "trixie")
    archives.release(no_lists / "mirror.invalid_debian_dists_bookworm_InRelease", "Debian", "debian", "bookworm")
    assert find_mirrors([third, own], "here", archives.folder / "debian.gpg").archive == own.uri


def test_lists_behind_a_mirror_list_and_in_the_package_cache(archives: Archives, no_lists: Path, tmp_path: Path) -> None:
    behind = Source("http://a.invalid/debian", "trixie", listed="mirror+file:/etc/apt/mirrors/debian.list")
    archives.release(no_lists / "_etc_apt_mirrors_debian.list_dists_trixie_InRelease", "Debian", "debian", "trixie")
    assert find_mirrors([behind], "here", archives.folder / "debian.gpg").archive == behind.uri
    cached = Source("http://b.invalid/debian", "trixie", "/other.gpg")
    archives.release(tmp_path / "cache/b.invalid_debian_dists_trixie_InRelease", "Debian", "debian", "trixie")
    assert find_mirrors([cached], "here", archives.folder / "debian.gpg", [tmp_path / "cache"]).archive == cached.uri


@pytest.mark.usefixtures("no_lists")
def test_a_mirror_that_does_not_answer_is_known_by_its_keyring(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "ceph.sources").write_text(THIRD_PARTY, encoding="utf-8")
    (parts / "debian.sources").write_text(DEBIAN, encoding="utf-8")
    assert find_mirrors(read_sources(tmp_path), "here") == Mirrors("http://mirror.invalid/debian", "http://mirror.invalid/debian-security")


@pytest.mark.usefixtures("no_lists")
def test_the_reason_is_told_when_none_that_may_be_answers() -> None:
    two = [Source("http://a.invalid/debian", "trixie"), Source("http://b.invalid/debian", "trixie")]
    with pytest.raises(ImageError, match=r"package sources of here: [ab]\.invalid has no address in the name service\. Check the network.*option mirror"):
        find_mirrors(two, "here")
    with pytest.raises(ImageError, match="option mirror"):
        find_mirrors(parse_deb822(THIRD_PARTY), "here")


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("http://m.example.org/debian/", "m.example.org_debian"),
        ("https://user:secret@m.example.org:8443/a_b/debian", "m.example.org:8443_a%5fb_debian"),
        ("file:/srv/debian", "_srv_debian"),
        ("mirror+file:/etc/apt/mirrors/debian.list", "_etc_apt_mirrors_debian.list"),
    ],
)
def test_names_of_lists(uri: str, name: str) -> None:
    assert list_name(uri) == name
