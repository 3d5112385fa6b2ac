# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Find out which packages the source of a third-party component offers, and bring them to this machine."""

from __future__ import annotations

import hashlib
import tempfile
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._artefact import (
    FileSource,
    Offer,
    RepositorySource,
    Source,
    SuiteSource,
    UnavailableError,
    choose,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_lock import Locked
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_record import Settings
from ansible_collections.hyperscaler.images.plugins.module_utils._deb import look_into, read_deb
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_repository import Entry, Repository, read_index
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_suite import DebianSuites
from ansible_collections.hyperscaler.images.plugins.module_utils._download import download, fetch
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import DownloadError, ImageError, IntegrityError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import file_digest, write_atomic
from ansible_collections.hyperscaler.images.plugins.module_utils._transport import Policy, local_path

LARGEST_KEY = 1 << 20
LARGEST_PACKAGE = 2 << 30
# What a server that is down, an isolated network or a filtering proxy looks like. A wrong digest or certificate never is among them.
OUT_OF_REACH = frozenset({"unreachable", "denied", "missing"})


def fetcher_from(settings: Settings, policy: Policy) -> Fetcher:
    """The reader of sources that the settings of a play ask for."""
    cache = Path(settings.cache)
    debian = DebianSuites(cache, settings.debian_mirror, Path(settings.debian_keyring), settings.architecture)
    return Fetcher(cache, policy, debian, settings.architecture)


class Fetcher:
    """Reads sources; ``cache`` is a folder of this machine that keeps what was fetched."""

    def __init__(self, cache: Path, policy: Policy, debian: DebianSuites, architecture: str) -> None:
        self._cache = cache
        self._policy = policy
        self._debian = debian
        self._architecture = architecture

    def chosen(self, source: Source, locked: Locked | None) -> tuple[Source, list[Offer]]:
        """The packages to install and the source that has them, which is the other one where ``source`` has nothing that is locked or can be had.

        Raises what ``offers`` raises. A lock counts for the source with its version.
        """
        own, other = locked if locked and locked.version == source.version else None, source.otherwise
        if locked and not own and other and locked.version == other.version:
            return self.chosen(other, locked)
        try:
            return source, choose(self.offers(source, own), source.packages, source, self._architecture)
        except UnavailableError as error:
            if own or not other:
                raise
            try:
                return self.chosen(other, locked)
            except UnavailableError as second:
                raise UnavailableError(f"{error} {second}", **second.details) from error

    def offers(self, source: Source, locked: Locked | None) -> list[Offer]:
        """What a component can be installed from; raises UnavailableError when there is nothing to be had, IntegrityError when a digest is wrong."""
        if source.path:
            return self._in_folder(source, locked)
        if source.suite:
            return self._in_suite(source, source.suite, locked)
        try:
            if source.repository:
                return _locked_at(source.repository.url, locked) if locked else self._in_repository(source.repository)
            return [self._of_file(source, entry, locked) for entry in source.files]
        except DownloadError as error:
            raise self._explained(source, error) from error

    def newest(self, source: Source) -> list[Offer]:
        """What a component offers now, whatever is locked; files on servers are read to learn their digests."""
        if source.path:
            return self._in_folder(source, None)
        if source.suite:
            return self._in_suite(source, source.suite, None)
        try:
            if source.repository:
                return self._in_repository(source.repository)
            return [self._first_seen(source, entry) for entry in source.files]
        except DownloadError as error:
            raise self._explained(source, error) from error

    def bring(self, source: Source, offer: Offer) -> Path:
        """The verified file of an offer on this machine; raises IntegrityError when it is not what was offered."""
        here = local_path(offer.location)
        if here is not None and source.path:
            return here
        target = self._place(source, offer.sha256, offer.file)
        try:
            if not source.suite:
                download(offer.location, target, offer.sha256, "sha256", policy=self._policy)
            elif not (target.is_file() and file_digest(target) == offer.sha256):
                self._debian.bring(offer.location, offer.sha256, target)
        except DownloadError as error:
            raise self._explained(source, error) from error
        found, expected = read_deb(target), offer.package
        if (found.name, found.version, found.architecture) != (expected.name, expected.version, expected.architecture):
            raise IntegrityError(
                f"Cannot use {offer.location}: it is {found.name} {found.version} for {found.architecture}, but {expected.name} {expected.version} "
                f"for {expected.architecture} was announced. Correct the lock file, or use another mirror."
            )
        return target

    def _place(self, source: Source, digest: str, name: str) -> Path:
        target = self._cache / source.component / digest[:16] / name.rpartition("/")[2]
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImageError(f"Cannot keep the packages of {source.component} in {self._cache}: {error.strerror}. Choose another artefact_cache.") from error
        return target

    def _explained(self, source: Source, error: DownloadError) -> ImageError:
        if error.details.get("cause") not in OUT_OF_REACH:
            return error
        return UnavailableError(f"{source.component} cannot be had: {error}", **error.details)

    def _in_folder(self, source: Source, locked: Locked | None) -> list[Offer]:
        path = Path(source.path)
        paths = sorted(path.glob("*.deb")) if path.is_dir() else [path]
        if not paths or not any(entry.is_file() for entry in paths):
            raise ImageError(f"Cannot install {source.component} from {path}: there is no package file. Correct its path, or put the packages there.")
        found = []
        for entry in paths:
            reading = look_into(entry)
            digest = "" if reading.trouble else file_digest(entry)
            if locked and not reading.trouble:
                locked.require_same(reading.package, digest, str(entry))
            found.append(Offer(reading.package, digest, str(entry.absolute()), entry.name, reading.trouble))
        return found

    def _of_file(self, source: Source, entry: FileSource, locked: Locked | None) -> Offer:
        known = locked.by_file(entry.name) if locked else None
        if known and entry.sha256 and entry.sha256 != known.sha256:
            raise IntegrityError(
                f"Cannot use {entry.url}: its description says that its sha256 is {entry.sha256}, and the lock file says {known.sha256}. Correct one of them."
            )
        if known:
            return Offer(known.package, known.sha256, entry.url, entry.name)
        if not entry.sha256:
            raise UnavailableError(
                f"{source.component} cannot be had: no digest of {entry.name} is locked, so {entry.url} cannot be verified. "
                "Run the playbook lock.yml where its server can be reached, or give a local path."
            )
        target = self._place(source, entry.sha256, entry.name)
        download(entry.url, target, entry.sha256, "sha256", policy=self._policy)
        return Offer(read_deb(target), entry.sha256, entry.url, entry.name)

    def _first_seen(self, source: Source, entry: FileSource) -> Offer:
        data = fetch(entry.url, LARGEST_PACKAGE, self._policy)
        digest = hashlib.sha256(data).hexdigest()
        if entry.sha256 not in ("", digest):
            raise IntegrityError(f"Cannot lock {entry.url}: its sha256 is {digest}, and {entry.sha256} is expected. Find out which of them is right.")
        target = self._place(source, digest, entry.name)
        write_atomic(target, data)
        return Offer(read_deb(target), digest, entry.url, entry.name)

    def _in_suite(self, source: Source, suite: SuiteSource, locked: Locked | None) -> list[Offer]:
        try:
            return _locked_at(self._debian.mirror, locked) if locked else self._debian.offers(suite, source.packages)
        except UnavailableError as error:
            raise UnavailableError(f"{source.component} cannot be had: {error}", **error.details) from error

    def _in_repository(self, repository: RepositorySource) -> list[Offer]:
        base = repository.url.rstrip("/") + "/"
        return [Offer(entry.package, entry.sha256, entry.url, entry.url[len(base) :], entry.trouble) for entry in self._index(repository)]

    def _index(self, repository: RepositorySource) -> t.Sequence[Entry]:
        here = local_path(repository.key)
        if here is not None and not here.is_file():
            raise ImageError(f"Cannot verify {repository.url}: there is no key {here}. Correct the key of the repository.")
        with tempfile.TemporaryDirectory(prefix="hyperscaler-artefact-") as folder:
            key = Path(folder, "key")
            key.write_bytes(fetch(repository.key, LARGEST_KEY, self._policy))
            asked = Repository(repository.url, repository.suite, repository.component, key, repository.fingerprint)
            return read_index(asked, self._architecture, self._policy)


def _locked_at(base: str, locked: Locked) -> list[Offer]:
    """What is locked of a package archive, which is not asked for it."""
    return [Offer(entry.package, entry.sha256, f"{base.rstrip('/')}/{entry.file}", entry.file) for entry in locked.packages]
