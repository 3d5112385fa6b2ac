# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of stacks of PAM; each result is what su of Debian 13 did with the stack and a wrong password."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree
from ansible_collections.hyperscaler.images.plugins.module_utils._pam import openings

if t.TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "common-auth": "auth [success=1 default=ignore] pam_unix.so nullok\nauth requisite pam_deny.so\nauth required pam_permit.so\n",
    "open": "auth sufficient pam_permit.so\n",
    "check": "auth [success=1 default=ignore] pam_unix.so\nauth requisite pam_deny.so\n",
}


def blamed(folder: Path, stack: str, service: str = "su") -> list[str]:
    (folder / "etc/pam.d").mkdir(parents=True)
    for name, text in {**FILES, service: stack}.items():
        (folder / "etc/pam.d" / name).write_text(text, encoding="utf-8")
    return [line for _path, line in openings(Tree(folder))]


@pytest.mark.parametrize(
    ("stack", "line"),
    [
        ("auth sufficient pam_permit.so\n@include common-auth", "auth sufficient pam_permit.so"),
        ("AUTH SUFFICIENT pam_permit.so", "AUTH SUFFICIENT pam_permit.so"),
        ("auth sufficient /usr/lib/x86_64-linux-gnu/security/pam_permit.so", "auth sufficient /usr/lib/x86_64-linux-gnu/security/pam_permit.so"),
        ("auth required pam_permit.so", "auth required pam_permit.so"),
        ("auth optional pam_unix.so\nauth required pam_permit.so", "auth required pam_permit.so"),
        ("auth [success=1 default=ignore] pam_unix.so nullok\nauth required pam_permit.so", "auth required pam_permit.so"),
        ("auth [success=1 default=1] pam_unix.so\nauth requisite pam_deny.so\nauth required pam_permit.so", "auth required pam_permit.so"),
        (
            "auth [success=1 default=ignore] pam_succeed_if.so user = root\nauth requisite pam_deny.so\nauth required pam_permit.so",
            "auth [success=1 default=ignore] pam_succeed_if.so user = root",
        ),
        ("auth substack open", "auth substack open"),
        ("auth include open\nauth required pam_deny.so", "auth sufficient pam_permit.so"),
        ("auth sufficient pam_deny.so\nauth sufficient pam_permit.so\nauth required pam_deny.so", "auth sufficient pam_permit.so"),
        ("auth [default=done] pam_permit.so", "auth [default=done] pam_permit.so"),
        ("auth required pam_faillock.so preauth\nauth sufficient pam_unix.so", "auth required pam_faillock.so preauth"),
        ("auth required pam_shells.so\nauth sufficient pam_unix.so", "auth required pam_shells.so"),
        ("auth required pam_debug.so", "auth required pam_debug.so"),
        ("auth sufficient pam_wheel.so trust group=ops\nauth required pam_deny.so", "auth sufficient pam_wheel.so trust group=ops"),
    ],
)
def test_stacks_that_let_somebody_in(stack: str, line: str, tmp_path: Path) -> None:
    assert blamed(tmp_path, stack + "\n") == [line]


@pytest.mark.parametrize(
    "stack",
    [
        "",
        "@include common-auth",
        "auth sufficient pam_rootok.so\n@include common-auth",
        "auth required pam_permit.so\n@include common-auth",
        "@include common-auth\nauth sufficient pam_permit.so",
        "auth [success=ok default=ignore] pam_succeed_if.so user = root\nauth requisite pam_deny.so",
        "auth required pam_env.so\nauth sufficient pam_unix.so",
        "auth required pam_faildelay.so delay=1\nauth required pam_unix.so",
        "auth substack check",
        "auth substack open\nauth required pam_deny.so",
        "auth [default=ok] pam_unix.so",
        "auth required pam_unix.so\nauth sufficient pam_permit.so",
        "auth requisite pam_unix.so\nauth sufficient pam_permit.so",
        "auth [success=die default=ignore] pam_permit.so\nauth required pam_permit.so",
        "auth [success=reset default=ignore] pam_permit.so\nauth required pam_env.so",
        "auth required pam_faillock.so preauth\nauth sufficient pam_unix.so\nauth [default=die] pam_faillock.so authfail\nauth required pam_deny.so",
        "auth required pam_wheel.so\nauth required pam_unix.so",
        "auth required pam_nologin.so\nauth sufficient pam_unix.so",
        "-auth required pam_nosuch.so\nauth sufficient pam_permit.so",
        "account sufficient pam_permit.so\nauth required pam_unix.so",
    ],
)
def test_stacks_that_ask(stack: str, tmp_path: Path) -> None:
    assert blamed(tmp_path, stack + "\n") == []


def test_a_server_is_root_for_everybody(tmp_path: Path) -> None:
    assert blamed(tmp_path, "auth sufficient pam_rootok.so\n@include common-auth\n", "sshd") == ["auth sufficient pam_rootok.so"]


@pytest.mark.parametrize("service", ["sudo", "polkit-1"])
def test_programs_that_anybody_starts_see_the_caller(service: str, tmp_path: Path) -> None:
    assert blamed(tmp_path, "auth sufficient pam_rootok.so\n@include common-auth\n", service) == []
