# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""What the control fields of a Debian package say, read as dpkg reads them."""

from __future__ import annotations

import dataclasses
import re
import typing as t

# What dpkg accepts, which is more than Debian's policy allows: lib/dpkg/pkg-spec.c, parsehelp.c and arch.c of dpkg 1.22.
PACKAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*")
VERSION = re.compile(r"(?:\+?\d+:\d[A-Za-z0-9.+~:-]*|\d[A-Za-z0-9.+~-]*)")
REVISION = re.compile(r"[A-Za-z0-9.+~]+")
ARCHITECTURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
# What C calls white space, but for the line feed.
BLANKS = " \t\r\f\v"
# Editors of MS-DOS end a file with it.
END_OF_FILE = "\x1a"
NAMED = re.compile(r"^package[ \t]*:[ \t]*(\S+)", re.IGNORECASE | re.MULTILINE)

# A dependency is a list of alternatives, of which one is enough.
Dependency = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Package:
    """The control fields of a package that matter for choosing it."""

    name: str
    version: str
    architecture: str
    depends: tuple[Dependency, ...] = ()

    @property
    def release(self) -> str:
        """The version of the software: without epoch and Debian revision."""
        upstream = self.version.partition(":")[2] or self.version
        return upstream.rpartition("-")[0] or upstream

    @property
    def file_name(self) -> str:
        """The file name by Debian's convention, made from checked fields only."""
        return f"{self.name}_{self.version.partition(':')[2] or self.version}_{self.architecture}.deb"


def package_from(fields: t.Mapping[str, str]) -> Package:
    """Check the control fields of a package, whose names are in lower case; raises ValueError with the reason.

    Names are in lower case afterwards, as dpkg keeps them.
    """
    values = []
    for field, pattern in (("Package", PACKAGE_NAME), ("Version", VERSION), ("Architecture", ARCHITECTURE)):
        value = fields.get(field.lower())
        if not value:
            raise ValueError(f"it has no field {field}")
        if not pattern.fullmatch(value):
            raise ValueError(f"its field {field} is {value!r}, which dpkg refuses")
        values.append(value)
    upstream, dash, revision = values[1].rpartition("-")
    if dash and not (REVISION.fullmatch(revision) and VERSION.fullmatch(upstream)):
        raise ValueError(f"its field Version is {values[1]!r}, which dpkg refuses")
    depends = ", ".join(fields[name] for name in ("pre-depends", "depends") if fields.get(name))
    return Package(values[0].lower(), values[1], values[2], parse_depends(depends))


def parse_depends(text: str) -> tuple[Dependency, ...]:
    """The names in a dependency field, without versions and architectures."""
    found = []
    for entry in text.split(","):
        names = tuple(match.group().lower() for match in (PACKAGE_NAME.match(name.strip()) for name in entry.split("|")) if match)
        if names:
            found.append(names)
    return tuple(found)


def split_paragraphs(text: str) -> list[str]:
    """The paragraphs of a control file or a package index, which empty lines part; a line of blanks does not, as for apt."""
    whole = text.rstrip("\n").removesuffix(END_OF_FILE).strip("\n")
    return [paragraph for paragraph in re.split(r"\n(?:\r*\n)+", whole) if paragraph.strip(BLANKS)]


def name_in(paragraph: str) -> str:
    """The name of a package whose fields cannot be read; empty when there is none."""
    found = NAMED.search(paragraph)
    return found.group(1).lower() if found else ""


def parse_fields(paragraph: str) -> dict[str, str]:
    """The fields of one paragraph, by their names in lower case; raises ValueError for lines that are none.

    As for dpkg, a line feed and nothing else ends a line, and blanks may stand before the colon.
    """
    fields: dict[str, str] = {}
    name = ""
    for line in paragraph.split("\n"):
        if not line.strip(BLANKS):
            continue
        if line[0] in BLANKS:
            if not name:
                raise ValueError(f"a line continues no field: {line[:60]!r}")
            fields[name] += "\n" + line.strip(BLANKS)
            continue
        before, colon, value = line.partition(":")
        name = before.rstrip(BLANKS).lower()
        if not colon or not name or name.startswith("-") or any(blank in name for blank in BLANKS):
            raise ValueError(f"a line is no field: {line[:60]!r}")
        if name in fields:
            raise ValueError(f"the field {before.rstrip(BLANKS)} is there twice")
        fields[name] = value.strip(BLANKS)
    return fields
