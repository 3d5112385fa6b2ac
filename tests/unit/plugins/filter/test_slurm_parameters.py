# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the filter slurm_parameters."""

from __future__ import annotations

import typing as t

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.hyperscaler.images.plugins.filter.slurm_parameters import FilterModule, slurm_parameters

OURS = {"SlurmctldParameters": "enable_configless", "AuthAltParameters": "jwt_key=/a", "GresTypes": "gpu", "ReturnToService": 2, "Prolog": "prolog.sh"}
KEPT = ["SlurmctldParameters", "AuthAltParameters", "GresTypes", "CommunicationParameters"]


def lines(text: str) -> list[str]:
    return slurm_parameters(OURS, yaml.safe_load(text), "options", KEPT)


def changed(text: str) -> list[str]:
    return [line for line in lines(text) if line not in lines("{}")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", []),
        ("{SlurmctldParameters: idle_on_node_suspend}", ["SlurmctldParameters=enable_configless,idle_on_node_suspend"]),
        ("{slurmctldparameters: [a, enable_configless]}", ["SlurmctldParameters=a,enable_configless"]),
        ("{SlurmctldParameters: null}", []),
        ("{AuthAltParameters: 'jwt_key=/b,use_client_ids'}", ["AuthAltParameters=jwt_key=/b,use_client_ids"]),
        ("{AuthAltParameters: disable_token_creation}", ["AuthAltParameters=jwt_key=/a,disable_token_creation"]),
        ("{GresTypes: [nic, gpu]}", ["GresTypes=nic,gpu"]),
        ("{CommunicationParameters: NoInAddrAny}", ["CommunicationParameters=NoInAddrAny"]),
        ("{EnforcePartLimits: NO, PreemptMode: OFF, UsePAM: yes}", ["EnforcePartLimits=NO", "PreemptMode=OFF", "UsePAM=YES"]),
        ("{RETURNTOSERVICE: 0}", ["ReturnToService=0"]),
        ("{PriorityWeightFairshare: 100000, SuspendTime: 10:00}", ["PriorityWeightFairshare=100000", "SuspendTime=600"]),
        ("{PriorityMaxAge: 14-0, PriorityCalcPeriod: 5}", ["PriorityMaxAge=14-0", "PriorityCalcPeriod=5"]),
        ("{MailProg: 'a#b'}", [r"MailProg=a\#b"]),
        (r"{MailProg: 'a\#b'}", [r"MailProg=a\#b"]),
        ("{DebugFlags: [Backfill, Gres]}", ["DebugFlags=Backfill,Gres"]),
        ("{DownNodes: [n1 State=DOWN Reason=fan, n2 State=FAIL]}", ["DownNodes=n1 State=DOWN Reason=fan", "DownNodes=n2 State=FAIL"]),
        ("{Epilog: [/a, /b]}", ["Epilog=/a", "Epilog=/b"]),
        ("{prolog: [/a]}", ["prolog=/a"]),
        ("{EpilogSlurmctld: /a}", ["EpilogSlurmctld=/a"]),
        ("{DownNodes: n1 State=DOWN}", ["DownNodes=n1 State=DOWN"]),
    ],
)
def test_options(text: str, expected: list[str]) -> None:
    assert changed(text) == expected


def test_a_list_of_controllers_takes_the_place_of_the_one() -> None:
    ours = {"SlurmctldHost": "head(10.0.0.1)"}
    given = {"SlurmctldHost": ["head(10.0.0.1)", "other(10.0.0.2)"]}
    assert slurm_parameters(ours, given, "options") == ["SlurmctldHost=head(10.0.0.1)", "SlurmctldHost=other(10.0.0.2)"]
    assert slurm_parameters(ours, {"slurmctldhost": []}, "options") == []


def test_a_parameter_can_be_left_out() -> None:
    assert "Prolog=prolog.sh" in lines("{}")
    assert [line for line in lines("{prolog: null}") if "rolog" in line] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{PriorityDecayHalfLife: 24:00:00}", 'Write "24:00:00" in quotes for 1 day'),
        ("{PreemptExemptTime: 1:00:00}", "PreemptExemptTime of options to Slurm: the number 3600"),
        ("{ResvOverRun: 2:00}", "the number 120"),
        ("{'Slurm User': x}", "'Slurm User' is no name of a parameter"),
        ('{Prolog: "a\\nb"}', "line break"),
        ("text", "'text' is no mapping"),
    ],
)
def test_what_slurm_would_misread_is_refused(text: str, message: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        lines(text)
    assert message in str(caught.value)


def test_the_filter_has_its_name() -> None:
    names: dict[str, t.Any] = FilterModule().filters()
    assert names == {"slurm_parameters": slurm_parameters}
