# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Bring chosen package files into a folder, all of them or none, and remember what was brought."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import tempfile
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._beegfs import Candidate, Selection
from ansible_collections.hyperscaler.images.plugins.module_utils._deb import read_deb
from ansible_collections.hyperscaler.images.plugins.module_utils._deb_control import Package
from ansible_collections.hyperscaler.images.plugins.module_utils._digest import canonical_json
from ansible_collections.hyperscaler.images.plugins.module_utils._download import download, verified
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, IntegrityError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import write_atomic
from ansible_collections.hyperscaler.images.plugins.module_utils._transport import Policy

RECORD = "staged.json"
FORMAT = 1
INCOMING = ".incoming-"


@dataclasses.dataclass(frozen=True)
class Staged:
    """A package that an earlier run brought as ``file``, or only read when that is empty."""

    file: str
    sha256: str
    package: Package


@dataclasses.dataclass(frozen=True)
class Plan:
    """What there is to do in a folder: bring ``bring``, remove ``remove``; ``keep`` is there already."""

    bring: tuple[Candidate, ...]
    keep: tuple[Candidate, ...]
    remove: tuple[Staged, ...]
    record: tuple[Staged, ...]

    @property
    def changed(self) -> bool:
        """Whether package files are brought or removed."""
        return bool(self.bring or self.remove)


