# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of components as inputs, and of asking whether a missing one can be had now."""

from __future__ import annotations

import socket
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_record import Settings, settings_from
from ansible_collections.hyperscaler.images.plugins.plugin_utils._components import can_be_had, component_digests, component_paths, locked_otherwise
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils.deb_stand_in import write_deb

CATALOGUE = """
artefact_catalogue:
  tool:
    role: web
    version: "1"
    packages: [tool]
    files: [{url: "%s/tool_{version}_amd64.deb"}]
  other:
    role: db
    version: "1"
    packages: [other]
    files: [{url: "%s/other.deb"}]
"""
LOCK = """{"format": 2, "artefacts": {"tool": {"1": [
 {"name": "tool", "version": "1", "architecture": "amd64", "file": "tool_1_amd64.deb", "sha256": "%s", "requires": []}]}}}""" % ("0" * 64)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A catalogue whose server is a folder that does not exist yet."""
    (tmp_path / "artefacts.yml").write_text(CATALOGUE % ((tmp_path / "server").as_uri(), (tmp_path / "server").as_uri()), encoding="utf-8")
    return tmp_path


def settings(data: Path, **more: t.Any) -> Settings:
    return settings_from({"artefact_cache": str(data / "cache"), **more}, data / "artefacts.lock.json")


def test_the_components_of_a_role_are_its_inputs(data: Path) -> None:
    before = component_digests(settings(data), data, {"web"})
    assert list(before) == ["tool"]
    sources = {"tool": {"mirror": "https://mirror.example"}, "other": {"mirror": "https://mirror.example"}}
    mirrored = component_digests(settings(data, artefact_sources=sources), data, {"web"})
    (data / "artefacts.lock.json").write_text(LOCK, encoding="utf-8")
    assert mirrored != before
    # A lock that a build filled does not make its image stale.
    assert component_digests(settings(data), data, {"web"}) == before


def component(sha256: str, **more: t.Any) -> dict[str, t.Any]:
    package = {"name": "tool", "version": "1", "architecture": "amd64", "sha256": sha256}
    return {"component": "tool", "state": "installed", "version": "1", "source": "files", "packages": [package], **more}


@pytest.mark.parametrize(
    ("found", "changed"),
    [
        (component("0" * 64), []),
        (component("1" * 64), ["tool"]),
        (component("1" * 64, version="2"), []),
        (component("1" * 64, source="path"), []),
        (component("1" * 64, component="other"), []),
        (component("", state="missing", packages=[]), []),
        # The first choice was not locked when the image was made.
        (component("1" * 64, version="sid", source="suite"), ["tool"]),
    ],
)
def test_an_image_is_compared_with_the_lock(data: Path, found: dict[str, t.Any], changed: list[str]) -> None:
    catalogue = (data / "artefacts.yml").read_text(encoding="utf-8")
    described = 'tool_{version}_amd64.deb"}]\n    otherwise: {version: sid, suite: {name: sid, system: trixie}}'
    (data / "artefacts.yml").write_text(catalogue.replace('tool_{version}_amd64.deb"}]', described), encoding="utf-8")
    assert locked_otherwise([found], settings(data), data) == []
    (data / "artefacts.lock.json").write_text(LOCK, encoding="utf-8")
    assert locked_otherwise([found], settings(data), data) == changed


def test_what_is_not_locked_can_be_had_where_its_server_is_there_unless_that_is_refused(data: Path) -> None:
    (data / "server").mkdir()
    (data / "server/tool_1_amd64.deb").write_bytes(b"x")
    assert can_be_had(["tool"], settings(data), data) == ["tool"]
    assert can_be_had(["tool"], settings(data, artefact_policy="strict"), data) == []


def test_local_packages_of_a_component_are_its_inputs(data: Path) -> None:
    sources = {"tool": {"path": "/srv/debs"}, "other": {"path": "/srv/other"}}
    assert component_paths(settings(data, artefact_sources=sources), data, {"web"}) == ["/srv/debs"]


def test_without_digest_or_server_nothing_can_be_had(data: Path) -> None:
    assert can_be_had(["tool", "other", "unknown"], settings(data), data) == []


def test_a_locked_component_can_be_had_when_its_server_has_it(data: Path) -> None:
    (data / "artefacts.lock.json").write_text(LOCK, encoding="utf-8")
    assert can_be_had(["tool"], settings(data), data) == []
    (data / "server").mkdir()
    (data / "server/tool_1_amd64.deb").write_bytes(b"x")
    assert can_be_had(["tool"], settings(data), data) == ["tool"]


def test_a_local_path_can_be_had(data: Path) -> None:
    deb = write_deb(data / "debs", "tool", "1", "amd64")
    assert can_be_had(["tool"], settings(data, artefact_sources={"tool": {"path": str(deb.parent)}}), data) == ["tool"]
    assert can_be_had(["tool"], settings(data, artefact_sources={"tool": {"path": str(data / "nowhere")}}), data) == []


def test_a_server_that_does_not_answer_costs_little_time(data: Path) -> None:
    (data / "artefacts.lock.json").write_text(LOCK, encoding="utf-8")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(5)
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        sources = {"tool": {"mirror": address}, "other": {"repository": {"url": address, "suite": "x", "key": f"{address}/key", "fingerprint": "A" * 40}}}
        start = time.monotonic()
        assert can_be_had(["tool", "other"], settings(data, artefact_sources=sources), data) == []
        assert time.monotonic() - start < 2.8
