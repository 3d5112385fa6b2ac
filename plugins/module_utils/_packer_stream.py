# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Read the machine-readable output of Packer: lines of ``epoch,target,type,data…``.

Packer writes a comma inside data as ``%!(PACKER_COMMA)``, a line feed as ``\\n`` and a carriage return as ``\\r``. It does not escape
the backslash, so a text that had ``\\n`` as two characters cannot be told from one that had a line feed.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

COMMA = "%!(PACKER_COMMA)"

_PREFIX = re.compile(r"^(?:\d{4}-\d\d-\d\dT\S+: )?(?:==> |--> |    )(?P<build>[^\s:]+):(?: (?P<text>.*))?$")
_ANY_ARROW = re.compile(r"^(?:\d{4}-\d\d-\d\dT\S+: )?(?:==> |--> )")
# What Packer says when a stage begins; the same words from 1.6.6 to 1.16.0.
STAGES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("download", re.compile(r"^Retrieving (?:ISO|.* ISO)")),
    ("seed", re.compile(r"^Creating CD disk")),
    ("disk", re.compile(r"^(?:Copying hard drive|Creating hard drive|Resizing hard drive)")),
    ("start", re.compile(r"^Starting VM")),
    ("boot", re.compile(r"^Waiting for (?:SSH|WinRM) to become available")),
    ("provision", re.compile(r"^(?:Connected to SSH|Provisioning with)")),
    ("shutdown", re.compile(r"^(?:Gracefully halting virtual machine|Halting the virtual machine)")),
    ("convert", re.compile(r"^Converting hard drive")),
    ("clean up", re.compile(r"^(?:Deleting output directory|Provisioning step had errors|Cleanly cancelled)")),
)


@dataclasses.dataclass(frozen=True)
class Message:
    """One line of the stream. ``time`` is in seconds since 1970; a line that is not Packer's has the type ``stray`` and one datum."""

    time: int
    target: str
    type: str
    data: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class UiLine:
    """One line for people: ``level`` is say, message, error or stray; ``build`` is empty when it is about none."""

    time: int
    level: str
    build: str
    text: str


@dataclasses.dataclass
class Artifact:
    """One result of a build; ``id`` and ``description`` are Packer's, ``files`` are paths."""

    build: str
    builder_id: str = ""
    id: str = ""
    description: str = ""
    files: list[str] = dataclasses.field(default_factory=list)

    def to_dict(self) -> dict[str, t.Any]:
        """The artifact as plain data."""
        return dataclasses.asdict(self)


@dataclasses.dataclass
class Report:
    """Everything that a run of Packer said."""

    lines: list[UiLine] = dataclasses.field(default_factory=list)
    artifacts: list[Artifact] = dataclasses.field(default_factory=list)
    artifact_counts: dict[str, int] = dataclasses.field(default_factory=dict)
    errors: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    error_count: int = 0
    values: dict[str, str] = dataclasses.field(default_factory=dict)
    stages: list[tuple[str, int]] = dataclasses.field(default_factory=list)

    @property
    def diagnostics(self) -> list[str]:
        """The errors in a template, each with the place and the explanation."""
        return [block for line in self._blocks("error") for block in _split_diagnostics(line) if block.startswith("Error: ")]

    @property
    def warnings(self) -> list[str]:
        """The warnings on a template."""
        found = [block for level in ("say", "error") for line in self._blocks(level) for block in _split_diagnostics(line) if block.startswith("Warning: ")]
        return list(dict.fromkeys(found))

    @property
    def stage(self) -> str:
        """The stage that is under way."""
        return self.stages[-1][0] if self.stages else "prepare"

    def seconds(self, end: int) -> dict[str, int]:
        """How long each stage took; ``end`` is the time at which the last one ended. A stage that came twice counts twice."""
        spent: dict[str, int] = {}
        for (name, begun), (_next, ended) in zip(self.stages, [*self.stages[1:], ("", end)]):
            spent[name] = spent.get(name, 0) + max(0, ended - begun)
        return spent

    def text(self) -> str:
        """All lines for people, one below the other."""
        return "\n".join(line.text for line in self.lines)

    def _blocks(self, level: str) -> list[str]:
        """Messages that are about no build: consecutive lines of the same level and second belong together."""
        blocks: list[list[UiLine]] = []
        for line in self.lines:
            if line.level != level or line.build:
                blocks.append([])
            elif blocks and blocks[-1] and blocks[-1][-1].time == line.time:
                blocks[-1].append(line)
            else:
                blocks.append([line])
        return ["\n".join(line.text for line in block).strip() for block in blocks if block]


