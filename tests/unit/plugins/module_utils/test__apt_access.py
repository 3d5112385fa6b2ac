# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what apt needs to reach its mirrors. apt's own tools read the configuration, from a folder of the test."""

from __future__ import annotations

import shutil
import tempfile
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _apt_access
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_access import Access, exempt, parse_detection, parse_settings, read_access
from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError

DUMP = """\
Acquire "";
Acquire::http "";
Acquire::http::Proxy "http://proxy.example.org:3128";
Acquire::http::Proxy::m.example.org "DIRECT";
acquire::https::CaInfo "/etc/ssl/a.pem";
Acquire::https::m.example.org::SslCert "/etc/ssl/m.pem";
Acquire::HTTP::Proxy-Auto-Detect "/opt/site/find-proxy";
Acquire::https::ProxyAutoDetect "/opt/old";
Acquire::httpsomething "no";
Acquire::Check-Valid-Until "false";
Acquire::Max-ValidTime::Debian "864000";
Acquire::max-futuretime "60";
Acquire::ForceIPv4 "";
Acquire::ForceIPv6 "true";
Acquire::AllowInsecureRepositories "1";
Acquire::Languages:: "none";
DPkg::Post-Invoke:: "rm -f /var/cache/apt/archives/*.deb || true";
"""


@pytest.fixture
def tmp_path() -> t.Iterator[Path]:
    """A folder that the user of apt, who runs detection programs, can enter, too."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like /etc/apt, that apt's tools read instead."""
    for name in ("apt.conf.d", "auth.conf.d"):
        (tmp_path / name).mkdir()

    class Configured(Command):
        """apt-config and apt-helper with the configuration of the test."""

        def argv(self, *args: t.Any) -> list[str]:
            program, *rest = super().argv(*args)
            return [program, "-o", f"Dir::Etc={tmp_path}", *rest]

        def environment(self) -> dict[str, str]:
            return {**super().environment(), "APT_CONFIG": str(tmp_path / "first.conf")}

    (tmp_path / "first.conf").write_text(f'Dir::Etc "{tmp_path}";\nDir::Etc::main "apt.conf";\nDir::Etc::parts "apt.conf.d";\n', encoding="utf-8")
    if not shutil.which("apt-config") or not Path(_apt_access.HELPER).exists():
        pytest.skip("needs apt")
    monkeypatch.setattr(_apt_access, "Command", Configured)
    return tmp_path


def configure(site: Path, text: str) -> None:
    (site / "apt.conf.d/50site").write_text(text, encoding="utf-8")


def detection(site: Path, body: str) -> Path:
    program = site / "find-proxy"
    program.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    program.chmod(0o755)
    return program


def test_settings_are_passed_in_any_spelling_and_programs_and_trust_are_not() -> None:
    assert parse_settings(DUMP) == {
        "Acquire::http::Proxy": "http://proxy.example.org:3128",
        "Acquire::http::Proxy::m.example.org": "DIRECT",
        "acquire::https::CaInfo": "/etc/ssl/a.pem",
        "Acquire::https::m.example.org::SslCert": "/etc/ssl/m.pem",
        "Acquire::Check-Valid-Until": "false",
        "Acquire::Max-ValidTime::Debian": "864000",
        "Acquire::max-futuretime": "60",
        "Acquire::ForceIPv6": "true",
    }
    assert parse_detection(DUMP) == {"http": "/opt/site/find-proxy", "https": "/opt/old"}


def test_the_newer_name_of_the_detection_program_counts() -> None:
    both = 'Acquire::http::Proxy-Auto-Detect "/new";\nAcquire::http::ProxyAutoDetect "/old";\n'
    assert parse_detection(both) == parse_detection("\n".join(reversed(both.splitlines()))) == {"http": "/new"}


def test_the_answers_of_a_detection_program_are_passed_on_and_not_its_path(site: Path) -> None:
    program = detection(site, 'case $1 in *//near.example.org*) echo DIRECT;; *//silent.example.org*) ;; *) echo " http://127.0.0.1:3142/ ";; esac')
    configure(site, f'Acquire::http::Proxy-Auto-Detect "{program}";\nAcquire::http::Proxy "http://general.example.org:1";\n')
    mirrors = ["http://near.example.org/debian", "http://far.example.org/debian", "http://silent.example.org/x", "https://s.example.org/y", "file:/srv"]
    access = read_access(mirrors, {})
    settings = dict(access.settings)
    assert settings["Acquire::http::Proxy::near.example.org"] == "DIRECT"
    assert settings["Acquire::http::Proxy::far.example.org"] == "http://127.0.0.1:3142/"
    assert settings["Acquire::http::Proxy::silent.example.org"] == "http://general.example.org:1"
    assert settings["Acquire::http::Proxy"] == "http://127.0.0.1:3142/"
    # The program is asked for addresses with http only.
    assert settings["Acquire::https::Proxy"] == "http://general.example.org:1"
    assert str(program) not in str(access)
    assert set(access.proxies) == {"http://127.0.0.1:3142/", "http://general.example.org:1"}


