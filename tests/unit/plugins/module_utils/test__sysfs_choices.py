# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of settings that are one of several words."""

from __future__ import annotations

import select
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._sysfs_choices import Choices, chosen


def settled(choices: Choices) -> bool:
    """Whether something was written, after it was settled."""
    ready = bool(select.select([choices.descriptor], [], [], 0.2)[0])
    if ready:
        choices.settle()
    return ready


@pytest.mark.parametrize(
    ("text", "shown"),
    [("never\n", "always madvise [never]\n"), ("always", "[always] madvise never\n"), ("often\n", None), ("", None), ("[never]", None)],
)
def test_the_chosen_word_is_in_brackets(text: str, shown: str | None) -> None:
    assert chosen(["always", "madvise", "never"], text) == shown


def test_what_is_written_is_shown_as_the_kernel_does(tmp_path: Path) -> None:
    enabled, number = tmp_path / "hugepage/enabled", tmp_path / "pages"
    enabled.parent.mkdir()
    enabled.write_text("always [madvise] never\n")
    number.write_text("4096\n")
    choices = Choices([tmp_path])
    for written, shown in (("never\n", "always madvise [never]\n"), ("sometimes", "always madvise [never]\n"), ("always", "[always] madvise never\n")):
        enabled.write_text(written)
        assert settled(choices)
        assert enabled.read_text() == shown
    number.write_text("7")
    assert not settled(choices)
    assert number.read_text() == "7"


def test_words_may_be_joined(tmp_path: Path) -> None:
    (tmp_path / "defrag").write_text("always defer defer+madvise [madvise] never\n")
    choices = Choices([tmp_path])
    (tmp_path / "defrag").write_text("defer+madvise\n")
    assert settled(choices)
    assert (tmp_path / "defrag").read_text() == "always defer [defer+madvise] madvise never\n"


@pytest.mark.parametrize("text", ["[none]\n", "none [mq-deadline]\n", "[mq-deadline] kyber bfq none \n"])
def test_schedulers_are_choices(tmp_path: Path, text: str) -> None:
    (tmp_path / "scheduler").write_text(text)
    choices = Choices([tmp_path])
    (tmp_path / "scheduler").write_text("none\n")
    assert settled(choices)
    assert "[none]" in (tmp_path / "scheduler").read_text()


@pytest.mark.parametrize("text", ["0\n", "", "write back\n", "a,b [c]d\n", "\x00\xff"])
def test_other_settings_are_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "setting").write_text(text)
    choices = Choices([tmp_path])
    (tmp_path / "setting").write_text("a")
    assert not settled(choices)
