# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a source offers, and bringing it."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _artefact_offer as offers_module
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact import Offer, Source, SuiteSource, UnavailableError, source_from
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_lock import Locked, lock_entry
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_offer import Fetcher, Wish
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_control import Package
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_repository import Entry, Repository
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_suite import DebianSuites
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import DownloadError, ImageError, IntegrityError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import file_digest
from ansible_collections.hyperscaler.images.plugins.module_utils._transport import Policy
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils import deb_stand_in

ANY = Wish()
FINGERPRINT = "0683AF2B9AC5BC7D59B2D62340CE4E243CD50804"


class Debian(DebianSuites):
    """A mirror without a network: sid has the tool."""

    mirror = "http://mirror.invalid/debian"
    within_reach = True

    def offers(self, suite: SuiteSource, names: t.Sequence[str]) -> list[Offer]:
        if not self.within_reach:
            raise UnavailableError("the mirror cannot be reached.")
        file = "pool/tool_0.9_amd64.deb"
        return [Offer(Package(name, "0.9", "amd64"), "b" * 64, f"{self.mirror}/{file}", file) for name in names if suite.name == "sid"]


def make_fetcher(cache: Path) -> Fetcher:
    return Fetcher(cache, Policy(retries=0), Debian(cache, "", Path("/k.gpg"), "amd64"), "amd64")


@pytest.fixture
def fetcher(tmp_path: Path) -> Fetcher:
    return make_fetcher(tmp_path / "cache")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return deb_stand_in.write_deb(tmp_path / "served", "tool", "1.0", "amd64")


def source(**description: t.Any) -> Source:
    return source_from("tool", {"version": "1.0", "packages": ["tool"], **description})


def file_source(package: Path, digest: str = "") -> Source:
    return source(files=[{"url": f"file://{package}", "sha256": digest}])


def repository_source(tmp_path: Path) -> Source:
    (tmp_path / "key").write_bytes(b"\x98key")
    return source(repository={"url": str(tmp_path / "served"), "suite": "/", "key": str(tmp_path / "key"), "fingerprint": FINGERPRINT})


def test_a_folder_is_read(fetcher: Fetcher, package: Path) -> None:
    found = fetcher.chosen(source(path=str(package.parent)), {}, ANY).offers
    assert [(offer.package.name, offer.sha256, offer.file) for offer in found] == [("tool", file_digest(package), package.name)]
    assert fetcher.bring(source(path=str(package)), found[0]) == package


def test_a_folder_must_agree_with_the_lock(fetcher: Fetcher, package: Path) -> None:
    locked = lock_entry("1.0", [Offer(Package("tool", "1.0", "amd64"), "a" * 64, "", package.name)])
    with pytest.raises(IntegrityError, match="changed after it was locked"):
        fetcher.chosen(source(path=str(package)), {"1.0": locked}, ANY)


def test_a_path_that_is_not_there_is_a_mistake(fetcher: Fetcher, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="there is no package file") as caught:
        fetcher.chosen(source(path=str(tmp_path / "absent")), {}, ANY)
    assert not isinstance(caught.value, UnavailableError)


def test_a_file_with_its_digest(fetcher: Fetcher, package: Path) -> None:
    described = file_source(package, file_digest(package))
    chosen = fetcher.chosen(described, {}, Wish(strict=True))
    assert chosen.fresh == []
    found = chosen.offers
    assert fetcher.bring(described, found[0]).read_bytes() == package.read_bytes()


def test_a_file_without_a_digest_is_locked_at_its_first_use(fetcher: Fetcher, package: Path) -> None:
    chosen = fetcher.chosen(file_source(package), {}, ANY)
    assert chosen.fresh == chosen.offers
    assert lock_entry("1.0", chosen.fresh).packages[0].origin == f"file://{package}"
    with pytest.raises(
        ImageError, match=r"^Cannot take tool 1.0 from file:.* is not locked, and artefact_policy is strict. Lock it with ansible-playbook"
    ) as caught:
        fetcher.chosen(file_source(package), {}, Wish(strict=True))
    assert not isinstance(caught.value, UnavailableError)


def test_a_locked_file(fetcher: Fetcher, package: Path) -> None:
    described = file_source(package)
    locked = lock_entry("1.0", fetcher.newest(described))
    chosen = fetcher.chosen(described, {"1.0": locked}, Wish(strict=True))
    assert (chosen.offers[0].sha256, chosen.fresh) == (file_digest(package), [])
    package.write_bytes(deb_stand_in.deb("Package: tool\nVersion: 1.1\nArchitecture: amd64\n"))
    other = make_fetcher(package.parent / "other")
    with pytest.raises(IntegrityError, match=r"its sha256 is \w{64}, and the lock file says \w{64}\. The file was changed after it was locked\. Find out why"):
        other.bring(described, chosen.offers[0])


def test_description_and_lock_must_agree(fetcher: Fetcher, package: Path) -> None:
    locked = lock_entry("1.0", fetcher.newest(file_source(package)))
    with pytest.raises(IntegrityError, match="Correct one of them"):
        fetcher.chosen(file_source(package, "a" * 64), {"1.0": locked}, ANY)
    with pytest.raises(IntegrityError, match="Find out which of them is right"):
        fetcher.newest(file_source(package, "a" * 64))


