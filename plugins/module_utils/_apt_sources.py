# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Read the package sources of a Debian system, and find the mirror that it uses."""

from __future__ import annotations

import dataclasses
import re
import typing as t
import urllib.parse
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._apt_failure import without_password
from ansible_collections.hyperscaler.images.plugins.module_utils._apt_release import Releases
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError

DEBIAN_SUITES = frozenset({"buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid", "oldstable", "stable", "testing", "unstable"})
USABLE = ("http", "https", "file", "copy")
MIRROR_LIST = re.compile(r"mirror\+file:(?://)?(/\S+)")
SECURITY = "security"
ARCHIVE = "archive"
# What follows the name of a release; the archives of others use names of their own there.
POCKETS = {"": ARCHIVE, "updates": ARCHIVE, "backports": ARCHIVE, "backports-sloppy": ARCHIVE, "proposed-updates": ARCHIVE, "security": SECURITY}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclasses.dataclass(frozen=True)
class Source:
    """One package source: the combination of one address and one suite.

    ``signed_by`` is what the source names for its signatures, ``listed`` the address that apt names its lists by where that is another one.
    """

    uri: str
    suite: str
    signed_by: str = dataclasses.field(default="", compare=False)
    listed: str = dataclasses.field(default="", compare=False)

    @property
    def kind(self) -> str | None:
        """``archive`` or ``security`` for a suite that has a name of Debian's, None for any other. Others use Debian's names, too."""
        base, _separator, pocket = self.suite.rstrip("/").replace("/updates", "-security").partition("-")
        return POCKETS.get(pocket) if base in DEBIAN_SUITES else None


@dataclasses.dataclass(frozen=True)
class Mirrors:
    """The addresses of Debian's package archive and of its security archive."""

    archive: str
    security: str


def parse_deb822(text: str) -> list[Source]:
    """The enabled binary sources of a file in deb822 style (``*.sources``)."""
    found = []
    for stanza in re.split(r"\n\s*\n", text):
        fields = _fields(stanza)
        if fields.get("enabled", "yes").lower() in ("no", "false", "0") or "deb" not in fields.get("types", "").split():
            continue
        signed_by = fields.get("signed-by", "")
        found += [Source(uri.rstrip("/"), suite, signed_by) for uri in fields.get("uris", "").split() for suite in fields.get("suites", "").split()]
    return found


def _fields(stanza: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1].isspace():
            fields[name] = f"{fields.get(name, '')} {line.strip()}"
        elif ":" in line:
            name, _separator, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields


def parse_one_line(text: str) -> list[Source]:
    """The binary sources of a file in one-line style (``sources.list``, ``*.list``)."""
    found = []
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)", line)
        if match:
            signed_by = re.search(r"\bsigned-by=(\S+)", match.group(1) or "", re.IGNORECASE)
            found.append(Source(match.group(2).rstrip("/"), match.group(3), signed_by.group(1) if signed_by else ""))
    return found


def read_sources(folder: Path) -> list[Source]:
    """The binary sources in an apt configuration folder, in the order in which apt reads them; mirror lists are resolved."""
    main = folder / "sources.list"
    parts = folder / "sources.list.d"
    files = [*([main] if main.is_file() else []), *(sorted(parts.iterdir()) if parts.is_dir() else [])]
    found: list[Source] = []
    for file in files:
        if file.suffix in (".list", ".sources"):
            text = file.read_text(encoding="utf-8", errors="replace")
            found += parse_deb822(text) if file.suffix == ".sources" else parse_one_line(text)
    return [resolved for source in found for resolved in _resolve(source)]


def _resolve(source: Source) -> list[Source]:
    """A source behind a mirror list (as in Debian's cloud images) becomes one source for each address in it."""
    listed = MIRROR_LIST.fullmatch(source.uri)
    if listed is None:
        return [source]
    file = Path(listed.group(1))
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    addresses = [line.split()[0].rstrip("/") for line in lines if line.strip() and not line.startswith("#")]
    return [Source(address, source.suite, source.signed_by, source.uri) for address in addresses]


def find_mirrors(sources: t.Iterable[Source], where: str, keyring: Path = KEYRING, lists: t.Sequence[Path] = ()) -> Mirrors:
    """The Debian mirror among package sources, recognised by its Release file, which a key of ``keyring`` has signed.

    ``where`` tells in the error message whose sources they are. ``lists`` are folders with package lists besides that of this machine.
    Raises ImageError when no source is Debian's, with the reason when those that may be do not answer.
    """
    listed = list(sources)
    usable = [source for source in listed if urllib.parse.urlsplit(source.uri).scheme in USABLE]
    asked = Releases(keyring, lists)
    archive = asked.first_of_debian([source for source in usable if source.kind == ARCHIVE])
    if archive is None:
        why = f": {asked.failure.cause}. {asked.failure.advice}, or give" if asked.failure else " name none. Give"
        raise ImageError(
            f"Cannot find a Debian mirror: the package sources of {where}{why} the address of one (option mirror).",
            sources=[without_password(source.uri) for source in listed],
        )
    security = asked.first_of_debian([source for source in usable if source.kind == SECURITY])
    return Mirrors(archive.uri, security.uri if security else security_of(archive.uri))


def security_of(archive: str) -> str:
    """The security archive that lies beside a package archive on the usual mirrors."""
    return f"{archive.rstrip('/')}-security"
