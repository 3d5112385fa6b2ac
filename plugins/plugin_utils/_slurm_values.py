# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this plugin util is private to the hyperscaler.images collection.
"""Write what a YAML file says in the words of Slurm's configuration files, and refuse what YAML may have changed on the way."""

from __future__ import annotations

import math
import re
import typing as t
from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# Parameters that slurm.conf(5) measures in minutes, or in one of the forms below.
MINUTES = frozenset({"maxtime", "defaulttime", "overtimelimit", "prioritydecayhalflife", "prioritymaxage", "prioritycalcperiod", "preemptexempttime"}) | {
    "resvoverrun"
}
ENDLESS = ("UNLIMITED", "INFINITE", "NONE", "-1")
# slurm.conf(5), MaxTime: minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes, days-hours:minutes:seconds.
WITH_DAYS = re.compile(r"(?P<days>\d+)-(?:(?P<hours>\d+)(?::(?P<minutes>\d+)(?::(?P<seconds>\d+))?)?)?", re.ASCII)
WITHOUT_DAYS = re.compile(r"(?:(?P<hours>\d+):(?=\d+:))?(?P<minutes>\d+)(?::(?P<seconds>\d+))?", re.ASCII)
FORMS = '"minutes", "minutes:seconds", "hours:minutes:seconds", "days-hours", "days-hours:minutes" or "days-hours:minutes:seconds", or INFINITE'
# YAML 1.1 reads 1:00 as the number 60, and no such number is smaller.
SMALLEST_SEXAGESIMAL = 60
UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
# Lines that a file may have several times: slurm.conf(5).
REPEATED = frozenset({"downnodes", "nodeset", "include", "nodename", "partitionname"})
# Parameters of which a list is a line for each member, because Slurm does not part their values at commas.
LINES = frozenset({"slurmctldhost", "prolog", "epilog", "prologslurmctld", "epilogslurmctld"})
# Of the words that YAML takes for false, the one that slurm.conf(5) has for a parameter; all others have NO.
OFF = frozenset({"preemptmode", "autodetect"})


def refuse(what: str, why: str, remedy: str) -> t.NoReturn:
    """Raise AnsibleFilterError with one sentence on what is wrong and one on what to do."""
    raise AnsibleFilterError(f"Cannot describe {what} to Slurm: {why}. {remedy}.")


def seconds_of(value: t.Any, what: str) -> int | None:
    """How long a limit in a form of slurm.conf is, in seconds, and None for no limit; raises AnsibleFilterError for anything else."""
    if isinstance(value, float) and not math.isfinite(value):
        refuse(what, f"YAML makes the number {value} of what is written", "Write INFINITE for no limit")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if isinstance(value, float) or value >= SMALLEST_SEXAGESIMAL:
            _refuse_number(value, what)
        value = str(value)
    text = str(value).strip()
    if text.upper() in ENDLESS:
        return None
    found = WITH_DAYS.fullmatch(text) or WITHOUT_DAYS.fullmatch(text)
    if not found:
        refuse(what, f"{text!r} is no length of time", f"Write {FORMS}, in quotes")
    parts = {unit: int(number or 0) for unit, number in found.groupdict().items()}
    return sum(parts.get(f"{unit}s", 0) * seconds for unit, seconds in UNITS)


def _refuse_number(value: float, what: str) -> t.NoReturn:
    whole = int(value)
    clock = f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"
    refuse(
        what,
        f"the number {value} is {duration(whole * 60)} in minutes, but YAML also makes this number of {clock} without quotes, which is {duration(whole)}",
        f'Write "{clock}" in quotes for {duration(whole)}, or "{whole}" in quotes for {duration(whole * 60)}',
    )


def duration(seconds: int | None) -> str:
    """A length of time in words."""
    if seconds is None:
        return "no limit"
    words = []
    for unit, length in UNITS:
        count, seconds = divmod(seconds, length)
        if count:
            words.append(f"{count} {unit}{'s' if count > 1 else ''}")
    return " ".join(words) or "0 minutes"


def name_of(value: t.Any, what: str) -> str:
    """A name as text; raises AnsibleFilterError for one that YAML made something else."""
    if isinstance(value, (bool, float)):
        refuse(what, f"its name is {value!r}, and YAML makes such a value of words like on, off, yes and no and of numbers with a point", "Write it in quotes")
    return str(value)


