# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading Debian package files."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import tarfile
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._deb import look_into, parse_sums, plain_path, read_deb
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_control import Package
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


@pytest.mark.parametrize("packing", ["", ".gz", ".xz", ".bz2", ".lzma"])
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
        (deb(sums="0" * 32 + " *./usr/share/x\n"), "its file usr/share/x has another digest than its control file says"),
        (flip(deb(packing=".bz2"), -40), "invalid header"),
        (deb(mark=b"3.0\n"), "it does not begin with the mark"),
        (deb(without="debian-binary"), "it does not begin with the mark"),
        (deb(without="control"), "it has a part 'data.tar.xz' before control.tar"),
        (deb(before_data=member("other", b"")), "it has a part 'other' before data.tar"),
        (deb(before_data=member("control.tar.xz", b"")), "it has a part 'control.tar.xz' before data.tar"),
        (b"!<arch>\n" + member("debian-binary", b"2.0\n") + member("control.tar.br", b"x") + member("data.tar", b""), "is compressed in a way that is unknown"),
        (b"!<arch>\n" + member("debian-binary", b"2.0\n") + member("control.tar.bz2", b""), "in a way that dpkg has for data only"),
        (deb(control=""), "it has no control file"),
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


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (deb(control=CONTROL + "\n" + CONTROL), "its control file has 2 paragraphs"),
        (deb(control="nonsense\n"), "its control file is wrong, a line is no field: 'nonsense'"),
        (deb(control=CONTROL.replace("Version", "Virgin")), "it has no field Version"),
        (deb(control=CONTROL.replace("Version: 20:8.1.0-1", "Version:")), "it has no field Version"),
        (deb(control=CONTROL.replace("beegfs-meta", "../evil")), "its field Package is '../evil', which dpkg refuses"),
        (deb(control=CONTROL.replace("amd64", "a/b")), "its field Architecture is 'a/b', which dpkg refuses"),
        (deb(control=CONTROL.replace("20:8.1.0-1", "8.1/../0")), "its field Version is '8.1/../0', which dpkg refuses"),
        (deb(files={"../etc/passwd": b"x"}, sums=""), "it would write '../etc/passwd', outside its own paths"),
    ],
)
def test_what_dpkg_would_not_install_is_no_damage(read: t.Callable[[bytes], Package], data: bytes, why: str) -> None:
    with pytest.raises(IntegrityError, match=re.escape(why)) as caught:
        read(data)
    assert str(caught.value).endswith("Build it again with other fields, or remove it.")


@pytest.mark.parametrize("extra", [member("_gpgorigin", b"x"), member("other", b""), member("data.tar.xz", b""), b"\n\n"])
def test_parts_that_are_ignored(read: t.Callable[[bytes], Package], extra: bytes) -> None:
    """dpkg reads no further than the data."""
    assert read(deb(extra=extra)) == EXPECTED
    assert read(deb(before_data=member("_gpgorigin", b"x"))) == EXPECTED


DIGEST = hashlib.md5(CONTENT).hexdigest()


@pytest.mark.parametrize(
    "sums",
    [
        f"{DIGEST}  ./usr/share/x\n",
        f"{DIGEST}  /usr/share/x\n",
        f"{DIGEST} *usr/share/x\n",
        f"{DIGEST} usr/share/x\n",
        f"{DIGEST.upper()}  usr/share/x\n",
        f"{DIGEST}  usr/share/x\r\n",
        f"{DIGEST}  usr/share/x",
        f"{'0' * 32}  DEBIAN/postinst\n{DIGEST}  usr/share/x\n",
        f"{'0' * 32}  usr/share/gone\n",
        f"{'0' * 32}  ../etc/passwd\n{DIGEST}  usr/share/x\n",
        f"{'0' * 32}  usr/share/../share/x\n",
        f"{'0' * 32}  usr/share/\udce9\n{DIGEST}  usr/share/x\n",
        f"# made by hand\n\nMD5 (usr/share/x) = {'0' * 32}\n",
        "",
    ],
)
def test_every_spelling_of_a_digest_is_read(read: t.Callable[[bytes], Package], sums: str) -> None:
    assert read(deb(sums=sums)) == EXPECTED


