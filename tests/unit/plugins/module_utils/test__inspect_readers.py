# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The readers below the rules of an inspection: files of an image, dpkg's database, GRUB's menu and kernel modules."""

from __future__ import annotations

import gzip
import lzma
import os
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _zstd
from ansible_collections.hyperscaler.images.plugins.module_utils._command import CommandResult
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, IntegrityError
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_boot import boot_file
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_dpkg import Package, PackageDatabase, parse_filters, parse_status
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_grub import parse_grub
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_kernel import flavour_of
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_modinfo import module_name, parse_index, read_vermagic
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree, assignments, ini_values, significant_lines
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils.inspect_fake_image import GRUB_CFG, KERNEL, FakeImage, clean_image, module_file


@pytest.fixture
def image(tmp_path: Path) -> FakeImage:
    """An empty tree."""
    (tmp_path / "image").mkdir()
    return FakeImage(tmp_path / "image")


def test_links_are_resolved_inside_the_image(image: FakeImage) -> None:
    image.write("/usr/lib/a", "x")
    image.link("/lib", "usr/lib")
    image.link("/etc/absolute", "/lib/a")
    image.link("/etc/upwards", "../../../../lib/a")
    image.link("/etc/chain", "absolute")
    image.link("/etc/loop", "loop")
    tree = Tree(image.root)
    for name in ("/lib/a", "/etc/absolute", "/etc/upwards", "/etc/chain"):
        assert tree.resolve(name) == "/usr/lib/a"
        assert tree.text(name) == "x"
    assert tree.canonical("/lib/a") == "/usr/lib/a"
    assert tree.canonical("/etc/chain") == "/etc/chain"
    assert tree.target("/etc/loop") is not None
    assert tree.text("/etc/loop") == ""
    assert tree.resolve("/") == "/"
    assert tree.names("/lib") == ["a"]


def test_patterns_find_entries_in_order(image: FakeImage) -> None:
    for name in ("/var/log/b.log", "/var/log/a.log", "/var/log/deep/er/c.log", "/usr/lib/x.conf"):
        image.write(name, "x")
    image.link("/lib", "usr/lib")
    tree = Tree(image.root)
    assert [entry.path for entry in tree.glob("/var/log/*.log")] == ["/var/log/a.log", "/var/log/b.log"]
    assert [entry.path for entry in tree.files("/var/**/*")] == ["/var/log/a.log", "/var/log/b.log", "/var/log/deep/er/c.log"]
    assert [entry.path for entry in tree.glob("/lib/*.conf", "/nowhere/*")] == ["/usr/lib/x.conf"]
    assert [entry.path for entry in tree.glob("/lib")] == ["/lib"]


def test_special_files_are_not_read(image: FakeImage) -> None:
    os.mkfifo(image.path("/pipe"))
    tree = Tree(image.root)
    assert tree.text("/pipe") == ""
    assert list(tree.files("/*")) == []


def test_homes_are_those_of_people(image: FakeImage) -> None:
    image.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nman:x:6:12::/var/cache/man:/usr/sbin/nologin\na:x:1000:1000::/data/a/:/bin/sh\nbroken\n")
    image.folder("/home/left")
    assert Tree(image.root).homes == ("/data/a", "/home/left", "/root")


def test_small_parsers() -> None:
    assert assignments("# A=0\nA=\"b c\"\nB='d'\nnothing\n") == {"a": "b c", "b": "d"}
    assert ini_values("[a]\nb = c\n;d = e\n[a]\nf\n") == {("a", "b"): "c", ("a", "f"): ""}
    assert ini_values("no section = x\n") == {}
    assert significant_lines("# a\n\n ; b\n c \n") == ["c"]


def test_status_of_packages() -> None:
    text = (
        "Package: a\nStatus: install ok half-configured\nVersion: 1\nArchitecture: all\n"
        "Conffiles:\n /etc/a 0123\n /etc/b newconffile\nDescription: x\n y\n\nPackage: b\n\n"
    )
    assert list(parse_status(text)) == [Package("a", "1", "all", "install", "ok", "half-configured", ("/etc/a", "/etc/b"))]


def test_path_filters_of_dpkg() -> None:
    filters = list(parse_filters('path-exclude=/usr/share/man/*\n# path-exclude=/a\npath-include /usr/share/man/man1\n  path-exclude = "/b c"\n'))
    assert [(excludes, bool(pattern.match("/usr/share/man/man1"))) for excludes, pattern in filters] == [(True, True), (False, True), (True, False)]


def test_files_of_foreign_architectures_belong_to_their_package(image: FakeImage) -> None:
    image.write("/var/lib/dpkg/info/libc6:amd64.list", "/.\n/lib/libc.so\n")
    image.link("/lib", "usr/lib")
    database = PackageDatabase(Tree(image.root))
    assert database.listed == {"libc6": ("/.", "/lib/libc.so")}
    assert database.owned == {"/usr/lib/libc.so"}


@pytest.mark.parametrize(
    ("wanted", "environment", "title"),
    [
        ("0", {}, "Debian GNU/Linux"),
        ("", {}, "Debian GNU/Linux"),
        ("2", {}, "UEFI Firmware Settings"),
        ("1", {}, f"Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux {KERNEL}"),
        ("1>0", {}, f"Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux {KERNEL}"),
        (
            "gnulinux-advanced-8002ecc3-d224-5968-9e6e-23a1c8203bc5>gnulinux-" + KERNEL + "-advanced-8002ecc3-d224-5968-9e6e-23a1c8203bc5",
            {},
            f"Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux {KERNEL}",
        ),
        ("UEFI Firmware Settings", {}, "UEFI Firmware Settings"),
        ("${saved_entry}", {"saved_entry": "2"}, "UEFI Firmware Settings"),
        ("${saved_entry}", {}, "Debian GNU/Linux"),
        ("0", {"next_entry": "2"}, "UEFI Firmware Settings"),
    ],
)
def test_the_default_entry(wanted: str, environment: dict[str, str], title: str) -> None:
    entry = parse_grub(GRUB_CFG.replace('default="0"', f'default="{wanted}"'), environment).default
    assert entry is not None
    assert entry.title == title