def test_a_program_that_says_direct_leaves_no_proxy(site: Path) -> None:
    program = detection(site, "echo DIRECT")
    configure(site, f'Acquire::https::ProxyAutoDetect "{program}";\nAcquire::https::Proxy "http://general.example.org:1";\n')
    access = read_access(["https://m.example.org/debian"], {"http_proxy": "http://p.example.org:3"})
    assert dict(access.settings)["Acquire::https::Proxy::m.example.org"] == "DIRECT"
    assert access.proxies == ["http://p.example.org:3"]


def test_a_proxy_of_a_single_host_is_not_asked_for(site: Path) -> None:
    program = detection(site, "echo http://found.example.org:1")
    configure(site, f'Acquire::http::Proxy-Auto-Detect "{program}";\nAcquire::http::Proxy::m.example.org "http://own.example.org:2";\n')
    assert dict(read_access(["http://m.example.org/debian"], {}).settings)["Acquire::http::Proxy::m.example.org"] == "http://own.example.org:2"


def test_a_program_that_fails_is_named(site: Path) -> None:
    program = detection(site, "echo broken >&2; exit 3")
    configure(site, f'Acquire::http::Proxy-Auto-Detect "{program}";\n')
    with pytest.raises(ImageError, match=r"Cannot find out the proxy for http://m\.example\.org/: the program .*find-proxy, which apt of this machine asks"):
        read_access(["http://m.example.org/debian"], {})


@pytest.mark.parametrize("spelling", [str.lower, str.upper])
def test_proxies_of_the_environment_in_both_spellings(site: Path, spelling: t.Callable[[str], str]) -> None:
    environment = {
        spelling("http_proxy"): "p.example.org:3128",
        spelling("https_proxy"): "http://q.example.org:1",
        spelling("no_proxy"): "localhost, .near.org",
    }
    access = read_access(["http://m.near.org/debian", "https://far.org/debian"], environment)
    assert [item for item in access.settings if "Proxy" in item[0]] == [
        ("Acquire::http::Proxy", "http://p.example.org:3128"),
        ("Acquire::https::Proxy", "http://q.example.org:1"),
        ("Acquire::http::Proxy::m.near.org", "DIRECT"),
    ]
    assert access.no_proxy == "localhost, .near.org"
    assert site.is_dir()


def test_settings_of_apt_come_before_the_environment(site: Path) -> None:
    configure(site, 'acquire::http::proxy "http://set.example.org:1";\n')
    access = read_access([], {"http_proxy": "http://p.example.org:2", "HTTPS_PROXY": "http://q.example.org:3"})
    assert access.proxies == ["http://set.example.org:1"]


@pytest.mark.parametrize(
    ("host", "no_proxy", "expected"),
    [("a.example.org", "example.org", True), ("a.example.org", "b.org, .example.org", True), ("a.example.org", "a", False), ("x", "*", True), ("x", "", False)],
)
def test_names_that_need_no_proxy(host: str, no_proxy: str, expected: bool) -> None:
    assert exempt(host, no_proxy) is expected


def test_credentials_and_certificates_are_placed_in_the_image(site: Path) -> None:
    (site / "auth.conf").write_text("machine a.example.org login a password 1", encoding="utf-8")
    (site / "auth.conf.d/20-b.conf").write_text("machine b.example.org login b password 2\n", encoding="utf-8")
    (site / "auth.conf.d/old.conf.dpkg-old").write_text("machine c.example.org login c password 3\n", encoding="utf-8")
    for name in ("site ca.pem", "client.pem", "client.key"):
        (site / name).write_text(f"the {name}\n", encoding="utf-8")
    configure(
        site,
        f'Acquire::https::CaInfo "{site}/site ca.pem";\nAcquire::https::m.example.org {{ SslCert "{site}/client.pem"; sslkey "{site}/client.key"; }};\n',
    )
    lines, files = read_access([], {}).placed("/run/hyperscaler/apt")
    texts = {file.path: file.text for file in files}
    assert 'Dir::Etc::netrc "/run/hyperscaler/apt/auth.conf";' in lines
    assert texts["/run/hyperscaler/apt/auth.conf"] == "machine a.example.org login a password 1\nmachine b.example.org login b password 2\n"
    named = {line.partition(" ")[0].lower(): line.partition(" ")[2].strip('";') for line in lines}
    assert texts[named["acquire::https::cainfo"]] == "the site ca.pem\n"
    assert texts[named["acquire::https::m.example.org::sslcert"]] == "the client.pem\n"
    assert texts[named["acquire::https::m.example.org::sslkey"]] == "the client.key\n"
    assert str(site) not in "\n".join(lines)
    assert [file.path.rpartition("-")[2] for file in files if file.private] == ["client.key", "/run/hyperscaler/apt/auth.conf"]


def test_a_certificate_that_is_not_there_is_named() -> None:
    with pytest.raises(ImageError, match=r"Cannot read /no/such\.pem, the file that the setting Acquire::https::CaInfo names: No such file or directory"):
        Access((("Acquire::https::CaInfo", "/no/such.pem"),)).placed("/run")