class Parser:
    """Turns lines of the stream into a report, one at a time."""

    def __init__(self) -> None:
        self.report = Report()
        self._open: dict[tuple[str, str], Artifact] = {}

    def feed(self, line: str) -> list[UiLine]:
        """Take in one line; return what is in it for people."""
        message = parse_line(line)
        if message.type in ("ui", "stray"):
            return self._ui(message)
        if message.type == "artifact":
            self._artifact(message)
        elif message.type == "artifact-count":
            self.report.artifact_counts[message.target] = _number(message.data)
        elif message.type == "error":
            self.report.errors.append((message.target, ",".join(message.data)))
        elif message.type == "error-count":
            self.report.error_count = _number(message.data)
        else:
            self.report.values[message.type] = ",".join(message.data)
        return []

    def _ui(self, message: Message) -> list[UiLine]:
        level, texts = ("stray", message.data) if message.type == "stray" else (message.data[0] if message.data else "say", message.data[1:])
        shown = [_ui_line(message.time, level, line) for line in ",".join(texts).splitlines() or [""]]
        for line in shown:
            name = stage_of(line)
            if name and name != self.report.stage:
                self.report.stages.append((name, line.time))
        self.report.lines.extend(shown)
        return shown

    def _artifact(self, message: Message) -> None:
        number, what, *values = (*message.data, "", "")
        key = (message.target, number)
        if what == "nil":
            return
        artifact = self._open.get(key)
        if artifact is None:
            artifact = self._open[key] = Artifact(message.target)
            self.report.artifacts.append(artifact)
        if what == "builder-id":
            artifact.builder_id = values[0]
        elif what == "id":
            artifact.id = values[0]
        elif what == "string":
            artifact.description = values[0]
        elif what == "file":
            artifact.files.append(values[1])
        elif what == "end":
            del self._open[key]


def parse(text: str) -> Report:
    """The report of a whole stream."""
    parser = Parser()
    for line in text.splitlines():
        parser.feed(line)
    return parser.report


def parse_line(line: str) -> Message:
    """One line of the stream; what is not one becomes a message of the type ``stray``."""
    fields = line.rstrip("\r\n").split(",")
    if not fields[0].isdigit() or len(fields) < 3:
        return Message(0, "", "stray", (line.rstrip("\r\n"),))
    return Message(int(fields[0]), unescape(fields[1]), fields[2], tuple(unescape(field) for field in fields[3:]))


def stage_of(line: UiLine) -> str:
    """The stage that begins with a line; empty when none does."""
    return next((stage for stage, words in STAGES if line.build and words.search(line.text)), "")


def unescape(text: str) -> str:
    """A datum as Packer meant it."""
    return text.replace(COMMA, ",").replace("\\n", "\n").replace("\\r", "\r")


def _ui_line(time: int, level: str, text: str) -> UiLine:
    found = _PREFIX.match(text)
    if found is not None:
        return UiLine(time, level, found["build"], found["text"] or "")
    return UiLine(time, level, "", _ANY_ARROW.sub("", text).rstrip())


def _split_diagnostics(text: str) -> list[str]:
    """Packer joins all warnings and errors into one text."""
    return [block.strip() for block in re.split(r"(?m)^(?=(?:Warning|Error): )", text) if block.strip()]


def _number(data: t.Sequence[str]) -> int:
    return int(data[0]) if data and data[0].isdigit() else 0
