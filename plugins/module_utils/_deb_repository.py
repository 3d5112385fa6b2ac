# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Read the index of a signed Debian package repository."""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import hashlib
import lzma
import re
import tempfile
import typing as t
import zlib
from pathlib import Path, PurePosixPath

from ansible_collections.hyperscaler.images.plugins.module_utils._deb_control import Package, name_in, package_from, parse_fields, split_paragraphs
from ansible_collections.hyperscaler.images.plugins.module_utils._download import fetch
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, DownloadError, IntegrityError, reason
from ansible_collections.hyperscaler.images.plugins.module_utils._gpgv import read_key, verify
from ansible_collections.hyperscaler.images.plugins.module_utils._transport import Policy, shown
from ansible_collections.hyperscaler.images.plugins.module_utils._zstd import unpacked_zstd

LARGEST_RELEASE = 4 << 20
LARGEST_INDEX = 64 << 20
SHA256 = re.compile(r"[0-9a-f]{64}")


def _unzstd(packed: bytes) -> bytes:
    with tempfile.NamedTemporaryFile(prefix="hyperscaler-index-") as file:
        file.write(packed)
        file.flush()
        with unpacked_zstd(Path(file.name), reason="read package indexes that are compressed with it", attempt="unpack a package index") as plain:
            return plain.read_bytes()


# By the ending of an index, the smallest first; zstd needs a program, so it comes after those that Python reads itself.
UNPACK: dict[str, t.Callable[[bytes], bytes]] = {
    ".xz": lzma.decompress,
    ".lzma": lzma.decompress,
    ".bz2": bz2.decompress,
    ".gz": gzip.decompress,
    ".zst": _unzstd,
    "": bytes,
}


@dataclasses.dataclass(frozen=True)
class Repository:
    """A repository and the key that signs it; ``url`` is the address that holds the folder dists.

    A suite that ends in a slash is the folder of a flat repository, which has no dists and no components. With ``fingerprint``, 40 hexadecimal
    digits, only signatures of that primary key count, whatever else the file with the key holds.
    """

    url: str
    suite: str
    component: str
    key: Path
    fingerprint: str = ""

    @property
    def is_flat(self) -> bool:
        """Whether the indexes lie beside the packages."""
        return self.suite.endswith("/")

    @property
    def folder(self) -> str:
        """The address of the suite."""
        base = self.url.rstrip("/")
        return "/".join(part for part in (base, self.suite.strip("/")) if part) if self.is_flat else f"{base}/dists/{self.suite}"


@dataclasses.dataclass(frozen=True)
class Release:
    """What a Release file says: the sha256 of each index, and whether the server has them by that, too."""

    sums: t.Mapping[str, str]
    by_hash: bool


@dataclasses.dataclass(frozen=True)
class Entry:
    """A package in the index; ``trouble`` is why it cannot be used, then ``url`` and ``sha256`` may be empty."""

    package: Package
    url: str
    sha256: str
    trouble: str = ""


def read_index(repository: Repository, architecture: str, policy: Policy) -> list[Entry]:
    """The packages of a repository; raises IntegrityError when the signature or a digest is wrong."""
    release = release_of(_signed_release(repository, policy), repository.folder)
    name, packed = _fetch_index(choose_indexes(release.sums, repository, architecture), release, repository, policy)
    return parse_index(_unpack(packed, name, repository), repository)


def _fetch_index(names: t.Sequence[str], release: Release, repository: Repository, policy: Policy) -> tuple[str, bytes]:
    """The first of the indexes that the server has, with its name: a Release file may list more than there are."""
    first: DownloadError | None = None
    for name in names:
        digest = release.sums[name]
        # A name that changes with the content, so that a repository that is being updated does no harm.
        by_hash = [f"{name.rpartition('/')[0]}/by-hash/SHA256/{digest}".lstrip("/")] if release.by_hash else []
        for place in (*by_hash, name):
            try:
                packed = fetch(f"{repository.folder}/{place}", LARGEST_INDEX, policy)
            except DownloadError as error:
                # Some servers answer 403 for what they do not have.
                if error.details.get("cause") not in ("missing", "denied"):
                    raise
                first = first if first or place != name else error
                continue
            if hashlib.sha256(packed).hexdigest() == digest:
                return name, packed
            raise IntegrityError(
                f"Cannot use {shown(repository.folder)}/{place}: it does not have the digest that the signed Release file gives. "
                "The repository is being updated or was changed; try again, or use another mirror."
            )
    raise first or DownloadError(f"Cannot read {shown(repository.folder)}: it has no package index. Use another mirror.")


