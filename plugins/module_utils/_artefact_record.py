# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""What a host remembers of a third-party component, and the settings that hold for all components."""

from __future__ import annotations

import dataclasses
import json
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._apt_sources import KEYRING
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact import Offer, Source
from ansible_collections.hyperscaler.images.plugins.module_utils._digest import canonical_json
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError

POLICIES = ("lock", "best_effort", "strict")


@dataclasses.dataclass(frozen=True)
class Record:
    """A component on a host. ``state`` is ``installed`` or ``missing``, ``source`` the kind of source; addresses are not kept, mirrors are private."""

    component: str
    state: str
    version: str
    source: str
    reason: str
    packages: tuple[dict[str, str], ...]

    @classmethod
    def of(cls, source: Source, chosen: t.Sequence[Offer]) -> Record:
        """The record of a component that is to be installed."""
        packages = tuple(
            {"name": offer.package.name, "version": offer.package.version, "architecture": offer.package.architecture, "sha256": offer.sha256}
            for offer in chosen
        )
        return cls(source.component, "installed", source.version, source.kind, "", packages)

    @classmethod
    def parse(cls, text: str) -> Record | None:
        """Read what ``text`` wrote; None for something else, which is replaced like a record that is not there."""
        try:
            fields = json.loads(text)
            return cls(**{**fields, "packages": tuple(dict(package) for package in fields["packages"])})
        except (ValueError, KeyError, TypeError):
            return None

    def dpkg_lines(self) -> set[str]:
        """State, name and version of each package, as dpkg-query shows those that are installed."""
        return {f"installed {package['name']} {package['version']}" for package in self.packages}

    def text(self) -> str:
        """The record as JSON."""
        return canonical_json(dataclasses.asdict(self))

    def has(self, names: t.Iterable[str]) -> bool:
        """Whether the packages that must be there are among those of the record."""
        return {name for name in names if not name.endswith("?")} <= {package["name"] for package in self.packages}

    def result(self, *, changed: bool, needed: bool) -> dict[str, t.Any]:
        """The record as return values of the module."""
        return {
            "changed": changed,
            "available": self.state == "installed",
            "needed": needed,
            "reason": self.reason,
            "version": self.version,
            "source": self.source,
            "packages": list(self.packages),
            "msg": self.reason or f"{self.component}: {', '.join(package['name'] + ' ' + package['version'] for package in self.packages)}",
        }


@dataclasses.dataclass(frozen=True)
class Settings:
    """What holds for all components; the timeout is in seconds."""

    policy: str
    lock: str
    cache: str
    sources: dict[str, dict[str, t.Any]]
    architecture: str
    retries: int
    connect_timeout: float
    debian_mirror: str
    debian_keyring: str


def is_setting(name: str) -> bool:
    """Whether a variable is one that ``settings_from`` reads."""
    return name.startswith("artefact_") or name in ("base_image_mirror", "base_image_keyring")


def settings_from(variables: t.Mapping[str, t.Any], lock: Path) -> Settings:
    """Read the variables that are settings; raises ImageError for one that cannot be used. ``lock`` is the lock file of the project."""
    policy, sources = variables.get("artefact_policy", POLICIES[0]), variables.get("artefact_sources") or {}
    if policy not in POLICIES:
        raise ImageError(f"Cannot use artefact_policy {policy!r}: it must be one of {', '.join(POLICIES)}.")
    if not isinstance(sources, dict) or not all(isinstance(value, dict) for value in sources.values()):
        raise ImageError("Cannot use artefact_sources: it must map names of components to mappings.")
    try:
        retries, timeout = int(variables.get("artefact_retries", 2)), float(variables.get("artefact_connect_timeout", 10))
    except (TypeError, ValueError) as error:
        raise ImageError("Cannot use artefact_retries or artefact_connect_timeout: both must be numbers. Correct them.") from error
    return Settings(
        policy,
        str(lock),
        str(variables.get("artefact_cache") or Path.home() / ".cache" / "hyperscaler" / "artefacts"),
        sources,
        str(variables.get("artefact_architecture", "amd64")),
        retries,
        timeout,
        str(variables.get("artefact_debian_mirror") or variables.get("base_image_mirror") or ""),
        str(variables.get("base_image_keyring") or KEYRING),
    )


def require_optional(policy: str, error: ImageError, *, promised: bool) -> None:
    """Raise ImageError when nothing may be built without what cannot be had for the reason ``error``; ``promised`` tells whether it is locked."""
    if policy == "strict":
        raise ImageError(f"{error} artefact_policy is strict, so nothing is built without it.", **error.details) from error
    if policy == "lock" and promised:
        raise ImageError(
            f"{error} It is locked, so nothing is built without it. Bring its server back, lock it again with ansible-playbook "
            "hyperscaler.images.lock, or set artefact_policy to best_effort to go on without it.",
            **error.details,
        ) from error
