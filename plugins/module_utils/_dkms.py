# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Compile kernel modules with DKMS for kernels that are installed, not for the one that runs, and prove the result."""

from __future__ import annotations

import contextlib
import dataclasses
import filecmp
import os
import re
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import part_file

LOG_LINES = 40
LOG_WIDTH = 240
SIGNING_KEYS = ("mok.key", "mok.pub")


class DkmsError(ImageError):
    """A kernel module cannot be compiled, or does not fit the kernel that it was compiled for."""


@dataclasses.dataclass(frozen=True)
class Places:
    """Where kernels, module sources and the state of DKMS are."""

    kernels: Path = Path("/lib/modules")
    sources: Path = Path("/usr/src")
    state: Path = Path("/var/lib/dkms")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A DKMS package at a version, the modules that it must yield, and the kernels that need them."""

    name: str
    version: str
    modules: tuple[str, ...]
    kernels: tuple[str, ...]


def wanted_from(name: str, version: str | None, modules: t.Sequence[str], kernels: t.Sequence[str], places: Places) -> Wanted:
    """Complete what the caller left open from what is installed."""
    found = tuple(kernels) or installed_kernels(places)
    if not found:
        raise DkmsError(
            f"Cannot compile {name}: {places.kernels} holds no kernel with modules of its own. Install the kernel of the image first, for instance "
            "linux-image-cloud-amd64, or name the kernel releases."
        )
    return Wanted(name, version or newest_source(name, places), tuple(modules), found)


def installed_kernels(places: Places) -> tuple[str, ...]:
    """The releases of the kernels that are installed; a folder that a removed kernel left behind has no folder kernel in it."""
    return tuple(sorted(path.parent.name for path in places.kernels.glob("*/kernel")))


def newest_source(name: str, places: Places) -> str:
    """The highest version of the sources of a DKMS package."""
    versions = [path.name[len(name) + 1 :] for path in places.sources.glob(f"{name}-[0-9]*") if (path / "dkms.conf").is_file()]
    if not versions:
        raise DkmsError(f"Cannot compile {name}: there is no {places.sources}/{name}-VERSION with a dkms.conf. Install the DKMS package that brings it.")
    return max(versions, key=lambda version: [int(part) for part in re.findall(r"\d+", version)])


class Dkms:
    """DKMS and the tool that reads compiled modules."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._modinfo = Command("modinfo", reason="check compiled kernel modules", package="kmod")
        # Reading a module means decompressing it, which takes seconds for the driver of NVIDIA.
        self._read: dict[tuple[str, str], str | None] = {}

    def vermagic(self, module: str, kernel: str) -> str | None:
        """The kernel that a module was compiled for; None when the kernel has no such module."""
        if (module, kernel) not in self._read:
            self._read[module, kernel] = self._ask(module, kernel)
        return self._read[module, kernel]

    def _ask(self, module: str, kernel: str) -> str | None:
        result = self._modinfo.run("-k", kernel, "-F", "vermagic", module, attempt=f"read the module {module} of kernel {kernel}", accepted=(0, 1))
        return result.stdout.strip() if result.rc == 0 else None

    def missing(self, wanted: Wanted) -> list[str]:
        """The kernels that lack a module, or for which DKMS does not list this version as installed."""
        return [
            kernel for kernel in wanted.kernels if not self._installed(wanted, kernel) or any(self.vermagic(name, kernel) is None for name in wanted.modules)
        ]

    def _installed(self, wanted: Wanted, kernel: str) -> bool:
        """Whether DKMS has its mark for this version and kernel; asking it takes seconds, because it compares the modules byte by byte."""
        links = [path for path in (self._places.state / wanted.name).glob("kernel-*") if path.is_symlink()]
        return any(link.readlink().parts[:2] == (wanted.version, kernel) for link in links)

    def compile(self, wanted: Wanted, kernel: str) -> None:
        """Compile and install the modules for one kernel."""
        if not (self._places.kernels / kernel / "build" / "include").exists():
            raise DkmsError(
                f"Cannot compile {wanted.name} {wanted.version} for kernel {kernel}: its headers are not installed. "
                f"Install linux-headers-{kernel} without recommended packages; the metapackage would bring another kernel."
            )
        self._read.clear()
        dkms = Command("dkms", reason="compile kernel modules", package="dkms")
        try:
            dkms.run("install", *_which(wanted, kernel), "--force", attempt=f"compile {wanted.name} {wanted.version} for kernel {kernel}")
        except CommandError as error:
            log = newest_log(wanted, self._places)
            raise DkmsError(
                f"{error} Choose another version or kernel, or read {log or 'the output of dkms'}. The log ends with:\n{tail(log)}", **error.details
            ) from error

    def share(self, wanted: Wanted, kernel: str) -> None:
        """Make one file of the copy of a module that DKMS keeps and the installed one; with the driver of NVIDIA that is 40 MiB."""
        for kept in (self._places.state / wanted.name / wanted.version / kernel).glob("*/module/*.ko*"):
            for installed in (self._places.kernels / kernel / "updates").rglob(kept.name):
                if not kept.samefile(installed) and filecmp.cmp(kept, installed, shallow=False):
                    with contextlib.suppress(OSError), part_file(kept) as part:
                        os.link(installed, part)

    def prove(self, wanted: Wanted) -> dict[str, dict[str, str]]:
        """The vermagic of every module for every kernel; DKMS itself also ends well when it compiled nothing."""
        proof: dict[str, dict[str, str]] = {}
        for kernel in wanted.kernels:
            found = {name: self.vermagic(name, kernel) for name in wanted.modules}
            proof[kernel] = {name: magic for name, magic in found.items() if magic is not None}
            lost = [name for name, magic in found.items() if magic is None]
            foreign = [f"{name} (compiled for {magic.split()[0]})" for name, magic in proof[kernel].items() if magic.split()[:1] != [kernel]]
            if lost or foreign:
                raise DkmsError(
                    f"The modules of {wanted.name} {wanted.version} do not fit kernel {kernel}: missing {', '.join(lost) or 'none'}; "
                    f"for another kernel {', '.join(foreign) or 'none'}. Remove them with dkms remove and compile again."
                )
        return proof


def _which(wanted: Wanted, kernel: str) -> tuple[str, ...]:
    return "-m", wanted.name, "-v", wanted.version, "-k", kernel


def newest_log(wanted: Wanted, places: Places) -> Path | None:
    """The log of the compiler that was written last."""
    logs = list((places.state / wanted.name / wanted.version).rglob("make.log"))
    return max(logs, key=lambda path: path.stat().st_mtime) if logs else None


def tail(log: Path | None) -> str:
    """The last lines of a log; calls of the compiler are shortened."""
    lines = [] if log is None else log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
    return "\n".join(line if len(line) <= LOG_WIDTH else line[: LOG_WIDTH - 1] + "…" for line in lines)


def signing_keys(places: Places) -> list[Path]:
    """The key pair that DKMS made by itself. It is enrolled nowhere, and in an image it would be known to every machine."""
    return [path for path in (places.state / name for name in SIGNING_KEYS) if path.exists()]


def remove_signing_keys(places: Places) -> None:
    for path in signing_keys(places):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
