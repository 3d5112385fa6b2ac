# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages of another suite of Debian: from archives that apt reads, signed by keys of the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _deb_suite
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact import Offer, SuiteSource, UnavailableError
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_suite import DebianSuites
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, IntegrityError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import file_digest
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils import deb_stand_in
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils.signed_archives import Archives, open_archives

SID = SuiteSource("sid", "trixie", "main")


class Mirror:
    """A mirror with the suites trixie and sid."""

    def __init__(self, archives: Archives, cache: Path) -> None:
        self.archives = archives
        self.folder = archives.folder / "mirror"
        self.suites = DebianSuites(cache, f"file:{self.folder}", archives.folder / "debian.gpg", "amd64")

    def publish(self, suite: str, *packages: tuple[str, str, str], key: str = "debian") -> None:
        """Publish packages, each as name, version and what it depends on."""
        paragraphs = []
        for name, version, depends in packages:
            file = deb_stand_in.write_deb(self.folder / "pool", name, version, "amd64")
            fields = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: pool/{file.name}\nSize: {file.stat().st_size}\n"
            paragraphs.append(f"{fields}SHA256: {file_digest(file)}\n" + (f"Depends: {depends}\n" if depends else ""))
        release = self.folder / "dists" / suite / "InRelease"
        # As on a mirror that was frozen, the lists of sid have expired.
        self.archives.release(release, "Debian", key, suite, "\n".join(paragraphs), "stable" if suite == "trixie" else "unstable")

    def offers(self, *names: str) -> list[tuple[str, str]]:
        """Names and versions of what is offered."""
        return sorted((offer.package.name, offer.package.version) for offer in self.suites.offers(SID, names))

    def offer(self, name: str) -> Offer:
        """The offer of one package."""
        return self.suites.offers(SID, [name])[0]


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    with open_archives() as archives:
        made = Mirror(archives, tmp_path / "cache")
        made.publish("trixie", ("libold", "1", ""), ("other", "1", ""))
        made.publish("sid", ("tool", "2", "libold, libnew (>= 2)"), ("libold", "3", ""), ("libnew", "2", ""), ("other", "9", ""))
        yield made


def test_what_is_needed_comes_along_and_nothing_that_the_release_has(mirror: Mirror) -> None:
    assert mirror.offers("tool") == [("libnew", "2"), ("tool", "2")]
    assert mirror.offers("tool", "absent?") == [("libnew", "2"), ("tool", "2")]


def test_a_package_of_both_comes_from_the_suite(mirror: Mirror) -> None:
    assert mirror.offers("other") == [("other", "9")]


def test_it_is_brought_with_its_digest(mirror: Mirror, tmp_path: Path) -> None:
    offer = mirror.offer("other")
    mirror.suites.bring(offer.location, offer.sha256, tmp_path / "other.deb")
    assert file_digest(tmp_path / "other.deb") == offer.sha256
    with pytest.raises(ImageError, match=r"^Cannot fetch file:.*other_9_amd64.deb"):
        mirror.suites.bring(offer.location, "a" * 64, tmp_path / "wrong.deb")
    assert not list(tmp_path.glob("*wrong*")) + list(tmp_path.glob(".*"))
    (mirror.folder / offer.file).unlink()
    with pytest.raises(UnavailableError, match=r"^Cannot fetch file:.*other_9_amd64.deb"):
        mirror.suites.bring(offer.location, offer.sha256, tmp_path / "gone.deb")


def test_what_was_published_since_is_seen(mirror: Mirror) -> None:
    assert mirror.offers("other") == [("other", "9")]
    mirror.publish("sid", ("other", "10", ""))
    assert mirror.offers("other") == [("other", "10")]


def test_a_suite_that_another_key_signed_is_refused(mirror: Mirror) -> None:
    mirror.publish("sid", ("tool", "2", ""), key="other")
    told = r"^Cannot read the suite sid of file:.* is signed with the key \w+, which the keyring .*debian\.gpg of the build host does not have"
    with pytest.raises(IntegrityError, match=told):
        mirror.offers("tool")


def test_what_cannot_be_had(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnavailableError, match=r"^the suite sid of file:.* has no package nothing, absent for amd64\.$"):
        mirror.offers("nothing", "other", "absent")
    (mirror.folder / "dists/sid/InRelease").unlink()
    with pytest.raises(UnavailableError, match=r"^Cannot read the suite sid of file:"):
        mirror.offers("tool")
    with pytest.raises(UnavailableError, match=r"no\.gpg is not there\. Install the package debian-archive-keyring"):
        DebianSuites(tmp_path, "file:/x", tmp_path / "no.gpg", "amd64").offers(SID, ["tool"])
    monkeypatch.setattr(_deb_suite, "APT", tmp_path / "none")
    with pytest.raises(UnavailableError, match="the variable artefact_debian_mirror"):
        DebianSuites(tmp_path, "", mirror.archives.folder / "debian.gpg", "amd64").offers(SID, ["tool"])


def test_what_does_not_fit_together_is_told(mirror: Mirror) -> None:
    mirror.publish("sid", ("tool", "2", "libold (>= 4)"))
    with pytest.raises(ImageError, match=r"^Cannot take tool from sid to trixie: they do not fit together. apt says .*libold.*\. Take another suite"):
        mirror.offers("tool")
