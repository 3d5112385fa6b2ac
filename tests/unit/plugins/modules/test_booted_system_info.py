# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the module booted_system_info."""

from __future__ import annotations

import typing as t
from unittest import mock

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._booted_system import BootedSystem, HostKey, RootDisk
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError
from ansible_collections.hyperscaler.images.plugins.modules import booted_system_info

Run = t.Callable[..., "dict[str, t.Any]"]


def system(**changes: t.Any) -> BootedSystem:
    values: dict[str, t.Any] = {
        "cloud_init": {"status": "done"},
        "system_state": "running",
        "failed_units": (),
        "machine_id": "0" * 32,
        "boot_time": 1000.0,
        "kernel": "6.12.117+deb13-cloud-amd64",
        "firmware": "bios",
        "host_keys": (HostKey("/k.pub", "ssh-ed25519", "SHA256:x", 1010.0),),
        "root": RootDisk("/dev/vda1", 20 << 30, 20 << 30, 20 << 30, 20 << 30),
        "image": {},
    }
    return BootedSystem(**{**values, **changes})


def test_all_is_well(run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    inspect = mock.Mock(return_value=system())
    monkeypatch.setattr(booted_system_info, "inspect_system", inspect)
    result = run_module(booted_system_info.main, timeout=60)
    inspect.assert_called_once_with(60)
    assert (result["changed"], result["passed"], result["msg"]) == (False, True, "All 6 checks passed.")
    assert result["checks"][2] == {"name": "machine_id", "passed": True, "detail": f"The machine id is '{'0' * 32}'."}
    assert result["system"]["kernel"] == "6.12.117+deb13-cloud-amd64"


def test_what_failed_is_the_message(run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(booted_system_info, "inspect_system", mock.Mock(return_value=system(machine_id="", host_keys=())))
    result = run_module(booted_system_info.main)
    assert not result["passed"]
    assert "failed" not in result
    assert result["msg"] == "The machine id is 'empty'. There is no SSH host key."


def test_a_system_that_cannot_be_looked_at(run_module: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(booted_system_info, "inspect_system", mock.Mock(side_effect=CommandError("cloud-init did not end within 5 s.", cmd=["cloud-init"])))
    result = run_module(booted_system_info.main)
    assert (result["failed"], result["msg"], result["cmd"]) == (True, "cloud-init did not end within 5 s.", ["cloud-init"])
