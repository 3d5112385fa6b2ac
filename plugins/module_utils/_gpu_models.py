# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""NVIDIA's data centre GPUs: names, PCI device ids, what drives them, and how MIG divides them.

Sources: the tables of compatible GPUs in the README of NVIDIA's open kernel modules at 535.274.02, 550.163.01, 570.133.20, 575.51.03, 580.95.05,
590.48.01, 595.45.04 and 610.43.03 (ids, product names, first branch); the PCI ID database (ids of Volta, of editions before their own entry in those tables,
and the memory of editions with one name); NVIDIA's vGPU User Guide (A100X, A30X); NVIDIA's MIG User Guide (compute capability, slices, profiles of RTX PRO,
first driver with MIG); the default configuration of NVIDIA's mig-parted (profiles and how often each fits); printed output of ``nvidia-smi mig -lgip``
(memory and numbers of profiles, where given).

Profiles differ between drivers and editions, so the table is what is checked, not all that is possible: a layout may name further ones (see _mig.py).
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError

# The last branch for Volta and older, and the last one with proprietary kernel modules.
LAST_BRANCH_OF_VOLTA = 580
LAST_PROPRIETARY_BRANCH = 610


class GpuError(ImageError):
    """A GPU that is not known, or something that a GPU cannot do."""


@dataclasses.dataclass(frozen=True)
class MigProfile:
    """A way to cut an instance out of a GPU.

    ``identifier`` is the number that NVIDIA's tools give it. ``compute`` and ``memory`` count slices, ``starts`` are the memory slices at which it may begin.
    ``gib`` is the memory that the driver reports in GiB, None where that is not known; the name only says it roughly.
    """

    name: str
    identifier: int | None
    count: int
    compute: int
    memory: int
    starts: tuple[int, ...]
    gib: float | None = None

    @property
    def media(self) -> bool:
        """Whether it has the engine for optical flow, which a GPU can give to one instance only."""
        return self.name.endswith(("+me", "+me.all"))

    @property
    def all_media(self) -> bool:
        """Whether it has all media engines, so that the other instances must do without any."""
        return self.name.endswith("+me.all")

    @property
    def no_media(self) -> bool:
        """Whether it has no media engine."""
        return self.name.endswith("-me")


@dataclasses.dataclass(frozen=True)
class Mig:
    """How a GPU is divided: slices of compute and memory, the first driver that does it, the profiles.

    ``reset`` tells that the GPU must be reset when the mode changes; such a GPU also remembers the mode. Instances are never remembered.
    """

    driver: tuple[int, ...]
    compute: int
    memory: int
    reset: bool
    profiles: tuple[MigProfile, ...]


@dataclasses.dataclass(frozen=True)
class GpuModel:
    """A GPU.

    ``family`` is what users name when they say which GPUs an image must serve, ``product`` the name that the driver reports (of several, a common one).
    ``capability`` is the compute capability, ``since`` the first driver branch with support for it (535 stands for that branch or an older one),
    ``open`` and ``proprietary`` tell which kernel modules drive it, ``host`` is the architecture of machines that have it.
    """

    name: str
    family: str
    product: str
    architecture: str
    capability: str
    memory_gb: int
    pci_ids: tuple[str, ...]
    since: int = 535
    open: bool = True
    proprietary: bool = True
    host: str = "amd64"
    mig: Mig | None = None

    @property
    def last(self) -> int | None:
        """The last branch with support for it, None when support has not ended."""
        return None if self.open else LAST_BRANCH_OF_VOLTA

    @property
    def slurm_name(self) -> str:
        """The name that Slurm makes of the product name for MIG instances: in lower case, up to the first hyphen."""
        return self.product.lower().replace(" ", "_").partition("-")[0]


