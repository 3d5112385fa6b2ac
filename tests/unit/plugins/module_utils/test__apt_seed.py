# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the script that brings what apt needs into a virtual machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_access import Access
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_seed import script, seen_from

LISTS = [("/etc/apt/mirrors/debian.list", "http://127.0.0.1:3142/debian\n")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("http://localhost:3142", "http://10.0.2.2:3142"),
        ("http://user:word@127.3.2.1:8080/", "http://user:word@10.0.2.2:8080/"),
        ("http://[::1]", "http://10.0.2.2"),
        ("http://localhost.example.org:1", "http://localhost.example.org:1"),
        ("http://proxy.example.org/?to=//127.0.0.1x", "http://proxy.example.org/?to=//127.0.0.1x"),
        ("DIRECT", "DIRECT"),
    ],
)
def test_the_loopback_interface_gets_the_address_of_the_build_host(value: str, expected: str) -> None:
    assert seen_from("10.0.2.2", Access((("Acquire::http::Proxy", value),))).settings == (("Acquire::http::Proxy", expected),)


def test_names_of_settings_and_credentials_follow() -> None:
    of_mirror = (("Acquire::https::localhost::SslCert", "/c.pem"), ("Acquire::https::localhost.example.org::SslCert", "/d.pem"))
    access = Access(
        (("Acquire::http::Proxy::localhost", "DIRECT"), *of_mirror), "machine http://localhost:80/debian login a\nmachine localhost.example.org login b\n"
    )
    moved = seen_from("10.0.2.2", access)
    assert moved.settings == (("Acquire::http::Proxy::10.0.2.2", "DIRECT"), ("Acquire::https::10.0.2.2::SslCert", "/c.pem"), of_mirror[1])
    assert moved.credentials == "machine http://10.0.2.2:80/debian login a\nmachine localhost.example.org login b\n"


def test_everything_but_a_link_is_written_below_run(tmp_path: Path) -> None:
    """The script runs with its folders in the folder of the test, and with the commands left out that need root."""
    key = tmp_path / "client.key"
    key.write_text("the key with 'quotes' and $signs\n", encoding="utf-8")
    access = Access((("Acquire::https::m.example.org::SslKey", str(key)),), "machine m.example.org login a password b\n")
    text = script(access, LISTS, "10.0.2.2")
    assert "password" not in text
    root = tmp_path / "root"
    (root / "etc/apt/apt.conf.d").mkdir(parents=True)
    (root / "etc/apt/mirrors").mkdir()
    (root / "etc/apt/mirrors/debian.list").write_text("http://of.the.image/debian\n", encoding="utf-8")
    local = text.replace("/run/hyperscaler", f"{root}/run/hyperscaler").replace(" /etc/apt", f" {root}/etc/apt")
    ordinary = "".join(f"{line}\n" for line in local.splitlines() if not line.startswith(("chown", "mountpoint")))
    subprocess.run(["sh"], input=ordinary, text=True, check=True)
    run = root / "run/hyperscaler"
    assert sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()) == [
        "apt.conf",
        "apt/0-client.key",
        "apt/auth.conf",
        "etc/apt/mirrors/debian.list",
    ]
    assert (run / "apt/0-client.key").read_text(encoding="utf-8") == "the key with 'quotes' and $signs\n"
    assert (run / "apt/0-client.key").stat().st_mode & 0o777 == 0o400
    assert (run / "etc/apt/mirrors/debian.list").read_text(encoding="utf-8") == "http://10.0.2.2:3142/debian\n"
    assert (root / "etc/apt/apt.conf.d/99hyperscaler-build").is_symlink()
    assert [path.name for path in (root / "etc").rglob("*") if path.is_file() and not path.is_symlink()] == ["debian.list"]
