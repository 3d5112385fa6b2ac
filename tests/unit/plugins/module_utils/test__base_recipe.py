# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests for _base_recipe."""

from __future__ import annotations

import dataclasses
import typing as t
import uuid
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_access import Access
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_sources import Mirrors
from ansible_collections.hyperscaler.images.plugins.module_utils._base_recipe import Recipe, layout, parse_size, read_recipe
from ansible_collections.hyperscaler.images.plugins.module_utils._disk_layout import MIB
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError

RECIPE = Recipe(
    release="trixie",
    flavour="genericcloud",
    mirrors=Mirrors("http://user:secret@m.example.org/debian", "http://m.example.org/debian-security"),
    components=("main",),
    extra_packages=(),
    virtual_size=3 << 30,
    keyring=Path("/k.gpg"),
    guest=None,
)
PARAMS: dict[str, t.Any] = {
    "release": "trixie",
    "arch": "amd64",
    "flavour": "genericcloud",
    "mirror": None,
    "security_mirror": None,
    "guest_mirror": None,
    "guest_security_mirror": None,
    "components": ["main"],
    "extra_packages": [],
    "virtual_size": "3G",
}


@pytest.fixture(autouse=True)
def _proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://p.example.org:3128")


def read(folder: Path, **changed: t.Any) -> Recipe:
    (folder / "sources.list").write_text(
        "deb http://host.example.org/debian bookworm main\ndeb http://host.example.org/security bookworm-security main\n", encoding="utf-8"
    )
    keyring = folder / "k.gpg"
    keyring.write_bytes(b"\x98")
    return read_recipe({**PARAMS, "keyring": str(keyring), **changed}, folder)


def test_mirrors_of_the_build_host(tmp_path: Path) -> None:
    recipe = read(tmp_path)
    assert recipe.mirrors == Mirrors("http://host.example.org/debian", "http://host.example.org/security")
    assert recipe.access.proxies == ["http://p.example.org:3128"]
    assert (recipe.guest, recipe.virtual_size, recipe.keyring) == (None, 3 << 30, tmp_path / "k.gpg")


@pytest.mark.parametrize(
    ("changed", "mirrors", "guest"),
    [
        ({"mirror": "https://m.example.org/debian/"}, Mirrors("https://m.example.org/debian", "https://m.example.org/debian-security"), None),
        ({"mirror": "https://m.example.org/d", "security_mirror": "https://s"}, Mirrors("https://m.example.org/d", "https://s"), None),
        ({"security_mirror": "https://s"}, Mirrors("http://host.example.org/debian", "https://s"), None),
        (
            {"guest_mirror": "https://g/d/"},
            Mirrors("http://host.example.org/debian", "http://host.example.org/security"),
            Mirrors("https://g/d", "https://g/d-security"),
        ),
        (
            {"guest_mirror": "https://g/d", "guest_security_mirror": "https://s"},
            Mirrors("http://host.example.org/debian", "http://host.example.org/security"),
            Mirrors("https://g/d", "https://s"),
        ),
    ],
)
def test_chosen_mirrors(tmp_path: Path, changed: dict[str, t.Any], mirrors: Mirrors, guest: Mirrors | None) -> None:
    recipe = read(tmp_path, **changed)
    assert (recipe.mirrors, recipe.guest) == (mirrors, guest)


def test_no_other_architecture(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"Cannot bootstrap an image for arm64: only amd64 can be bootstrapped. Use a cloud image"):
        read(tmp_path, arch="arm64")


@pytest.mark.parametrize(("text", "size"), [("3G", 3 << 30), ("3 GiB", 3 << 30), ("4096m", 4 << 30), ("1T", 1 << 40), ("2GB", 2 << 30)])
def test_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "3", "1G", "2047M", "-3G", "3.5G", "3X", "2097153K"])
def test_bad_size(text: str) -> None:
    with pytest.raises(ImageError, match=r"give a whole number with M, G or T that is at least 2048M, for instance 3G"):
        parse_size(text)


def test_layout() -> None:
    bios, esp, root = layout(RECIPE)
    assert (bios.number, bios.start, bios.end) == (14, MIB, esp.start)
    assert (esp.number, esp.start, esp.end) == (15, 4 * MIB, root.start)
    assert (root.number, root.start, root.size) == (1, 128 * MIB, 0)
    assert len({partition.uuid for partition in (bios, esp, root)}) == 3


def test_packages_of_the_flavours() -> None:
    assert "linux-image-cloud-amd64" in RECIPE.packages
    generic = dataclasses.replace(RECIPE, flavour="generic", extra_packages=("zzz", "sudo"))
    assert "linux-image-amd64" in generic.packages
    assert "linux-image-cloud-amd64" not in generic.packages
    assert generic.packages.count("sudo") == 1
    assert generic.packages[-1] == "zzz"


def test_inputs_have_no_password_and_no_path() -> None:
    inputs = RECIPE.inputs()
    assert inputs["mirror"] == "http://m.example.org/debian"
    assert "secret" not in str(inputs)
    assert dataclasses.replace(RECIPE, keyring=Path("/other.gpg"), access=Access((("a", "b"),))).inputs() == inputs


@pytest.mark.parametrize(
    "changed",
    [
        {"release": "forky"},
        {"flavour": "generic"},
        {"components": ("main", "contrib")},
        {"extra_packages": ("htop",)},
        {"virtual_size": 4 << 30},
        {"guest": Mirrors("https://g", "https://s")},
        {"mirrors": Mirrors("https://g", "https://s")},
    ],
)
def test_identity_follows_the_inputs(changed: dict[str, t.Any]) -> None:
    other = dataclasses.replace(RECIPE, **changed)
    assert other.inputs() != RECIPE.inputs()
    assert other.identity("root") != RECIPE.identity("root")
    assert RECIPE.identity("root") == dataclasses.replace(RECIPE).identity("root")
    assert uuid.UUID(RECIPE.identity("root")) != uuid.UUID(RECIPE.identity("esp"))
