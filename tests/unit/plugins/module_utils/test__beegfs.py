# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choosing packages of BeeGFS."""

from __future__ import annotations

import dataclasses
import re

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._beegfs import Candidate, PackageError, Wanted, is_beegfs, packages_of, select
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_control import Package, parse_depends


def offer(name: str, version: str = "20:8.1.0", architecture: str = "amd64", depends: str = "", origin: str = "") -> Candidate:
    package = Package(name, version, architecture, parse_depends(depends))
    return Candidate(package, origin or f"/src/{package.file_name}", f"{name}{version}{architecture}{origin}")


def wanted(*components: str, release: str | None = None, newest: bool = False) -> Wanted:
    return Wanted(components, "amd64", release, newest)


EIGHT = [
    offer(name) for name in ("beegfs-mgmtd", "beegfs-meta", "beegfs-storage", "libbeegfs-ib", "beegfs-tools", "beegfs-utils", "beegfs-mon", "beegfs-client")
]
EIGHT.append(offer("beegfs-client-dkms", architecture="all", depends="dkms, beegfs-tools (>= 8.1)"))
SEVEN = [offer(name, "20:7.4.6") for name in ("beegfs-mgmtd", "beegfs-meta", "beegfs-storage", "libbeegfs-ib", "beegfs-helperd", "beegfs-utils")]
SEVEN.append(offer("beegfs-client-dkms", "20:7.4.6", "all"))


@pytest.mark.parametrize(
    ("candidates", "components", "expected"),
    [
        (EIGHT, ["mgmtd"], ["beegfs-mgmtd", "beegfs-tools"]),
        (EIGHT, ["meta"], ["beegfs-meta", "libbeegfs-ib"]),
        (EIGHT, ["storage"], ["beegfs-storage", "libbeegfs-ib"]),
        (EIGHT, ["client"], ["beegfs-client-dkms", "beegfs-tools", "beegfs-utils"]),
        (SEVEN, ["mgmtd"], ["beegfs-mgmtd"]),
        (SEVEN, ["meta"], ["beegfs-meta", "libbeegfs-ib"]),
        (SEVEN, ["storage"], ["beegfs-storage", "libbeegfs-ib"]),
        (SEVEN, ["client"], ["beegfs-client-dkms", "beegfs-helperd", "beegfs-utils"]),
    ],
)
def test_packages_by_component(candidates: list[Candidate], components: list[str], expected: list[str]) -> None:
    assert [choice.candidate.package.name for choice in select(candidates, wanted(*components)).chosen] == expected


def test_reasons() -> None:
    selection = select([*EIGHT, offer("bash", "5.2"), offer("beegfs-meta", architecture="arm64")], wanted("meta", "storage"))
    assert selection.release == "8.1.0"
    assert {choice.candidate.package.name: choice.reason for choice in selection.chosen} == {
        "beegfs-meta": "the component meta uses it",
        "beegfs-storage": "the component storage uses it",
        "libbeegfs-ib": "the components meta, storage use it",
    }
    ignored = {choice.candidate.origin: choice.reason for choice in selection.ignored}
    assert ignored["/src/beegfs-mon_8.1.0_amd64.deb"] == "none of the components meta, storage uses it"
    assert ignored["/src/bash_5.2_amd64.deb"] == "it is not a package of BeeGFS"
    assert ignored["/src/beegfs-meta_8.1.0_arm64.deb"] == "it is for arm64, and amd64 is wanted"


def test_dependencies_of_chosen_packages_are_taken() -> None:
    candidates = [
        offer("beegfs-storage", depends="libc6, beegfs-extra | beegfs-other"),
        offer("beegfs-other", depends="libbeegfs-deep"),
        offer("libbeegfs-deep"),
    ]
    selection = select(candidates, wanted("storage"))
    assert {choice.candidate.package.name: choice.reason for choice in selection.chosen} == {
        "beegfs-other": "beegfs-storage depends on it",
        "beegfs-storage": "the component storage uses it",
        "libbeegfs-deep": "beegfs-other depends on it",
    }


def test_versions_of_parts_that_are_packed_differently_agree() -> None:
    """The management service is packed by another tool, without epoch and with a revision."""
    assert len(select([offer("beegfs-mgmtd", "8.1.0-1"), offer("beegfs-meta")], wanted("mgmtd", "meta")).chosen) == 2


