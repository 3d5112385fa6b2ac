# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Tell from what apt printed why it could not fetch, and what to do.

apt says of every archive that it could not read that it is not signed, also when a proxy or the archive refused to answer. So what the
network said counts first, and signatures only when nothing else went wrong.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t
from urllib.parse import urlsplit

MISSING = re.compile(r"(?:NO_PUBKEY|Missing key) ([0-9A-F]{16,40})")
FETCH = re.compile(r"Failed to fetch (?P<uri>\S+)\s+(?P<reason>.*)")
UNREACHED = re.compile(r"(?:Could not connect to|Unable to connect to|Cannot initiate the connection to|connecting to) (?P<host>\[[^\]]+\]|[^\s:]+)")
SOCKS = re.compile(r"SOCKS proxy (?P<proxy>\S+) (?:could not connect|didn't grant|reported)")
UNRESOLVED = re.compile(r"(?:Could not resolve|Temporary failure resolving|Something wicked happened resolving) '(?P<host>[^':]+)")


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why apt failed: ``cause`` and ``advice`` are sentences without a full stop; ``cause`` begins with a small letter."""

    cause: str
    advice: str


PROXY_LOGIN = "Give its user and password with its address (Acquire::http::Proxy of apt, or http_proxy) on the build host"
PROXY_CHECK = "Check the proxy that the build host names for it (apt-config dump Acquire, http_proxy, https_proxy), and that the proxy allows this mirror"
LOGIN = "Put its user and password into a file in /etc/apt/auth.conf.d of the build host"
CERTIFICATES = "Check the certificates that the build host names for it (CaInfo, SslCert and SslKey below Acquire::https)"
NETWORK = "Check the network of the build host"
SIGNED = "Check that the keyring of the build host knows the keys of this mirror, and that the mirror is the right one"
# The first one whose pattern is found counts; {uri} is the mirror, {said} what was found.
REFUSED = (
    (r"\b407(?:  [A-Z]| Proxy| from proxy)[\w ]*", "the proxy in front of {uri} asks for a user and a password ({said})", PROXY_LOGIN),
    (r"Invalid response from proxy: HTTP/[\d.]+ \d+(?: \w+)*", "the proxy in front of {uri} refused to connect ({said})", PROXY_CHECK),
    (r"\b401(?:  [A-Z]| Unauthorized)[\w ]*", "{uri} asks for a user and a password ({said})", LOGIN),
    (r"\b403(?:  [A-Z]| Forbidden)[\w ]*", "access to {uri} is refused ({said})", f"{LOGIN}, or let the proxy allow it"),
    (r"\b404(?:  [A-Z]| Not Found)[\w ]*", "{uri} has no such file ({said})", "Check the address of the mirror, and that it has this release"),
    (
        r"[Cc]ertificate verification failed|certificate is NOT trusted|Could not handshake|Error in the certificate|Could not load (?:client )?certificate\w*"
        r"|No system certificates available|Could not load client key"
        # apt 3 uses OpenSSL.
        r"|SSL connection failed: [^\[\n/]*|error:[0-9A-F]{8}:SSL routines:[^\[\n/]*|OpenSSL error: [^\[\n/]*",
        "the encrypted connection to {uri} failed ({said})",
        CERTIFICATES,
    ),
)
FAILED = (
    (
        r"Bad header line|Undetermined Error|Remote end closed connection|Redirection loop encountered|Empty reply",
        "the server of {uri}, or a proxy in front of it, gave an answer that is none ({said})",
        PROXY_CHECK,
    ),
    (r"\b5\d\d  [A-Z][\w ]*", "the server of {uri}, or a proxy in front of it, failed ({said})", f"Try again later. {PROXY_CHECK}"),
    (r"NOSPLIT|does the network require authentication", "a page came instead of the package lists of {uri}, as from a login page of a network", PROXY_CHECK),
    (
        r"is not valid yet|is expired|Release file [^\n]*expired",
        "the package lists of {uri} are too old or too new ({said})",
        "Check the clock of the build host",
    ),
    (r"Hash Sum mismatch|unexpected size|File has changed", "{uri} changed while it was read ({said})", "Try again in some minutes"),
)
UNUSABLE = (
    (r"BADSIG \w+|EXPKEYSIG \w+", "the signature of {uri} cannot be verified ({said})", SIGNED),
    (r"GPG error|OpenPGP signature verification failed|invalid signature", "the signature of {uri} cannot be verified ({said})", SIGNED),
    (r"is not signed|does not have a Release file", "{uri} has no signed package lists", SIGNED),
)


def explain(output: str, keyring: str = "") -> Failure | None:
    """The reason in the output of apt or of a program that calls it; None when it is no failure to fetch.

    ``keyring`` is the file with the keys that were to sign the package lists, where there is just one.
    """
    return _first_of(REFUSED, output) or _unreached(output) or _first_of(FAILED, output) or _unknown_key(output, keyring) or _first_of(UNUSABLE, output)


def missing_keys(output: str) -> tuple[str, ...]:
    """The ids of the keys that apt says it does not have."""
    return tuple(dict.fromkeys(MISSING.findall(output)))


def _unknown_key(output: str, keyring: str) -> Failure | None:
    keys = missing_keys(output)
    if not keys:
        return None
    line = next(line for line in output.splitlines() if MISSING.search(line))
    which = f"the keyring {keyring} of the build host" if keyring else "the keyring that its source names (Signed-By)"
    cause = f"{_mirror(line, output)} is signed with the key {' and '.join(keys)}, which {which} does not have"
    return Failure(cause, "Give the keyring that has this key, from the publisher of the mirror, or correct the address of the mirror")


def _first_of(causes: t.Iterable[tuple[str, str, str]], output: str) -> Failure | None:
    for pattern, cause, advice in causes:
        if found := re.search(pattern, output):
            return _failure(cause, advice, output, found)
    return None


def _failure(cause: str, advice: str, output: str, found: re.Match[str]) -> Failure:
    line = output[output.rfind("\n", 0, found.start()) + 1 : (output + "\n").index("\n", found.end())]
    return Failure(cause.format(uri=_mirror(line, output), said=" ".join(found.group(0).split())), advice)


def _mirror(line: str, output: str) -> str:
    """The archive that a line speaks of, else the first one in the whole output; without credentials."""
    for text in (line, output):
        if found := re.search(r"\b(?:https?|file|copy):/\S+", text):
            uri = without_password(found.group(0)).rstrip("',.:;")
            return uri.partition("/dists/")[0].partition("/pool/")[0]
    return "the package archive"


def _unreached(output: str) -> Failure | None:
    """A server that does not answer: a proxy where it is not the one of the address that was to be fetched."""
    for line in output.splitlines():
        socks = SOCKS.search(line)
        if socks:
            return Failure(f"the proxy {without_password(socks.group('proxy'))} in front of {_mirror(line, output)} cannot connect to it", PROXY_CHECK)
        found = UNREACHED.search(line) or UNRESOLVED.search(line)
        if not found:
            continue
        host, fetched = found.group("host").strip("[]"), FETCH.search(line)
        verb = "has no address in the name service" if UNRESOLVED.search(line) else "cannot be reached"
        wanted = urlsplit(fetched.group("uri")).hostname if fetched else None
        if wanted and wanted != host.lower():
            return Failure(f"the proxy {host} in front of {_mirror(line, output)} {verb}", PROXY_CHECK)
        return Failure(f"{host} {verb}", NETWORK)
    if "Connection timed out" in output or "Connection failed" in output:
        return Failure(f"{_mirror('', output)} cannot be reached", NETWORK)
    return None


def without_password(uri: str) -> str:
    """An address that may be shown: without user name and password."""
    return re.sub(r"^([^:/]+://)[^/]*@", r"\1", uri)
