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

from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError

DEBIAN_SUITES = frozenset({"buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid", "oldstable", "stable", "testing", "unstable"})
USABLE = ("http", "https", "file", "copy")
MIRROR_LIST = re.compile(r"mirror\+file:(?://)?(/\S+)")
SECURITY = "security"
ARCHIVE = "archive"


@dataclasses.dataclass(frozen=True)
class Source:
    """One package source: the combination of one address and one suite."""

    uri: str
    suite: str

    @property
    def kind(self) -> str | None:
        """``archive`` or ``security`` for a source of Debian, None for any other."""
        base, _separator, pocket = self.suite.rstrip("/").replace("/updates", "-security").partition("-")
        if base not in DEBIAN_SUITES:
            return None
        return SECURITY if pocket == "security" else ARCHIVE


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
        found += [Source(uri.rstrip("/"), suite) for uri in fields.get("uris", "").split() for suite in fields.get("suites", "").split()]
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
        match = re.match(r"\s*deb\s+(?:\[[^\]]*\]\s*)?(\S+)\s+(\S+)", line)
        if match:
            found.append(Source(match.group(1).rstrip("/"), match.group(2)))
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
    return [Source(line.split()[0].rstrip("/"), source.suite) for line in lines if line.strip() and not line.startswith("#")]


def find_mirrors(sources: t.Iterable[Source], where: str) -> Mirrors:
    """The Debian mirror among package sources; ``where`` tells in the error message whose sources they are."""
    usable = [source for source in sources if urllib.parse.urlsplit(source.uri).scheme in USABLE]
    archives = [source.uri for source in usable if source.kind == ARCHIVE]
    securities = [source.uri for source in usable if source.kind == SECURITY]
    if not archives:
        raise ImageError(
            f"Cannot find a Debian mirror: the package sources of {where} name none. Give the address of one (option mirror).",
            sources=[without_password(source.uri) for source in sources],
        )
    return Mirrors(archives[0], securities[0] if securities else security_of(archives[0]))


def security_of(archive: str) -> str:
    """The security archive that lies beside a package archive on the usual mirrors."""
    return f"{archive.rstrip('/')}-security"


def without_password(uri: str) -> str:
    """An address that may be shown: without user name and password."""
    return re.sub(r"^([^:/]+://)[^/]*@", r"\1", uri)


def parse_config(dump: str) -> dict[str, str]:
    """The settings in the output of ``apt-config dump`` that tell how a mirror is reached and how old its lists may be."""
    settings = {}
    for line in dump.splitlines():
        match = re.fullmatch(r'(\S+) "(.*)";', line)
        if match and re.match(r"Acquire::(https?(::|$)|Check-(Valid-Until|Date)$|ForceIPv[46]$|Retries$|Max-ValidTime)", match.group(1)) and match.group(2):
            settings[match.group(1)] = match.group(2)
    return settings