def test_digests_by_path() -> None:
    text = f"{'A' * 32}  ./a b\n{'1' * 32} */c\n{'2' * 32} d\n{'3' * 31}  e\n{'4' * 32}\n\\{'5' * 32}  f\n"
    assert parse_sums(text) == {"a b": "a" * 32, "c": "1" * 32, "d": "2" * 32, "f": "5" * 32}
    assert [plain_path(name) for name in ("./usr/x/", "/usr/x", "//usr/x", ".//./usr/x", "usr/x", "./", "..x", ".x")] == [*["usr/x"] * 5, "", "..x", ".x"]


def test_the_last_of_two_files_with_one_path_counts(read: t.Callable[[bytes], Package]) -> None:
    files = {"./usr/share/x": b"first", "/usr/share/x": CONTENT}
    assert read(deb(files=files, sums=f"{DIGEST}  usr/share/x\n")) == EXPECTED


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        ("Package: SiteTool\nVersion: 1\nArchitecture: amd64\n", Package("sitetool", "1", "amd64")),
        ("Package: site_tool\nVersion: 1\nArchitecture: amd64\n", Package("site_tool", "1", "amd64")),
        ("Package: r\nVersion: 1\nArchitecture: all\nDepends: R_base, q\n", Package("r", "1", "all", (("r_base",), ("q",)))),
        ("Package: a\nVersion: 1:2:3.0\nArchitecture: amd64\n", Package("a", "1:2:3.0", "amd64")),
        ("Package: a\nVersion: 1\nArchitecture: amd64\nDescription: one\n a text\x0cgoes\x0bon\x1c\n", Package("a", "1", "amd64")),
        ("Package: a\nVersion: 1\nArchitecture: amd64\nDescription: a\u2028text\u0085goes on\n", Package("a", "1", "amd64")),
        ("PACKAGE: a\nversion : 1\nArchitecture:amd64\n\n\n", Package("a", "1", "amd64")),
        ("Package: a\r\nVersion: 1\r\nArchitecture: amd64\r\n", Package("a", "1", "amd64")),
        ("\nPackage: a\nVersion: 1\nArchitecture: amd64\n\n", Package("a", "1", "amd64")),
        ("Package: a\nVersion: +1:1\nArchitecture: amd64\n", Package("a", "+1:1", "amd64")),
        ("Package: a\nVersion: 1\nArchitecture: amd64\n\x1a", Package("a", "1", "amd64")),
    ],
)
def test_what_dpkg_reads_beyond_the_policy(read: t.Callable[[bytes], Package], control: str, expected: Package) -> None:
    assert read(deb(control=control, sums="")) == expected


def test_names_in_any_encoding(read: t.Callable[[bytes], Package]) -> None:
    control = CONTROL.replace("Description: test", "Maintainer: Jos\udce9\nDescription: test")
    assert read(deb(control=control, files={"./usr/share/\udce9": CONTENT})) == EXPECTED


def test_trouble_is_told_with_what_is_known_of_the_package(tmp_path: Path) -> None:
    path = tmp_path / "BeeGFS-meta_8.1.0_amd64.deb"
    path.write_bytes(deb(sums="0" * 32 + "  usr/share/x\n"))
    assert look_into(path).package == EXPECTED
    assert "another digest" in look_into(path).trouble
    path.write_bytes(b"<html>")
    assert look_into(path).package == Package("beegfs-meta", "", "")
    assert "it is not an ar archive" in look_into(path).trouble


def test_a_link_in_place_of_the_digests(read: t.Callable[[bytes], Package]) -> None:
    """dpkg unpacks it and reads none of it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        control = tarfile.TarInfo("./control")
        control.size = len(CONTROL)
        archive.addfile(control, io.BytesIO(CONTROL.encode()))
        link = tarfile.TarInfo("./md5sums")
        link.type, link.linkname = tarfile.SYMTYPE, "control"
        archive.addfile(link)
    whole = deb(packing="")
    data = whole[whole.index(b"data.tar") :]
    assert read(b"!<arch>\n" + member("debian-binary", b"2.0\n") + member("control.tar", buffer.getvalue()) + data) == EXPECTED


def test_a_slash_behind_the_names_of_parts(read: t.Callable[[bytes], Package]) -> None:
    whole = deb(packing=".gz")
    for name in (b"debian-binary", b"control.tar.gz", b"data.tar.gz"):
        whole = whole.replace(name + b" ", name + b"/", 1)
    assert read(whole) == EXPECTED


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


def test_the_content_is_not_just_zeros() -> None:
    """Else a flipped byte could be one that nothing checks."""
    assert len(set(CONTENT)) == 256
