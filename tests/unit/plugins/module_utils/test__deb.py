# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading Debian package files."""

from __future__ import annotations

import os
import re
import shutil
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._deb import Package, package_from, parse_depends, parse_paragraphs, read_deb
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import IntegrityError
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils.deb_stand_in import CONTENT, CONTROL, deb, member

EXPECTED = Package("beegfs-meta", "20:8.1.0-1", "amd64", (("libc6",), ("libbeegfs-ib", "beegfs-other")))


@pytest.fixture
def read(tmp_path: Path) -> t.Callable[[bytes], Package]:
    def run(data: bytes) -> Package:
        path = tmp_path / "a.deb"
        path.write_bytes(data)
        return read_deb(path)

    return run


@pytest.mark.parametrize("packing", ["", ".gz", ".xz"])
def test_reads_the_control_fields(read: t.Callable[[bytes], Package], packing: str) -> None:
    assert read(deb(packing=packing)) == EXPECTED


@pytest.mark.skipif(shutil.which("zstd") is None, reason="there is no zstd here")
def test_reads_zstd(tmp_path: Path) -> None:
    plain = deb(packing="")
    parts = []
    offset = 8
    for name in ("debian-binary", "control.tar", "data.tar"):
        size = int(plain[offset + 48 : offset + 58])
        part = tmp_path / name
        part.write_bytes(plain[offset + 60 : offset + 60 + size])
        offset += 60 + size + size % 2
        if name != "debian-binary":
            Command("zstd", reason="test").run("-q", part, attempt="pack")
            part = part.with_name(part.name + ".zst")
        parts.append(member(part.name, part.read_bytes()))
    path = tmp_path / "a.deb"
    path.write_bytes(b"!<arch>\n" + b"".join(parts))
    assert read_deb(path) == EXPECTED
    path.write_bytes(b"!<arch>\n" + b"".join(parts[:2]) + parts[2][:100] + b"\0" + parts[2][101:])
    with pytest.raises(IntegrityError, match=r"unpack its part 'data\.tar\.zst'"):
        read_deb(path)


def flip(data: bytes, position: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 0xFF
    return bytes(changed)


WHOLE = deb()
DATA_XZ = WHOLE.rindex(b"data.tar")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (b"<html>", "it is not an ar archive"),
        (WHOLE[:40], "it ends within the header of a part, at byte 40"),
        (WHOLE[:-100], "its part 'data.tar.xz' has"),
        (WHOLE[:DATA_XZ], "it has no part data.tar"),
        (flip(WHOLE, 8 + 58), "the header of a part at byte 8 is damaged"),
        (WHOLE[: 8 + 48] + b"-1        " + WHOLE[8 + 58 :], "the header of a part at byte 8 is damaged"),
        (flip(WHOLE, DATA_XZ + 60 + 40), "Corrupt input data"),
        (flip(deb(packing=".gz"), -30), "CRC check failed"),
        (flip(deb(packing=""), -8000), "its file usr/share/x has another digest than its control file says"),
        (deb(sums="0" * 32 + "  usr/share/gone\n"), "its file usr/share/gone is missing"),
        (deb(mark=b"3.0\n"), "it does not begin with the mark"),
        (deb(without="debian-binary"), "it does not begin with the mark"),
        (deb(without="control"), "it has no part control.tar"),
        (deb(extra=member("data.tar.xz", b"")), "it has two parts data.tar"),
        (deb(extra=member("other", b"")), "it has a part 'other' that is unknown"),
        (b"!<arch>\n" + member("debian-binary", b"2.0\n") + member("control.tar.br", b"x") + member("data.tar", b""), "is compressed in a way that is unknown"),
        (deb(control=""), "it has no control file"),
        (deb(control=CONTROL + "\n" + CONTROL), "its control file has 2 paragraphs"),
        (deb(control="nonsense\n"), "its control file is wrong, a line is no field: 'nonsense'"),
        (deb(control=CONTROL.replace("Version", "Virgin")), "it has no field Version"),
        (deb(control=CONTROL.replace("beegfs-meta", "../evil")), "its field Package is '../evil'"),
        (deb(control=CONTROL.replace("amd64", "a/b")), "its field Architecture is 'a/b'"),
        (deb(control=CONTROL.replace("20:8.1.0-1", "8.1/../0")), "its field Version is '8.1/../0'"),
        (deb(files={"../etc/passwd": b"x"}, sums=""), "it would write '../etc/passwd', outside its own paths"),
        (deb(files={"/etc/passwd": b"x"}, sums=""), "it would write '/etc/passwd', outside its own paths"),
    ],
)
def test_damage_is_named(read: t.Callable[[bytes], Package], data: bytes, why: str) -> None:
    with pytest.raises(IntegrityError, match=re.escape(why)) as caught:
        read(data)
    assert re.match(r"Cannot use the package .*/a\.deb: .*\. The file is damaged or incomplete; fetch or build it again\.$", str(caught.value), re.DOTALL)


