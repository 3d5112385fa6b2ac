# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.hyperscaler.images.plugins.filter.boot_acts import boot_acts


def lines(*events: tuple[str, str, str]) -> str:
    return "".join(json.dumps({"kind": kind, "what": what, "task": task}) + "\n" for kind, what, task in events)


def test_tasks_and_kinds_are_counted_once() -> None:
    document = lines(("module", "br_netfilter", "a"), ("module", "overlay", "a"), ("module", "overlay", "b"), ("swap", "/swapfile", "c"), ("clock", "", ""))
    assert boot_acts(document)["sentence"] == "4 tasks act at boot only: modules br_netfilter, overlay; swap /swapfile; clock"


def test_what_was_told_is_not_told_again() -> None:
    document = lines(("module", "overlay", "a"), ("mount", "/mnt", "b"))
    assert boot_acts(document, 1) == {"count": 2, "sentence": "1 task acts at boot only: mounts /mnt", "refused": []}
    assert boot_acts(document, 2) == {"count": 2, "sentence": "", "refused": []}


def test_refusals_are_no_acts() -> None:
    document = lines(("refused", "mknod /dev/x", "a"), ("refused", "mknod /dev/x", "a"))
    assert boot_acts(document) == {"count": 2, "sentence": "", "refused": ["mknod /dev/x"]}


def test_nothing_happened() -> None:
    assert boot_acts("") == {"count": 0, "sentence": "", "refused": []}


def test_a_damaged_file_is_named() -> None:
    with pytest.raises(AnsibleFilterError, match="one JSON document per line"):
        boot_acts("no json")
