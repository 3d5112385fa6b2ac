# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Choose the NVIDIA driver that serves all GPUs of an image, or say why none does."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._gpu_models import LAST_PROPRIETARY_BRANCH, GpuModel, family_of, model_of
from ansible_collections.hyperscaler.images.plugins.module_utils._nvidia_drivers import FIRST_BRANCH_OF_REPOSITORY, Driver, compilation, offered


class DriverError(ImageError):
    """No driver serves what was asked for."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What a driver must serve, and what its user has decided already (``auto`` and None where not)."""

    gpus: tuple[str, ...] = ()
    mig: tuple[str, ...] = ()
    source: str = "auto"
    flavour: str = "auto"
    branch: int | None = None
    kernels: tuple[str, ...] = ()
    architecture: str = "amd64"

    def models(self) -> list[GpuModel]:
        """All models that must be served; raises GpuError for a name that is not known."""
        found = [model for name in self.gpus for model in family_of(name)] + [model_of(name) for name in self.mig]
        return list(dict.fromkeys(found))


@dataclasses.dataclass(frozen=True)
class Choice:
    """The driver that was chosen, why each better one was not, and what its user should know."""

    driver: Driver
    rejected: dict[str, list[str]]
    warnings: list[str]


def resolve(request: Request) -> Choice:
    """Choose a driver; raises DriverError with the table of all drivers and what each lacks."""
    _refuse_contradictions(request)
    models = request.models()
    _refuse_hosts(models, request.architecture)
    rejected: dict[str, list[str]] = {}
    for driver in offered(request.source, request.branch):
        reasons = objections(driver, models, request)
        if not reasons:
            return Choice(driver, rejected, warnings(driver, request))
        rejected[driver.title] = reasons
    raise DriverError(_refusal(models, request, rejected), rejected=rejected)


def objections(driver: Driver, models: t.Sequence[GpuModel], request: Request) -> list[str]:
    """Why a driver cannot be taken, empty when it can."""
    reasons = []
    if request.flavour not in ("auto", driver.flavour):
        reasons.append(f"the {request.flavour} kernel modules were asked for")
    reasons += [reason for model in models for reason in _model_objections(driver, model)]
    for model in (model_of(name) for name in request.mig):
        reasons += _mig_objections(driver, model)
    for kernel in request.kernels:
        known = compilation(driver, kernel)
        if known is not None and not known.works:
            reasons.append(f"kernel {kernel}: {known.remark}")
    return list(dict.fromkeys(reasons))


def _model_objections(driver: Driver, model: GpuModel) -> t.Iterator[str]:
    if driver.flavour == "open" and not model.open:
        yield f"{model.family} has no GSP, which the open kernel modules need"
    if driver.flavour == "proprietary" and not model.proprietary:
        yield f"{model.family} works with the open kernel modules only"
    if driver.branch < model.since:
        yield f"{model.family} needs branch {model.since} or newer"
    if model.last is not None and driver.branch > model.last:
        yield f"{model.last} is the last branch with {model.family}"
    if driver.flavour == "proprietary" and driver.branch > LAST_PROPRIETARY_BRANCH:
        yield f"branches after {LAST_PROPRIETARY_BRANCH} have no proprietary kernel modules"


def _mig_objections(driver: Driver, model: GpuModel) -> t.Iterator[str]:
    if model.mig is None:
        yield f"{model.name} has no MIG"
    else:
        known = driver.known_version()
        # Of a branch without a known version the newest is installed.
        if known < model.mig.driver[: len(known)]:
            yield f"MIG on {model.name} needs {version_text(model.mig.driver)} or newer"


def warnings(driver: Driver, request: Request) -> list[str]:
    """What a user of this driver should know."""
    found = []
    if driver.support and not driver.support.startswith("until"):
        found.append(f"Branch {driver.branch} is {driver.support}; Debian only repackages it.")
    untried = [kernel for kernel in request.kernels if driver.source == "debian" and compilation(driver, kernel) is None]
    if untried:
        found.append(f"Nobody has recorded yet whether {driver.title} compiles for {', '.join(untried)}.")
    return found


def _refuse_contradictions(request: Request) -> None:
    if request.source == "nvidia" and request.branch is not None and request.branch < FIRST_BRANCH_OF_REPOSITORY:
        raise DriverError(
            f"Cannot take branch {request.branch} from NVIDIA's repository for Debian 13: it begins at {FIRST_BRANCH_OF_REPOSITORY}. Its repository for "
            "Debian 12 is signed in a way that Debian 13 rejects. Use a newer branch, Debian's packages, or a repository of your own (source local)."
        )
    if request.source == "local" and request.branch is None:
        raise DriverError("Cannot choose a driver from a repository of your own: it is not known which branches it holds. Name the branch.")


def _refuse_hosts(models: t.Sequence[GpuModel], architecture: str) -> None:
    strangers = [model.family for model in models if model.host != architecture]
    if strangers:
        raise DriverError(
            f"Cannot serve {', '.join(dict.fromkeys(strangers))} with an image for {architecture}: these GPUs are in machines with another processor "
            f"({', '.join(dict.fromkeys(model.host for model in models if model.host != architecture))}). Leave them out."
        )


def _refusal(models: t.Sequence[GpuModel], request: Request, rejected: t.Mapping[str, t.Sequence[str]]) -> str:
    names = ", ".join(dict.fromkeys(model.family for model in models)) or "the wish"
    limits = [f"source {request.source}", f"flavour {request.flavour}", f"branch {request.branch or 'auto'}"]
    rows = [f"  {title}: {'; '.join(reasons)}" for title, reasons in rejected.items()] or ["  no driver of that branch is offered there"]
    return f"No NVIDIA driver serves {names} ({', '.join(limits)}):\n" + "\n".join(rows) + f"\n{_advice(models, request)}"


def _advice(models: t.Sequence[GpuModel], request: Request) -> str:
    """Say how the GPUs can be divided among images, when each of them has a driver."""
    groups: dict[str, list[str]] = {}
    for family in dict.fromkeys(model.family for model in models):
        mig = tuple(name for name in request.mig if model_of(name).family == family)
        alone = dataclasses.replace(request, gpus=(family,), mig=mig)
        drivers = [driver for driver in offered(request.source, request.branch) if not objections(driver, alone.models(), alone)]
        if not drivers:
            return "Allow another source, branch or flavour, or use a repository of your own (source local)."
        title = next((driver.title for driver in drivers if driver.title in groups), drivers[0].title)
        groups.setdefault(title, []).append(family)
    if len(groups) < 2:
        return "Allow another source, branch or flavour, or use a repository of your own (source local)."
    return "Make one image for each of these: " + "; ".join(f"{', '.join(found)} ({title})" for title, found in groups.items()) + "."


def version_text(version: t.Sequence[int]) -> str:
    """A driver version as NVIDIA writes it: parts after the first have two digits."""
    return ".".join(str(part) if not index else f"{part:02d}" for index, part in enumerate(version))
