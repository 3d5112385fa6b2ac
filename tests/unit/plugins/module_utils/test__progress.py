# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the progress lines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._progress import Progress, progress_sentence, report_to

MIB = 1 << 20


@pytest.mark.parametrize(
    ("progress", "sentence"),
    [
        (Progress(120 * MIB, 332 * MIB, 11.2 * MIB), "a: 120 of 332 MiB (36 %), 11.2 MiB/s, 19 s left"),
        (Progress(120 * MIB, None, 11.2 * MIB), "a: 120 MiB, 11.2 MiB/s"),
        (Progress(332 * MIB, 332 * MIB, 0.0), "a: 332 of 332 MiB (100 %), 0.0 MiB/s"),
        (Progress(0, 0, 0.0), "a: 0 of 0 MiB (100 %), 0.0 MiB/s"),
    ],
)
def test_sentence(progress: Progress, sentence: str) -> None:
    assert progress_sentence("a", progress) == sentence


def test_no_path_is_no_report() -> None:
    assert report_to(None, "a") is None


def test_lines_are_added_to_a_file(tmp_path: Path) -> None:
    report = report_to(str(tmp_path / "lines"), "a")
    assert report is not None
    report(Progress(MIB, None, MIB))
    report(Progress(2 * MIB, None, MIB))
    assert (tmp_path / "lines").read_text(encoding="utf-8") == "a: 1 MiB, 1.0 MiB/s\na: 2 MiB, 1.0 MiB/s\n"


def test_nobody_reading_does_no_harm(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "missing" / "file", tmp_path):
        report = report_to(str(path), "a")
        assert report is not None
        report(Progress(MIB, None, MIB))


def test_full_pipe_does_no_harm(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        report = report_to(str(tmp_path / "pipe"), "x" * 4000)
        assert report is not None
        for _line in range(40):
            report(Progress(MIB, None, MIB))
        assert os.read(reader, 5) == b"xxxxx"
    finally:
        os.close(reader)