def test_every_truncation_is_found(read: t.Callable[[bytes], Package]) -> None:
    """But for the byte that pads the last part."""
    for length in range(0, len(WHOLE) - 1, 7):
        with pytest.raises(IntegrityError):
            read(WHOLE[:length])


def test_parts_that_are_ignored(read: t.Callable[[bytes], Package]) -> None:
    assert read(deb(extra=member("_gpgorigin", b"x"))) == EXPECTED


def test_a_directory_in_place_of_the_control_file(read: t.Callable[[bytes], Package]) -> None:
    with pytest.raises(IntegrityError, match="its file control is not a regular file of less than"):
        read(deb(control=CONTROL + " " + "x" * (5 << 20) + "\n"))


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(WHOLE)
    link, pipe, folder = tmp_path / "link.deb", tmp_path / "pipe.deb", tmp_path / "folder.deb"
    link.symlink_to("real")
    os.mkfifo(pipe)
    folder.mkdir()
    for path, why in (
        (link, "it is a symbolic link"),
        (pipe, "it is not a regular file"),
        (folder, "it is not a regular file"),
        (tmp_path / "none", "No such"),
    ):
        with pytest.raises(IntegrityError, match=f"Cannot read the package .*{path.name}: {why}"):
            read_deb(path)


@pytest.mark.parametrize(
    ("version", "release", "file_name"),
    [
        ("20:8.1.0-1", "8.1.0", "p_8.1.0-1_all.deb"),
        ("20:8.1.0", "8.1.0", "p_8.1.0_all.deb"),
        ("8.1.0-1", "8.1.0", "p_8.1.0-1_all.deb"),
        ("7.4.6", "7.4.6", "p_7.4.6_all.deb"),
        ("8.1.0~beta1-2-3", "8.1.0~beta1-2", "p_8.1.0~beta1-2-3_all.deb"),
    ],
)
def test_release_and_file_name(version: str, release: str, file_name: str) -> None:
    package = Package("p", version, "all")
    assert (package.release, package.file_name) == (release, file_name)


def test_dependencies() -> None:
    assert parse_depends("aa (>= 1), bb [amd64] | cc:any,  , dd") == (("aa",), ("bb", "cc"), ("dd",))
    assert parse_depends("") == ()
    fields = {"Package": "p1", "Version": "1", "Architecture": "all", "Pre-Depends": "xx", "Depends": "yy"}
    assert package_from(fields).depends == (("xx",), ("yy",))


def test_paragraphs() -> None:
    assert parse_paragraphs("\n\nA: 1\nB: 2\n 3\n\t4\n\nA:\n") == [{"A": "1", "B": "2\n3\n4"}, {"A": ""}]
    for text, why in ((" x", "a line continues no field"), ("A: 1\nA: 2", "the field A is there twice"), ("A b: 1", "a line is no field")):
        with pytest.raises(ValueError, match=why):
            parse_paragraphs(text)


def test_the_content_is_not_just_zeros() -> None:
    """Else a flipped byte could be one that nothing checks."""
    assert len(set(CONTENT)) == 256
