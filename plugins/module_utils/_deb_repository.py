# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Read the index of a signed Debian package repository."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import gzip
import hashlib
import lzma
import re
import tempfile
import typing as t
import zlib
from pathlib import Path, PurePosixPath

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_control import Package, package_from, parse_fields, split_paragraphs
from ansible_collections.hyperscaler.images.plugins.module_utils._download import fetch
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import CommandError, DownloadError, IntegrityError
from ansible_collections.hyperscaler.images.plugins.module_utils._transport import Policy, shown

LARGEST_RELEASE = 4 << 20
LARGEST_INDEX = 64 << 20
SHA256 = re.compile(r"[0-9a-f]{64}")


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
class Entry:
    """A package in the index; ``trouble`` is why it cannot be used, then ``url`` and ``sha256`` may be empty."""

    package: Package
    url: str
    sha256: str
    trouble: str = ""


def read_index(repository: Repository, architecture: str, policy: Policy) -> list[Entry]:
    """The packages of a repository; raises IntegrityError when the signature or a digest is wrong."""
    release = _signed_release(repository, policy)
    sums = release_sums(release, repository.folder)
    name, digest = choose_index(sums, repository, architecture)
    packed = fetch(f"{repository.folder}/{name}", LARGEST_INDEX, policy)
    if hashlib.sha256(packed).hexdigest() != digest:
        raise IntegrityError(
            f"Cannot use {shown(repository.folder)}/{name}: it does not have the digest that the signed Release file gives. "
            "The repository is being updated or was changed; try again, or use another mirror."
        )
    return parse_index(_unpack(packed, name, repository), repository)


def _signed_release(repository: Repository, policy: Policy) -> str:
    signed = fetch(f"{repository.folder}/InRelease", LARGEST_RELEASE, policy)
    gpgv = Command("gpgv", reason="verify the signature of a package repository", package="gpgv")
    with tempfile.TemporaryDirectory(prefix="hyperscaler-repository-") as folder:
        keyring, source, content = Path(folder, "key.gpg"), Path(folder, "InRelease"), Path(folder, "Release")
        keyring.write_bytes(read_key(repository.key))
        source.write_bytes(signed)
        attempt, status = f"verify the signature of {shown(repository.folder)}/InRelease", ["--status-fd", "1"] if repository.fingerprint else []
        try:
            done = gpgv.run(*status, "--quiet", "--keyring", keyring, "--output", content, "--", source, attempt=attempt)
        except CommandError as error:
            raise IntegrityError(
                f"{error} The repository is not signed by the key in {repository.key}. Use the key that its publisher names, or another mirror.",
                **error.details,
            ) from error
        if repository.fingerprint and repository.fingerprint not in signers(done.stdout):
            raise IntegrityError(
                f"Cannot use {shown(repository.folder)}/InRelease: it is signed by {', '.join(sorted(signers(done.stdout))) or 'nobody'}, and only "
                f"{repository.fingerprint} is trusted. Compare the fingerprint with the one that the publisher names."
            )
        # Only what the signature covers is read, not what stands around it.
        return content.read_text(encoding="utf-8", errors="replace")


def signers(status: str) -> set[str]:
    """The fingerprints of the primary keys that gpgv found good signatures of, from what it writes to its status descriptor."""
    found = (re.match(r"\[GNUPG:\] VALIDSIG ([0-9A-F]{40}) .* ([0-9A-F]{40})$", line.strip()) for line in status.splitlines())
    return {match.group(2) for match in found if match}


