# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""NVIDIA drivers that can be had for Debian 13: where from, which kernel modules, for how long, and which kernels they are known not to compile for.

Sources: Debian's package indexes (versions and names); NVIDIA's Driver Installation Guide and the index of its repository for Debian 13 (it begins at
branch 590, package names carry no branch); NVIDIA's list of supported branches (ends of support); compilations in a trixie root file system (kernels).
"""

from __future__ import annotations

import dataclasses
import re

FIRST_BRANCH_OF_REPOSITORY = 590
SOURCES = ("debian", "nvidia", "local")
FLAVOURS = ("proprietary", "open")


@dataclasses.dataclass(frozen=True)
class Driver:
    """A driver that can be installed.

    ``version`` is the full version where the source has exactly one, else empty: then it is the newest of the branch. ``kernel_package`` brings the sources of
    the kernel modules, ``dkms`` is their name in DKMS, with which the names of the modules begin. ``packages`` are the headless tools and libraries.
    ``support`` tells when NVIDIA's support of the branch ends or ended.
    """

    source: str
    branch: int
    version: str
    flavour: str
    kernel_package: str
    dkms: str
    packages: tuple[str, ...]
    support: str = ""

    @property
    def title(self) -> str:
        """How messages call it."""
        return f"{self.source} {self.version or self.branch} {self.flavour}"

    @property
    def modules(self) -> tuple[str, ...]:
        """The kernel modules that a headless machine needs."""
        return self.dkms, f"{self.dkms}-uvm"

    @property
    def cuda_package(self) -> str:
        """The package of the CUDA toolkit of the same source."""
        return "nvidia-cuda-toolkit" if self.source == "debian" else "cuda-toolkit"

    def known_version(self) -> tuple[int, ...]:
        """The version as numbers, as far as it is known."""
        return tuple(int(part) for part in (self.version or str(self.branch)).split("."))


_DEBIAN_550 = ("libcuda1", "libnvidia-cfg1", "libnvidia-ml1", "nvidia-cuda-mps", "nvidia-modprobe", "nvidia-persistenced", "nvidia-smi")
_DEBIAN_535 = (
    "libnvidia-tesla-535-cfg1",
    "libnvidia-tesla-535-cuda1",
    "libnvidia-tesla-535-ml1",
    "nvidia-modprobe",
    "nvidia-persistenced",
    "nvidia-tesla-535-smi",
)
_NVIDIA = ("nvidia-driver-cuda", "nvidia-modprobe", "nvidia-persistenced")
_END_OF_550 = "not in NVIDIA's list of supported branches any more"

# In the order in which they are preferred: Debian's before foreign packages, production branches before new features, proprietary modules where they are the
# only ones that compile.
DEBIAN_DRIVERS: tuple[Driver, ...] = (
    Driver("debian", 550, "550.163.01", "proprietary", "nvidia-kernel-dkms", "nvidia-current", _DEBIAN_550, _END_OF_550),
    Driver("debian", 550, "550.163.01", "open", "nvidia-open-kernel-dkms", "nvidia-current-open", _DEBIAN_550, _END_OF_550),
    Driver("debian", 535, "535.274.02", "proprietary", "nvidia-tesla-535-kernel-dkms", "nvidia-tesla-535", _DEBIAN_535, "until June 2026"),
)
_SUPPORT = {580: "until June 2028", 590: "", 595: "until March 2027", 610: "until August 2026"}
_BRANCHES_OF_REPOSITORY = (595, 590, 610)


def packaged_by_nvidia(source: str, branch: int, flavour: str) -> Driver:
    """A driver in NVIDIA's own packages, from NVIDIA's repository or a copy of it."""
    kernel_package = "nvidia-kernel-open-dkms" if flavour == "open" else "nvidia-kernel-dkms"
    return Driver(source, branch, "", flavour, kernel_package, "nvidia", _NVIDIA, _SUPPORT.get(branch, ""))


def offered(source: str, branch: int | None) -> list[Driver]:
    """The drivers of a source (``auto`` is Debian and NVIDIA), only of ``branch`` when it is given, best first."""
    found: list[Driver] = []
    if source in ("auto", "debian"):
        found += [driver for driver in DEBIAN_DRIVERS if branch in (None, driver.branch)]
    if source in ("auto", "nvidia") and (branch is None or branch >= FIRST_BRANCH_OF_REPOSITORY):
        branches = _BRANCHES_OF_REPOSITORY if branch is None else (branch,)
        found += [packaged_by_nvidia("nvidia", number, flavour) for number in branches for flavour in ("open", "proprietary")]
    if source == "local" and branch is not None:
        found += [packaged_by_nvidia("local", branch, flavour) for flavour in ("open", "proprietary")]
    return found


@dataclasses.dataclass(frozen=True)
class Compilation:
    """What became of compiling a driver for kernels ``first`` up to, but without, ``end``."""

    version: str
    flavour: str
    first: tuple[int, ...]
    end: tuple[int, ...]
    works: bool
    remark: str


# Kernels in between that nobody tried are in no row. "end" of a row that works is right after the newest kernel that was tried.
COMPILATIONS: tuple[Compilation, ...] = (
    Compilation("550.163.01", "open", (6, 12, 94), (6, 12, 95), True, "compiled for 6.12.94"),
    Compilation(
        "550.163.01",
        "open",
        (6, 12, 107),
        (6, 13),
        False,
        "it does not compile for kernels of Debian 13 from 6.12.107 on: pci_resize_resource() takes another argument there (tried with 6.12.107 and 6.12.117)",
    ),
    Compilation("550.163.01", "proprietary", (6, 12, 94), (6, 12, 118), True, "compiled for 6.12.94, 6.12.107 and 6.12.117"),
    Compilation("535.274.02", "proprietary", (6, 12, 117), (6, 12, 118), True, "compiled for 6.12.117"),
)


def kernel_version(release: str) -> tuple[int, ...]:
    """The numbers at the beginning of a kernel release such as 6.12.117+deb13-cloud-amd64."""
    match = re.match(r"\d+(?:\.\d+)*", release)
    return tuple(int(part) for part in match.group(0).split(".")) if match else ()


def compilation(driver: Driver, kernel: str) -> Compilation | None:
    """What is known about compiling a driver for a kernel release, None when nobody tried."""
    version = kernel_version(kernel)
    for row in COMPILATIONS:
        if (row.version, row.flavour) == (driver.version, driver.flavour) and row.first <= version < row.end:
            return row
    return None
