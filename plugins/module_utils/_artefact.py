# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Say where the packages of a third-party component come from, and choose among those that are offered."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
import typing as t
from urllib.parse import unquote, urlsplit

from ansible_collections.hyperscaler.images.plugins.module_utils._deb_control import Package
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_version import version_order
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError

KINDS = ("path", "files", "repository", "suite")
OTHERWISE = "otherwise"
KEYS = frozenset({"role", "version", "release", "packages", "mirror", OTHERWISE, *KINDS})
SUITE_KEYS = frozenset({"name", "system", "component"})
REPOSITORY_KEYS = frozenset({"url", "suite", "component", "key", "fingerprint"})
SHA256 = re.compile(r"[0-9a-f]{64}")
FINGERPRINT = re.compile(r"[0-9A-F]{40}")


class UnavailableError(ImageError):
    """A component cannot be had now: its server cannot be reached, or nothing is known to verify it with."""


@dataclasses.dataclass(frozen=True)
class FileSource:
    """A package file on a server; ``sha256`` is empty when only the lock file knows it."""

    url: str
    sha256: str = ""

    @property
    def name(self) -> str:
        """The name of the file."""
        return unquote(urlsplit(self.url).path.rpartition("/")[2])


@dataclasses.dataclass(frozen=True)
class RepositorySource:
    """A signed package repository; ``key`` is a path or an address, ``fingerprint`` what it must have."""

    url: str
    suite: str
    component: str
    key: str
    fingerprint: str


@dataclasses.dataclass(frozen=True)
class SuiteSource:
    """Another suite of Debian, such as ``sid``; ``system`` is the release that its packages are installed on."""

    name: str
    system: str
    component: str


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a component comes from: one of ``path``, ``files``, ``repository`` and ``suite``.

    ``packages`` are the names to take; one that ends in a question mark is taken when it is offered. ``release`` is the one version of them to
    take, without epoch and Debian revision, or a pattern such as ``595.*``; when empty, the newest. ``otherwise`` is the source that takes the
    place of this one where nothing can be had from it and nothing of it is locked.
    """

    component: str
    version: str
    packages: tuple[str, ...]
    release: str = ""
    path: str = ""
    files: tuple[FileSource, ...] = ()
    repository: RepositorySource | None = None
    suite: SuiteSource | None = None
    otherwise: Source | None = None

    @property
    def kind(self) -> str:
        """Which kind of source it is."""
        return next(kind for kind in KINDS if getattr(self, kind))


@dataclasses.dataclass(frozen=True)
class Offer:
    """A package that can be had.

    ``location`` is a URL or a path, ``file`` what the lock file calls it. ``trouble`` is why it cannot be used; then its package may be known
    by name only. ``locked`` tells whether the digest is that of the lock file.
    """

    package: Package
    sha256: str
    location: str
    file: str
    trouble: str = ""
    locked: bool = False


def merge(catalogue: t.Mapping[str, t.Any], *overrides: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The description of a component with what a user says otherwise: another kind of source takes the place of the described one.

    Who names a source or a version wants that one, and not what the catalogue has for others.
    """
    merged = dict(catalogue)
    for override in overrides:
        if any(override.get(key) for key in (*KINDS, "version", "release", "mirror")):
            merged.pop(OTHERWISE, None)
        kinds = [kind for kind in KINDS if override.get(kind)]
        if kinds and kinds[0] not in merged:
            merged = {key: value for key, value in merged.items() if key not in KINDS}
        for key, value in override.items():
            both = key == "repository" and isinstance(merged.get(key), dict) and isinstance(value, dict)
            merged[key] = {**merged[key], **value} if both else value
    return merged


def source_from(component: str, description: t.Mapping[str, t.Any]) -> Source:
    """Check the description of a component; raises ImageError when it cannot be used."""
    unknown = sorted(set(description) - KEYS)
    kinds = [kind for kind in KINDS if description.get(kind)]
    if unknown:
        raise _wrong(component, f"it has the unknown keys {', '.join(unknown)}", f"The keys are {', '.join(sorted(KEYS))}")
    if len(kinds) != 1:
        raise _wrong(component, f"it names {' and '.join(kinds) or 'no source'}", f"Name one of {', '.join(KINDS)}")
    version, mirror = str(description.get("version", "")), str(description.get("mirror") or "").rstrip("/")
    # dpkg knows a package by its name in lower case.
    packages = tuple(str(name).lower() for name in description.get("packages") or ())
    if not packages:
        raise _wrong(component, "it names no packages", "List the packages to install")
    return Source(
        component,
        version,
        packages,
        str(description.get("release") or ""),
        path=str(description.get("path") or ""),
        files=tuple(_file(component, entry, version, mirror) for entry in description.get("files") or ()),
        repository=_repository(component, description["repository"], version, mirror) if kinds == ["repository"] else None,
        suite=_suite(component, description["suite"]) if kinds == ["suite"] else None,
        otherwise=source_from(component, {"packages": packages, **description[OTHERWISE]}) if description.get(OTHERWISE) else None,
    )