def _seven(driver: tuple[int, ...], gb: tuple[int, int, int, int], reset: bool = False, gib: tuple[float | None, ...] = (None,) * 4) -> Mig:
    """A GPU of seven compute and eight memory slices; the sizes are those of one, two, four and all memory slices."""
    one, two, four, full = gb
    profiles = (
        MigProfile(f"1g.{one}gb", 19, 7, 1, 1, tuple(range(7)), gib[0]),
        MigProfile(f"1g.{one}gb+me", 20, 1, 1, 1, tuple(range(7)), gib[0]),
        MigProfile(f"1g.{two}gb", 15, 4, 1, 2, (0, 2, 4, 6), gib[1]),
        MigProfile(f"2g.{two}gb", 14, 3, 2, 2, (0, 2, 4), gib[1]),
        MigProfile(f"3g.{four}gb", 9, 2, 3, 4, (0, 4), gib[2]),
        MigProfile(f"4g.{four}gb", 5, 1, 4, 4, (0,), gib[2]),
        MigProfile(f"7g.{full}gb", 0, 1, 7, 8, (0,), gib[3]),
    )
    return Mig(driver, 7, 8, reset, profiles)


_A30 = Mig(
    (460, 73, 1),
    4,
    4,
    True,
    (
        MigProfile("1g.6gb", 14, 4, 1, 1, (0, 1, 2, 3)),
        MigProfile("1g.6gb+me", 21, 1, 1, 1, (0, 1, 2, 3)),
        MigProfile("2g.12gb", 5, 2, 2, 2, (0, 2)),
        MigProfile("2g.12gb+me", 6, 1, 2, 2, (0, 2)),
        MigProfile("4g.24gb", 0, 1, 4, 4, (0,)),
    ),
)
_RTX_PRO_6000 = Mig(
    (575, 51, 3),
    4,
    4,
    False,
    (
        MigProfile("1g.24gb", 14, 4, 1, 1, (0, 1, 2, 3), 23.62),
        MigProfile("1g.24gb+me", 21, 1, 1, 1, (0, 1, 2, 3), 23.62),
        MigProfile("1g.24gb+gfx", 47, 4, 1, 1, (0, 1, 2, 3), 23.62),
        MigProfile("1g.24gb+me.all", 65, 1, 1, 1, (0, 1, 2, 3), 23.62),
        MigProfile("1g.24gb-me", 67, 4, 1, 1, (0, 1, 2, 3), 23.62),
        MigProfile("2g.48gb", 5, 2, 2, 2, (0, 2), 47.38),
        MigProfile("2g.48gb+gfx", 35, 2, 2, 2, (0, 2), 47.38),
        MigProfile("2g.48gb+me.all", 64, 1, 2, 2, (0, 2), 47.38),
        MigProfile("2g.48gb-me", 66, 2, 2, 2, (0, 2), 47.38),
        MigProfile("4g.96gb", 0, 1, 4, 4, (0,), 95.0),
        MigProfile("4g.96gb+gfx", 32, 1, 4, 4, (0,), 95.0),
    ),
)


def _two(driver: tuple[int, ...], half: int, full: int, more: tuple[str, ...]) -> Mig:
    """A GPU that is divided into halves; ``more`` are suffixes of profiles that only one of both halves can have."""
    profiles = (
        *(MigProfile(f"1g.{half}gb{suffix}", None, 2, 1, 1, (0, 1)) for suffix in ("", "+gfx", "-me")),
        *(MigProfile(f"1g.{half}gb{suffix}", None, 1, 1, 1, (0, 1)) for suffix in more),
        *(MigProfile(f"2g.{full}gb{suffix}", None, 1, 2, 2, (0,)) for suffix in ("", "+gfx")),
    )
    return Mig(driver, 2, 2, False, profiles)


_RTX_PRO_5000 = _two((575, 57, 8), 24, 48, ("+me", "+me.all"))
_RTX_PRO_4500 = _two((575, 64), 16, 32, ("+me.all",))
_A100_DRIVER, _H100_DRIVER, _H20_DRIVER, _H200_DRIVER = (450, 80, 2), (525, 85, 12), (535, 161, 7), (550, 90, 7)
_B200_DRIVER, _B300_DRIVER, _GB300_DRIVER = (570, 133, 20), (580, 82, 7), (595, 58, 3)
_GIB_H100 = (9.75, 19.62, 39.5, 79.25)

_VOLTA: dict[str, t.Any] = {"architecture": "Volta", "capability": "7.0", "open": False}
_AMPERE: dict[str, t.Any] = {"architecture": "Ampere", "capability": "8.0"}
_AMPERE_6: dict[str, t.Any] = {"architecture": "Ampere", "capability": "8.6"}
_ADA: dict[str, t.Any] = {"architecture": "Ada Lovelace", "capability": "8.9"}
_HOPPER: dict[str, t.Any] = {"architecture": "Hopper", "capability": "9.0"}
_GRACE_HOPPER: dict[str, t.Any] = {**_HOPPER, "proprietary": False, "host": "arm64"}
_BLACKWELL: dict[str, t.Any] = {"architecture": "Blackwell", "proprietary": False}

