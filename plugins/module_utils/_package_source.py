# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Find out which packages a folder, a list of URLs or a repository offers."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ansible_collections.hyperscaler.images.plugins.module_utils._beegfs import Candidate
from ansible_collections.hyperscaler.images.plugins.module_utils._deb import look_into, read_deb
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_control import Package
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_repository import Entry, Repository, read_index
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_version import version_order
from ansible_collections.hyperscaler.images.plugins.module_utils._download import download
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, IntegrityError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import file_digest
from ansible_collections.hyperscaler.images.plugins.module_utils._transport import Policy, check_source, shown


def folder_candidates(folder: Path, checksums: t.Mapping[str, str]) -> list[Candidate]:
    """All packages in a folder, each read to its end; with checksums each must be listed there.

    A file that cannot be used is among them with its trouble, which matters when something asks for that package.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.name.endswith(".deb"))
    except OSError as error:
        raise ImageError(f"Cannot look for packages in {folder}: {error.strerror}. Give a folder that exists and can be read.") from error
    if not paths:
        raise ImageError(f"Cannot find packages in {folder}: it has no files that end in .deb. Put the packages there, or use another source.")
    _refuse_unlisted(folder, paths, checksums)
    found = []
    for path in paths:
        reading = look_into(path)
        trouble = reading.trouble
        if not path.name.isprintable() or " " in path.name:
            trouble = trouble or f"Cannot use the package {str(path)!r}: its name has spaces or control characters. Rename it."
        if trouble and path.name not in checksums:
            found.append(Candidate(reading.package, str(path), "", trouble=trouble))
            continue
        digest = "" if path.is_symlink() or not path.is_file() else file_digest(path)
        expected = checksums.get(path.name, digest).strip().lower()
        if digest != expected:
            raise IntegrityError(
                f"Cannot use the package {path}: its sha256 is {digest}, but {expected} is expected. "
                "The file was changed, or the checksum belongs to another file. Fetch or build it again.",
                expected=expected,
                actual=digest,
            )
        found.append(Candidate(reading.package, str(path), digest, proven=not trouble, trouble=trouble))
    return found


def _refuse_unlisted(folder: Path, paths: t.Sequence[Path], checksums: t.Mapping[str, str]) -> None:
    names = {path.name for path in paths}
    if checksums and names - checksums.keys():
        listed = ", ".join(sorted(names - checksums.keys()))
        raise ImageError(f"Cannot verify the packages in {folder}: there is no checksum for {listed}. Add it, or remove the file.")
    if checksums.keys() - names:
        absent = ", ".join(sorted(checksums.keys() - names))
        raise ImageError(f"Cannot verify the packages in {folder}: there is a checksum for {absent}, but no such file. Add the file, or remove the checksum.")


def url_candidates(
    entries: t.Sequence[t.Mapping[str, str]],
    known: t.Mapping[str, Package],
    incoming: Path,
    policy: Policy,
) -> list[Candidate]:
    """The packages behind URLs. Those whose digest is known from an earlier run are not fetched to be looked at."""
    found: list[Candidate] = []
    for index, entry in enumerate(entries):
        url, digest = check_source(entry["url"]), entry["sha256"].strip().lower()
        check_file_name(url)
        if any(other.sha256 == digest for other in found):
            raise ImageError(f"Cannot use {shown(url)}: its sha256 is that of another entry. Correct or remove one of them.")
        if digest in known:
            found.append(Candidate(known[digest], url, digest))
            continue
        target = incoming / f"{index}.deb"
        download(url, target, digest, "sha256", policy=policy)
        try:
            package = read_deb(target)
        except IntegrityError as error:
            raise IntegrityError(str(error).replace(str(target), shown(url)), **{**error.details, "path": shown(url)}) from error
        found.append(Candidate(package, url, digest, proven=True, local=str(target)))
    return found


def check_file_name(url: str) -> None:
    """Refuse addresses whose last part is not the plain name of a package file."""
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+~:_-]*\.deb", name):
        raise ImageError(f"Cannot use {shown(url)}: {name!r} is not the name of a package file. Give the address of a file like beegfs-meta_8.1.0_amd64.deb.")


def repository_candidates(repository: Repository, architecture: str, policy: Policy) -> list[Candidate]:
    """The packages in the index of a repository; of several Debian revisions of one release, the newest, as for apt."""
    newest: dict[tuple[str, str, str], Entry] = {}
    for entry in read_index(repository, architecture, policy):
        package = entry.package
        key = (package.name, package.release, package.architecture)
        if key not in newest or version_order(package.version) > version_order(newest[key].package.version):
            newest[key] = entry
    return [Candidate(entry.package, entry.url, entry.sha256, trouble=entry.trouble) for entry in newest.values()]
