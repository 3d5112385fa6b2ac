# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What folders and lists of URLs offer."""

from __future__ import annotations

import hashlib
import re
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _package_source
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_control import Package
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_repository import Entry, Repository
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, IntegrityError
from ansible_collections.hyperscaler.images.plugins.module_utils._package_source import (
    check_file_name,
    folder_candidates,
    repository_candidates,
    url_candidates,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._transport import Policy
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils.deb_stand_in import write_deb


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_folder(tmp_path: Path) -> None:
    path = write_deb(tmp_path, "beegfs-meta", "20:8.1.0", "amd64")
    (tmp_path / "README").write_text("not a package", encoding="utf-8")
    (candidate,) = folder_candidates(tmp_path, {})
    assert (candidate.package.name, candidate.origin, candidate.sha256, candidate.proven) == ("beegfs-meta", str(path), digest(path), True)
    assert folder_candidates(tmp_path, {path.name: digest(path).upper() + " "}) == [candidate]


@pytest.mark.parametrize(
    ("checksums", "message"),
    [
        ({"beegfs-meta_8.1.0_amd64.deb": "0" * 64}, "but " + "0" * 64 + " is expected"),
        ({"other.deb": "0" * 64}, "there is no checksum for beegfs-meta_8.1.0_amd64.deb"),
        ({"beegfs-meta_8.1.0_amd64.deb": "", "gone.deb": ""}, "there is a checksum for gone.deb, but no such file"),
        ({"beegfs-meta_8.1.0_amd64.deb": ""}, "but  is expected"),
    ],
)
def test_checksums_of_a_folder(tmp_path: Path, checksums: dict[str, str], message: str) -> None:
    write_deb(tmp_path, "beegfs-meta", "20:8.1.0", "amd64")
    with pytest.raises(ImageError, match=re.escape(message)):
        folder_candidates(tmp_path, checksums)


def test_unfit_folders(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"it has no files that end in \.deb"):
        folder_candidates(tmp_path, {})
    with pytest.raises(ImageError, match=r"Cannot look for packages in .*/none: No such file"):
        folder_candidates(tmp_path / "none", {})


def test_an_odd_file_does_not_stop_a_folder(tmp_path: Path) -> None:
    good = write_deb(tmp_path, "beegfs-meta", "1", "all")
    for name in ("a\nb.deb", "a b.deb"):
        write_deb(tmp_path, "beegfs-meta", "1", "all", file_name=name)
    (tmp_path / "page.deb").write_text("<html>", encoding="utf-8")
    (tmp_path / "link.deb").symlink_to(good)
    (tmp_path / "folder.deb").mkdir()
    write_deb(tmp_path, "SiteTool", "1:2:3.0", "amd64")
    found = {Path(candidate.origin).name: candidate.trouble for candidate in folder_candidates(tmp_path, {})}
    assert [name for name, trouble in found.items() if not trouble] == ["SiteTool_2:3.0_amd64.deb", good.name]
    for name, why in (
        ("a b.deb", "its name has spaces"),
        ("a\nb.deb", "its name has spaces or control characters"),
        ("page.deb", "not an ar archive"),
        ("link.deb", "it is a symbolic link"),
        ("folder.deb", "it is not a regular file"),
    ):
        assert why in found[name]


@pytest.fixture
def fetch(tmp_path: Path) -> t.Callable[..., t.Any]:
    (tmp_path / "incoming").mkdir()

    def run(*entries: tuple[str, str], known: dict[str, Package] | None = None) -> t.Any:
        return url_candidates([{"url": url, "sha256": sum_} for url, sum_ in entries], known or {}, tmp_path / "incoming", Policy(retries=0))

    return run


def test_urls(tmp_path: Path, fetch: t.Callable[..., t.Any]) -> None:
    path = write_deb(tmp_path, "beegfs-meta", "20:8.1.0", "amd64")
    (candidate,) = fetch((path.as_uri(), digest(path)))
    assert candidate.package.name == "beegfs-meta"
    assert Path(candidate.local).read_bytes() == path.read_bytes()


def test_known_files_are_not_fetched(fetch: t.Callable[..., t.Any]) -> None:
    package = Package("beegfs-meta", "20:8.1.0", "amd64")
    (candidate,) = fetch(("file:///nowhere/beegfs-meta_8.1.0_amd64.deb", "A" * 64), known={"a" * 64: package})
    assert candidate.package == package
    assert not candidate.proven


def test_unfit_urls(tmp_path: Path, fetch: t.Callable[..., t.Any]) -> None:
    path = write_deb(tmp_path, "beegfs-meta", "20:8.1.0", "amd64")
    with pytest.raises(ImageError, match="its sha256 is that of another entry"):
        fetch((path.as_uri(), digest(path)), (path.as_uri(), digest(path)))
    with pytest.raises(ImageError, match="Nothing is downloaded without a checksum"):
        fetch((path.as_uri(), ""))
    path.write_bytes(b"<html>")
    with pytest.raises(IntegrityError, match=f"Cannot use the package {re.escape(path.as_uri())}: it is not an ar archive"):
        fetch((path.as_uri(), digest(path)))


@pytest.mark.parametrize("name", ["..", "..%2Fx.deb", "%2e%2e%2f%2e%2e%2fx.deb", "x.rpm", ".x.deb", "a%0ab.deb", "a%00.deb", "a%20b.deb", ""])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(ImageError, match="is not the name of a package file"):
        check_file_name(f"https://example.com/a/{name}")


def test_names_that_are_accepted() -> None:
    check_file_name("https://example.com/a/beegfs-meta_20%3a8.1.0%2bx~1_amd64.deb?token=x")


def test_the_newest_revision_of_a_release_in_a_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can remove the older one there."""
    versions = ("20:8.1.0-2", "20:8.1.0-10", "20:8.1.0-1", "20:8.2.0-1")
    entries = [Entry(Package("beegfs-meta", version, "amd64"), f"https://example.com/{version}.deb", str(number)) for number, version in enumerate(versions)]
    monkeypatch.setattr(_package_source, "read_index", lambda *_arguments: entries)
    found = repository_candidates(Repository("https://example.com", "trixie", "main", Path("key")), "amd64", Policy())
    assert sorted(candidate.package.version for candidate in found) == ["20:8.1.0-10", "20:8.2.0-1"]
