# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of canonical documents."""

from __future__ import annotations

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._digest import canonical_json, changes, document_digest


def test_same_content_has_the_same_digest_whatever_the_order() -> None:
    assert canonical_json({"b": [1, 2], "a": "ä"}) == canonical_json({"a": "ä", "b": [1, 2]})
    assert document_digest({"b": 1, "a": 2}) == document_digest({"a": 2, "b": 1})
    assert document_digest({"a": [1, 2]}) != document_digest({"a": [2, 1]})


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["a.b changed from 1 to 2"]),
        ({"a": 1}, {"b": 1}, ["a is gone", "b is new"]),
        ({"a": "x" * 80}, {"a": ""}, ['a changed from "' + "x" * 46 + '… to ""']),
    ],
)
def test_changes(before: object, after: object, wanted: list[str]) -> None:
    assert changes(before, after) == wanted
