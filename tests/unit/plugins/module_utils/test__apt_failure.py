# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the reasons that apt prints; what it prints is from real runs against servers that answer so."""

from __future__ import annotations

import pytest
from ansible_collections.hyperscaler.images.plugins.filter.apt_failure import apt_failure
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_failure import explain, without_password

UNSIGNED = "\nE: The repository 'http://m.example.org/debian trixie InRelease' is not signed."
FETCH = "E: Failed to fetch http://m.example.org/debian/dists/trixie/InRelease  "
MIRROR = "http://m.example.org/debian"


@pytest.mark.parametrize(
    ("said", "cause", "advice"),
    [
        (f"{FETCH}401  Unauthorized [IP: 192.0.2.1 80]{UNSIGNED}", f"{MIRROR} asks for a user and a password (401 Unauthorized)", "auth.conf.d"),
        (f"{FETCH}403  Forbidden [IP: 192.0.2.1 80]{UNSIGNED}", f"access to {MIRROR} is refused (403 Forbidden)", "proxy"),
        (
            f"{FETCH}407  Proxy Authentication Required [IP: 192.0.2.1 3128]{UNSIGNED}",
            f"the proxy in front of {MIRROR} asks for a user and a password (407 Proxy Authentication Required)",
            "Acquire::http::Proxy",
        ),
        (
            "E: Failed to fetch https://m.example.org/debian/dists/trixie/InRelease  Invalid response from proxy: HTTP/1.0 403 Forbidden  Server: x",
            "the proxy in front of https://m.example.org/debian refused to connect (Invalid response from proxy: HTTP/1.0 403 Forbidden)",
            "proxy",
        ),
        (
            f"{FETCH}Could not connect to proxy.example.org:3128 (192.0.2.1). - connect (111: Connection refused)",
            f"the proxy proxy.example.org in front of {MIRROR} cannot be reached",
            "proxy",
        ),
        (f"{FETCH}Could not resolve 'proxy.example.org'", f"the proxy proxy.example.org in front of {MIRROR} has no address in the name service", "proxy"),
        (f"{FETCH}Could not resolve 'm.example.org'", "m.example.org has no address in the name service", "network"),
        (f"{FETCH}Could not connect to m.example.org:80 (192.0.2.1), connection timed out", "m.example.org cannot be reached", "network"),
        (f"{FETCH}502  Bad Gateway [IP: 192.0.2.1 3128]", f"the server of {MIRROR}, or a proxy in front of it, failed (502 Bad Gateway)", "later"),
        (
            f"{FETCH}Clearsigned file isn't valid, got 'NOSPLIT' (does the network require authentication?){UNSIGNED}",
            f"a page came instead of the package lists of {MIRROR}, as from a login page of a network",
            "proxy",
        ),
        (
            "  Could not load certificates from /no.pem (CaInfo option): Error while reading file. [IP: 192.0.2.1 443]\n"
            "E: The repository 'https://m.example.org/debian trixie Release' does not have a Release file.",
            "the encrypted connection to https://m.example.org/debian failed (Could not load certificates)",
            "CaInfo",
        ),
        (
            f"{FETCH}Certificate verification failed: The certificate is NOT trusted.",
            f"the encrypted connection to {MIRROR} failed (Certificate verification failed)",
            "CaInfo",
        ),
        (
            f"{FETCH}SSL connection failed: error:0A000086:SSL routines::certificate verify failed / Success [IP: 192.0.2.1 443]{UNSIGNED}",
            f"the encrypted connection to {MIRROR} failed (SSL connection failed: error:0A000086:SSL routines::certificate verify failed)",
            "CaInfo",
        ),
        (
            f"{FETCH}Received HTTP code 407 from proxy after CONNECT",
            f"the proxy in front of {MIRROR} asks for a user and a password (407 from proxy after CONNECT)",
            "Acquire::http::Proxy",
        ),
        (
            f"{FETCH}SOCKS proxy socks5h://u:p@proxy.example.org:1080 could not connect to m.example.org (0.0.0.0:0) due to: connection refused (5)",
            f"the proxy socks5h://proxy.example.org:1080 in front of {MIRROR} cannot connect to it",
            "proxy",
        ),
        (
            f"{FETCH}Bad header line [IP: 192.0.2.1 3128]",
            f"the server of {MIRROR}, or a proxy in front of it, gave an answer that is none (Bad header line)",
            "proxy",
        ),
        (
            f"{FETCH}Error reading from server. Remote end closed connection [IP: 192.0.2.1 80]{UNSIGNED}",
            f"the server of {MIRROR}, or a proxy in front of it, gave an answer that is none (Remote end closed connection)",
            "proxy",
        ),
        (
            "W: GPG error: http://m.example.org/debian trixie InRelease: The following signatures couldn't be verified: NO_PUBKEY 6ED0E7B82643E131" + UNSIGNED,
            f"{MIRROR} is signed with the key 6ED0E7B82643E131, which the keyring that its source names (Signed-By) does not have",
            "Give the keyring that has this key",
        ),
        (f"{FETCH}404  Not Found [IP: 192.0.2.1 80]{UNSIGNED}", f"{MIRROR} has no such file (404 Not Found)", "release"),
        (
            "E: Release file for http://m.example.org/debian/dists/trixie/InRelease is not valid yet (invalid for another 3d).",
            f"the package lists of {MIRROR} are too old or too new (is not valid yet)",
            "clock",
        ),
    ],
)
def test_the_cause_and_the_advice(said: str, cause: str, advice: str) -> None:
    assert apt_failure(said)["cause"] == cause
    assert advice in apt_failure(said)["advice"]


def test_what_is_no_failure_to_fetch() -> None:
    assert explain("E: Unable to locate package x\nGet:1 http://m.example.org/debian trixie/main amd64 Packages [401 kB]\nFetched 502 kB in 1s") is None
    assert apt_failure("")["cause"] == "its package archives cannot be reached or do not verify"


def test_no_password_is_shown() -> None:
    said = "E: Failed to fetch https://user:secret@m.example.org/debian/dists/trixie/InRelease  401  Unauthorized"
    assert apt_failure(said)["cause"].startswith("https://m.example.org/debian asks for")


# apt 3 asks sqv for the signature, which says it like this.
SQV = (
    "Sub-process /usr/bin/sqv returned an error code (1), error message is: Missing key 0AB215679C571D1C8325275B9BDB3D89CE49EC21, "
    "which is needed to verify signature."
)


def test_the_keyring_is_named_where_it_is_known() -> None:
    said = f"W: OpenPGP signature verification failed: {MIRROR} trixie InRelease: {SQV}{UNSIGNED}"
    failure = explain(said, "/k.gpg")
    assert failure is not None
    assert failure.cause == (
        f"{MIRROR} is signed with the key 0AB215679C571D1C8325275B9BDB3D89CE49EC21, which the keyring /k.gpg of the build host does not have"
    )


def test_without_password() -> None:
    assert without_password("https://user:secret@m.example.org:8443/debian") == "https://m.example.org:8443/debian"
    assert without_password("file:/srv/debian") == "file:/srv/debian"
