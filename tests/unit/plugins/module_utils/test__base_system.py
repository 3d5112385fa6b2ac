# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests for _base_system."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import yaml
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_sources import Mirrors
from ansible_collections.hyperscaler.images.plugins.module_utils._base_system import (
    bootstrap_sources,
    clamp_times,
    clean,
    configure,
    guest_sources,
    make_apt_folders,
    official_mirrors,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError

MIRRORS = Mirrors("https://m.example.org/debian", "https://m.example.org/security")
CLOUD_CFG = """\
system_info:
   package_mirrors:
     - arches: [default]
       failsafe:
         primary: https://official.example.org/debian
         security: https://official.example.org/debian-security
   ssh_svcname: ssh
"""
UUIDS = {"root": "AAAA-1", "esp": "BBBB-2"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc/cloud").mkdir(parents=True)
    (tmp_path / "etc/cloud/cloud.cfg").write_text(CLOUD_CFG, encoding="utf-8")
    return tmp_path


def test_bootstrap_sources_name_the_keyring() -> None:
    assert bootstrap_sources("trixie", ["main", "contrib"], MIRRORS, Path("/k.gpg")).splitlines() == [
        "deb [signed-by=/k.gpg] https://m.example.org/debian trixie main contrib",
        "deb [signed-by=/k.gpg] https://m.example.org/debian trixie-updates main contrib",
        "deb [signed-by=/k.gpg] https://m.example.org/debian trixie-backports main contrib",
        "deb [signed-by=/k.gpg] https://m.example.org/security trixie-security main contrib",
    ]


def test_guest_sources() -> None:
    archive, security = guest_sources("trixie", ["main"]).split("\n\n")
    assert "Suites: trixie trixie-updates trixie-backports\n" in archive
    assert "URIs: mirror+file:///etc/apt/mirrors/debian.list\n" in archive
    assert "Suites: trixie-security\n" in security
    assert "URIs: mirror+file:///etc/apt/mirrors/debian-security.list\n" in security
    assert archive.count("Signed-By: /usr/share/keyrings/") == security.count("Signed-By: /usr/share/keyrings/") == 1


def test_official_mirrors() -> None:
    assert official_mirrors(CLOUD_CFG) == Mirrors("https://official.example.org/debian", "https://official.example.org/debian-security")
    assert official_mirrors("system_info: {}\n") is None


def test_configure(root: Path) -> None:
    assert configure(root, "trixie", ["main"], UUIDS, None) == Mirrors("https://official.example.org/debian", "https://official.example.org/debian-security")
    fstab = [line.split() for line in (root / "etc/fstab").read_text(encoding="utf-8").splitlines()]
    assert [line[:3] for line in fstab] == [["PARTUUID=aaaa-1", "/", "ext4"], ["PARTUUID=bbbb-2", "/boot/efi", "vfat"]]
    assert "x-systemd.growfs" in fstab[0][3].split(",")
    assert (root / "etc/apt/mirrors/debian.list").read_text(encoding="utf-8") == "https://official.example.org/debian\n"
    cloud = yaml.safe_load((root / "etc/cloud/cloud.cfg.d/01_debian_cloud.cfg").read_text(encoding="utf-8"))
    assert cloud["apt"]["generate_mirrorlists"] is True
    netplan = root / "etc/netplan/90-default.yaml"
    assert {entry["match"]["name"] for entry in yaml.safe_load(netplan.read_text(encoding="utf-8"))["network"]["ethernets"].values()} == {"en*", "eth*"}
    assert netplan.stat().st_mode & 0o777 == 0o600
    assert (root / "etc/grub.d/enable_cloud").is_file()
    assert (root / "boot/efi").is_dir()


def test_configure_with_mirrors_that_stay(root: Path) -> None:
    assert configure(root, "trixie", ["main"], UUIDS, MIRRORS) == MIRRORS
    assert (root / "etc/apt/mirrors/debian-security.list").read_text(encoding="utf-8") == "https://m.example.org/security\n"
    cloud = yaml.safe_load((root / "etc/cloud/cloud.cfg.d/01_debian_cloud.cfg").read_text(encoding="utf-8"))
    assert cloud["apt"]["generate_mirrorlists"] is False


def test_configure_without_official_mirrors(root: Path) -> None:
    (root / "etc/cloud/cloud.cfg").write_text("{}\n", encoding="utf-8")
    with pytest.raises(ImageError, match=r"its cloud-init package names no official mirror. Give the mirrors of the image \(guest_mirror\)"):
        configure(root, "trixie", ["main"], UUIDS, None)


def test_clean(tmp_path: Path) -> None:
    gone = [
        "etc/ssh/ssh_host_rsa_key",
        "etc/apt/sources.list",
        "etc/apt/apt.conf.d/99mmdebstrap",
        "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
        "etc/passwd-",
        "var/lib/systemd/random-seed",
        "var/lib/dbus/machine-id",
        "var/log/dpkg.log",
        "var/log/apt/term.log",
        "var/log/journal/abc/system.journal",
        "tmp/a/b",
    ]
    kept = [
        "etc/ssh/sshd_config",
        "etc/passwd",
        "etc/apt/sources.list.d/debian.sources",
        "etc/machine-id",
        "etc/hostname",
        "var/log/wtmp",
        "var/lib/dpkg/status",
    ]
    for name in [*gone, *kept]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x", encoding="utf-8")
    (tmp_path / "etc/hostname").chmod(0o755)
    (tmp_path / "tmp/link").symlink_to("/etc")
    clean(tmp_path)
    assert stat.S_IMODE((tmp_path / "etc/hostname").stat().st_mode) == 0o644
    assert [name for name in gone if (tmp_path / name).exists()] == []
    assert [name for name in kept if not (tmp_path / name).exists()] == []
    assert [name for name in kept if (tmp_path / name).stat().st_size == 0] == ["etc/machine-id", "etc/hostname", "var/log/wtmp"]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_apt_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owners = []
    monkeypatch.setattr(os, "chown", lambda path, user, group: owners.append((Path(path).name, user, group)))
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n", encoding="utf-8")
    make_apt_folders(tmp_path)
    assert owners == [("partial", 42, 0), ("partial", 42, 0)]
    assert (tmp_path / "var/cache/apt/archives/partial").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "var/lib/apt/lists/partial").is_dir()


def test_clamp_times(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name, time in (("folder/new", 2000), ("folder/old", 500)):
        (tmp_path / name).write_text("x", encoding="utf-8")
        os.utime(tmp_path / name, (time, time))
    (tmp_path / "link").symlink_to("nowhere")
    clamp_times(tmp_path, 1000)
    assert [(tmp_path / name).lstat().st_mtime for name in ("folder/new", "folder/old", "folder", "link")] == [1000, 500, 1000, 1000]