@pytest.mark.parametrize(
    ("candidates", "asked", "message"),
    [
        (
            [*EIGHT, offer("beegfs-storage", "20:8.0.1")],
            wanted("storage"),
            "the source mixes versions (8.0.1: /src/beegfs-storage_8.0.1_amd64.deb; 8.1.0: ",
        ),
        ([offer("beegfs-meta"), offer("libbeegfs-ib", "20:8.1.1")], wanted("meta"), "the source mixes versions"),
        (
            [offer("beegfs-meta", architecture="arm64")],
            wanted("meta"),
            "but of beegfs-meta only unfit ones are there (/src/beegfs-meta_8.1.0_arm64.deb has 20:8.1.0 for arm64)",
        ),
        (
            [offer("beegfs-meta")],
            wanted("meta", "storage"),
            "the component storage needs it, but of beegfs-storage the source has none. Add beegfs-storage 8.1.0 for amd64.",
        ),
        ([offer("beegfs-client")], wanted("client"), "none of the 1 packages of BeeGFS in the source"),
        ([offer("bash", "5.2")], wanted("client"), "none of the 0 packages of BeeGFS in the source"),
        (EIGHT, wanted("client", release="8.0.1"), "Cannot take BeeGFS 8.0.1: the source has 8.1.0."),
        ([], wanted("client", release="8.0.1"), "the source has no packages of BeeGFS"),
        ([offer("beegfs-meta", "20:6.19")], wanted("meta"), "the packages of the versions 7 and 8 are known"),
        (
            [offer("beegfs-meta"), offer("beegfs-meta", origin="/src/b.deb")],
            wanted("meta"),
            "as /src/beegfs-meta_8.1.0_amd64.deb (20:8.1.0) and /src/b.deb (20:8.1.0)",
        ),
        ([offer("beegfs-meta"), offer("beegfs-meta", architecture="all")], wanted("meta"), "it is there more than once"),
        ([EIGHT[-1]], wanted("client"), "beegfs-client-dkms depends on it, but of beegfs-tools the source has none"),
    ],
)
def test_refusals(candidates: list[Candidate], asked: Wanted, message: str) -> None:
    with pytest.raises(PackageError, match=re.escape(message)):
        select(candidates, asked)


def test_one_version_of_several() -> None:
    candidates = [*EIGHT, *SEVEN, offer("beegfs-meta", "20:8.10.0"), offer("beegfs-meta", "20:8.10.0~rc1")]
    assert select(candidates, wanted("client", release="7.4.6")).release == "7.4.6"
    assert select(candidates, wanted("meta", newest=True)).release == "8.10.0"


def test_packages_of_counts_users() -> None:
    assert packages_of("8.1.0", ["meta", "storage"])["libbeegfs-ib"] == (False, ["meta", "storage"])
    assert packages_of("7.4.6", ["client"])["beegfs-helperd"] == (True, ["client"])


def test_is_beegfs() -> None:
    assert [is_beegfs(name) for name in ("beegfs-meta", "libbeegfs-ib", "beeond", "bash", "python3-beegfs")] == [True, True, True, False, False]


def test_an_unfit_package_matters_when_something_asks_for_it() -> None:
    good = [offer("beegfs-storage"), offer("beegfs-meta")]
    odd = dataclasses.replace(offer("site-tool", "", ""), trouble="Cannot use site-tool.")
    selection = select([*good, odd], wanted("storage"))
    assert [choice.candidate.package.name for choice in selection.chosen] == ["beegfs-storage"]
    assert "Cannot use site-tool." in [choice.reason for choice in selection.ignored]
    for name, version, architecture in (("libbeegfs-ib", "", ""), ("libbeegfs-ib", "20:8.1.0", "amd64"), ("beegfs-storage", "", "")):
        unfit = dataclasses.replace(offer(name, version, architecture), trouble="Cannot use it.")
        with pytest.raises(PackageError, match="Cannot use it"):
            select([*good, unfit], wanted("storage"))
    for name, version, architecture in (("libbeegfs-ib", "20:8.0.0", "amd64"), ("libbeegfs-ib", "20:8.1.0", "arm64"), ("beegfs-mon", "", "")):
        unfit = dataclasses.replace(offer(name, version, architecture), trouble="Cannot use it.")
        assert len(select([*good, unfit], wanted("storage")).chosen) == 1
    with pytest.raises(PackageError, match="Cannot use site-tool"):
        select([odd], wanted("storage"))
