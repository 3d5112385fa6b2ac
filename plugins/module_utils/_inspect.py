# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""What an inspection of an image is made of: rules, findings, waivers, groups, and the sentence that sums them up."""

from __future__ import annotations

import dataclasses
import enum
import fnmatch
import functools
import glob
import json
import time
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._fstab import Volume
from ansible_collections.hyperscaler.images.plugins.module_utils._image_programs import Ask
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_answers import Answers, ask
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_dpkg import PackageDatabase
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_grub import GrubConfig, load_grub
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree

NAMED_FINDINGS = 3


class Severity(enum.Enum):
    """How bad a finding is, the worst first."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that a rule found at one path of the image (or at the disk itself)."""

    rule: str
    severity: Severity
    path: str
    message: str
    remedy: str

    def as_result(self) -> dict[str, str]:
        """The finding as a module returns it."""
        return {
            "rule": self.rule,
            "severity": self.severity.value,
            "path": self.path,
            "message": self.message,
            "remedy": self.remedy,
            "allow": self.allow,
        }

    @property
    def allow(self) -> str:
        """The entry of ``image_inspect_allowed`` that accepts this finding alone, without its reason, in YAML."""
        return f"{{rule: {self.rule}, path: {json.dumps(glob.escape(self.path), ensure_ascii=False)}, reason: …}}"

    def __str__(self) -> str:
        return f"{self.path}: {self.message} {self.remedy} To allow it for this image: {self.allow}."


@dataclasses.dataclass(frozen=True)
class Rule:
    """A rule that an image must keep; ``remedy`` is what to do about its findings."""

    id: str
    severity: Severity
    remedy: str

    def at(self, path: str, message: str, remedy: str = "") -> Finding:
        """A finding of this rule; ``message`` is a sentence whose subject is the path."""
        return Finding(self.id, self.severity, path, message, remedy or self.remedy)


def error(rule_id: str, remedy: str) -> Rule:
    """A rule that no published image may break."""
    return Rule(rule_id, Severity.ERROR, remedy)


def warning(rule_id: str, remedy: str) -> Rule:
    """A rule whose findings deserve a look."""
    return Rule(rule_id, Severity.WARNING, remedy)


def info(rule_id: str, remedy: str = "Nothing has to be done.") -> Rule:
    """A rule whose findings are worth knowing."""
    return Rule(rule_id, Severity.INFO, remedy)


@dataclasses.dataclass(frozen=True)
class Waiver:
    """A finding that the user accepts, with the reason; ``path`` is a shell pattern."""

    rule: str
    path: str
    reason: str

    def covers(self, finding: Finding) -> bool:
        """Whether the waiver accepts a finding."""
        return finding.rule == self.rule and fnmatch.fnmatchcase(finding.path, self.path)


@dataclasses.dataclass(frozen=True)
class Expectations:
    """What the user says about the image that is inspected."""

    kernel_modules: tuple[str, ...] = ()
    forbidden_hosts: tuple[str, ...] = ()
    archive_domains: tuple[str, ...] = ()
    require_record: bool = False
    session_settings: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Subject:
    """A mounted image: its files, its partitions, what is expected of it, and where its file systems are mounted.

    ``asking`` runs programs of the image.
    """

    tree: Tree
    volumes: tuple[Volume, ...] = ()
    root: Volume | None = None
    expectations: Expectations = Expectations()
    mount_points: frozenset[str] = frozenset()
    asking: Ask | None = None

    @functools.cached_property
    def answers(self) -> Answers:
        """What programs of the image say of their configuration; nothing where none can be asked."""
        return ask(self.tree, self.packages, self.asking) if self.asking else Answers()

    @functools.cached_property
    def packages(self) -> PackageDatabase:
        """The installed packages."""
        return PackageDatabase(self.tree)

    @functools.cached_property
    def grub(self) -> GrubConfig | None:
        """The configuration of the boot loader, or None when there is none."""
        return load_grub(self.tree)

    @functools.cached_property
    def kernel_arguments(self) -> tuple[str, ...]:
        """The arguments that the kernel is started with by default; those of every entry where another loader than GRUB starts it."""
        if self.grub:
            return self.grub.default.arguments if self.grub.default else ()
        lines = [self.tree.text(entry.path) for entry in self.tree.glob("/boot/loader/entries/*.conf", "/boot/efi/loader/entries/*.conf")]
        options = [line.split(None, 1)[1] for text in lines for line in text.splitlines() if line.split(None, 1)[:1] == ["options"] and " " in line.strip()]
        return tuple(dict.fromkeys(word for line in (*options, self.tree.text("/etc/kernel/cmdline")) for word in line.split()))


