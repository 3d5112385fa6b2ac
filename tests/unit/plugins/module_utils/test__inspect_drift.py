# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether modules that were compiled for the kernel of an image outlive its next update."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_drift import check_drift
from ansible_collections.hyperscaler.images.tests.unit.plugins.module_utils.inspect_fake_image import KERNEL, FakeImage, clean_image, module_file

IMAGE, HEADERS = "linux-image-cloud-amd64", "linux-headers-cloud-amd64"


@pytest.fixture
def image(tmp_path: Path) -> FakeImage:
    return clean_image(tmp_path)


@pytest.mark.parametrize(
    ("packages", "lacking"),
    [
        ((), ""),
        ((f"linux-image-{KERNEL}", "dkms"), ""),
        ((IMAGE,), "dkms"),
        ((IMAGE, "dkms"), HEADERS),
        ((IMAGE, "dkms", f"linux-headers-{KERNEL}"), HEADERS),
        ((IMAGE, "dkms", "linux-headers-amd64"), HEADERS),
        ((IMAGE, "dkms", HEADERS), ""),
        ((f"{IMAGE} hold",), ""),
        ((f"{IMAGE} hold", "linux-image-amd64", "dkms"), "linux-headers-amd64"),
        (("linux-image-rt-arm64-16k", "dkms"), "linux-headers-rt-arm64-16k"),
        (("linux-image-amd64-dbg",), ""),
    ],
)
def test_headers_follow_or_the_kernel_stays(image: FakeImage, packages: tuple[str, ...], lacking: str) -> None:
    image.install(*packages)
    found = [finding.message for finding in check_drift(image.subject())]
    assert [f"without {lacking} they are not compiled" in message for message in found] == ([True] if lacking else [])


def test_an_image_without_such_modules_may_change_its_kernel(image: FakeImage) -> None:
    image.remove(f"/usr/lib/modules/{KERNEL}/updates/dkms/nvidia-current.ko")
    image.install(IMAGE)
    assert not list(check_drift(image.subject()))


def test_modules_of_packages_are_the_business_of_those(image: FakeImage) -> None:
    module = f"/usr/lib/modules/{KERNEL}/updates/dkms/nvidia-current.ko"
    image.install(IMAGE, f"nvidia-kernel-{KERNEL}")
    image.write(f"/var/lib/dpkg/info/nvidia-kernel-{KERNEL}.list", f"/.\n{module}\n")
    assert not list(check_drift(image.subject()))
    for number in range(4):
        image.write(f"/usr/lib/modules/{KERNEL}/extra/site{number}.ko.xz", module_file(KERNEL))
    assert "for it: site0, site1, site2 and 1 more. " in next(check_drift(image.subject())).message
