# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Find out which packages the source of a third-party component offers, and bring them to this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._artefact import (
    FileSource,
    Offer,
    RepositorySource,
    Source,
    UnavailableError,
    choose,
    newest_of,
)
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_lock import CHANGED, Locked
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_record import Settings
from ansible_collections.hyperscaler.images.plugins.module_utils._deb import look_into, read_deb
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_repository import Entry, Repository, read_index
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_suite import DebianSuites
from ansible_collections.hyperscaler.images.plugins.module_utils._download import download, fetch
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import DownloadError, ImageError, IntegrityError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import file_digest, write_atomic
from ansible_collections.hyperscaler.images.plugins.module_utils._transport import Policy, local_path, shown

LARGEST_KEY = 1 << 20
LARGEST_PACKAGE = 2 << 30
# What a server that is down, an isolated network or a filtering proxy looks like. A wrong digest or certificate never is among them.
OUT_OF_REACH = frozenset({"unreachable", "denied", "missing"})


@dataclasses.dataclass(frozen=True)
class Wish:
    """What may be taken besides what is locked: with ``strict`` nothing, otherwise also what is to be locked then.

    ``also`` are further packages of the component. They are locked at the first use, too, so that who needs them later gets the same version.
    """

    strict: bool = False
    also: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Choice:
    """The packages to install, the source that has them, and the offers that are to be locked at this first use."""

    source: Source
    offers: list[Offer]
    fresh: list[Offer] = dataclasses.field(default_factory=list)


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

    def chosen(self, source: Source, locked: t.Mapping[str, Locked], wish: Wish) -> Choice:
        """The packages to install. ``locked`` is what is locked of the component, by version.

        The source is the other one where that is locked and ``source`` is not, or where nothing can be had from ``source``. Raises UnavailableError
        when there is nothing to be had, IntegrityError when a digest is wrong, ImageError when what is wanted is not locked and has to be.
        """
        own, other = locked.get(source.version), source.otherwise
        if not own and other and other.version in locked:
            return self.chosen(other, locked, wish)
        try:
            return self._choice(source, own, wish)
        except UnavailableError as error:
            if own or not other:
                raise
            try:
                return self.chosen(other, locked, wish)
            except UnavailableError as second:
                raise UnavailableError(f"{error} {second}", **second.details) from error

    def newest(self, source: Source) -> list[Offer]:
        """What a component offers now, whatever is locked; files on servers are read to learn their digests."""
        if source.path:
            return self._in_folder(source, None)
        try:
            if source.suite:
                return self._debian.offers(source.suite, source.packages)
            if source.repository:
                return self._in_repository(source.repository)
            return [self._first_seen(source, entry) for entry in source.files]
        except DownloadError as error:
            raise self._explained(source, error) from error
        except UnavailableError as error:
            raise UnavailableError(f"{source.component} cannot be had: {error}", **error.details) from error

    def _choice(self, source: Source, own: Locked | None, wish: Wish) -> Choice:
        if source.path or source.files:
            found = self._in_folder(source, own) if source.path else [self._of_file(source, entry, own, wish) for entry in source.files]
            fresh = [] if source.path else [offer for offer in found if not (offer.locked or self._is_given(source, offer))]
            return Choice(source, self._of(found, source.packages, source), fresh)
        known = self._locked_at(source, own) if own else []
        there = newest_of(known, source.release, self._architecture)
        lacking = [name for name in source.packages if not name.endswith("?") and name not in there]
        if not lacking and own:
            return Choice(source, self._of(known, source.packages, source))
        if wish.strict:
            raise _not_locked(source, f"its package {lacking[0]}" if own and lacking else "it")
        offers = [*known, *(offer for offer in self.newest(source) if offer.package.name not in there)]
        asked = self._of(offers, source.packages, source)
        # Debian signs its packages, and its suites drop what they replace: a lock is for who asks for one.
        return Choice(source, asked, [] if source.suite else self._to_lock(offers, source, wish))

    def _to_lock(self, offers: t.Sequence[Offer], source: Source, wish: Wish) -> list[Offer]:
        unfit = {offer.package.name for offer in offers if offer.trouble} - {name.rstrip("?") for name in source.packages}
        names = (*source.packages, *(f"{name.rstrip('?')}?" for name in wish.also))
        return [offer for offer in self._of([offer for offer in offers if offer.package.name not in unfit], names, source) if not offer.locked]

    def _of(self, offers: t.Sequence[Offer], names: t.Sequence[str], source: Source) -> list[Offer]:
        return choose(offers, names, source, self._architecture)

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
        except IntegrityError as error:
            if not offer.locked:
                raise
            actual = error.details.get("actual")
            found_there = f"its sha256 is {actual}" if actual else "it is another file"
            raise IntegrityError(
                f"Cannot use {shown(offer.location)}: {found_there}, and the lock file says {offer.sha256}. {CHANGED}.", **error.details
            ) from error
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

    def _of_file(self, source: Source, entry: FileSource, locked: Locked | None, wish: Wish) -> Offer:
        known = locked.by_file(entry.name) if locked else None
        if known and entry.sha256 and entry.sha256 != known.sha256:
            raise IntegrityError(
                f"Cannot use {entry.url}: its description says that its sha256 is {entry.sha256}, and the lock file says {known.sha256}. Correct one of them."
            )
        if known:
            return Offer(known.package, known.sha256, entry.url, entry.name, locked=True)
        if not entry.sha256 and source.otherwise:
            raise UnavailableError(
                f"{source.component} {source.version} cannot be had: no digest of {entry.name} is locked, so {entry.url} cannot be verified. "
                "Run the playbook hyperscaler.images.lock where its server can be reached, or give a local path."
            )
        if not entry.sha256 and wish.strict:
            raise _not_locked(source, f"its file {entry.url}")
        try:
            if not entry.sha256:
                return self._first_seen(source, entry)
            target = self._place(source, entry.sha256, entry.name)
            download(entry.url, target, entry.sha256, "sha256", policy=self._policy)
        except DownloadError as error:
            raise self._explained(source, error) from error
        return Offer(read_deb(target), entry.sha256, entry.url, entry.name)

    @staticmethod
    def _is_given(source: Source, offer: Offer) -> bool:
        """Whether the digest stands beside the address."""
        return any(entry.sha256 == offer.sha256 for entry in source.files)

    def _first_seen(self, source: Source, entry: FileSource) -> Offer:
        data = fetch(entry.url, LARGEST_PACKAGE, self._policy)
        digest = hashlib.sha256(data).hexdigest()
        if entry.sha256 not in ("", digest):
            raise IntegrityError(f"Cannot lock {entry.url}: its sha256 is {digest}, and {entry.sha256} is expected. Find out which of them is right.")
        target = self._place(source, digest, entry.name)
        write_atomic(target, data)
        return Offer(read_deb(target), digest, entry.url, entry.name)

    def _locked_at(self, source: Source, locked: Locked) -> list[Offer]:
        """What is locked of a package archive, which is not asked for it."""
        try:
            base = source.repository.url if source.repository else self._debian.mirror
        except UnavailableError as error:
            raise UnavailableError(f"{source.component} cannot be had: {error}", **error.details) from error
        return [Offer(entry.package, entry.sha256, f"{base.rstrip('/')}/{entry.file}", entry.file, locked=True) for entry in locked.packages]

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


def _not_locked(source: Source, what: str) -> ImageError:
    origin = source.repository.url if source.repository else f"the suite {source.suite.name} of Debian" if source.suite else source.files[0].url
    components = json.dumps({"artefact_components": [source.component]})
    return ImageError(
        f"Cannot take {source.component} {source.version} from {shown(origin)}: {what} is not locked, and artefact_policy is strict. "
        f"Lock it with ansible-playbook hyperscaler.images.lock -e '{components}'."
    )
