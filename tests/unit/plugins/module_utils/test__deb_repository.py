# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the index of a package repository."""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import hashlib
import lzma
import re
import shutil
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_repository import (
    Repository,
    choose_indexes,
    parse_index,
    read_index,
    release_of,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import DownloadError, ImageError, IntegrityError
from ansible_collections.hyperscaler.images.plugins.module_utils._transport import Policy
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils.deb_stand_in import PACK
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils.signer import Signer, signing

ENTRY = f"Package: beegfs-meta\nVersion: 20:8.1.0\nArchitecture: amd64\nFilename: pool/b/beegfs-meta_8.1.0_amd64.deb\nSHA256: {'a' * 64}\n"
KEY = bytes([0x98, 1, 2, 3]) * 30
INDEX = "non-free/binary-amd64/Packages"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Signer, Path]]:
    """A signer with the keys of a publisher and of somebody else, and a folder with their public parts."""
    for signer in signing():
        folder = tmp_path_factory.mktemp("keys")
        for name in ("publisher", "other"):
            (folder / name).write_bytes(signer.make(name))
        yield signer, folder


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "key").write_bytes(KEY)
    return Repository(str(tmp_path / "repository"), "trixie", "non-free", tmp_path / "key")


@pytest.fixture
def publish(repository: Repository, keys: tuple[Signer, Path]) -> t.Callable[..., None]:
    """Write a repository that is signed with keys of these names."""
    signer, folder = keys
    repository.key.write_bytes((folder / "publisher").read_bytes())

    def write(index: bytes, ending: str = "", signed_by: tuple[str, ...] = ("publisher",), digest: str = "", more: str = "", place: str = "") -> None:
        target = Path(repository.folder, place or f"{INDEX}{ending}")
        target.parent.mkdir(parents=True)
        target.write_bytes(index)
        digest = digest or hashlib.sha256(index).hexdigest()
        text = f"Origin: x\n{more}MD5Sum:\n {'1' * 32} 1 {INDEX}\nSHA256:\n {digest} {len(index)} {INDEX}{ending}\n"
        Path(repository.folder, "InRelease").write_bytes(signer.sign(text, *signed_by))

    return write


@pytest.mark.parametrize(
    ("ending", "pack"),
    [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress), (".lzma", PACK[".lzma"])],
)
def test_reads_a_signed_index(repository: Repository, publish: t.Callable[..., None], ending: str, pack: t.Callable[[bytes], bytes]) -> None:
    publish(pack(ENTRY.encode()), ending)
    (entry,) = read_index(repository, "amd64", Policy())
    assert entry.package.name == "beegfs-meta"
    assert entry.url == f"{repository.url}/pool/b/beegfs-meta_8.1.0_amd64.deb"
    assert entry.sha256 == "a" * 64


@pytest.mark.skipif(shutil.which("zstd") is None, reason="there is no zstd here")
def test_reads_an_index_packed_with_zstd(repository: Repository, publish: t.Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "Packages").write_text(ENTRY, encoding="utf-8")
    Command("zstd", reason="test").run("-q", tmp_path / "Packages", attempt="pack")
    publish((tmp_path / "Packages.zst").read_bytes(), ".zst")
    assert read_index(repository, "amd64", Policy())[0].package.name == "beegfs-meta"


def test_an_index_that_is_there_by_its_digest_only(repository: Repository, publish: t.Callable[..., None]) -> None:
    packed = gzip.compress(ENTRY.encode())
    digest = hashlib.sha256(packed).hexdigest()
    publish(packed, ".gz", more="Acquire-By-Hash: yes\n", place=f"non-free/binary-amd64/by-hash/SHA256/{digest}")
    assert read_index(repository, "amd64", Policy(retries=0))[0].package.name == "beegfs-meta"


def test_an_index_by_its_name_where_the_digest_leads_nowhere(repository: Repository, publish: t.Callable[..., None]) -> None:
    publish(ENTRY.encode(), more="Acquire-By-Hash: yes\n")
    assert read_index(repository, "amd64", Policy(retries=0))[0].package.name == "beegfs-meta"