def read_key(path: Path) -> bytes:
    """A public key as gpgv wants it, from a binary or an armoured file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"Cannot read the repository key {path}: {error.strerror}. Give the path of the publisher's public key.") from error
    match = re.search(rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[^\r\n]+\r?\n)*\r?\n(.*?)(?:\r?\n=[^\r\n]{4})?\r?\n-----END PGP", data, re.DOTALL)
    if match is None:
        if not data or not data[0] & 0x80:
            raise IntegrityError(f"Cannot use the repository key {path}: it is not an OpenPGP public key. Give the path of the publisher's public key.")
        return data
    try:
        return base64.b64decode(b"".join(match.group(1).split()), validate=True)
    except binascii.Error as error:
        raise IntegrityError(f"Cannot use the repository key {path}: its armour is damaged ({error}). Fetch the key again.") from error


def release_sums(release: str, folder: str) -> dict[str, str]:
    """The sha256 of each index of a suite."""
    try:
        paragraphs = [parse_fields(paragraph) for paragraph in split_paragraphs(release)]
    except ValueError as error:
        raise IntegrityError(f"Cannot use {shown(folder)}/InRelease: {error}.") from error
    sums = {}
    for line in (paragraphs[0].get("sha256", "") if paragraphs else "").splitlines():
        parts = line.split()
        if len(parts) == 3 and SHA256.fullmatch(parts[0]):
            sums[parts[2]] = parts[0]
    if not sums:
        raise IntegrityError(f"Cannot use {shown(folder)}/InRelease: it has no SHA256 digests. Use a repository that has them.")
    return sums


def choose_index(sums: t.Mapping[str, str], repository: Repository, architecture: str) -> tuple[str, str]:
    """The package index to read and its digest."""
    for ending in (".xz", ".gz", ""):
        name = f"Packages{ending}" if repository.is_flat else f"{repository.component}/binary-{architecture}/Packages{ending}"
        if name in sums:
            return name, sums[name]
    offered = sorted({match.group(1) for match in (re.match(r"(.+/binary-[^/]+)/Packages", name) for name in sums) if match})
    raise DownloadError(
        f"Cannot find packages for {architecture} in the component {repository.component} of {shown(repository.folder)}: "
        f"it has {', '.join(offered) or 'none'}. Correct the suite, the component or the architecture."
    )


def _unpack(packed: bytes, name: str, repository: Repository) -> str:
    try:
        data = lzma.decompress(packed) if name.endswith(".xz") else gzip.decompress(packed) if name.endswith(".gz") else packed
    except (lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise IntegrityError(f"Cannot unpack {shown(repository.folder)}/{name}: {error}.") from error
    return data.decode("utf-8", errors="replace")


def parse_index(text: str, repository: Repository) -> list[Entry]:
    """The entries of a package index; raises IntegrityError when it has entries, and none of them can be used.

    An entry that dpkg would not install is there by its name only, and only when the index has no other package of that name.
    """
    found: list[Entry] = []
    unfit: dict[str, str] = {}
    for paragraph in split_paragraphs(text):
        fields: dict[str, str] = {}
        try:
            fields = parse_fields(paragraph)
            package = package_from(fields)
        except ValueError as error:
            unfit.setdefault(fields.get("package", "").lower(), _trouble(repository, str(error)))
            continue
        url, digest, problem = _place(fields, package, repository)
        found.append(Entry(package, url, digest, _trouble(repository, problem) if problem else ""))
    names = {entry.package.name for entry in found}
    found += [Entry(Package(name, "", ""), "", "", trouble) for name, trouble in unfit.items() if name not in names]
    if found and all(entry.trouble for entry in found):
        raise IntegrityError(found[0].trouble)
    return found


def _trouble(repository: Repository, problem: str) -> str:
    return f"Cannot use the package index of {shown(repository.folder)}: {problem}. Use another mirror."


def _place(fields: t.Mapping[str, str], package: Package, repository: Repository) -> tuple[str, str, str]:
    """Address and digest of a package, and what is wrong with them."""
    name, digest = PurePosixPath(fields.get("filename", "")), fields.get("sha256", "").lower()
    if not name.parts or name.is_absolute() or ".." in name.parts or not re.fullmatch(r"[!-~]+", str(name)):
        return "", "", f"the file name of {package.name} is {str(name)!r}"
    url = f"{repository.url.rstrip('/')}/{name}"
    return (url, digest, "") if SHA256.fullmatch(digest) else (url, "", f"{package.name} {package.version} has no SHA256")
