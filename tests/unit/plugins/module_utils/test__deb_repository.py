# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the index of a package repository."""

from __future__ import annotations

import base64
import gzip
import hashlib
import lzma
import re
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _deb_repository as repositories
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_repository import (
    Repository,
    choose_index,
    parse_index,
    read_index,
    read_key,
    release_sums,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, DownloadError, ImageError, IntegrityError
from ansible_collections.hyperscaler.images.plugins.module_utils._transport import Policy

ENTRY = f"Package: beegfs-meta\nVersion: 20:8.1.0\nArchitecture: amd64\nFilename: pool/b/beegfs-meta_8.1.0_amd64.deb\nSHA256: {'a' * 64}\n"
KEY = bytes([0x98, 1, 2, 3]) * 30
INDEX = "non-free/binary-amd64/Packages"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "key").write_bytes(KEY)
    return Repository(str(tmp_path / "repository"), "trixie", "non-free", tmp_path / "key")


@pytest.fixture
def publish(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., None]:
    """Write a repository; a signature is what follows the word signed."""

    class Gpgv:
        def __init__(self, program: str, **_options: t.Any) -> None:
            assert program == "gpgv"

        def run(self, *arguments: str | Path, attempt: str) -> None:
            assert [str(argument) for argument in arguments[:2]] == ["--quiet", "--keyring"]
            assert Path(arguments[2]).read_bytes() == KEY
            assert arguments[3] == "--output"
            assert arguments[5] == "--"
            mark, _line, text = Path(arguments[6]).read_text(encoding="utf-8").partition("\n")
            if mark != "signed":
                raise CommandError(f"Cannot {attempt}: gpgv ended with exit code 1: BAD signature.", rc=1)
            Path(arguments[4]).write_text(text, encoding="utf-8")

    monkeypatch.setattr(repositories, "Command", Gpgv)

    def write(index: bytes, ending: str = "", mark: str = "signed", digest: str = "") -> None:
        folder = Path(repository.url, "dists/trixie")
        (folder / INDEX).parent.mkdir(parents=True)
        (folder / f"{INDEX}{ending}").write_bytes(index)
        digest = digest or hashlib.sha256(index).hexdigest()
        (folder / "InRelease").write_text(
            f"{mark}\nOrigin: x\nMD5Sum:\n {'1' * 32} 1 {INDEX}\nSHA256:\n {digest} {len(index)} {INDEX}{ending}\n", encoding="utf-8"
        )

    return write


@pytest.mark.parametrize(("ending", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)])
def test_reads_a_signed_index(repository: Repository, publish: t.Callable[..., None], ending: str, pack: t.Callable[[bytes], bytes]) -> None:
    publish(pack(ENTRY.encode()), ending)
    (entry,) = read_index(repository, "amd64", Policy())
    assert entry.package.name == "beegfs-meta"
    assert entry.url == f"{repository.url}/pool/b/beegfs-meta_8.1.0_amd64.deb"
    assert entry.sha256 == "a" * 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mark": "forged"}, "BAD signature. The repository is not signed by the key in "),
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


def test_the_smallest_index_is_chosen(repository: Repository) -> None:
    sums = {f"{INDEX}{ending}": ending or "plain" for ending in ("", ".gz", ".xz")}
    assert choose_index(sums, repository, "amd64") == (f"{INDEX}.xz", ".xz")
    with pytest.raises(DownloadError, match=re.escape("Cannot find packages for arm64 in the component non-free") + ".*it has non-free/binary-amd64"):
        choose_index(sums, repository, "arm64")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ENTRY.replace("pool/", "/pool/"), "the file name of beegfs-meta is '/pool/b/"),
        (ENTRY.replace("pool/", "../"), "the file name of beegfs-meta is '../b/"),
        (ENTRY.replace("Filename", "Filenom"), "the file name of beegfs-meta is '.'"),
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


