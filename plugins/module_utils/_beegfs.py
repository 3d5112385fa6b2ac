# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Choose the packages of BeeGFS that a set of components needs."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._deb_control import Package
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_version import version_order
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError

COMPONENTS = ("mgmtd", "meta", "storage", "client")


class PackageError(ImageError):
    """The packages that are offered do not make a usable set."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A package that is offered.

    ``origin`` is a path or URL, ``local`` a copy that was fetched to look into it. ``proven`` says that the file itself was read to its end,
    ``trouble`` why it cannot be used; then its package may be known by name only.
    """

    package: Package
    origin: str
    sha256: str
    proven: bool = False
    local: str = ""
    trouble: str = ""


@dataclasses.dataclass(frozen=True)
class Choice:
    """A package that is taken, with the reason."""

    candidate: Candidate
    reason: str


@dataclasses.dataclass(frozen=True)
class Selection:
    """What is taken and what is left, each with a reason; ``release`` is the version of BeeGFS."""

    release: str
    chosen: tuple[Choice, ...]
    ignored: tuple[Choice, ...]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What to choose packages for; without ``release`` the offer must have just one."""

    components: tuple[str, ...]
    architecture: str
    release: str | None = None
    newest: bool = False


# The kernel module is built by DKMS when the package is installed: the other client package builds it when the service starts, which needs
# a compiler and minutes on each node.
CLIENT_MODULE = "beegfs-client-dkms"

# Packages by major version and component. Of those that end in "?" it is fine when they are not offered.
PACKAGES: dict[int, dict[str, tuple[str, ...]]] = {
    7: {
        "mgmtd": ("beegfs-mgmtd",),
        "meta": ("beegfs-meta", "libbeegfs-ib?"),
        "storage": ("beegfs-storage", "libbeegfs-ib?"),
        "client": (CLIENT_MODULE, "beegfs-helperd", "beegfs-utils"),
    },
    8: {
        "mgmtd": ("beegfs-mgmtd", "beegfs-tools?", "libbeegfs-license?"),
        "meta": ("beegfs-meta", "libbeegfs-ib?"),
        "storage": ("beegfs-storage", "libbeegfs-ib?"),
        "client": (CLIENT_MODULE, "beegfs-tools?", "beegfs-utils?"),
    },
}


def packages_of(release: str, components: t.Iterable[str]) -> dict[str, tuple[bool, list[str]]]:
    """For each package: whether it must be there, and the components that use it."""
    major = int(release.partition(".")[0])
    if major not in PACKAGES:
        known = " and ".join(str(number) for number in PACKAGES)
        raise PackageError(f"Cannot choose packages of BeeGFS {release}: the packages of the versions {known} are known. Offer one of these.")
    found: dict[str, tuple[bool, list[str]]] = {}
    for component in components:
        for entry in PACKAGES[major][component]:
            name, needed = entry.rstrip("?"), not entry.endswith("?")
            before, users = found.get(name, (False, []))
            found[name] = (before or needed, [*users, component])
    return found


def is_beegfs(package: str) -> bool:
    """Whether a package is one of BeeGFS."""
    return re.match(r"(lib)?beegfs|beeond", package) is not None


def select(candidates: t.Sequence[Candidate], wanted: Wanted) -> Selection:
    """Choose the packages for the wanted components; raises PackageError when the offer is incomplete or not unique."""
    if not wanted.components:
        raise PackageError("Cannot choose packages of BeeGFS: no component is asked for. Name at least one of " + ", ".join(COMPONENTS) + ".")
    ours = [candidate for candidate in candidates if is_beegfs(candidate.package.name) and not candidate.trouble]
    unfit = [candidate for candidate in candidates if candidate.trouble]
    if unfit and not ours:
        raise PackageError(unfit[0].trouble)
    release = _release(ours, wanted)
    offered = _fitting(ours, release, wanted.architecture)
    needs = packages_of(release, wanted.components)
    _refuse_unfit(needs, unfit, release, wanted)
    chosen: dict[str, Choice] = {}
    for name, (needed, users) in needs.items():
        if name in offered:
            chosen[name] = Choice(offered[name], f"the component{'s' if len(users) > 1 else ''} {', '.join(users)} use{'' if len(users) > 1 else 's'} it")
        elif needed:
            raise _missing(name, f"the component {users[0]} needs it", candidates, release, wanted)
    _add_dependencies(chosen, offered, candidates, release, wanted)
    _refuse_unfit(chosen, unfit, release, wanted)
    taken = {id(choice.candidate) for choice in chosen.values()}
    left = [Choice(candidate, _why_not(candidate, release, wanted)) for candidate in candidates if id(candidate) not in taken]
    return Selection(release, tuple(chosen[name] for name in sorted(chosen)), tuple(left))


def _refuse_unfit(names: t.Container[str], unfit: t.Iterable[Candidate], release: str, wanted: Wanted) -> None:
    """A package that is asked for must not be replaced in silence by another one, or left out because it need not be there."""
    for candidate in unfit:
        package = candidate.package
        if package.name in names and package.release in ("", release) and package.architecture in ("", "all", wanted.architecture):
            raise PackageError(candidate.trouble)


def _add_dependencies(chosen: dict[str, Choice], offered: t.Mapping[str, Candidate], candidates: t.Sequence[Candidate], release: str, wanted: Wanted) -> None:
    """Take the packages of BeeGFS that chosen ones depend on."""
    queue = list(chosen)
    while queue:
        dependent = chosen[queue.pop(0)].candidate.package
        for alternatives in dependent.depends:
            # What Debian has is not ours to bring.
            if not all(is_beegfs(name) for name in alternatives) or any(name in chosen for name in alternatives):
                continue
            name = next((name for name in alternatives if name in offered), None)
            if name is None:
                raise _missing(" or ".join(alternatives), f"{dependent.name} depends on it", candidates, release, wanted)
            chosen[name] = Choice(offered[name], f"{dependent.name} depends on it")
            queue.append(name)


def _release(candidates: t.Sequence[Candidate], wanted: Wanted) -> str:
    """The one version that all packages are to have."""
    relevant = {name for components in PACKAGES.values() for component in wanted.components for name in _names(components[component])}
    releases: dict[str, list[str]] = {}
    for candidate in candidates:
        if candidate.package.name in relevant:
            releases.setdefault(candidate.package.release, []).append(candidate.origin)
    if wanted.release is not None:
        if wanted.release not in releases:
            has = ", ".join(sorted(releases, key=version_order)) or "no packages of BeeGFS"
            raise PackageError(f"Cannot take BeeGFS {wanted.release}: the source has {has}. Ask for a version that it has, or use another source.")
        return wanted.release
    if not releases:
        raise PackageError(
            f"Cannot choose packages of BeeGFS for {', '.join(wanted.components)}: none of the {len(candidates)} packages of BeeGFS in the source is one that "
            "these components use. Use a source that has them."
        )
    if len(releases) > 1 and not wanted.newest:
        listed = "; ".join(f"{release}: {', '.join(sorted(releases[release]))}" for release in sorted(releases, key=version_order))
        raise PackageError(
            f"Cannot choose packages of BeeGFS: the source mixes versions ({listed}). Remove what is not wanted, or ask for one version.",
            versions=sorted(releases, key=version_order),
        )
    return max(releases, key=version_order)


def _names(entries: t.Iterable[str]) -> list[str]:
    return [entry.rstrip("?") for entry in entries]


def _fitting(candidates: t.Sequence[Candidate], release: str, architecture: str) -> dict[str, Candidate]:
    """The candidates of one version and architecture by name; raises PackageError when one is there twice."""
    found: dict[str, Candidate] = {}
    for candidate in candidates:
        package = candidate.package
        if package.release != release or package.architecture not in (architecture, "all"):
            continue
        other = found.get(package.name)
        if other is None:
            found[package.name] = candidate
        elif other.sha256 != candidate.sha256 or other.origin != candidate.origin:
            raise PackageError(
                f"Cannot choose {package.name} {release}: it is there more than once, as {other.origin} ({other.package.version}) and {candidate.origin} "
                f"({package.version}). Remove one of them."
            )
    return found


def _missing(name: str, why: str, candidates: t.Sequence[Candidate], release: str, wanted: Wanted) -> PackageError:
    named = [candidate for candidate in candidates if candidate.package.name == name]
    for candidate in candidates:
        if candidate.trouble and candidate.package.name in name.split(" or "):
            return PackageError(candidate.trouble)
    others = sorted(f"{candidate.origin} has {candidate.package.version} for {candidate.package.architecture}" for candidate in named)
    found = f"only unfit ones are there ({'; '.join(others)})" if others else "the source has none"
    add = f"Add {name} {release} for {wanted.architecture}."
    return PackageError(f"Cannot stage BeeGFS {release} for {wanted.architecture}: {why}, but of {name} {found}. {add}")


def _why_not(candidate: Candidate, release: str, wanted: Wanted) -> str:
    package = candidate.package
    if candidate.trouble:
        return candidate.trouble
    if not is_beegfs(package.name):
        return "it is not a package of BeeGFS"
    if package.release != release:
        return f"it has the version {package.version}, and {release} is taken"
    if package.architecture not in (wanted.architecture, "all"):
        return f"it is for {package.architecture}, and {wanted.architecture} is wanted"
    return f"none of the components {', '.join(wanted.components)} uses it"
