# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources of third-party components, and choosing among their packages."""

from __future__ import annotations

import dataclasses
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact import Offer, choose, merge, source_from
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_record import Record, settings_from
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_control import Package
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError

ROOT = Path(__file__).resolve().parents[4]
FINGERPRINT = "0683 AF2B 9AC5 BC7D 59B2 D623 40CE 4E24 3CD5 0804"
REPOSITORY = {"url": "https://example.com/v{version}/", "suite": "/", "key": "https://example.com/v{version}/Release.key", "fingerprint": FINGERPRINT}
FILE = {"url": "https://example.com/v{version}/tool_{version}-trixie%2B_amd64.deb"}


def offer(name: str, version: str = "1.0", architecture: str = "amd64", depends: tuple[tuple[str, ...], ...] = ()) -> Offer:
    return Offer(Package(name, version, architecture, depends), "a" * 64, f"/srv/{name}.deb", f"{name}.deb")


def source(**description: t.Any) -> t.Any:
    return source_from("tool", {"packages": ["tool"], "path": "/srv", **description})


def test_the_version_stands_in_addresses() -> None:
    found = source(path="", version="1.5.4", files=[FILE])
    assert found.kind == "files"
    assert found.files[0].url == "https://example.com/v1.5.4/tool_1.5.4-trixie%2B_amd64.deb"
    assert found.files[0].name == "tool_1.5.4-trixie+_amd64.deb"


def test_a_mirror_takes_the_place_of_the_server() -> None:
    files = source(path="", version="1", files=[FILE], mirror="http://mirror.example/apptainer/")
    assert files.files[0].url == "http://mirror.example/apptainer/tool_1-trixie%2B_amd64.deb"
    found = source(path="", version="1.35", repository=REPOSITORY, mirror="http://mirror.example/k8s").repository
    assert (found.url, found.key) == ("http://mirror.example/k8s", "http://mirror.example/k8s/Release.key")
    assert found.fingerprint == FINGERPRINT.replace(" ", "")


def test_a_user_names_another_kind_of_source() -> None:
    catalogue = {"version": "1", "packages": ["tool"], "files": [FILE]}
    assert merge(catalogue, {"path": "/srv"}) == {"version": "1", "packages": ["tool"], "path": "/srv"}
    assert merge(catalogue, {"version": "2"}, {"version": "3"})["version"] == "3"
    both = {**catalogue, "otherwise": {"suite": {"name": "sid", "system": "trixie"}}}
    assert merge(both, {"packages": ["other"]}) == {**both, "packages": ["other"]}
    assert merge(both, {"version": "2"}) == {**catalogue, "version": "2"}
    assert merge(both, {"path": "/srv"}) == {"version": "1", "packages": ["tool"], "path": "/srv"}
    merged = merge({"repository": REPOSITORY}, {"repository": {"url": "http://mirror.example"}})
    assert merged["repository"] == {**REPOSITORY, "url": "http://mirror.example"}


@pytest.mark.parametrize(
    ("description", "says"),
    [
        ({"url": "x"}, "unknown keys url"),
        ({"path": ""}, "names no source"),
        ({"files": [FILE]}, "names path and files"),
        ({"packages": []}, "names no packages"),
        ({"path": "", "files": ["https://example.com/x.deb"]}, "is not a mapping of url and sha256"),
        ({"path": "", "files": [{**FILE, "sha256": "abc"}]}, "is not a SHA256"),
        ({"path": "", "repository": {**REPOSITORY, "fingerprint": ""}}, "lacks fingerprint"),
        ({"path": "", "repository": {**REPOSITORY, "fingerprint": "3CD50804"}}, "is not the fingerprint of a key"),
        ({"path": "", "repository": {**REPOSITORY, "keys": "x"}}, "has unknown keys"),
        ({"path": "", "suite": "sid"}, "its suite 'sid' is not a mapping of name, system and component"),
        ({"path": "", "suite": {"name": "sid"}}, "is not a mapping of name, system and component. Name the suite"),
        ({"otherwise": {"suite": {"name": "sid", "system": "trixie"}, "packages": []}}, "names no packages"),
    ],
)
def test_unusable_sources(description: dict[str, t.Any], says: str) -> None:
    with pytest.raises(ImageError, match=says):
        source(**description)