Check = t.Callable[[Subject], t.Iterable[Finding]]


@dataclasses.dataclass(frozen=True)
class Group:
    """Rules that are checked together; ``check`` yields their findings."""

    name: str
    rules: tuple[Rule, ...]
    check: Check


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The findings that count, and those that waivers accept with the reason for each."""

    findings: tuple[Finding, ...]
    waived: tuple[tuple[Finding, str], ...]

    def count(self, severity: Severity) -> int:
        """The number of findings of a severity."""
        return sum(1 for finding in self.findings if finding.severity is severity)


UNUSED_WAIVER = warning("waiver.unused", "Remove it from allowed, so that it does not hide a later finding.")


def run_groups(groups: t.Iterable[Group], subject: Subject) -> tuple[list[Finding], dict[str, float]]:
    """All findings of the groups, and the seconds that each group took."""
    findings: list[Finding] = []
    seconds: dict[str, float] = {}
    for group in groups:
        started = time.monotonic()
        findings.extend(dict.fromkeys(group.check(subject)))
        seconds[group.name] = round(time.monotonic() - started, 3)
    return findings, seconds


def require_known(waivers: t.Iterable[Waiver], known: t.Collection[str]) -> None:
    """Raise ImageError when a waiver cannot be meant as it is written."""
    for waiver in waivers:
        if waiver.rule not in known:
            near = ", ".join(sorted(name for name in known if name.split(".")[0] == waiver.rule.split(".")[0])) or ", ".join(sorted(known))
            raise ImageError(f"Cannot allow {waiver.rule} at {waiver.path}: there is no such rule. Choose one of: {near}.", rule=waiver.rule)
        if not waiver.reason.strip():
            raise ImageError(f"Cannot allow {waiver.rule} at {waiver.path}: the reason is empty. Say why the image may be published with it.", rule=waiver.rule)


def judge(findings: t.Iterable[Finding], waivers: t.Sequence[Waiver]) -> Verdict:
    """Set the findings that are allowed apart, and report waivers that accepted nothing."""
    kept: list[Finding] = []
    waived: list[tuple[Finding, str]] = []
    used: set[Waiver] = set()
    for finding in findings:
        accepting = [waiver for waiver in waivers if waiver.covers(finding)]
        used.update(accepting)
        if accepting:
            waived.append((finding, accepting[0].reason))
        else:
            kept.append(finding)
    kept.extend(
        UNUSED_WAIVER.at(waiver.path, f"has no finding of {waiver.rule}, which is allowed there ({waiver.reason}).") for waiver in waivers if waiver not in used
    )
    order = list(Severity)
    kept.sort(key=lambda finding: order.index(finding.severity))
    return Verdict(tuple(kept), tuple(waived))


def failing(verdict: Verdict, fail_on: str) -> tuple[Finding, ...]:
    """The findings that make an inspection fail: ``fail_on`` is error, warning or never."""
    wanted = {"error": {Severity.ERROR}, "warning": {Severity.ERROR, Severity.WARNING}, "never": set()}[fail_on]
    return tuple(finding for finding in verdict.findings if finding.severity in wanted)


def summary(path: str, verdict: Verdict) -> str:
    """One sentence on the whole inspection."""
    counts = ", ".join(
        f"{verdict.count(severity)} {severity.value}{'s' if verdict.count(severity) != 1 and severity is not Severity.INFO else ''}" for severity in Severity
    )
    allowed = f", {len(verdict.waived)} allowed" if verdict.waived else ""
    return f"{path} was inspected: {counts}{allowed}."


def failure(path: str, verdict: Verdict, bad: t.Sequence[Finding]) -> str:
    """The message of a failed inspection: the first findings with file and remedy, and how many there are in all."""
    named = " ".join(f"({number}) {finding}" for number, finding in enumerate(bad[:NAMED_FINDINGS], 1))
    more = f" And {len(bad) - NAMED_FINDINGS} more in the returned findings." if len(bad) > NAMED_FINDINGS else ""
    what = "problem" if len(bad) == 1 else "problems"
    return (
        f"Cannot pass {path}: {len(bad)} {what} must be solved or allowed first. {named}{more} "
        f"Entries that allow a finding, with a reason, belong in image_inspect_allowed (option allowed of image_inspect). {summary(path, verdict)}"
    )