def test_a_package_must_be_what_was_announced(fetcher: Fetcher, package: Path) -> None:
    described = file_source(package)
    lie = Offer(Package("other", "1.0", "amd64"), file_digest(package), f"file://{package}", package.name)
    with pytest.raises(IntegrityError, match=r"it is tool 1.0 for amd64, but other 1.0 for amd64 was announced"):
        fetcher.bring(described, lie)


@pytest.mark.parametrize(("cause", "unavailable"), [("unreachable", True), ("denied", True), ("missing", True), ("untrusted", False), ("input", False)])
def test_only_a_server_out_of_reach_makes_a_component_unavailable(
    fetcher: Fetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: str, unavailable: bool
) -> None:
    def fail(*_arguments: t.Any) -> t.NoReturn:
        raise DownloadError("no", cause=cause)

    monkeypatch.setattr(offers_module, "read_index", fail)
    with pytest.raises(ImageError) as caught:
        fetcher.chosen(repository_source(tmp_path), {}, ANY)
    assert isinstance(caught.value, UnavailableError) is unavailable


def test_a_repository(fetcher: Fetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Repository] = []

    def read(repository: Repository, architecture: str, _policy: Policy) -> list[Entry]:
        assert repository.key.read_bytes() == b"\x98key"
        assert architecture == "amd64"
        asked.append(repository)
        return [Entry(Package("tool", "1.0", "amd64"), f"{repository.url}/pool/tool.deb", "a" * 64)]

    monkeypatch.setattr(offers_module, "read_index", read)
    described = repository_source(tmp_path)
    chosen = fetcher.chosen(described, {}, ANY)
    assert [offer.file for offer in chosen.offers] == ["pool/tool.deb"]
    assert chosen.fresh == chosen.offers
    assert asked[0].fingerprint == FINGERPRINT
    locked = {"1.0": lock_entry("1.0", chosen.offers)}
    asked.clear()
    assert fetcher.chosen(described, locked, ANY).offers[0].location == f"{tmp_path}/served/pool/tool.deb"
    assert asked == []
    with pytest.raises(ImageError, match="it is not locked, and artefact_policy is strict"):
        fetcher.chosen(described, {}, Wish(strict=True))


def test_packages_that_are_needed_later_are_added_to_the_lock(fetcher: Fetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"tool": "1.0", "docs": "1.0"}

    def read(repository: Repository, _architecture: str, _policy: Policy) -> list[Entry]:
        return [Entry(Package(name, version, "amd64"), f"{repository.url}/{name}.deb", "a" * 64) for name, version in names.items()]

    monkeypatch.setattr(offers_module, "read_index", read)
    first = fetcher.chosen(repository_source(tmp_path), {}, Wish(also=("docs", "odd?")))
    assert ([offer.package.name for offer in first.offers], [offer.package.name for offer in first.fresh]) == (["tool"], ["docs", "tool"])
    locked: dict[str, Locked] = {"1.0": lock_entry("1.0", first.offers)}
    names["tool"] = "2.0"
    both = source_from("tool", {"version": "1.0", "packages": ["tool", "docs"], "repository": vars(repository_source(tmp_path).repository)})
    later = fetcher.chosen(both, locked, ANY)
    assert [f"{offer.package.name} {offer.package.version}" for offer in later.offers] == ["docs 1.0", "tool 1.0"]
    assert [offer.package.name for offer in later.fresh] == ["docs"]
    with pytest.raises(ImageError, match="its package docs is not locked"):
        fetcher.chosen(both, locked, Wish(strict=True))


def test_a_key_that_is_not_there_is_a_mistake(fetcher: Fetcher, tmp_path: Path) -> None:
    described = repository_source(tmp_path)
    (tmp_path / "key").unlink()
    with pytest.raises(ImageError, match="there is no key") as caught:
        fetcher.chosen(described, {}, ANY)
    assert not isinstance(caught.value, UnavailableError)


OTHERWISE = {"version": "sid", "suite": {"name": "sid", "system": "trixie"}}


def test_another_suite_takes_the_place_of_what_is_not_locked(fetcher: Fetcher, package: Path) -> None:
    described = source(files=[{"url": f"file://{package}"}], otherwise=OTHERWISE)
    chosen = fetcher.chosen(described, {}, ANY)
    assert (chosen.source.kind, chosen.source.version, chosen.offers[0].package.version, chosen.fresh) == ("suite", "sid", "0.9", [])
    chosen = fetcher.chosen(described, {"1.0": lock_entry("1.0", fetcher.newest(described))}, ANY)
    assert (chosen.source.kind, chosen.offers[0].package.version) == ("files", "1.0")
    with pytest.raises(ImageError, match="from the suite sid of Debian: it is not locked"):
        fetcher.chosen(described, {}, Wish(strict=True))


def test_what_is_locked_of_another_suite_is_not_asked_for(fetcher: Fetcher, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = source(files=[{"url": f"file://{package}"}], otherwise=OTHERWISE)
    locked = {"sid": lock_entry("sid", fetcher.chosen(described, {}, ANY).offers)}
    monkeypatch.setattr(Debian, "within_reach", False)
    chosen = fetcher.chosen(described, locked, Wish(strict=True))
    assert (chosen.source.version, chosen.offers[0].sha256) == ("sid", "b" * 64)
    with pytest.raises(UnavailableError, match=r"^tool 1.0 cannot be had: no digest of .* tool cannot be had: the mirror cannot be reached\.$"):
        fetcher.chosen(described, {}, ANY)