MODELS: tuple[GpuModel, ...] = (
    GpuModel("v100-16gb", "v100", "Tesla V100-SXM2-16GB", memory_gb=16, pci_ids=("1DB1", "1DB3", "1DB4"), **_VOLTA),
    GpuModel("v100-32gb", "v100", "Tesla V100-SXM2-32GB", memory_gb=32, pci_ids=("1DB5", "1DB6", "1DB8", "1DF6"), **_VOLTA),
    GpuModel("t4", "t4", "Tesla T4", "Turing", "7.5", 16, ("1EB8",)),
    GpuModel("a2", "a2", "NVIDIA A2", memory_gb=16, pci_ids=("25B6",), **_AMPERE_6),
    GpuModel("a16", "a16", "NVIDIA A16", memory_gb=16, pci_ids=("25B6",), **_AMPERE_6),
    GpuModel("a10", "a10", "NVIDIA A10", memory_gb=24, pci_ids=("2236", "2237", "2238"), **_AMPERE_6),
    GpuModel("a40", "a40", "NVIDIA A40", memory_gb=48, pci_ids=("2235",), **_AMPERE_6),
    GpuModel("a30", "a30", "NVIDIA A30", memory_gb=24, pci_ids=("20B7", "20B9"), mig=_A30, **_AMPERE),
    GpuModel(
        "a100-40gb",
        "a100",
        "NVIDIA A100-SXM4-40GB",
        memory_gb=40,
        pci_ids=("20B0", "20B1", "20BD", "20F1", "20F6"),
        mig=_seven(_A100_DRIVER, (5, 10, 20, 40), True, (4.75, 9.75, 19.62, 39.38)),
        **_AMPERE,
    ),
    GpuModel(
        "a100-80gb",
        "a100",
        "NVIDIA A100-SXM4-80GB",
        memory_gb=80,
        pci_ids=("20B2", "20B5", "20B8", "20F3", "20F5", "20FD"),
        mig=_seven(_A100_DRIVER, (10, 20, 40, 80), True, (9.5, 19.5, 39.25, 79.0)),
        **_AMPERE,
    ),
    GpuModel("l4", "l4", "NVIDIA L4", memory_gb=24, pci_ids=("27B8",), **_ADA),
    GpuModel("l20", "l20", "NVIDIA L20", memory_gb=48, pci_ids=("26BA",), **_ADA),
    GpuModel("l40", "l40", "NVIDIA L40", memory_gb=48, pci_ids=("26B5",), **_ADA),
    GpuModel("l40s", "l40s", "NVIDIA L40S", memory_gb=48, pci_ids=("26B9",), **_ADA),
    GpuModel(
        "h100-80gb",
        "h100",
        "NVIDIA H100 80GB HBM3",
        memory_gb=80,
        pci_ids=("2322", "2324", "2330", "2331"),
        mig=_seven(_H100_DRIVER, (10, 20, 40, 80), gib=_GIB_H100),
        **_HOPPER,
    ),
    GpuModel("h100-nvl", "h100", "NVIDIA H100 NVL", memory_gb=94, pci_ids=("2321", "233A"), mig=_seven(_H100_DRIVER, (12, 24, 47, 94)), **_HOPPER),
    GpuModel("h100-94gb", "h100", "NVIDIA H100", memory_gb=94, pci_ids=("2339",), mig=_seven(_H100_DRIVER, (12, 24, 47, 94)), **_HOPPER),
    GpuModel("h100-96gb", "h100", "NVIDIA H100", memory_gb=96, pci_ids=("2338", "233D"), mig=_seven(_H100_DRIVER, (12, 24, 48, 96)), **_HOPPER),
    GpuModel("h20", "h20", "NVIDIA H20", memory_gb=96, pci_ids=("2329",), mig=_seven(_H20_DRIVER, (12, 24, 48, 96)), **_HOPPER),
    GpuModel(
        "h200",
        "h200",
        "NVIDIA H200",
        memory_gb=141,
        pci_ids=("2335",),
        since=550,
        mig=_seven(_H200_DRIVER, (18, 35, 71, 141), gib=(16.0, 32.5, None, 140.0)),
        **_HOPPER,
    ),
    GpuModel("h200-nvl", "h200-nvl", "NVIDIA H200 NVL", memory_gb=141, pci_ids=("233B",), since=570, mig=_seven(_H200_DRIVER, (18, 35, 71, 141)), **_HOPPER),
    GpuModel("gh200-96gb", "gh200", "NVIDIA GH200 480GB", memory_gb=96, pci_ids=("2342",), mig=_seven(_H100_DRIVER, (12, 24, 48, 96)), **_GRACE_HOPPER),
    GpuModel(
        "gh200-144gb",
        "gh200-144gb",
        "NVIDIA GH200 144G HBM3e",
        memory_gb=144,
        pci_ids=("2348",),
        since=570,
        mig=_seven(_H100_DRIVER, (18, 36, 72, 144)),
        **_GRACE_HOPPER,
    ),
    GpuModel(
        "b200",
        "b200",
        "NVIDIA B200",
        capability="10.0",
        memory_gb=180,
        pci_ids=("2901", "2909"),
        since=570,
        mig=_seven(_B200_DRIVER, (23, 45, 90, 180)),
        **_BLACKWELL,
    ),
    GpuModel(
        "gb200",
        "gb200",
        "NVIDIA GB200",
        capability="10.0",
        memory_gb=186,
        pci_ids=("2941",),
        since=570,
        host="arm64",
        mig=_seven(_B200_DRIVER, (23, 47, 93, 186)),
        **_BLACKWELL,
    ),
    GpuModel(
        "b300",
        "b300",
        "NVIDIA B300 SXM6 AC",
        capability="10.3",
        memory_gb=269,
        pci_ids=("3182",),
        since=580,
        mig=_seven(_B300_DRIVER, (34, 67, 135, 269)),
        **_BLACKWELL,
    ),
    GpuModel(
        "gb300",
        "gb300",
        "NVIDIA GB300",
        capability="10.3",
        memory_gb=278,
        pci_ids=("31C2", "31C3"),
        since=580,
        host="arm64",
        mig=_seven(_GB300_DRIVER, (35, 70, 139, 278)),
        **_BLACKWELL,
    ),
    GpuModel(
        "rtx-pro-6000",
        "rtx-pro-6000",
        "NVIDIA RTX PRO 6000 Blackwell Server Edition",
        capability="12.0",
        memory_gb=96,
        pci_ids=("2BB1", "2BB4", "2BB5"),
        since=575,
        mig=_RTX_PRO_6000,
        **_BLACKWELL,
    ),
    GpuModel(
        "rtx-pro-5000",
        "rtx-pro-5000",
        "NVIDIA RTX PRO 5000 Blackwell",
        capability="12.0",
        memory_gb=48,
        pci_ids=("2BB3",),
        since=575,
        mig=_RTX_PRO_5000,
        **_BLACKWELL,
    ),
    GpuModel(
        "rtx-pro-4500",
        "rtx-pro-4500",
        "NVIDIA RTX PRO 4500 Blackwell",
        capability="12.0",
        memory_gb=32,
        pci_ids=("2C31", "2C3A"),
        since=575,
        mig=_RTX_PRO_4500,
        **_BLACKWELL,
    ),
)
FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(model.family for model in MODELS))


def family_of(name: str) -> list[GpuModel]:
    """The models of a family; the name of a single model is taken too. Raises GpuError for anything else."""
    wanted = name.strip().lower().replace("_", "-").replace(" ", "-")
    found = [model for model in MODELS if model.family == wanted] or [model for model in MODELS if model.name == wanted]
    if not found:
        raise GpuError(f"Cannot serve the GPU {name!r}: it is not known. Known are {', '.join(FAMILIES)}. Name one of these, or add its facts to the table.")
    return found


def model_of(name: str) -> GpuModel:
    """The model of this name; a family with a single model is taken too. Raises GpuError for anything else."""
    found = family_of(name)
    if len(found) > 1:
        raise GpuError(f"Cannot tell which {name} is meant: there are {', '.join(model.name for model in found)}. Name one of these.")
    return found[0]