def test_an_index_that_is_listed_and_not_there(repository: Repository, publish: t.Callable[..., None], keys: tuple[Signer, Path]) -> None:
    publish(ENTRY.encode())
    digest = hashlib.sha256(ENTRY.encode()).hexdigest()
    text = f"SHA256:\n {'b' * 64} 1 {INDEX}.xz\n {digest} 1 {INDEX}\n"
    Path(repository.folder, "InRelease").write_bytes(keys[0].sign(text, "publisher"))
    assert read_index(repository, "amd64", Policy(retries=0))[0].package.name == "beegfs-meta"
    Path(repository.folder, INDEX).unlink()
    with pytest.raises(DownloadError, match=r"Packages\.xz: there is no such file"):
        read_index(repository, "amd64", Policy(retries=0))


def test_one_known_key_among_those_that_signed_is_enough(repository: Repository, publish: t.Callable[..., None]) -> None:
    publish(ENTRY.encode(), signed_by=("other", "publisher"))
    assert read_index(repository, "amd64", Policy())[0].package.name == "beegfs-meta"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"signed_by": ("other",)}, "it is signed with the key "),
        ({"digest": "b" * 64}, "it does not have the digest that the signed Release file gives"),
        ({"ending": ".xz"}, "Cannot unpack "),
        ({"digest": "short"}, "it has no SHA256 digests"),
    ],
)
def test_a_wrong_repository_is_refused(repository: Repository, publish: t.Callable[..., None], options: dict[str, str], message: str) -> None:
    publish(ENTRY.encode(), **options)
    with pytest.raises(IntegrityError, match=re.escape(message)):
        read_index(repository, "amd64", Policy())


def test_a_missing_repository(repository: Repository) -> None:
    with pytest.raises(ImageError, match="InRelease"):
        read_index(repository, "amd64", Policy(retries=0))


def test_a_release_that_was_changed(repository: Repository, publish: t.Callable[..., None]) -> None:
    publish(ENTRY.encode())
    release = Path(repository.folder, "InRelease")
    release.write_bytes(release.read_bytes().replace(b"Origin: x", b"Origin: y"))
    with pytest.raises(IntegrityError, match=r"it is not what was signed\. The repository is not signed by the key in .*key\. Use the key"):
        read_index(repository, "amd64", Policy())
    release.write_bytes(b"SHA256:\n")
    with pytest.raises(IntegrityError, match=r"gpgv says: no valid OpenPGP data found"):
        read_index(repository, "amd64", Policy())


def test_the_smallest_index_is_chosen(repository: Repository) -> None:
    sums = {f"{INDEX}{ending}": ending or "plain" for ending in ("", ".gz", ".xz", ".bz2")}
    assert choose_indexes(sums, repository, "amd64") == [f"{INDEX}.xz", f"{INDEX}.bz2", f"{INDEX}.gz", INDEX]
    with pytest.raises(DownloadError, match=re.escape("Cannot find packages for arm64 in the component non-free") + ".*it has non-free/binary-amd64"):
        choose_indexes(sums, repository, "arm64")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ENTRY.replace("pool/", "/pool/"), "the file name of beegfs-meta is '/pool/b/"),
        (ENTRY.replace("pool/", "../"), "the file name of beegfs-meta is '../b/"),
        (ENTRY.replace("Filename", "Filenom"), "beegfs-meta 20:8.1.0 has no field Filename"),
        (ENTRY.replace("SHA256", "SHA1"), "beegfs-meta 20:8.1.0 has no SHA256"),
        (ENTRY.replace("Package: b", "Package: ../b"), "its field Package is '../beegfs-meta'"),
        ("<html>", "a line is no field: '<html>'"),
    ],
)
def test_a_wrong_index_is_refused(repository: Repository, text: str, message: str) -> None:
    with pytest.raises(IntegrityError, match=re.escape(message)):
        parse_index(text, repository)