@pytest.mark.parametrize("wanted", ["3", "1>1", "Windows", "0>0"])
def test_a_default_that_names_no_entry(wanted: str) -> None:
    assert parse_grub(GRUB_CFG.replace('default="0"', f'default="{wanted}"'), {}).default is None


def test_the_entries_of_a_menu() -> None:
    entries = parse_grub(GRUB_CFG, {}).entries
    assert [entry.index for entry in entries] == [(0,), (1, 0), (2,)]
    assert entries[0].linux == f"/boot/vmlinuz-{KERNEL}"
    assert entries[0].kernel == KERNEL
    assert entries[0].initrd == (f"/boot/initrd.img-{KERNEL}",)
    assert entries[0].argument("console") == "ttyS0,115200"
    assert entries[2].linux == ""


def test_files_of_grub_are_found_on_a_boot_partition(tmp_path: Path) -> None:
    image = clean_image(tmp_path / "image")
    subject = image.subject()
    assert boot_file(subject, f"/vmlinuz-{KERNEL}") == f"/boot/vmlinuz-{KERNEL}"
    assert boot_file(subject, f"(hd0,gpt1)/boot/vmlinuz-{KERNEL}") == f"/boot/vmlinuz-{KERNEL}"
    assert boot_file(subject, f"/@rootfs/boot/vmlinuz-{KERNEL}") == f"/boot/vmlinuz-{KERNEL}"
    assert boot_file(subject, "/boot") is None


@pytest.mark.parametrize(
    ("version", "flavour"),
    [
        ("6.12.107+deb13-cloud-amd64", "cloud-amd64"),
        ("6.12.107+deb13-amd64", "amd64"),
        ("6.12.107+deb13-rt-amd64", "rt-amd64"),
        ("6.1.0-28-cloud-amd64", "cloud-amd64"),
        ("6.1.0-28-amd64", "amd64"),
        ("6.12.9+bpo-arm64", "arm64"),
        ("7.2.12~bpo13-amd64", "amd64"),
        ("6.8.0-45-generic", "generic"),
        ("6.11.0-rc3-amd64", "amd64"),
        ("5.14.0-427.13.1.el9_4.x86_64", ""),
        ("6.18.44", ""),
    ],
)
def test_flavours_of_kernels(version: str, flavour: str) -> None:
    assert flavour_of(version) == flavour


def test_names_of_modules() -> None:
    assert [module_name(path) for path in ("a/nvidia-current.ko.xz", "b_c.ko", "d.ko.zst", "e.ko.gz", "f.txt")] == ["nvidia_current", "b_c", "d", "e", ""]
    assert parse_index("kernel/a-b.ko.xz: kernel/c.ko\nkernel/c.ko:\n\n") == {"a_b": "kernel/a-b.ko.xz", "c": "kernel/c.ko"}


@pytest.mark.parametrize(("name", "pack"), [("m.ko", bytes), ("m.ko.xz", lzma.compress), ("m.ko.gz", gzip.compress)])
def test_vermagic_of_modules(name: str, pack: type[bytes], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(pack(module_file(KERNEL)))
    assert read_vermagic(path) == f"{KERNEL} SMP preempt mod_unload modversions"


@pytest.mark.parametrize("data", [b"", b"text", b"\x7fELF\x02\x01\x01", module_file(KERNEL)[:300], module_file(KERNEL).replace(b".modinfo", b".comment")])
def test_what_is_no_module(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.ko"
    path.write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        read_vermagic(path)
    assert str(caught.value) == f"Cannot read the kernel module {path}: it is damaged or no kernel module. Build it again."


def test_a_truncated_archive_is_no_module(tmp_path: Path) -> None:
    path = tmp_path / "m.ko.xz"
    path.write_bytes(lzma.compress(module_file(KERNEL))[:-20])
    with pytest.raises(IntegrityError, match=r"^Cannot read the kernel module .*m\.ko\.xz: .*\. Build it again\.$"):
        read_vermagic(path)


class FakeZstd:
    """Stands for zstd: writes a module to the file that it is given."""

    broken = False

    def __init__(self, program: str, *, reason: str, package: str) -> None:
        assert (program, reason, package) == ("zstd", "read kernel modules that are compressed with zstd", "zstd")

    def run(self, *args: str | Path, attempt: str) -> CommandResult:
        if self.broken:
            raise CommandError(f"Cannot {attempt}: zstd ended with exit code 1.")
        assert args[:3] == ("--decompress", "--quiet", "-o")
        Path(args[3]).write_bytes(module_file(KERNEL))
        return CommandResult((), 0, "", "", 0.0)


def test_modules_that_zstd_compressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_zstd, "Command", FakeZstd)
    assert read_vermagic(tmp_path / "m.ko.zst").startswith(KERNEL)
    monkeypatch.setattr(FakeZstd, "broken", True)
    with pytest.raises(IntegrityError, match="zstd ended with exit code 1"):
        read_vermagic(tmp_path / "m.ko.zst")
