# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests for _bootstrap."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _bootstrap
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_access import Access
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_sources import Mirrors
from ansible_collections.hyperscaler.images.plugins.module_utils._base_recipe import Recipe
from ansible_collections.hyperscaler.images.plugins.module_utils._bootstrap import (
    apt_settings,
    archive_name,
    bootstrap,
    error_lines,
    mmdebstrap_arguments,
    parse_hashes,
    parse_packages,
    parse_release,
    remove_leftovers,
    why,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, ImageError, IntegrityError

RECIPE = Recipe(
    release="trixie",
    flavour="genericcloud",
    mirrors=Mirrors("http://m.example.org/debian", "http://m.example.org/debian-security"),
    components=("main", "contrib"),
    extra_packages=("htop",),
    virtual_size=3 << 30,
    keyring=Path("/k.gpg"),
    guest=None,
    access=Access((("Acquire::http::Proxy", "http://p.example.org:3128"),), "machine m.example.org login a password b\n"),
)
LIST = """\
Package: less
Source: less (668-1)
Version: 668-1
Architecture: amd64
Filename: pool/main/l/less/less_668-1_amd64.deb
SHA256: aaa

Package: util-linux
Version: 1:2.41-5
Architecture: amd64
SHA256: bbb

Package: less-doc
Version: 668-1
Architecture: all
SHA256: ccc
"""
UNREACHABLE = """\
W: a warning
E: Failed to fetch http://m.example.org/dists/trixie/InRelease  Connection refused
E: Some index files failed to download. They have been ignored, or old ones used instead.
E: apt-get update --error-on=any failed
I: main() received signal PIPE: waiting for setup...
E: mmdebstrap failed to run
"""


def test_mmdebstrap_arguments() -> None:
    arguments = mmdebstrap_arguments(RECIPE, Path("/root"), Path("/sources"))
    assert arguments[-3:] == ["trixie", "/root", "/sources"]
    assert "--components=main,contrib" in arguments
    assert not any(argument.startswith("--aptopt") for argument in arguments)
    included = next(argument for argument in arguments if argument.startswith("--include="))
    assert {"htop", "cloud-init", "linux-image-cloud-amd64", "shim-signed"} <= set(included.partition("=")[2].split(","))
    assert not any("trusted" in argument or "insecure" in argument.lower() for argument in arguments)


def test_apt_settings(tmp_path: Path) -> None:
    lines = apt_settings(RECIPE.access, tmp_path).splitlines()
    assert f'Dir::Etc::netrc "{tmp_path}/auth.conf";' in lines
    assert (tmp_path / "auth.conf").read_text(encoding="utf-8") == RECIPE.access.credentials
    assert (tmp_path / "auth.conf").stat().st_mode & 0o077 == 0
    assert 'Acquire::http::Proxy "http://p.example.org:3128";' in lines
    assert 'Acquire::Languages "none";' in lines


def test_packages() -> None:
    assert parse_packages("adduser\t3.152\nzlib1g\t1:1.3\n\n") == {"adduser": "3.152", "zlib1g": "1:1.3"}


@pytest.mark.parametrize(
    ("names", "hashes"),
    [
        ({"less", "util-linux"}, {"less_668-1_amd64.deb": "aaa", "util-linux_1%3a2.41-5_amd64.deb": "bbb"}),
        ({"less-doc"}, {"less-doc_668-1_all.deb": "ccc"}),
        ({"bash"}, {}),
    ],
)
def test_hashes(names: set[str], hashes: dict[str, str]) -> None:
    assert parse_hashes(LIST, names) == hashes


def test_archive_name() -> None:
    assert archive_name("mount", "1:2.0-1", "amd64") == "mount_1%3a2.0-1_amd64.deb"


def test_release() -> None:
    text = "-----BEGIN PGP SIGNED MESSAGE-----\n\nOrigin: Debian\nCodename: trixie-security\nDate: Wed, 18 Nov 2026 22:17:43 UTC\n"
    assert parse_release(text) == ("trixie-security", "Wed, 18 Nov 2026 22:17:43 UTC")
    assert parse_release("") == ("", "")


@pytest.mark.parametrize(
    ("stderr", "lines"),
    [
        (UNREACHABLE, "Failed to fetch http://m.example.org/dists/trixie/InRelease  Connection refused"),
        ("E: Unable to locate package x\nE: setup failed: E: apt-get install x failed\nE: mmdebstrap failed to run\n", "Unable to locate package x"),
        (
            "W: An error occurred. GPG error: http://m.example.org trixie: NO_PUBKEY 6ED0\nE: no\n",
            "GPG error: http://m.example.org trixie: NO_PUBKEY 6ED0 | no",
        ),
        ("dpkg: error processing archive x\nE: again\nE: again\n", "dpkg: error processing archive x | again"),
        ("I: nothing\nW: old\n", ""),
    ],
)
def test_error_lines(stderr: str, lines: str) -> None:
    assert error_lines(stderr) == lines


def test_credentials_that_are_missing_are_no_matter_of_signatures() -> None:
    said = (
        "E: Failed to fetch http://m.example.org/debian/dists/trixie/InRelease  401  Unauthorized [IP: 192.0.2.7 80]\n"
        "E: The repository 'http://m.example.org/debian trixie InRelease' is not signed.\nE: mmdebstrap failed to run\n"
    )
    text = why(CommandError("mmdebstrap failed", stderr=said), Path("/k.gpg"))
    assert text.startswith("http://m.example.org/debian asks for a user and a password (401 Unauthorized). Put its user and password into a file in")
    assert "keyring" not in text


def fill_package_folders(own: Path, content: bytes) -> None:
    (own / "cache/archives").mkdir(parents=True)
    (own / "lists").mkdir()
    (own / "cache/archives/less_668-1_amd64.deb").write_bytes(content)
    (own / "cache/archives/other_1_amd64.deb").write_bytes(b"of another image")
    (own / "lists/m_Packages").write_text(LIST.replace("aaa", hashlib.sha256(b"good").hexdigest()), encoding="utf-8")


def test_good_packages(tmp_path: Path) -> None:
    fill_package_folders(tmp_path, b"good")
    _bootstrap._require_intact(tmp_path, None, ["less_668-1_amd64.deb", "other_1_amd64.deb"])


def test_damaged_packages_leave_the_cache(tmp_path: Path) -> None:
    own, cache = tmp_path / "own", tmp_path / "cache"
    fill_package_folders(own, b"evil")
    (cache / "archives").mkdir(parents=True)
    (cache / "archives/less_668-1_amd64.deb").write_bytes(b"evil")
    with pytest.raises(IntegrityError, match=r"less_668-1_amd64.deb in the package cache did not agree with the signed package lists. They were removed"):
        _bootstrap._require_intact(own, cache, ["less_668-1_amd64.deb", "other_1_amd64.deb"])
    assert list((cache / "archives").iterdir()) == []
    assert (own / "cache/archives/other_1_amd64.deb").exists()


def test_leftovers_of_this_image_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[Path] = []
    monkeypatch.setattr(_bootstrap, "release_disk", released.append)
    image, cache = tmp_path / "a.raw", tmp_path / "cache/apt"
    cache.mkdir(parents=True)
    own = _bootstrap._own_folder(image, cache).name
    gone = [tmp_path / ".a.raw.12.work/root", cache.parent / f".{own}.12.work/lists"]
    other = _bootstrap._own_folder(tmp_path / "elsewhere/a.raw", cache).name
    kept = [tmp_path / ".a.raw.b.12.work", tmp_path / ".b.raw.12.work", cache.parent / f".{other}.12.work"]
    for folder in [*gone, *kept]:
        folder.mkdir(parents=True)
    (tmp_path / ".a.raw.12.part").touch()
    (tmp_path / ".a.raw.lock").touch()
    remove_leftovers(image, cache)
    assert released == [tmp_path / ".a.raw.12.part"]
    assert [folder for folder in gone if folder.parent.exists()] == []
    assert [folder for folder in kept if not folder.exists()] == []
    assert not (tmp_path / ".a.raw.12.part").exists()
    assert (tmp_path / ".a.raw.lock").exists()


class TestMeans:
    """What is checked before anything is changed."""

    @pytest.fixture(autouse=True)
    def _machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_bootstrap.os, "geteuid", lambda: 0)
        monkeypatch.setattr(_bootstrap, "Command", lambda *_arguments, **_options: None)
        monkeypatch.setattr(_bootstrap, "require_space", lambda *_arguments: None)

    def test_root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_bootstrap.os, "geteuid", lambda: 1000)
        with pytest.raises(ImageError, match=r"that needs root, to mount the image and to install packages in it. Use become: true"):
            bootstrap(RECIPE, tmp_path / "a.raw", None)

    def test_machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_bootstrap.os, "uname", lambda: os.uname_result(("Linux", "h", "6", "v", "aarch64")))
        with pytest.raises(ImageError, match="this build host is a aarch64 machine, x86_64 is needed"):
            bootstrap(RECIPE, tmp_path / "a.raw", None)

    def test_keyring(self, tmp_path: Path) -> None:
        recipe = dataclasses.replace(RECIPE, keyring=tmp_path / "none.gpg")
        with pytest.raises(ImageError, match=r"the keyring .*none.gpg is not there, so nothing could be verified. Install the package debian-archive-keyring"):
            bootstrap(recipe, tmp_path / "a.raw", None)

    def test_an_error_of_the_system(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_arguments: t.Any) -> t.NoReturn:
            raise OSError(18, "Invalid cross-device link", "x.deb")

        monkeypatch.setattr(_bootstrap, "_bootstrap", fail)
        keyring = tmp_path / "k.gpg"
        keyring.write_bytes(b"\x98")
        with pytest.raises(ImageError, match=r"Cannot bootstrap .*a.raw: .*Invalid cross-device link \(x\.deb\)"):
            bootstrap(dataclasses.replace(RECIPE, keyring=keyring), tmp_path / "a.raw", None)


