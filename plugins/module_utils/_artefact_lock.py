# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""The lock file: which packages of third-party components are trusted, by their sha256."""

from __future__ import annotations

import dataclasses
import json
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._artefact import SHA256, Offer, Source
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_control import Package
from ansible_collections.hyperscaler.images.plugins.module_utils._digest import canonical_json
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, IntegrityError

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class LockedPackage:
    """A trusted package; ``file`` is its name, or its path below the address of a repository."""

    package: Package
    sha256: str
    file: str


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
            same = (entry.package.name, entry.package.version, entry.package.architecture) == (package.name, package.version, package.architecture)
            if same and entry.sha256 != digest:
                raise IntegrityError(
                    f"Cannot use {origin}: {package.name} {package.version} has the sha256 {digest}, and the lock file says {entry.sha256}. The file was "
                    "changed after it was locked. Find out why; when it is right, remove its entry from the lock file and run the playbook lock.yml.",
                    expected=entry.sha256,
                    actual=digest,
                )


def read_lock(path: Path) -> dict[str, Locked]:
    """The content of a lock file by component, nothing when there is no file; raises ImageError for one that cannot be used."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise ValueError(f"its format is {document['format']}, and {FORMAT} is known")
        return {name: Locked(entry["version"], tuple(_package(item) for item in entry["packages"])) for name, entry in document["artefacts"].items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ImageError(f"Cannot read the lock file {path}: {error.strerror}. Correct artefact_lock.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ImageError(f"Cannot use the lock file {path}: it is not JSON. Make it with the playbook lock.yml.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = str(error) if isinstance(error, ValueError) else "it lacks what the playbook writes"
        raise ImageError(f"Cannot use the lock file {path}: {why}. Make it with the playbook lock.yml.") from error


def _package(entry: t.Mapping[str, t.Any]) -> LockedPackage:
    if not SHA256.fullmatch(entry["sha256"]):
        raise ValueError(f"{entry['name']} has no SHA256")
    if entry["file"].startswith("/") or ".." in entry["file"].split("/"):
        raise ValueError(f"{entry['name']} has the file {entry['file']}")
    depends = tuple((name,) for name in entry["requires"])
    return LockedPackage(Package(entry["name"], entry["version"], entry["architecture"], depends), entry["sha256"], entry["file"])


def lock_entry(source: Source, offers: t.Sequence[Offer]) -> Locked:
    """What is to be locked of a component: the offers, and of their dependencies those among them."""
    names = {offer.package.name for offer in offers}
    packages = []
    for offer in offers:
        depends = tuple((name,) for alternatives in offer.package.depends for name in alternatives if name in names)
        packages.append(LockedPackage(dataclasses.replace(offer.package, depends=depends), offer.sha256, offer.file))
    return Locked(source.version, tuple(packages))


def lock_text(artefacts: t.Mapping[str, Locked]) -> str:
    """The lock file as it is written: sorted, one value a line, so that a change reads well."""
    document = {
        name: {
            "version": locked.version,
            "packages": [
                {
                    "name": entry.package.name,
                    "version": entry.package.version,
                    "architecture": entry.package.architecture,
                    "file": entry.file,
                    "sha256": entry.sha256,
                    "requires": sorted({alternatives[0] for alternatives in entry.package.depends}),
                }
                for entry in locked.packages
            ],
        }
        for name, locked in artefacts.items()
    }
    return canonical_json({"format": FORMAT, "artefacts": document})