def _file(component: str, entry: t.Any, version: str, mirror: str) -> FileSource:
    if not isinstance(entry, dict) or not entry.get("url") or set(entry) - {"url", "sha256"}:
        raise _wrong(component, f"its file {entry!r} is not a mapping of url and sha256", "Give each file an url, and a sha256 unless it is locked")
    digest = str(entry.get("sha256") or "").strip().lower()
    if digest and not SHA256.fullmatch(digest):
        raise _wrong(component, f"{digest!r} is not a SHA256", "Give 64 hexadecimal digits")
    url = str(entry["url"]).replace("{version}", version)
    return FileSource(f"{mirror}/{url.rpartition('/')[2]}" if mirror else url, digest)


def _repository(component: str, entry: t.Any, version: str, mirror: str) -> RepositorySource:
    missing = [key for key in ("url", "suite", "key", "fingerprint") if not isinstance(entry, dict) or not entry.get(key)]
    if missing or set(entry) - REPOSITORY_KEYS:
        raise _wrong(
            component, f"its repository lacks {', '.join(missing) or 'nothing'} or has unknown keys", f"The keys are {', '.join(sorted(REPOSITORY_KEYS))}"
        )
    values = {key: str(value).replace("{version}", version) for key, value in entry.items()}
    fingerprint = re.sub(r"\s", "", values["fingerprint"]).upper()
    if not FINGERPRINT.fullmatch(fingerprint):
        raise _wrong(component, f"{values['fingerprint']!r} is not the fingerprint of a key", "Give 40 hexadecimal digits")
    key = values["key"]
    if mirror and "://" in key:
        key = key.replace(values["url"].rstrip("/"), mirror)
    return RepositorySource(mirror or values["url"], values["suite"], values.get("component", "main"), key, fingerprint)


def _suite(component: str, entry: t.Any) -> SuiteSource:
    if not isinstance(entry, dict) or not entry.get("name") or not entry.get("system") or set(entry) - SUITE_KEYS:
        raise _wrong(
            component, f"its suite {entry!r} is not a mapping of name, system and component", "Name the suite, and the release that it is installed on"
        )
    return SuiteSource(str(entry["name"]), str(entry["system"]), str(entry.get("component") or "main"))


def _wrong(component: str, why: str, remedy: str) -> ImageError:
    return ImageError(f"Cannot use the source of {component}: {why}. {remedy}, in artefact_sources or in the catalogue.")


def _is_of_release(package: Package, release: str) -> bool:
    return not release or any(fnmatch.fnmatchcase(version, release) for version in (package.release, package.version))


def newest_of(offers: t.Sequence[Offer], release: str, architecture: str) -> dict[str, Offer]:
    """The newest offer of each package. One that cannot be used and does not tell its version counts as the newest, so that nothing older takes its place."""
    newest: dict[str, Offer] = {}
    for offer in offers:
        package = offer.package
        if package.architecture not in (architecture, "all", "") or (package.version and not _is_of_release(package, release)):
            continue
        other = newest.get(package.name)
        if other is None or not package.version or (other.package.version and version_order(package.version) > version_order(other.package.version)):
            newest[package.name] = offer
    return newest


def choose(offers: t.Sequence[Offer], names: t.Sequence[str], source: Source, architecture: str) -> list[Offer]:
    """The newest of each named package, and what these need of the same source, sorted by name; raises ImageError when one is not offered."""
    newest = newest_of(offers, source.release, architecture)
    chosen: dict[str, Offer] = {}
    queue = [name.rstrip("?") for name in names if name.rstrip("?") in newest or not name.endswith("?")]
    while queue:
        name = queue.pop(0)
        if name in chosen:
            continue
        if name not in newest:
            raise ImageError(
                f"Cannot install {source.component}: its source offers no package {' '.join(filter(None, (name, source.release)))} for {architecture}, "
                f"only {', '.join(sorted(newest)) or 'none'}. Correct the source, or update the lock file with the playbook lock.yml."
            )
        if newest[name].trouble:
            raise ImageError(newest[name].trouble)
        chosen[name] = newest[name]
        for alternatives in newest[name].package.depends:
            if not any(alternative in chosen for alternative in alternatives):
                queue.extend(alternative for alternative in alternatives[:1] if alternative in newest)
    return [chosen[name] for name in sorted(chosen)]
