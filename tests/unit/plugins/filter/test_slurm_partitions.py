# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the filter slurm_partitions."""

from __future__ import annotations

import typing as t

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.hyperscaler.images.plugins.filter.slurm_partitions import FilterModule, slurm_partitions

NODES = {"slurm_compute": ["n1", "n2"], "big": ["n2"]}


def partitions(text: str) -> list[dict[str, t.Any]]:
    """As Ansible reads them: with YAML 1.1."""
    return slurm_partitions(yaml.safe_load(text), NODES, "slurm_compute")


def test_a_partition_has_all_nodes_and_no_limit() -> None:
    (found,) = partitions("[{name: main}]")
    assert found["line"] == {"PartitionName": "main", "Nodes": "n1,n2", "Default": "NO", "MaxTime": "INFINITE", "State": "UP"}
    assert (found["default"], found["limit"]) == (False, "no limit")


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ('"24:00:00"', "1 day"),
        ('"30:00"', "30 minutes"),
        ('"24:00"', "24 minutes"),
        ('"1-0"', "1 day"),
        ('"2-12:30"', "2 days 12 hours 30 minutes"),
        ("2-00:00:00", "2 days"),
        # Slurm keeps limits in minutes, and rounds up.
        ('"0:30"', "1 minute"),
        ('"90:15"', "1 hour 31 minutes"),
        ('"0:0:59"', "1 minute"),
        ('"100:00:00"', "4 days 4 hours"),
        ('"7-"', "7 days"),
        ('"1-30:90"', "2 days 7 hours 30 minutes"),
        ("59", "59 minutes"),
        ("1-12", "1 day 12 hours"),
        ("-1", "no limit"),
        ('"1440"', "1 day"),
        ("45", "45 minutes"),
        ("infinite", "no limit"),
        ("UNLIMITED", "no limit"),
        ('"-1"', "no limit"),
        ("0:30:00", "30 minutes"),
        ("", "no limit"),
    ],
)
def test_forms_of_time(limit: str, words: str) -> None:
    (found,) = partitions(f"[{{name: main, max_time: {limit}}}]")
    assert found["limit"] == words


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{name: short, max_time: 24:00:00}",
            "the number 86400 is 60 days in minutes, but YAML also makes this number of 24:00:00 without quotes",
        ),
        ("{name: short, max_time: 24:00:00}", 'Write "24:00:00" in quotes for 1 day, or "86400" in quotes for 60 days'),
        ("{name: debug, max_time: 30:00}", 'Write "30:00" in quotes for 30 minutes, or "1800" in quotes'),
        ("{name: a, max_time: 1:00}", 'Write "1:00" in quotes for 1 minute, or "60" in quotes for 1 hour'),
        ("{name: a, max_time: 1:30.5}", "the number 90.5"),
        ("{name: a, max_time: 1:30:00}", 'Write "1:30:00" in quotes for 1 hour 30 minutes, or "5400" in quotes'),
        ("{name: a, max_time: 168:00:00}", 'Write "168:00:00" in quotes for 7 days'),
        ("{name: a, max_time: .inf}", "YAML makes the number inf of what is written. Write INFINITE for no limit"),
        ("{name: a, max_time: .nan}", "YAML makes the number nan of what is written"),
        ("{name: a, max_time: 0100}", "the number 64"),
        ('{name: a, max_time: "1h"}', "'1h' is no length of time"),
        ('{name: a, max_time: "1:00-0"}', "is no length of time"),
        ('{name: a, max_time: "-5"}', "'-5' is no length of time"),
        ("{name: no}", "its name is False"),
        ("{name: 1.10}", "its name is 1.1"),
        ('{name: "a b"}', "'a b' is no name of one"),
        ('{name: "a,b"}', "'a,b' is no name of one"),
        ("{name: a, options: {MaxTime: 48:00:00}}", "MaxTime of the partition a to Slurm: the number 172800"),
        ("{name: a, options: {defaulttime: 12:00:00}}", 'Write "12:00:00" in quotes for 12 hours'),
        ("{name: a, options: {OverTimeLimit: 90}}", 'Write "1:30" in quotes'),
        # Digits of other scripts, which Slurm does not read.
        ('{name: a, max_time: "\uff11\uff12:00:00"}', "is no length of time"),
        ('{name: a, max_time: "2 days"}', "'2 days' is no length of time"),
        ('{name: a, max_time: "1:2:3:4"}', "'1:2:3:4' is no length of time"),
        ("{name: a, max_time: no}", "is no length of time"),
        ("{name: a, default: sometimes}", "its default is 'sometimes'"),
        ("{name: a, options: {TRESBillingWeights: {CPU: 1}}}", "its value is a mapping"),
        ("{name: a, options: [Hidden]}", "is no mapping"),
        ("{name: a, options: {QOS: [on, b]}}", "its member True is no text"),
        ('{name: a, options: {QOS: "a\\nNodes=x"}}', "line break"),
        ("{name: a, options: {on: x}}", "True is no name of a parameter"),
    ],
)
def test_what_yaml_may_have_changed_is_refused(text: str, message: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        partitions(f"[{text}]")
    assert message in str(caught.value)


def test_words_that_yaml_takes_for_booleans() -> None:
    (found,) = partitions("[{name: main, default: yes, options: {PreemptMode: OFF, OverSubscribe: NO, Hidden: YES, exclusiveuser: on}}]")
    assert found["line"].items() >= {"Default": "YES", "PreemptMode": "OFF", "OverSubscribe": "NO", "Hidden": "YES", "exclusiveuser": "YES"}.items()
    assert found["default"]


def test_options_win_whatever_their_case() -> None:
    (found,) = partitions(
        '[{name: main, group: big, default: "no", max_time: "10", options: {state: DRAIN, MAXTIME: "1-0", AllowAccounts: [a, b], Default: null}}]'
    )
    assert found["line"] == {"PartitionName": "main", "Nodes": "n2", "MaxTime": "1-0", "State": "DRAIN", "AllowAccounts": "a,b"}
    assert found["limit"] == "1 day"


def test_the_filter_has_its_name() -> None:
    assert FilterModule().filters() == {"slurm_partitions": slurm_partitions}
