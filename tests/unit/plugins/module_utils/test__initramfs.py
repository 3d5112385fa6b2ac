# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of reading an initramfs, on archives of the real cpio where there is one."""

from __future__ import annotations

import gzip
import lzma
import shutil
import subprocess
import typing as t

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._initramfs import InitramfsError, listing

Member = tuple[str, int, bytes]
SOME: list[Member] = [("etc", 0o40755, b""), ("etc/conf", 0o100644, b"root=LABEL=x\n"), ("init", 0o100755, b"#!/bin/sh\n")]


def archive(members: t.Sequence[Member], time: int = 1, inode: int = 1) -> bytes:
    data = b""
    for number, (name, mode, content) in enumerate([*members, ("TRAILER!!!", 0, b"")]):
        fields = (inode + number, mode, 0, 0, 1, time, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        data += b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        data += b"\0" * (-len(data) % 4) + content
        data += b"\0" * (-len(data) % 4)
    return data + b"\0" * (-len(data) % 512)


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "--stdout"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, lzma.compress, pytest.param(zstd, marks=pytest.mark.skipif(not shutil.which("zstd"), reason="no zstd"))]
)
def test_the_members_of_all_archives(pack: t.Callable[[bytes], bytes]) -> None:
    early = [("kernel/x86/microcode/GenuineIntel.bin", 0o100644, b"code")]
    lines = listing(archive(early) + pack(archive(SOME))).decode().splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["0", "kernel/x86/microcode/GenuineIntel.bin", "100644"],
        ["1", "etc", "40755"],
        ["1", "etc/conf", "100644"],
        ["1", "init", "100755"],
    ]


def test_times_and_inodes_do_not_count() -> None:
    assert listing(archive(SOME)) == listing(archive(SOME, time=99, inode=700))


@pytest.mark.parametrize(
    "other",
    [
        [("etc", 0o40700, b""), *SOME[1:]],
        [SOME[0], ("etc/conf", 0o100644, b"root=LABEL=y\n"), SOME[2]],
        SOME[:2],
        [SOME[0], SOME[2], SOME[1]],
    ],
    ids=["mode", "content", "missing", "order"],
)
def test_everything_else_counts(other: list[Member]) -> None:
    assert listing(archive(SOME)) != listing(archive(other))


@pytest.mark.skipif(not shutil.which("cpio"), reason="no cpio")
def test_an_archive_of_cpio(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("root")
    (folder / "init").write_text("#!/bin/sh\n", encoding="utf-8")
    (folder / "link").symlink_to("init")
    made = subprocess.run(["cpio", "--create", "--format=newc", "--quiet"], input=b"init\nlink\n", cwd=folder, capture_output=True, check=True).stdout
    assert [line.split()[1] for line in listing(made).decode().splitlines()] == ["init", "link"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (archive(SOME).replace(b"070701" + b"%08x" % 1, b"070701" + b"zzzzzzzz", 1), "a header is damaged"),
        (b"no initramfs", "neither an archive nor one that is compressed"),
        (archive(SOME)[:200], "archive 0 is damaged"),
        (gzip.compress(archive(SOME), mtime=0)[:60], "Cannot read an initramfs"),
    ],
)
def test_what_is_no_initramfs(data: bytes, says: str) -> None:
    with pytest.raises(InitramfsError, match=says):
        listing(data)