def test_sums_need_an_index() -> None:
    for text in ("", "Origin: x\n"):
        with pytest.raises(IntegrityError, match="it has no SHA256 digests"):
            release_sums(text, "https://example.com/dists/x")
    with pytest.raises(IntegrityError, match="a line is no field"):
        release_sums("<html>", "https://example.com/dists/x")


def armoured(data: bytes) -> bytes:
    return b"-----BEGIN PGP PUBLIC KEY BLOCK-----\nComment: x\n\n" + base64.encodebytes(data) + b"=AbCd\n-----END PGP PUBLIC KEY BLOCK-----\n"


def test_keys(tmp_path: Path) -> None:
    path = tmp_path / "key"
    for data in (KEY, armoured(KEY), armoured(KEY).replace(b"\n", b"\r\n"), armoured(KEY).replace(b"=AbCd\n", b""), b"text\n" + armoured(KEY)):
        path.write_bytes(data)
        assert read_key(path) == KEY
    for data, message in (
        (b"", "it is not an OpenPGP public key"),
        (b"<html>", "it is not an OpenPGP"),
        (armoured(KEY).replace(b"m", b"!"), "its armour is damaged"),
    ):
        path.write_bytes(data)
        with pytest.raises(IntegrityError, match=message):
            read_key(path)
    with pytest.raises(IntegrityError, match=r"Cannot read the repository key .*none: No such file"):
        read_key(tmp_path / "none")


def test_a_flat_repository_has_its_index_beside_the_packages() -> None:
    flat = Repository("https://example.com/v1/deb/", "/", "main", Path("key"))
    assert flat.folder == "https://example.com/v1/deb"
    assert choose_index({"Packages.gz": "b" * 64, "Packages": "a" * 64}, flat, "amd64") == ("Packages.gz", "b" * 64)
    assert Repository("https://example.com", "amd64/", "main", Path("key")).folder == "https://example.com/amd64"


# gpgv 2.2.40 writes this for a signature of a subkey: its own fingerprint first, that of the primary key last.
STATUS = (
    "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG 234654DA9A296436 Nobody\n"
    f"[GNUPG:] VALIDSIG {'A' * 40} 2026-01-01 1767225600 0 4 0 1 8 01 {'B' * 40}\n[GNUPG:] BADSIG {'C' * 16} Nobody\n"
)


def test_only_primary_keys_of_good_signatures_count() -> None:
    assert repositories.signers(STATUS) == {"B" * 40}
    assert repositories.signers("") == set()


@pytest.mark.parametrize(("fingerprint", "trusted"), [("B" * 40, True), ("A" * 40, False)])
def test_a_pinned_fingerprint(repository: Repository, monkeypatch: pytest.MonkeyPatch, fingerprint: str, trusted: bool) -> None:
    class Gpgv:
        def __init__(self, _program: str, **_options: t.Any) -> None:
            pass

        def run(self, *arguments: str | Path, attempt: str) -> t.Any:
            assert [str(argument) for argument in arguments[:2]] == ["--status-fd", "1"], attempt
            Path(arguments[6]).write_text(f"SHA256:\n {hashlib.sha256(ENTRY.encode()).hexdigest()} 1 Packages\n", encoding="utf-8")
            return type("Result", (), {"stdout": STATUS})

    monkeypatch.setattr(repositories, "Command", Gpgv)
    folder = Path(repository.url)
    folder.mkdir()
    (folder / "InRelease").write_text("signed", encoding="utf-8")
    (folder / "Packages").write_text(ENTRY, encoding="utf-8")
    pinned = Repository(repository.url, "/", "main", repository.key, fingerprint)
    if trusted:
        assert read_index(pinned, "amd64", Policy(retries=0))[0].url.endswith("repository/pool/b/beegfs-meta_8.1.0_amd64.deb")
    else:
        with pytest.raises(IntegrityError, match=f"is signed by {'B' * 40}, and only {'A' * 40} is trusted"):
            read_index(pinned, "amd64", Policy(retries=0))