class TestFlow:
    """The order of the steps, with the steps themselves replaced."""

    @pytest.fixture(autouse=True)
    def _steps(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(_bootstrap._namespace, "unshare", lambda _flags: None)
        monkeypatch.setattr(_bootstrap._namespace, "make_mounts_private", lambda: None)
        monkeypatch.setattr(_bootstrap, "_require_means", lambda *_arguments: None)
        monkeypatch.setattr(_bootstrap, "_create_disk", self.create)
        monkeypatch.setattr(_bootstrap._boot_loader, "write_efi", lambda *_arguments: None)
        self.image, self.cache = tmp_path / "a.raw", tmp_path / "cache"

    def create(self, _recipe: Recipe, disk: Path) -> t.Any:
        disk.write_bytes(b"disk")

        class Table:
            @staticmethod
            def get(_number: int) -> None:
                return None

        return Table()

    def test_success(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fill(_recipe: Recipe, _disk: Path, _table: t.Any, _work: Path, own: Path) -> dict[str, t.Any]:
            (own / "cache/archives/less_668-1_amd64.deb").write_bytes(b"new")
            return {"packages": {"less": "668-1"}}

        monkeypatch.setattr(_bootstrap, "_fill_disk", fill)
        found = bootstrap(RECIPE, self.image, self.cache)
        assert found == {"sha256": hashlib.sha256(b"disk").hexdigest(), "virtual_size": 3 << 30, "packages": {"less": "668-1"}}
        assert (self.cache / "archives/less_668-1_amd64.deb").read_bytes() == b"new"
        assert sorted(entry.name for entry in self.image.parent.iterdir()) == ["a.raw", "cache"]

    @pytest.mark.parametrize("error", [CommandError("it failed"), OSError(5, "input/output error")])
    def test_failure_leaves_nothing(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        def fill(*_arguments: t.Any) -> t.NoReturn:
            raise error

        self.image.write_bytes(b"good old image")
        monkeypatch.setattr(_bootstrap, "_fill_disk", fill)
        with pytest.raises(ImageError, match=r"it failed|input/output error"):
            bootstrap(RECIPE, self.image, self.cache)
        assert self.image.read_bytes() == b"good old image"
        assert sorted(entry.name for entry in self.image.parent.iterdir()) == ["a.raw", "cache"]
