# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of process identities."""

from __future__ import annotations

import dataclasses
import os
import subprocess

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._process import ProcessIdentity


def test_own_process_is_alive_and_survives_a_round_trip() -> None:
    identity = ProcessIdentity.of(os.getpid())
    assert identity is not None
    assert identity.alive()
    assert ProcessIdentity.from_dict(identity.to_dict()) == identity


def test_pid_that_was_given_to_another_process_is_not_alive() -> None:
    identity = ProcessIdentity.of(os.getpid())
    assert identity is not None
    assert not dataclasses.replace(identity, start=identity.start - 1).alive()
    assert not dataclasses.replace(identity, boot="another boot").alive()
    assert not dataclasses.replace(identity, namespace="pid:[1]").alive()


@pytest.mark.parametrize("data", [None, {}, {"pid": 1}, {"pid": "x", "start": 1, "boot": "b", "namespace": "n"}, {"pid": 1, "start": 1, "boot": "b"}])
def test_data_that_are_no_identity(data: dict[str, object] | None) -> None:
    assert ProcessIdentity.from_dict(data) is None


def test_ended_process_has_no_identity_and_waiting_for_it_returns_at_once() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        identity = ProcessIdentity.of(child.pid)
        assert identity is not None
        assert not identity.wait(0)
        child.kill()
        child.wait()
        assert ProcessIdentity.of(child.pid) is None
        assert identity.wait(60)


def test_end_uses_sigkill_when_sigterm_is_ignored() -> None:
    with subprocess.Popen(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 60; done"], stdout=subprocess.PIPE, start_new_session=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        identity = ProcessIdentity.of(child.pid)
        assert identity is not None
        identity.end(grace=0.3)
        assert child.wait() == -9
        os.killpg(child.pid, 9)
