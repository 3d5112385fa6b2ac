# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Tell names that a build machine was given from those that somebody chose for the image."""

from __future__ import annotations

import json
import re
import typing as t

Reader = t.Callable[[str], str]

NAMED_BY_CLOUD_INIT = "var/lib/cloud/data/set-hostname"
NAME_SERVER = re.compile(r"^\s*nameserver\s+(\S+)", re.MULTILINE)
GENERATED = re.compile(
    r"^\s*[#;].*\b(?:generated|managed) by (?:NetworkManager|resolvconf|dhcpcd|dhclient|man:systemd-resolved|netconfig)", re.MULTILINE | re.IGNORECASE
)
# QEMU's own network, link-local addresses, and the loopback addresses of container engines; 127.0.0.1 and 127.0.0.53 can be servers of the image,
# and so can the link-local servers of clouds and of Kubernetes nodes.
BUILD_ADDRESS = re.compile(r"10\.0\.2\.\d+|169\.254\.(?!169\.25[34]$|20\.10$|25\.10$).*|127\.0\.0\.11|fec0:.*|fe80:.*", re.IGNORECASE)


def is_given_name(text: str, read: Reader) -> bool:
    """Whether a host name is none, or the one that cloud-init set for the machine; ``read`` returns the text of a file below the root."""
    try:
        given = json.loads(read(NAMED_BY_CLOUD_INIT) or "{}")
    except ValueError:
        given = {}
    names = given.values() if isinstance(given, dict) else ()
    return text.strip() in {"localhost", *map(str, names)}


def is_given_mail_name(text: str, read: Reader) -> bool:
    """Whether a mail name is none, or the name that the build machine was given, which packages take over."""
    host, label = read("etc/hostname"), text.strip().partition(".")[0]
    given = {"", "localhost", host.strip().partition(".")[0] if is_given_name(host, read) else ""}
    return is_given_name(text, read) or label in given


def is_given_resolver(text: str, _read: Reader | None = None) -> bool:
    """Whether the name servers are those of the network in which the image was built."""
    return GENERATED.search(text) is not None or any(BUILD_ADDRESS.fullmatch(address) for address in NAME_SERVER.findall(text))
