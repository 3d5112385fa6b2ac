# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""The lock file: which packages of third-party components are trusted, by their sha256."""

from __future__ import annotations

import dataclasses
import json
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._artefact import SHA256, Offer
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_control import Package
from ansible_collections.hyperscaler.images.plugins.module_utils._digest import canonical_json
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, IntegrityError
from ansible_collections.hyperscaler.images.plugins.module_utils._transport import shown

FORMAT = 2
# What to do when a file is not the one that was locked.
CHANGED = (
    "The file was changed after it was locked. Find out why; when it is right, remove its entry from the lock file and lock it again with "
    "ansible-playbook hyperscaler.images.lock"
)


@dataclasses.dataclass(frozen=True)
class LockedPackage:
    """A trusted package; ``file`` is its name, or its path below the address of a repository, ``origin`` the address that it was first seen at."""

    package: Package
    sha256: str
    file: str
    origin: str = ""


@dataclasses.dataclass(frozen=True)
class Locked:
    """What is locked of one component, for one ``version`` of its source."""

    version: str
    packages: tuple[LockedPackage, ...]

    def by_file(self, name: str) -> LockedPackage | None:
        """The package in a file."""
        return next((entry for entry in self.packages if entry.file.rpartition("/")[2] == name), None)

    def require_same(self, package: Package, digest: str, origin: str) -> None:
        """Raise IntegrityError when a package is locked with another digest."""
        for entry in self.packages:
            if _identity(entry.package) == _identity(package) and entry.sha256 != digest:
                raise IntegrityError(
                    f"Cannot use {origin}: {package.name} {package.version} has the sha256 {digest}, and the lock file says {entry.sha256}. {CHANGED}.",
                    expected=entry.sha256,
                    actual=digest,
                )

    def extended(self, more: Locked) -> Locked:
        """This with the packages of another entry that are not among its own; raises IntegrityError when they disagree."""
        for entry in more.packages:
            self.require_same(entry.package, entry.sha256, entry.origin or entry.file)
        own = {_identity(entry.package) for entry in self.packages}
        added = [entry for entry in more.packages if _identity(entry.package) not in own]
        return Locked(self.version, tuple(sorted((*self.packages, *added), key=lambda entry: _identity(entry.package))))

    def lines(self) -> list[str]:
        """What is trusted, a line for each package."""
        return [
            f"{entry.package.name} {entry.package.version} {entry.package.architecture} from {entry.origin or entry.file}, sha256 {entry.sha256}"
            for entry in self.packages
        ]


# What is locked, by component and version of its source.
Lock = dict[str, dict[str, Locked]]


def _identity(package: Package) -> tuple[str, str, str]:
    return package.name, package.version, package.architecture


def read_lock(path: Path) -> Lock:
    """The content of a lock file, nothing when there is no file; raises ImageError for one that cannot be used."""
    try:
        return parse_lock(path.read_text(encoding="utf-8"), path)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ImageError(f"Cannot read the lock file {path}: {error.strerror}. Correct artefact_lock.") from error
    except UnicodeDecodeError as error:
        raise _unusable(path, "it is not text") from error


def parse_lock(text: str, path: Path) -> Lock:
    """The content of a lock file from its text; ``path`` is named in errors."""
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise ValueError(f"its format is {document['format']}, and {FORMAT} is known")
        return {
            name: {version: Locked(version, tuple(_package(item) for item in packages)) for version, packages in versions.items()}
            for name, versions in document["artefacts"].items()
        }
    except json.JSONDecodeError as error:
        raise _unusable(path, f"it is not JSON (line {error.lineno})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unusable(path, str(error) if isinstance(error, ValueError) else "it lacks what belongs into it") from error


def _unusable(path: Path, why: str) -> ImageError:
    return ImageError(
        f"Cannot use the lock file {path}: {why}. Restore it from a copy, or remove it and lock again with ansible-playbook hyperscaler.images.lock."
    )


def _package(entry: t.Mapping[str, t.Any]) -> LockedPackage:
    if not SHA256.fullmatch(entry["sha256"]):
        raise ValueError(f"{entry['name']} has no SHA256")
    if entry["file"].startswith("/") or ".." in entry["file"].split("/"):
        raise ValueError(f"{entry['name']} has the file {entry['file']}")
    depends = tuple((name,) for name in entry["requires"])
    return LockedPackage(Package(entry["name"], entry["version"], entry["architecture"], depends), entry["sha256"], entry["file"], entry.get("origin", ""))


def lock_entry(version: str, offers: t.Sequence[Offer]) -> Locked:
    """What is to be locked of a version of a component: the offers, and of their dependencies those among them."""
    names = {offer.package.name for offer in offers}
    packages = []
    for offer in offers:
        depends = tuple((name,) for alternatives in offer.package.depends for name in alternatives if name in names)
        packages.append(LockedPackage(dataclasses.replace(offer.package, depends=depends), offer.sha256, offer.file, shown(offer.location)))
    return Locked(version, tuple(packages))


def lock_text(lock: Lock) -> str:
    """The lock file as it is written: sorted, one value a line, so that a change reads well."""
    document = {
        name: {
            version: [
                {
                    "name": entry.package.name,
                    "version": entry.package.version,
                    "architecture": entry.package.architecture,
                    "file": entry.file,
                    "origin": entry.origin,
                    "sha256": entry.sha256,
                    "requires": sorted({alternatives[0] for alternatives in entry.package.depends}),
                }
                for entry in locked.packages
            ]
            for version, locked in versions.items()
        }
        for name, versions in lock.items()
    }
    return canonical_json({"format": FORMAT, "artefacts": document})
