# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the files that an image needs while it is open."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._open_files import POLICY_TEXT, Resolver, apt_conf, create, inside


def test_links_stay_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    (tmp_path / "etc/absolute").symlink_to("/usr/lib/os-release")
    (tmp_path / "etc/escape").symlink_to("../../../../../../outside")
    assert inside(tmp_path, "/etc/resolv.conf") == tmp_path / "run/systemd/resolve/stub-resolv.conf"
    assert inside(tmp_path, "etc/absolute") == tmp_path / "usr/lib/os-release"
    assert inside(tmp_path, "/etc/escape") == tmp_path / "outside"


def test_link_loops_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="too many links"):
        inside(tmp_path, "a")


def test_create_makes_missing_files_and_leaves_others(tmp_path: Path) -> None:
    assert create(tmp_path, "/usr/sbin/policy-rc.d", "exit 101\n", 0o755) == "usr/sbin/policy-rc.d"
    assert (tmp_path / "usr/sbin/policy-rc.d").stat().st_mode & 0o777 == 0o755
    assert create(tmp_path, "/usr/sbin/policy-rc.d", "other", 0o644) is None
    assert (tmp_path / "usr/sbin/policy-rc.d").read_text() == "exit 101\n"


def test_apt_conf_ends_with_what_the_build_host_says() -> None:
    lines = apt_conf(['Acquire::https::CaInfo "/run/hyperscaler/apt/0-site.pem";']).splitlines()
    assert lines[-2:] == ['Acquire::https::CAInfo "/run/hyperscaler/ca-certificates.crt";', 'Acquire::https::CaInfo "/run/hyperscaler/apt/0-site.pem";']
    assert 'DPkg::Options:: "--force-unsafe-io";' in lines


@pytest.mark.parametrize("former", [None, b"nameserver 192.0.2.1\n"])
def test_the_resolver_that_the_image_had_comes_back(tmp_path: Path, former: bytes | None) -> None:
    file = tmp_path / "etc/resolv.conf"
    file.parent.mkdir()
    if former is not None:
        file.write_bytes(former)
    placed = Resolver.place(tmp_path, "nameserver 10.0.2.3\n")
    assert placed is not None
    assert file.read_text() == "nameserver 10.0.2.3\n"
    placed.restore(tmp_path)
    assert (file.read_bytes() if file.exists() else None) == former


@pytest.mark.parametrize(
    ("former", "after"), [(None, b""), (b"", b""), (b"nameserver 192.0.2.1\n", b"nameserver 192.0.2.1\n"), (b"nameserver 10.0.2.3\n", b"")]
)
def test_a_resolver_that_sealing_emptied_comes_back_unless_it_is_one_of_a_build(tmp_path: Path, former: bytes | None, after: bytes) -> None:
    file = tmp_path / "etc/resolv.conf"
    file.parent.mkdir()
    if former is not None:
        file.write_bytes(former)
    placed = Resolver.place(tmp_path, "nameserver 10.0.2.3\n")
    assert placed is not None
    file.write_bytes(b"")
    placed.restore(tmp_path)
    assert file.read_bytes() == after


def test_the_resolver_that_a_role_wrote_stays(tmp_path: Path) -> None:
    file = tmp_path / "etc/resolv.conf"
    file.parent.mkdir()
    file.write_text("nameserver 192.0.2.1\n")
    placed = Resolver.place(tmp_path, "nameserver 10.0.2.3\n")
    assert placed is not None
    file.write_text("nameserver 198.51.100.7\n")
    placed.restore(tmp_path)
    assert file.read_text() == "nameserver 198.51.100.7\n"
    file.unlink()
    file.symlink_to("/run/systemd/resolve/resolv.conf")
    placed.restore(tmp_path)
    assert file.is_symlink()


@pytest.mark.parametrize("target", ["../run/systemd/resolve/stub-resolv.conf", "/run/NetworkManager/resolv.conf"])
def test_a_resolver_in_memory_needs_no_place_on_the_disk(tmp_path: Path, target: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").symlink_to(target)
    assert Resolver.place(tmp_path, "nameserver 10.0.2.3\n") is None
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("action", "systemd", "code"), [("start", True, 101), ("restart", True, 101), ("stop", True, 0), ("stop", False, 101)])
def test_packages_may_only_stop_a_service_and_only_where_one_can_run(tmp_path: Path, action: str, systemd: bool, code: int) -> None:
    script = tmp_path / "policy-rc.d"
    script.write_text(POLICY_TEXT.replace("/run/systemd/system", str(tmp_path if systemd else tmp_path / "none")))
    assert subprocess.run(["sh", script, "redis-server", action], check=False).returncode == code