def words_of(value: t.Any, what: str) -> list[str]:
    """The members of a list, which may be text with commas."""
    if value is None:
        return []
    if isinstance(value, (str, int, float)):
        members: t.Iterable[t.Any] = str(value).split(",") if not isinstance(value, bool) else [value]
    elif isinstance(value, (list, tuple)):
        members = value
    else:
        refuse(what, f"{value!r} is no list", "Write a list, or text with commas")
    for member in members:
        if isinstance(member, bool) or member is None or isinstance(member, (Mapping, list, tuple)):
            refuse(what, f"its member {member!r} is no text, and YAML makes such a value of words like on, off, yes and no", "Write each member in quotes")
    return [word for word in (str(member).strip() for member in members) if word]


def text_of(key: str, value: t.Any, what: str) -> str:
    """The value of a parameter as text; raises AnsibleFilterError for what cannot be one."""
    named = f"{key} of {what}"
    if key.lower() in MINUTES:
        seconds_of(value, named)
    if isinstance(value, bool):
        return "YES" if value else "OFF" if key.lower() in OFF else "NO"
    if isinstance(value, (list, tuple)):
        return ",".join(words_of(value, named))
    if isinstance(value, Mapping):
        refuse(named, "its value is a mapping, and parameters of Slurm are text, numbers or lists", "Write it as it stands in the file, in quotes")
    text = str(value).strip()
    if not text.isprintable():
        refuse(named, "its value has a line break or another control character", "Write it on one line")
    return re.sub(r"(?<!\\)#", r"\\#", text)


def quoted(key: str, text: str, what: str) -> str:
    """A value on a line that has several: in quotes when it has blanks."""
    if not re.search(r"\s", text) or re.fullmatch(r'"[^"]*"', text):
        return text
    if '"' in text:
        refuse(f"{key} of {what}", f"its value {text} has blanks and quotes", "Leave out one of them")
    return f'"{text}"'


def _mapping_of(options: t.Any, what: str) -> Mapping[t.Any, t.Any]:
    """The options of a user, none when nothing is given; raises AnsibleFilterError for anything but a mapping."""
    given = options or {}
    if not isinstance(given, Mapping):
        refuse(what, f"{options!r} is no mapping", "Write parameters and their values, as in {Weight: 10}")
    return given


def repeated(options: t.Any, what: str) -> tuple[list[str], dict[t.Any, t.Any]]:
    """The lines of options that slurm.conf(5) has several times, and the other options. Null stands for those that take the place of the role's."""
    lines: list[str] = []
    rest: dict[t.Any, t.Any] = {}
    for key, value in _mapping_of(options, what).items():
        if str(key).lower() in LINES and isinstance(value, (list, tuple)):
            rest[key] = None
        elif str(key).lower() not in REPEATED:
            rest[key] = value
            continue
        members = value if isinstance(value, (list, tuple)) else [value]
        lines += [f"{key}={text_of(key, member, what)}" for member in members if member is not None]
    return lines, rest


def merge(ours: Mapping[str, t.Any], options: t.Any, what: str, kept: t.Collection[str] = (), aliases: Mapping[str, str] | None = None) -> dict[str, str]:
    """Parameters of the role with those of a user, each one once; Slurm does not tell upper from lower case in their names.

    Those of the user win, and one whose value is null is left out. Of the lists named in ``kept``, the role's members stay.
    """
    found = {key: text_of(key, value, what) for key, value in ours.items()}
    spelling = {key.lower(): key for key in ours}
    for given, value in _mapping_of(options, what).items():
        # YAML reads some names as something else than text, too.
        if not isinstance(given, str) or not NAME.fullmatch(given):
            refuse(what, f"{given!r} is no name of a parameter", "Write the name as in slurm.conf(5)")
        lower = (aliases or {}).get(given.lower(), given.lower())
        key = spelling.setdefault(lower, given)
        if value is None:
            if key not in kept:
                found.pop(key, None)
            continue
        text = text_of(key, value, what)
        found[key] = _together(found.get(key, ""), text) if key in kept else text
    return {key: text for key, text in found.items() if text}


def _together(ours: str, theirs: str) -> str:
    """Both lists as one. Of a member with a value, such as jwt_key=, theirs wins."""
    given = [word.strip() for word in theirs.split(",") if word.strip()]
    names = {word.partition("=")[0].lower() for word in given}
    return ",".join([*(word for word in ours.split(",") if word and word.partition("=")[0].lower() not in names), *given])