class Stage:
    """The folder that holds the packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> None:
        """Make the folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise ImageError(f"Cannot make the folder {self.folder}: something else has that name. Choose another folder.") from error
        except OSError as error:
            raise ImageError(f"Cannot make the folder {self.folder}: {error.strerror}. Choose another folder.") from error

    @contextlib.contextmanager
    def locked(self) -> t.Iterator[None]:
        """Hold the folder for this process; others wait. Nothing is locked as long as there is no folder."""
        try:
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield
            return
        except OSError as error:
            raise ImageError(f"Cannot stage packages in {self.folder}: {error.strerror}. Choose a folder that can be written.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def record(self) -> tuple[Staged, ...]:
        """What earlier runs brought or read. A record that cannot be read counts as none: then nothing is removed."""
        try:
            document = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
            if document["format"] != FORMAT:
                return ()
            return tuple(_staged(entry) for entry in document["packages"])
        except (OSError, ValueError, KeyError, TypeError):
            return ()

    def plan(self, selection: Selection) -> Plan:
        """Compare the folder with what is wanted; raises ImageError when files of somebody else are in the way."""
        taken = {self.name_of(choice.candidate): choice.candidate for choice in selection.chosen}
        there = {name for name, candidate in taken.items() if self._holds(self.folder / name, candidate)}
        before = [staged for staged in self.record() if staged.file not in taken]
        ours = [staged for staged in before if staged.file and verified(self.folder / staged.file, staged.sha256, "sha256")]
        self._refuse_foreign(taken, ours)
        stale = tuple(staged for staged in ours if _is_stale(staged, selection))
        # Packages that were put into the folder by hand are used, but not ours to remove later.
        by_hand = {name for name, candidate in taken.items() if self._is_inside(candidate) and not self._was_brought(name)}
        fresh = [Staged(name, candidate.sha256, candidate.package) for name, candidate in taken.items() if name not in by_hand]
        unused = [Staged("", choice.candidate.sha256, choice.candidate.package) for choice in selection.ignored if choice.candidate.local]
        known = {entry.sha256: entry for entry in before if not entry.file}
        known.update({entry.sha256: entry for entry in unused})
        for entry in fresh:
            known.pop(entry.sha256, None)
        record = [*(staged for staged in ours if staged not in stale), *fresh, *known.values()]
        return Plan(
            bring=tuple(candidate for name, candidate in taken.items() if name not in there),
            keep=tuple(taken[name] for name in taken if name in there),
            remove=stale,
            record=tuple(sorted(record, key=lambda staged: (staged.file, staged.sha256))),
        )

    def apply(self, plan: Plan, policy: Policy) -> None:
        """Bring and remove files. All are fetched and read before the first one is put in place."""
        for left_behind in self.folder.glob(f"{INCOMING}*"):
            shutil.rmtree(left_behind, ignore_errors=True)
        if plan.bring:
            with tempfile.TemporaryDirectory(prefix=INCOMING, dir=self.folder) as incoming:
                for candidate in plan.bring:
                    _fetch(candidate, Path(incoming), policy)
                for candidate in plan.bring:
                    name = candidate.package.file_name
                    Path(incoming, name).replace(self.folder / name)
        for staged in plan.remove:
            (self.folder / staged.file).unlink()
        text = canonical_json({"format": FORMAT, "packages": [dataclasses.asdict(staged) for staged in plan.record]})
        target = self.folder / RECORD
        if plan.record and not (target.is_file() and target.read_bytes() == text.encode("utf-8")):
            write_atomic(target, text)

    def _is_inside(self, candidate: Candidate) -> bool:
        return os.path.realpath(Path(candidate.origin).parent) == os.path.realpath(self.folder)

    def name_of(self, candidate: Candidate) -> str:
        """The name in the folder: Debian's convention, but a file that is there already keeps its own."""
        return Path(candidate.origin).name if self._is_inside(candidate) else candidate.package.file_name

    def _was_brought(self, name: str) -> bool:
        return any(staged.file == name for staged in self.record())

    @staticmethod
    def _holds(target: Path, candidate: Candidate) -> bool:
        if target.is_symlink() or (target.exists() and not target.is_file()):
            raise ImageError(f"Cannot stage {target}: something that is not a regular file is in its place. Remove it.")
        return verified(target, candidate.sha256, "sha256")

    def _refuse_foreign(self, taken: t.Mapping[str, Candidate], ours: t.Iterable[Staged]) -> None:
        """Packages that somebody else put there must not compete with those that are brought."""
        known, names = {staged.file for staged in ours}, {candidate.package.name for candidate in taken.values()}
        for path in sorted(self.folder.glob("*.deb")):
            if path.name not in taken and path.name not in known and path.name.partition("_")[0].lower() in names and not _is_offered(path, taken):
                raise ImageError(
                    f"Cannot stage packages in {self.folder}: {path.name} is there, and this module did not bring it or it was changed since. "
                    "Move it away, or use its folder as the source."
                )


def _is_offered(path: Path, taken: t.Mapping[str, Candidate]) -> bool:
    """Whether the folder is the source itself: then its other packages were looked at and left."""
    return any(os.path.realpath(Path(candidate.origin).parent) == os.path.realpath(path.parent) for candidate in taken.values())


def _is_stale(staged: Staged, selection: Selection) -> bool:
    """Other components of the same version stay: images share the folder."""
    chosen = {choice.candidate.package.name: choice.candidate.package for choice in selection.chosen}.get(staged.package.name)
    return staged.package.release != selection.release or (chosen is not None and chosen.architecture in (staged.package.architecture, "all"))


def _fetch(candidate: Candidate, incoming: Path, policy: Policy) -> None:
    target = incoming / candidate.package.file_name
    download(candidate.local or candidate.origin, target, candidate.sha256, "sha256", policy=policy)
    if candidate.proven:
        return
    found, expected = read_deb(target), candidate.package
    if (found.name, found.version, found.architecture) != (expected.name, expected.version, expected.architecture):
        raise IntegrityError(
            f"Cannot stage {candidate.origin}: it is {found.name} {found.version} for {found.architecture}, but "
            f"{expected.name} {expected.version} for {expected.architecture} was announced. Use another mirror."
        )


def _staged(entry: t.Mapping[str, t.Any]) -> Staged:
    fields, name = entry["package"], entry["file"]
    if name and (Path(name).name != name or not name.endswith(".deb")):
        raise ValueError(name)
    depends = tuple(tuple(names) for names in fields["depends"])
    return Staged(name, entry["sha256"], Package(fields["name"], fields["version"], fields["architecture"], depends))