def test_one_odd_entry_does_not_stop_an_index(repository: Repository) -> None:
    odd = [ENTRY.replace("Package: b", "Package: ../b"), "nonsense\n", ENTRY.replace("20:8.1.0", "unknown"), ENTRY.replace("beegfs-meta", "site_tool")]
    unsigned = ENTRY.replace("20:8.1.0", "20:8.2.0").replace("SHA256", "SHA1")
    gone = ENTRY.replace("beegfs-meta", "gone").replace("20:8.1.0", "unknown")
    found = parse_index("\n".join([*odd, ENTRY, unsigned, gone]), repository)
    by_name = {(entry.package.name, entry.package.version): entry.trouble for entry in found}
    assert by_name["beegfs-meta", "20:8.1.0"] == by_name["site_tool", "20:8.1.0"] == ""
    assert "beegfs-meta 20:8.2.0 has no SHA256" in by_name["beegfs-meta", "20:8.2.0"]
    assert "its field Version is 'unknown'" in by_name["gone", ""]
    assert ("beegfs-meta", "") not in by_name


def test_an_index_with_line_ends_of_another_system(repository: Repository) -> None:
    text = f"\r\n{ENTRY}\r\n\r\n{ENTRY.replace('meta', 'storage')}\n".replace("\n", "\r\n").replace("\r\r", "\r")
    assert [(entry.package.name, entry.sha256) for entry in parse_index(text, repository)] == [("beegfs-meta", "a" * 64), ("beegfs-storage", "a" * 64)]


def test_a_line_of_blanks_within_an_entry(repository: Repository) -> None:
    text = ENTRY.replace("Filename", "Description: one\n two\n \n three\nFilename")
    assert parse_index(text, repository)[0].sha256 == "a" * 64


def test_the_first_of_two_entries_for_one_package_counts(repository: Repository) -> None:
    """Unless it cannot be used."""
    second = ENTRY.replace("pool/b", "pool/c")
    assert [entry.url for entry in parse_index(f"{ENTRY}\n{second}", repository)] == [f"{repository.url}/pool/b/beegfs-meta_8.1.0_amd64.deb"]
    assert [entry.url for entry in parse_index(f"{ENTRY.replace('SHA256', 'SHA1')}\n{second}", repository)] == [
        f"{repository.url}/pool/c/beegfs-meta_8.1.0_amd64.deb"
    ]


def test_an_entry_that_cannot_be_read_keeps_its_name(repository: Repository) -> None:
    found = parse_index(f"{ENTRY}\nnonsense\nPackage: beegfs-storage\n\nno name\n", repository)
    assert [(entry.package.name, bool(entry.trouble)) for entry in found] == [("beegfs-meta", False), ("beegfs-storage", True)]


def test_sums_need_an_index() -> None:
    for text in ("", "Origin: x\n"):
        with pytest.raises(IntegrityError, match="it has no SHA256 digests"):
            release_of(text, "https://example.com/dists/x")
    with pytest.raises(IntegrityError, match="a line is no field"):
        release_of("<html>", "https://example.com/dists/x")


def test_a_flat_repository_has_its_index_beside_the_packages() -> None:
    flat = Repository("https://example.com/v1/deb/", "/", "main", Path("key"))
    assert flat.folder == "https://example.com/v1/deb"
    assert choose_indexes({"Packages.gz": "b" * 64, "Packages": "a" * 64}, flat, "amd64") == ["Packages.gz", "Packages"]
    assert choose_indexes({"./Packages.xz": "b" * 64}, flat, "amd64") == ["./Packages.xz"]
    assert Repository("https://example.com", "amd64/", "main", Path("key")).folder == "https://example.com/amd64"


@pytest.mark.parametrize(("pinned", "trusted"), [("publisher", True), ("other", False)])
def test_a_pinned_fingerprint(repository: Repository, publish: t.Callable[..., None], keys: tuple[Signer, Path], pinned: str, trusted: bool) -> None:
    publish(ENTRY.encode())
    asked = dataclasses.replace(repository, fingerprint=keys[0].fingerprint(pinned))
    if trusted:
        assert read_index(asked, "amd64", Policy(retries=0))[0].url.endswith("repository/pool/b/beegfs-meta_8.1.0_amd64.deb")
    else:
        signed, wanted = keys[0].fingerprint("publisher"), keys[0].fingerprint("other")
        with pytest.raises(IntegrityError, match=f"is signed by {signed}, and only {wanted} is trusted"):
            read_index(asked, "amd64", Policy(retries=0))
