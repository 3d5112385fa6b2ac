# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Compare two images by their snapshots, and tell what differs and is not allowed to."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._initramfs import InitramfsError, listing
from ansible_collections.hyperscaler.images.plugins.module_utils._snapshot import Normalize, Snapshot

SECTIONS = ("packages", "units", "users", "groups", "files")
SHOWN = 40


@dataclasses.dataclass(frozen=True)
class Allowance:
    """A difference that may be: ``path`` is a shell pattern over names of a section, and the reason is told in every report."""

    path: str
    reason: str
    section: str = "files"


@dataclasses.dataclass(frozen=True)
class Difference:
    """One fact that differs; what is missing in an image has the value ``None``."""

    section: str
    name: str
    fact: str
    first: str | None
    second: str | None

    def sentence(self) -> str:
        """The difference in words."""
        if self.fact == "presence":
            return f"{self.section}: {self.name} is only in the {'second' if self.first is None else 'first'} image"
        return f"{self.section}: {self.name}: {self.fact} is {_short(self.first)} in the first image and {_short(self.second)} in the second"

    def to_dict(self) -> dict[str, t.Any]:
        """The difference as plain data."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What was found: the differences that may not be, those that may with their reason, and how many names there are of each section."""

    differences: tuple[Difference, ...]
    allowed: tuple[tuple[Difference, str], ...]
    counts: dict[str, tuple[int, int]]

    @property
    def equal(self) -> bool:
        """Whether nothing differs that may not."""
        return not self.differences


# The shortest list that is true of two builds of the same inputs, on one day or on two.
ALLOWED: tuple[Allowance, ...] = (Allowance("/etc/hyperscaler-image.json", "names the digest of the inputs, and the backend is an input"),)


def _without_days(data: bytes) -> bytes:
    """shadow(5) without the day of the last change of each password."""
    rows = [line.split(b":") for line in data.splitlines()]
    return b"\n".join(b":".join(value for column, value in enumerate(row) if column != 2) for row in rows)


def _sorted_stanzas(data: bytes) -> bytes:
    """The status of dpkg, the packages in the order of their names: dpkg writes them in the order of its memory."""
    return b"\n\n".join(sorted(data.strip().split(b"\n\n")))


def _without_comments(data: bytes) -> bytes:
    return b"\n".join(line for line in data.splitlines() if not line.startswith(b"#"))


def _members(data: bytes) -> bytes:
    """What is in an initramfs, without the times of its files; another file of that name counts as it is."""
    try:
        return listing(data)
    except InitramfsError:
        return data


NORMALIZE: dict[str, Normalize] = {
    r"/etc/shadow": _without_days,
    r"/var/lib/dpkg/status": _sorted_stanzas,
    r"/var/lib/apt/extended_states": _sorted_stanzas,
    r"/boot/grub/grub\.cfg": _without_comments,
    r"/boot/initrd\.img-.*": _members,
}


def compare(first: Snapshot, second: Snapshot, allowed: t.Sequence[Allowance]) -> Comparison:
    """All differences of two snapshots, in the order of the sections and names."""
    _require_known(allowed)
    found: list[Difference] = []
    for section in SECTIONS:
        found += _differences(section, getattr(first, section), getattr(second, section))
    judged = [(difference, _reason(difference, allowed)) for difference in found]
    return Comparison(
        differences=tuple(difference for difference, reason in judged if reason is None),
        allowed=tuple((difference, reason) for difference, reason in judged if reason is not None),
        counts={section: (len(getattr(first, section)), len(getattr(second, section))) for section in SECTIONS},
    )


def _require_known(allowed: t.Sequence[Allowance]) -> None:
    for entry in allowed:
        if entry.section not in SECTIONS:
            raise ImageError(f"Cannot allow {entry.path} in the section {entry.section}: there is none. The sections are {', '.join(SECTIONS)}.")
        if not entry.reason.strip():
            raise ImageError(f"Cannot allow {entry.path} to differ: it has no reason. Write down why it may.")


def _differences(section: str, first: t.Mapping[str, dict[str, str]], second: t.Mapping[str, dict[str, str]]) -> t.Iterator[Difference]:
    for name in sorted({*first, *second}):
        one, two = first.get(name), second.get(name)
        if one is None or two is None:
            yield Difference(section, name, "presence", None if one is None else "yes", None if two is None else "yes")
            continue
        for fact in sorted({*one, *two}):
            if one.get(fact) != two.get(fact):
                yield Difference(section, name, fact, one.get(fact), two.get(fact))


def _reason(difference: Difference, allowed: t.Sequence[Allowance]) -> str | None:
    return next((entry.reason for entry in allowed if entry.section == difference.section and fnmatch.fnmatchcase(difference.name, entry.path)), None)


def verdict(first: str, second: str, comparison: Comparison) -> str:
    """The result in words; with what differs when something does."""
    files = comparison.counts["files"]
    if comparison.equal:
        names = ", ".join(f"{comparison.counts[section][0]} {section}" for section in SECTIONS)
        return f"{first} and {second} are equal: {names}; {len(comparison.allowed)} allowed differences."
    lines = [f"  {difference.sentence()}" for difference in comparison.differences[:SHOWN]]
    more = len(comparison.differences) - SHOWN
    lines += [f"  and {more} more"] if more > 0 else []
    head = f"{first} ({files[0]} files) and {second} ({files[1]} files) differ in {len(comparison.differences)} places:"
    return "\n".join([head, *lines, "Remove the cause, or name what may differ in allowed, with a reason."])


def report(first: str, second: str, comparison: Comparison) -> str:
    """The result as a page in Markdown."""
    rows = [f"| {section} | {comparison.counts[section][0]} | {comparison.counts[section][1]} |" for section in SECTIONS]
    parts = [
        "# Comparison of two images",
        f"First: `{first}`. Second: `{second}`.",
        "\n".join(["| what | first | second |", "| --- | --- | --- |", *rows]),
        "**Equal.**" if comparison.equal else f"**{len(comparison.differences)} differences that are not allowed:**",
        "\n".join(f"- {_code(difference.sentence())}" for difference in comparison.differences),
        "## Allowed differences" if comparison.allowed else "There are no allowed differences.",
        "\n".join(f"- {_code(difference.sentence())}: {reason}" for difference, reason in comparison.allowed),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _code(text: str) -> str:
    return f"`{re.sub(r'`', chr(39), text)}`"


def _short(value: str | None) -> str:
    text = "missing" if value is None else value or "empty"
    return text if len(text) <= 40 else f"{text[:39]}…"
