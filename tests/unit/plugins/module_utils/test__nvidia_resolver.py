# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the choice of a driver: each rule, and that a refusal says why."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hyperscaler.images.plugins.module_utils._gpu_models import GpuError
from ansible_collections.hyperscaler.images.plugins.module_utils._nvidia_drivers import COMPILATIONS, DEBIAN_DRIVERS, compilation, kernel_version, offered
from ansible_collections.hyperscaler.images.plugins.module_utils._nvidia_resolver import DriverError, Request, resolve, version_text

CURRENT = "6.12.117+deb13-cloud-amd64"
OLD = "6.12.94+deb13-cloud-amd64"


def title(*gpus: str, **options: t.Any) -> str:
    """The driver that is chosen for GPUs on the current kernel."""
    options.setdefault("kernels", (CURRENT,))
    return resolve(Request(gpus, **options)).driver.title


def refusal(*gpus: str, **options: t.Any) -> str:
    """Why no driver is chosen."""
    options.setdefault("kernels", (CURRENT,))
    with pytest.raises(DriverError) as caught:
        resolve(Request(gpus, **options))
    return str(caught.value)


@pytest.mark.parametrize(
    ("gpus", "options", "expected"),
    [
        ((), {}, "debian 550.163.01 proprietary"),
        (("v100",), {}, "debian 550.163.01 proprietary"),
        (("v100", "t4", "a100", "h100", "h200"), {}, "debian 550.163.01 proprietary"),
        (("a100",), {"mig": ("a100-80gb",)}, "debian 550.163.01 proprietary"),
        (("h200",), {"mig": ("h200",)}, "debian 550.163.01 proprietary"),
        (("b200",), {}, "nvidia 595 open"),
        (("b200", "a100", "t4"), {}, "nvidia 595 open"),
        (("h200-nvl",), {}, "nvidia 595 open"),
        (("h100",), {"source": "nvidia", "flavour": "proprietary"}, "nvidia 595 proprietary"),
        (("h100",), {"branch": 590}, "nvidia 590 open"),
        (("h100",), {"branch": 535}, "debian 535.274.02 proprietary"),
        (("v100",), {"source": "local", "branch": 580}, "local 580 proprietary"),
        (("v100",), {"source": "local", "branch": 580, "flavour": "proprietary"}, "local 580 proprietary"),
        ((), {"flavour": "open", "kernels": (OLD,)}, "debian 550.163.01 open"),
        ((), {"flavour": "open"}, "nvidia 595 open"),
        (("gh200",), {"architecture": "arm64"}, "nvidia 595 open"),
    ],
)
def test_choice(gpus: tuple[str, ...], options: dict[str, t.Any], expected: str) -> None:
    assert title(*gpus, **options) == expected


@pytest.mark.parametrize(
    ("gpus", "options", "reason"),
    [
        (("v100", "b200"), {}, "nvidia 595 open: v100 has no GSP, which the open kernel modules need; 580 is the last branch with v100"),
        (("v100", "b200"), {}, "debian 550.163.01 proprietary: b200 works with the open kernel modules only; b200 needs branch 570 or newer"),
        (("h200",), {"mig": ("h200",), "branch": 535}, "h200 needs branch 550 or newer; MIG on h200 needs 550.90.07 or newer"),
        (("v100",), {"source": "nvidia"}, "nvidia 610 proprietary: 580 is the last branch with v100"),
        (("v100",), {"flavour": "open"}, "debian 550.163.01 open: v100 has no GSP"),
        (("b200",), {"flavour": "proprietary"}, "nvidia 595 proprietary: b200 works with the open kernel modules only"),
        (("b200",), {"source": "debian"}, "debian 550.163.01 open: b200 needs branch 570 or newer"),
        ((), {"flavour": "open", "source": "debian"}, f"kernel {CURRENT}: it does not compile for kernels of Debian 13 from 6.12.107 on"),
        ((), {"flavour": "open", "branch": 550, "kernels": (OLD, CURRENT)}, f"kernel {CURRENT}: it does not compile"),
        (("a100",), {"source": "nvidia", "branch": 620, "flavour": "proprietary"}, "branches after 610 have no proprietary kernel modules"),
        (("l40s",), {"mig": ("l40s",)}, "debian 550.163.01 proprietary: l40s has no MIG"),
        (("a100",), {"source": "debian", "branch": 470}, "no driver of that branch is offered there"),
        (("h100",), {"source": "nvidia", "branch": 570}, "NVIDIA's repository for Debian 13: it begins at 590"),
        (("v100",), {"source": "local"}, "Name the branch"),
        (("b300",), {"source": "local", "branch": 570}, "b300 needs branch 580 or newer"),
        (("gb200", "a100"), {}, "Cannot serve gb200 with an image for amd64"),
        (("a100",), {"architecture": "arm64"}, "Cannot serve a100 with an image for arm64"),
    ],
)
def test_refusal_says_why(gpus: tuple[str, ...], options: dict[str, t.Any], reason: str) -> None:
    assert reason in refusal(*gpus, **options)