def test_the_newest_is_chosen_with_what_it_needs_of_the_same_source() -> None:
    offers = [
        offer("tool", "1.9", depends=(("library", "other"), ("libc6",))),
        offer("tool", "1.10", depends=(("library", "other"), ("libc6",))),
        offer("tool", "2.0", "arm64"),
        offer("library", architecture="all", depends=(("tool",),)),
        offer("other"),
    ]
    chosen = choose(offers, ["tool", "absent?"], source(), "amd64")
    assert [(entry.package.name, entry.package.version) for entry in chosen] == [("library", "1.0"), ("tool", "1.10")]


def test_one_release_is_chosen() -> None:
    offers = [offer("tool", "20:8.1.0-1"), offer("tool", "20:8.2.0-1")]
    assert choose(offers, ["tool"], source(release="8.1.0"), "amd64") == offers[:1]
    assert choose(offers, ["tool"], source(release="8.1.*"), "amd64") == offers[:1]
    with pytest.raises(ImageError, match=r"no package tool 8\.3\.0 for amd64, only none"):
        choose(offers, ["tool"], source(release="8.3.0"), "amd64")


def test_the_shipped_catalogue_can_be_used() -> None:
    catalogue = yaml.safe_load((ROOT / "playbooks/vars/artefacts.yml").read_text(encoding="utf-8"))["artefact_catalogue"]
    roles = {path.name for path in (ROOT / "roles").iterdir()}
    for name, description in catalogue.items():
        found = source_from(name, description)
        assert description["role"] in roles
        assert found.version
        assert all(entry.url.startswith("https://") for entry in found.files)
        assert found.repository is None or found.repository.key.startswith("https://")


def test_a_record_is_read_as_it_was_written() -> None:
    record = Record.of(source(version="1"), [offer("tool")])
    assert Record.parse(record.text()) == record
    assert "srv" not in record.text()
    assert record.has(["tool", "absent?"])
    assert not record.has(["other"])
    assert record.dpkg_lines() == {"installed tool 1.0"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"component": "tool"}', '{"packages": [1]}'])
def test_something_else_is_no_record(text: str) -> None:
    assert Record.parse(text) is None


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"artefact_policy": "lax"}, "artefact_policy 'lax'"),
        ({"artefact_sources": ["apptainer"]}, "must map names"),
        ({"artefact_sources": {"apptainer": "/srv"}}, "must map names"),
        ({"artefact_retries": "many"}, "artefact_retries"),
    ],
)
def test_unusable_settings(variables: dict[str, t.Any], says: str) -> None:
    with pytest.raises(ImageError, match=says):
        settings_from(variables, Path("/data"))


def test_settings() -> None:
    found = settings_from({}, Path("/data/lock.json"))
    assert (found.policy, found.lock, found.architecture) == ("lock", "/data/lock.json", "amd64")
    assert (found.debian_mirror, found.debian_keyring) == ("", "/usr/share/keyrings/debian-archive-keyring.gpg")
    assert settings_from({"base_image_mirror": "http://m/debian"}, Path("/data")).debian_mirror == "http://m/debian"
    assert settings_from({"artefact_policy": "best_effort"}, Path("/data")).policy == "best_effort"


def test_an_unfit_package_matters_when_something_asks_for_it() -> None:
    good = [offer("tool"), offer("other")]
    assert [found.package.name for found in choose([*good, unfit("odd")], ["tool"], source(), "amd64")] == ["tool"]
    assert [found.package.version for found in choose([offer("tool", "2.0"), unfit("tool", "1.0")], ["tool"], source(), "amd64")] == ["2.0"]
    for odd in (unfit("tool"), unfit("tool", "2.0")):
        for offers in ([*good, odd], [odd, *good]):
            with pytest.raises(ImageError, match="Cannot use it"):
                choose(offers, ["tool"], source(), "amd64")
    with pytest.raises(ImageError, match="Cannot use it"):
        choose([*good, unfit("docs")], ["tool", "docs?"], source(), "amd64")


def unfit(name: str, version: str = "") -> Offer:
    return dataclasses.replace(offer(name, version, "amd64" if version else ""), trouble="Cannot use it.")


def test_names_are_those_of_dpkg() -> None:
    assert source(packages=["SiteTool", "Docs?"]).packages == ("sitetool", "docs?")
