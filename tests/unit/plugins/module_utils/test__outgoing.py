# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the network of an open image."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils import _outgoing


def test_a_mirror_or_proxy_on_the_loopback_interface_is_forwarded_by_its_port() -> None:
    addresses = [
        "http://localhost:3142",
        "http://user:word@[::1]:8080/",
        "http://127.0.0.1/debian",
        "https://127.3.2.1/x",
        "http://m.example.com:99",
        "file:/srv",
    ]
    assert _outgoing.loopback_ports(addresses) == [80, 443, 3142, 8080]


def test_a_server_on_localhost_is_named_by_the_number_that_it_listens_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert _outgoing.by_number(f"http://user:word@localhost:{port}/x") == f"http://user:word@127.0.0.1:{port}/x"
        for same in (f"https://localhost:{port}/", f"http://localhost.example.com:{port}", f"http://127.0.0.1:{port}", "DIRECT"):
            assert _outgoing.by_number(same) == same
    assert _outgoing.by_number(f"http://localhost:{port}") == f"http://localhost:{port}"


def test_a_port_that_answers_on_one_number_only_is_unreachable_by_the_other() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as both:
        port, other = (server.getsockname()[1] for server in (one, both))
        assert _outgoing.rules([port, other]) == [
            "rule add pref 2 lookup local",
            f"rule add pref 1 to ::1 ipproto tcp dport {port} unreachable",
            "rule del pref 0",
        ]
        assert _outgoing.rules([other]) == []
    assert _outgoing.rules([port]) == []


def test_names_that_only_look_like_the_loopback_interface_are_not() -> None:
    assert _outgoing.loopback_ports(["http://localhost.example.com:1", "http://127.example.com:2", "http://10.0.0.1:3", "DIRECT", ""]) == []


def test_the_resolver_keeps_the_search_list_and_hides_the_name_server() -> None:
    found = _outgoing.resolver("# made by a tool\nnameserver 127.0.0.53\nsearch site.example.com\noptions edns0\n")
    assert found == "search site.example.com\noptions edns0\nnameserver 10.0.2.3\n"


@pytest.mark.parametrize(
    ("ports", "v4", "v6", "present", "absent"),
    [
        ((), True, True, ["10.0.2.15", "fec0::15", "-T none"], ["-4", "-6"]),
        ((3142, 80), True, False, ["10.0.2.15", "-4", "-T 3142,80"], ["fec0::15", "-6"]),
        ((), False, True, ["fec0::15", "-6"], ["10.0.2.15", "-4"]),
    ],
)
def test_arguments_of_pasta(ports: tuple[int, ...], v4: bool, v6: bool, present: list[str], absent: list[str]) -> None:
    line = f" {' '.join(_outgoing.arguments(Path('/work/network'), ports, v4, v6))} "
    for words in [*present, "--netns /work/network", "--no-map-gw", "-t none -u none -U none", "--mtu 65520"]:
        assert f" {words} " in line
    for words in absent:
        assert f" {words} " not in line


def test_the_build_host_and_link_local_addresses_are_unreachable() -> None:
    found = _outgoing.routes(["192.0.2.2", "172.17.0.1", "169.254.7.7", "fe80::1", "2001:db8::2"])
    assert found["-4"] == [f"route replace unreachable {place} proto kernel metric 1" for place in ("169.254.0.0/16", "192.0.2.2/32", "172.17.0.1/32")]
    assert found["-6"] == ["route replace unreachable 2001:db8::2/128 proto kernel metric 1"]