def test_refusal_names_every_driver_and_how_to_divide_the_gpus() -> None:
    text = refusal("v100", "h100", "b200")
    for driver in offered("auto", None):
        assert f"\n  {driver.title}: " in text
    assert text.endswith("Make one image for each of these: v100, h100 (debian 550.163.01 proprietary); b200 (nvidia 595 open).")


def test_refusal_of_a_single_gpu_proposes_other_sources() -> None:
    assert refusal("b200", source="debian").endswith("Allow another source, branch or flavour, or use a repository of your own (source local).")


def test_mig_may_be_the_only_thing_that_is_said_of_a_gpu() -> None:
    assert title(mig=("b200",)) == "nvidia 595 open"


def test_unknown_gpu_is_refused() -> None:
    with pytest.raises(GpuError, match="'geforce'"):
        resolve(Request(("geforce",)))


def test_choice_tells_what_was_rejected_and_what_is_worth_knowing() -> None:
    choice = resolve(Request(("b200",), kernels=(CURRENT,)))
    assert list(choice.rejected) == [driver.title for driver in DEBIAN_DRIVERS]
    assert choice.warnings == []
    old = resolve(Request(kernels=("7.2.12+deb13-amd64",)))
    assert "not in NVIDIA's list of supported branches" in old.warnings[0]
    assert old.warnings[1] == "Nobody has recorded yet whether debian 550.163.01 proprietary compiles for 7.2.12+deb13-amd64."


def test_packages_follow_the_driver() -> None:
    driver = resolve(Request(kernels=(CURRENT,))).driver
    assert driver.packages == ("libcuda1", "libnvidia-cfg1", "libnvidia-ml1", "nvidia-cuda-mps", "nvidia-modprobe", "nvidia-persistenced", "nvidia-smi")
    assert (driver.kernel_package, driver.modules, driver.cuda_package) == (
        "nvidia-kernel-dkms",
        ("nvidia-current", "nvidia-current-uvm"),
        "nvidia-cuda-toolkit",
    )
    driver = resolve(Request(("b200",))).driver
    assert (driver.kernel_package, driver.modules, driver.cuda_package) == ("nvidia-kernel-open-dkms", ("nvidia", "nvidia-uvm"), "cuda-toolkit")
    assert resolve(Request(source="nvidia", flavour="proprietary")).driver.kernel_package == "nvidia-kernel-dkms"


def test_compilations_are_about_drivers_that_there_are() -> None:
    known = {(driver.version, driver.flavour) for driver in DEBIAN_DRIVERS}
    for row in COMPILATIONS:
        assert (row.version, row.flavour) in known
        assert row.first < row.end
        assert row.remark


@pytest.mark.parametrize(
    ("kernel", "works"),
    [
        ("6.12.94+deb13-amd64", True),
        ("6.12.100+deb13-amd64", None),
        ("6.12.107+deb13-amd64", False),
        (CURRENT, False),
        ("7.2.12+deb13-amd64", None),
        ("x", None),
    ],
)
def test_what_is_known_of_kernels(kernel: str, works: bool | None) -> None:
    known = compilation(DEBIAN_DRIVERS[1], kernel)
    assert (None if known is None else known.works) is works


def test_numbers() -> None:
    assert kernel_version("6.12.117+deb13-cloud-amd64") == (6, 12, 117)
    assert kernel_version("stable") == ()
    assert version_text((450, 80, 2)) == "450.80.02"
