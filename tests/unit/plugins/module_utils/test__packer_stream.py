# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the reader of Packer's output, on streams of Packer 1.6.6 and 1.16.0."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._packer_stream import Artifact, Message, Parser, UiLine, parse, parse_line, stage_of, unescape

STREAMS = Path(__file__).parent / "fixtures/packer"
VERSIONS = ("1.6.6", "1.16.0")


def stream(name: str) -> str:
    return (STREAMS / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("escaped", "text"),
    [("a%!(PACKER_COMMA) b", "a, b"), ("a\\nb", "a\nb"), ("a\\r\\nb", "a\r\nb"), ("100%!", "100%!"), ("", "")],
)
def test_escapes(escaped: str, text: str) -> None:
    assert unescape(escaped) == text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1795227658,qemu.x,artifact-count,1\n", Message(1795227658, "qemu.x", "artifact-count", ("1",))),
        ("1795227658,,ui,say,a%!(PACKER_COMMA)b", Message(1795227658, "", "ui", ("say", "a,b"))),
        ("1795227658,qemu.x,artifact,0,end", Message(1795227658, "qemu.x", "artifact", ("0", "end"))),
        ("panic: runtime error, really", Message(0, "", "stray", ("panic: runtime error, really",))),
        ("12", Message(0, "", "stray", ("12",))),
    ],
)
def test_lines(line: str, message: Message) -> None:
    assert parse_line(line) == message


@pytest.mark.parametrize("version", VERSIONS)
def test_a_build_that_went_well(version: str) -> None:
    report = parse(stream(f"{version}-build-ok"))
    assert report.artifacts == [Artifact("qemu.x", "transcend.qemu", "VM", "VM files in directory: /build/out", ["/build/out/x.qcow2"])]
    assert report.artifact_counts == {"qemu.x": 1}
    assert report.errors == []
    assert report.error_count == 0
    assert [stage for stage, _time in report.stages] == ["download", "seed", "disk", "start", "boot", "provision", "shutdown"]
    assert report.seconds(report.lines[-1].time)["boot"] == {"1.6.6": 50, "1.16.0": 42}[version]
    assert "A checksum of 'none' was specified" in report.warnings[0]
    # What a provisioner writes to its standard error is no failure.
    assert ("error", "sudo: unable to resolve host t: Name or service not known") in [(line.level, line.text) for line in report.lines]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("name", "error", "stage"),
    [
        ("provisioner-fails", "Error executing Ansible: Non-zero exit status: exit status 2", "provision"),
        ("qemu-fails-to-start", "Build was halted.", "start"),
        ("ssh-timeout", "Timeout waiting for SSH.", "boot"),
    ],
)
def test_builds_that_failed(version: str, name: str, error: str, stage: str) -> None:
    report = parse(stream(f"{version}-{name}"))
    assert report.errors == [("qemu.x", error)]
    assert report.error_count == 1
    assert report.artifacts == []
    assert [known for known, _time in report.stages if known != "clean up"][-1] == stage


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("name", "diagnostic"),
    [
        ("output-exists", "Error: 1 error(s) occurred:\n\n* Output directory '/build/out5' already exists. It must not exist."),
        ("variable-not-set", 'Error: Unset variable "must"'),
        ("syntax-error", {"1.6.6": "Error: Argument or block definition required", "1.16.0": "Error: Unclosed configuration block"}),
    ],
)
def test_diagnostics(version: str, name: str, diagnostic: str | dict[str, str]) -> None:
    report = parse(stream(f"{version}-{name}"))
    assert len(report.diagnostics) == 1
    assert report.diagnostics[0].startswith(diagnostic if isinstance(diagnostic, str) else diagnostic[version])
    assert report.artifacts == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_prefix_of_each_version_is_taken_off(version: str) -> None:
    lines = parse(stream(f"{version}-build-ok")).lines
    assert "TASK [Say two words] ***********************************************************" in [line.text for line in lines if line.build == "qemu.x"]
    assert [line.text for line in lines if line.text.startswith(("==>", "-->"))] == []


def test_nothing_of_a_stream_is_lost() -> None:
    """Every type of line ends up in the report."""
    parser = Parser()
    shown = [
        text
        for line in (
            "1,,version,1.6.6",
            "1,,ui,say,==> a.b.c: one\\n==> a.b.c: two%!(PACKER_COMMA) three",
            "1,,ui,error,",
            "fatal error: stack overflow",
            "2,a.b.c,artifact-count,2",
            "2,a.b.c,artifact,0,nil",
            "2,a.b.c,artifact,1,builder-id,x",
            "2,a.b.c,artifact,1,file,0,/a%!(PACKER_COMMA)b",
            "2,a.b.c,artifact,1,file,1,/c",
            "2,a.b.c,artifact,1,end",
            "3,,error-count,2",
            "3,d,error,e%!(PACKER_COMMA) f",
        )
        for text in parser.feed(line)
    ]
    report = parser.report
    assert [line.text for line in shown] == ["one", "two, three", "", "fatal error: stack overflow"]
    assert report.values == {"version": "1.6.6"}
    assert report.artifacts == [Artifact("a.b.c", builder_id="x", files=["/a,b", "/c"])]
    assert (report.artifact_counts, report.error_count, report.errors) == ({"a.b.c": 2}, 2, [("d", "e, f")])


def test_a_line_of_a_program_in_the_machine_begins_no_stage() -> None:
    assert stage_of(UiLine(1, "say", "", "Starting VM")) == ""
    assert stage_of(UiLine(1, "say", "qemu.x", "Starting VM, booting disk image")) == "start"


def test_times_of_stages() -> None:
    report = parse("10,,ui,say,==> q.x: Starting VM\n12,,ui,say,==> q.x: Waiting for SSH to become available...\n40,,ui,say,==> q.x: Connected to SSH!")
    assert report.seconds(100) == {"start": 2, "boot": 28, "provision": 60}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_build_that_was_interrupted(version: str) -> None:
    report = parse((STREAMS / f"{version}-cancelled.txt").read_text(encoding="utf-8"))
    assert [name for name, _time in report.stages][-2:] == ["boot", "clean up"]
    assert (report.artifacts, report.errors) == ([], [])
    assert report.lines[-1].text == "Cleanly cancelled builds after being interrupted."
