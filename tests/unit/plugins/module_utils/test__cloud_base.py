# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests for _cloud_base."""

from __future__ import annotations

import hashlib
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _cloud_base
from ansible_collections.hyperscaler.images.plugins.module_utils._cloud_base import CloudSource, convert
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, ImageError, IntegrityError


@pytest.fixture
def source(tmp_path: Path) -> CloudSource:
    path = tmp_path / "cloud.qcow2"
    path.write_bytes(b"qcow2")
    return CloudSource(path, "20250806-2196", hashlib.sha512(b"qcow2").hexdigest().upper(), "https://i.example.org/cloud.qcow2", "trixie", "amd64")


class FakeQemuImg:
    """Writes the raw image, or fails half-way."""

    fails = False
    calls: t.ClassVar[list[tuple[t.Any, ...]]] = []

    def __init__(self, *_arguments: str, **_options: str) -> None:
        pass

    def run(self, *arguments: t.Any, attempt: str) -> None:
        self.calls.append(arguments)
        Path(arguments[-1]).write_bytes(b"raw image")
        if self.fails:
            raise CommandError(f"Cannot {attempt}: no space")


@pytest.fixture(autouse=True)
def _qemu_img(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeQemuImg.calls.clear()
    monkeypatch.setattr(FakeQemuImg, "fails", False)
    monkeypatch.setattr(_cloud_base, "Command", FakeQemuImg)


def test_convert(source: CloudSource, tmp_path: Path) -> None:
    found = convert(source, tmp_path / "base.raw")
    assert (tmp_path / "base.raw").read_bytes() == b"raw image"
    assert found["sha256"] == hashlib.sha256(b"raw image").hexdigest()
    assert (found["virtual_size"], found["version"], found["url"]) == (9, "20250806-2196", "https://i.example.org/cloud.qcow2")
    assert FakeQemuImg.calls[0][:6] == ("convert", "-f", "qcow2", "-O", "raw", source.path)


def test_missing(source: CloudSource, tmp_path: Path) -> None:
    source.path.unlink()
    with pytest.raises(ImageError, match=r"Cannot convert .*cloud.qcow2: there is no such file. Download it again"):
        convert(source, tmp_path / "base.raw")


def test_wrong_content(source: CloudSource, tmp_path: Path) -> None:
    source.path.write_bytes(b"other")
    with pytest.raises(IntegrityError, match=r"Cannot convert .*cloud.qcow2: it does not have the SHA-512"):
        convert(source, tmp_path / "base.raw")
    assert FakeQemuImg.calls == []


def test_a_failure_keeps_the_old_image(source: CloudSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base.raw").write_bytes(b"old")
    monkeypatch.setattr(FakeQemuImg, "fails", True)
    with pytest.raises(CommandError, match="no space"):
        convert(source, tmp_path / "base.raw")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["base.raw", "cloud.qcow2"]
    assert (tmp_path / "base.raw").read_bytes() == b"old"
