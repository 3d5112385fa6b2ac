# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings, waivers and the sentences on them."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.hyperscaler.images.plugins.module_utils import _inspect as inspect
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect import Finding, Group, Severity, Subject, Waiver
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree

HOSTNAME = inspect.error("identity.hostname", "Truncate it.")
LOG = inspect.warning("log.content", "Remove it.")
SETUID = inspect.info("permission.setuid")
FINDINGS = [SETUID.at("/usr/bin/su", "is setuid."), LOG.at("/var/log/a/b.log", "is a log."), HOSTNAME.at("/etc/hostname", "names 'x'.")]


def test_a_finding_reads_as_a_sentence_with_its_remedy() -> None:
    assert (
        str(FINDINGS[2]) == "/etc/hostname: names 'x'. Truncate it. To allow it for this image: {rule: identity.hostname, path: \"/etc/hostname\", reason: …}."
    )


def test_a_finding_as_a_result() -> None:
    assert FINDINGS[1].as_result() == {
        "rule": "log.content",
        "severity": "warning",
        "path": "/var/log/a/b.log",
        "message": "is a log.",
        "remedy": "Remove it.",
        "allow": '{rule: log.content, path: "/var/log/a/b.log", reason: …}',
    }


def test_a_remedy_can_be_more_precise_than_that_of_the_rule() -> None:
    assert HOSTNAME.at("/a", "b.", "Do that.").remedy == "Do that."


def test_findings_are_sorted_by_severity() -> None:
    assert [finding.severity for finding in inspect.judge(FINDINGS, []).findings] == [Severity.ERROR, Severity.WARNING, Severity.INFO]


def test_waivers_set_findings_apart_with_their_reason() -> None:
    verdict = inspect.judge(FINDINGS, [Waiver("log.content", "/var/log/*.log", "wanted")])
    assert verdict.waived == ((FINDINGS[1], "wanted"),)
    assert [finding.rule for finding in verdict.findings] == ["identity.hostname", "permission.setuid"]


@pytest.mark.parametrize("waiver", [Waiver("log.content", "/var/log", "x"), Waiver("identity.hosts", "*", "x")])
def test_a_waiver_that_accepts_nothing_is_reported(waiver: Waiver) -> None:
    verdict = inspect.judge(FINDINGS, [waiver])
    assert verdict.waived == ()
    unused = [finding for finding in verdict.findings if finding.rule == "waiver.unused"]
    assert [finding.message for finding in unused] == [f"has no finding of {waiver.rule}, which is allowed there (x)."]


def test_two_waivers_of_one_finding_are_both_used() -> None:
    verdict = inspect.judge(FINDINGS, [Waiver("log.content", "*", "first"), Waiver("log.content", "/var/*", "second")])
    assert [reason for _finding, reason in verdict.waived] == ["first"]
    assert "waiver.unused" not in {finding.rule for finding in verdict.findings}


def test_unknown_rules_are_refused_with_similar_ones() -> None:
    with pytest.raises(ImageError) as caught:
        inspect.require_known([Waiver("identity.host", "/etc/hostname", "x")], ["identity.hostname", "identity.hosts", "log.content"])
    assert str(caught.value) == "Cannot allow identity.host at /etc/hostname: there is no such rule. Choose one of: identity.hostname, identity.hosts."


def test_unknown_groups_are_refused_with_all_rules() -> None:
    with pytest.raises(ImageError, match=r"Choose one of: identity.hostname, log.content\.$"):
        inspect.require_known([Waiver("nothing", "*", "x")], ["log.content", "identity.hostname"])


def test_a_waiver_needs_a_reason() -> None:
    with pytest.raises(ImageError) as caught:
        inspect.require_known([Waiver("log.content", "*", "  ")], ["log.content"])
    assert str(caught.value) == "Cannot allow log.content at *: the reason is empty. Say why the image may be published with it."


@pytest.mark.parametrize(("fail_on", "rules"), [("error", ["identity.hostname"]), ("warning", ["identity.hostname", "log.content"]), ("never", [])])
def test_what_makes_an_inspection_fail(fail_on: str, rules: list[str]) -> None:
    assert [finding.rule for finding in inspect.failing(inspect.judge(FINDINGS, []), fail_on)] == rules


def test_the_summary_counts() -> None:
    verdict = inspect.judge([*FINDINGS, *FINDINGS[1:]], [Waiver("identity.hostname", "*", "x")])
    assert inspect.summary("/a.raw", verdict) == "/a.raw was inspected: 0 errors, 2 warnings, 1 info, 2 allowed."


def test_the_failure_names_the_first_findings_and_counts_the_rest() -> None:
    bad = [HOSTNAME.at(f"/etc/{number}", "is bad.") for number in range(5)]
    verdict = inspect.judge(bad, [])
    assert inspect.failure("/a.raw", verdict, bad) == (
        "Cannot pass /a.raw: 5 problems must be solved or allowed first. "
        '(1) /etc/0: is bad. Truncate it. To allow it for this image: {rule: identity.hostname, path: "/etc/0", reason: …}. '
        '(2) /etc/1: is bad. Truncate it. To allow it for this image: {rule: identity.hostname, path: "/etc/1", reason: …}. '
        '(3) /etc/2: is bad. Truncate it. To allow it for this image: {rule: identity.hostname, path: "/etc/2", reason: …}. '
        "And 2 more in the returned findings. "
        "Entries that allow a finding, with a reason, belong in image_inspect_allowed (option allowed of image_inspect). "
        "/a.raw was inspected: 5 errors, 0 warnings, 0 info."
    )


def test_the_failure_of_one_finding() -> None:
    bad = FINDINGS[2:]
    assert inspect.failure("/a.raw", inspect.judge(bad, []), bad).startswith(
        "Cannot pass /a.raw: 1 problem must be solved or allowed first. (1) /etc/hostname: names 'x'."
    )


def test_the_entry_that_allows_a_finding_covers_it_and_nothing_else() -> None:
    finding = HOSTNAME.at("/etc/a [b]*.conf", "is bad.")
    entry = yaml_load(finding.allow)
    waiver = Waiver(**entry)
    assert waiver.covers(finding)
    assert not waiver.covers(HOSTNAME.at("/etc/a b.conf", "is bad."))
    assert finding.allow in str(finding)


def test_groups_are_timed_and_repeated_findings_are_one(tmp_path: Path) -> None:
    def check(_subject: Subject) -> list[Finding]:
        return [FINDINGS[0], FINDINGS[0], FINDINGS[1]]

    findings, seconds = inspect.run_groups([Group("one", (SETUID,), check)], Subject(Tree(tmp_path)))
    assert findings == FINDINGS[:2]
    assert set(seconds) == {"one"}
    assert 0 <= seconds["one"] < 1