def _signed_release(repository: Repository, policy: Policy) -> str:
    signed = fetch(f"{repository.folder}/InRelease", LARGEST_RELEASE, policy)
    where = f"{shown(repository.folder)}/InRelease"
    with tempfile.TemporaryDirectory(prefix="hyperscaler-repository-") as folder:
        source, content = Path(folder, "InRelease"), Path(folder, "Release")
        source.write_bytes(signed)
        found = verify(source, read_key(repository.key), attempt=f"verify the signature of {where}", content=content)
        if not found.valid:
            raise IntegrityError(
                f"Cannot verify the signature of {where}: {found.trouble(repository.key)}. The repository is not signed by the key in {repository.key}. "
                "Use the key that its publisher names, or another mirror."
            )
        if repository.fingerprint and repository.fingerprint not in found.good:
            raise IntegrityError(
                f"Cannot use {where}: it is signed by {', '.join(sorted(found.good))}, and only {repository.fingerprint} is trusted. "
                "Compare the fingerprint with the one that the publisher names."
            )
        # Only what the signature covers is read, not what stands around it.
        return content.read_text(encoding="utf-8", errors="replace")


def release_of(text: str, folder: str) -> Release:
    """Read the Release file of a suite."""
    try:
        paragraphs = [parse_fields(paragraph) for paragraph in split_paragraphs(text)]
    except ValueError as error:
        raise IntegrityError(f"Cannot use {shown(folder)}/InRelease: {error}. Use another mirror.") from error
    fields = paragraphs[0] if paragraphs else {}
    sums = {}
    for line in fields.get("sha256", "").splitlines():
        parts = line.split()
        if len(parts) == 3 and SHA256.fullmatch(parts[0].lower()):
            sums[parts[2]] = parts[0].lower()
    if not sums:
        raise IntegrityError(f"Cannot use {shown(folder)}/InRelease: it has no SHA256 digests. Use a repository that has them.")
    return Release(sums, fields.get("acquire-by-hash", "").lower() in ("yes", "true", "1"))


def choose_indexes(sums: t.Mapping[str, str], repository: Repository, architecture: str) -> list[str]:
    """The names of the package index in a suite, the one to read first at the front."""
    stem = "Packages" if repository.is_flat else f"{repository.component}/binary-{architecture}/Packages"
    # In a flat repository, names may begin with a dot and a slash.
    found = [name for ending in UNPACK for name in (f"{stem}{ending}", f"./{stem}{ending}") if name in sums]
    if found:
        return found
    offered = sorted({match.group(1) for match in (re.match(r"(.+/binary-[^/]+)/Packages", name) for name in sums) if match})
    raise DownloadError(
        f"Cannot find packages for {architecture} in the component {repository.component} of {shown(repository.folder)}: "
        f"it has {', '.join(offered) or 'none'}. Correct the suite, the component or the architecture."
    )


def _unpack(packed: bytes, name: str, repository: Repository) -> str:
    try:
        data = UNPACK[PurePosixPath(name).suffix](packed)
    except (lzma.LZMAError, zlib.error, EOFError, OSError, CommandError) as error:
        raise IntegrityError(f"Cannot unpack {shown(repository.folder)}/{name}: {reason(error)}. Use another mirror.") from error
    return data.decode("utf-8", errors="replace")


def parse_index(text: str, repository: Repository) -> list[Entry]:
    """The entries of a package index; raises IntegrityError when it has entries, and none of them can be used.

    An entry that dpkg would not install is there by its name only, and only when the index has no other package of that name. Of several with
    one name, version and architecture, the first one counts, as for apt.
    """
    found: dict[Package, Entry] = {}
    unfit: dict[str, str] = {}
    for paragraph in split_paragraphs(text):
        try:
            fields = parse_fields(paragraph)
            package = package_from(fields)
        except ValueError as error:
            unfit.setdefault(name_in(paragraph), _trouble(repository, str(error)))
            continue
        url, digest, problem = _place(fields, package, repository)
        known = dataclasses.replace(package, depends=())
        if known not in found or found[known].trouble:
            found[known] = Entry(package, url, digest, _trouble(repository, problem) if problem else "")
    names = {entry.package.name for entry in found.values()}
    entries = [*found.values(), *(Entry(Package(name, "", ""), "", "", trouble) for name, trouble in unfit.items() if name not in names)]
    if entries and all(entry.trouble for entry in entries):
        raise IntegrityError(entries[0].trouble)
    return [entry for entry in entries if entry.package.name]


def _trouble(repository: Repository, problem: str) -> str:
    return f"Cannot use the package index of {shown(repository.folder)}: {problem}. Use another mirror."


def _place(fields: t.Mapping[str, str], package: Package, repository: Repository) -> tuple[str, str, str]:
    """Address and digest of a package, and what is wrong with them."""
    name, digest = PurePosixPath(fields.get("filename", "")), fields.get("sha256", "").lower()
    if not name.parts:
        return "", "", f"{package.name} {package.version} has no field Filename"
    if name.is_absolute() or ".." in name.parts or not re.fullmatch(r"[!-~]+", str(name)):
        return "", "", f"the file name of {package.name} is {str(name)!r}"
    url = f"{repository.url.rstrip('/')}/{name}"
    return (url, digest, "") if SHA256.fullmatch(digest) else (url, "", f"{package.name} {package.version} has no SHA256")
