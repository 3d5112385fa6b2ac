# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""The database of dpkg in an image, read without dpkg, and the comparison of the packaged files with it."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import enum
import fnmatch
import functools
import hashlib
import os
import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree

INFO = "/var/lib/dpkg/info"
DATABASE_LIMIT = 1 << 27
CHUNK = 1 << 22
# More than there are CPUs: most files are small, and their reader waits for the loop device.
WORKERS = 8
# Programs make these folders again; the FHS lets anybody empty /var/cache, and /run is empty at every boot.
RECREATED = ("/var/cache/", "/run/", "/var/lib/apt/lists/")


@dataclasses.dataclass(frozen=True)
class Package:
    """One package that dpkg knows; ``want``, ``flag`` and ``state`` are the words of its Status field."""

    name: str
    version: str
    architecture: str
    want: str
    flag: str
    state: str
    conffiles: tuple[str, ...] = ()


class Fault(enum.Enum):
    """How a packaged file differs from its package."""

    MISSING = "missing"
    MODIFIED = "modified"
    UNREADABLE = "unreadable"


@dataclasses.dataclass(frozen=True)
class FileFault:
    """A packaged file that is not as its package made it."""

    package: str
    path: str
    fault: Fault


@dataclasses.dataclass(frozen=True)
class _Recorded:
    package: str
    path: str
    md5: str


class PackageDatabase:
    """What dpkg knows about an image."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def _text(self, path: str) -> str:
        return self._tree.data(path, DATABASE_LIMIT).decode("utf-8", errors="replace")

    @functools.cached_property
    def packages(self) -> tuple[Package, ...]:
        """Every package in the status file."""
        return tuple(parse_status(self._text("/var/lib/dpkg/status")))

    @functools.cached_property
    def installed(self) -> tuple[Package, ...]:
        """The packages whose files are in the image."""
        return tuple(package for package in self.packages if package.state not in ("not-installed", "config-files"))

    def has(self, *names: str) -> bool:
        """Whether one of these packages is installed."""
        return any(package.name in names for package in self.installed)

    def is_changed(self, path: str) -> bool:
        """Whether a configuration file differs from the one that its package brought; False where dpkg does not say."""
        found = re.search(rf"^ {re.escape(path)} ([0-9a-f]{{32}})\b", self._text("/var/lib/dpkg/status"), re.MULTILINE)
        return found is not None and self._tree.target(path) is not None and _md5(os.fspath(self._tree.location(path))) != found.group(1)

    @functools.cached_property
    def listed(self) -> dict[str, tuple[str, ...]]:
        """The paths in the file list of each package that has one."""
        found = {}
        for name in self._tree.names(INFO):
            if name.endswith(".list"):
                found[name[: -len(".list")].partition(":")[0]] = tuple(self._text(f"{INFO}/{name}").splitlines())
        return found

    @functools.cached_property
    def owned(self) -> frozenset[str]:
        """Every path that a package ships, where it lies in the image."""
        return frozenset(self.place(package, path) for package, paths in self.listed.items() for path in paths if path != "/.")

    @functools.cached_property
    def _diversions(self) -> dict[str, tuple[str, str]]:
        lines = self._text("/var/lib/dpkg/diversions").splitlines()
        return {lines[at]: (lines[at + 1], lines[at + 2]) for at in range(0, len(lines) - 2, 3)}

    def place(self, package: str, path: str) -> str:
        """Where a path of a package lies: diversions and links of folders are followed."""
        moved = self._diversions.get(path)
        return self._tree.canonical(moved[0] if moved and moved[1] != package else path)

    @functools.cached_property
    def filters(self) -> tuple[tuple[bool, re.Pattern[str]], ...]:
        """The path filters of the image's dpkg, in order; True excludes."""
        files = ("/etc/dpkg/dpkg.cfg", *(f"/etc/dpkg/dpkg.cfg.d/{name}" for name in self._tree.names("/etc/dpkg/dpkg.cfg.d")))
        return tuple(parse_filters("\n".join(self._tree.text(path) for path in files)))

    def excluded(self, path: str) -> bool:
        """Whether the image's dpkg was told not to unpack a path."""
        verdict = False
        for excludes, pattern in self.filters:
            if excludes != verdict and pattern.match(path):
                verdict = excludes
        return verdict

    def verify(self) -> list[FileFault]:
        """The packaged files that are missing or changed, by their MD5 sums."""
        records = self._records
        found = [(self._tree.target(record.path), record) for record in records]
        absent = [FileFault(record.package, record.path, Fault.MISSING) for entry, record in found if entry is None]
        # In the order of the inodes the disk is read almost from front to back.
        present = [record for _inode, record in sorted(((entry.inode, record) for entry, record in found if entry), key=lambda pair: pair[0])]
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            parts = list(pool.map(self._compare, (present[number::WORKERS] for number in range(WORKERS))))
        return absent + sorted((fault for part in parts for fault in part), key=lambda fault: fault.path)

    def missing_names(self) -> t.Iterator[tuple[str, str]]:
        """The packages and paths in file lists that are not in the image and that ``verify`` does not look at: folders, links, empty files."""
        summed = {record.path for record in self._records}
        conffiles = {path for package in self.packages for path in package.conffiles}
        for package, paths in sorted(self.listed.items()):
            for path in paths:
                if path == "/." or path in conffiles or self.excluded(path):
                    continue
                place = self.place(package, path)
                if place not in summed and not place.startswith(RECREATED) and self._tree.find(place) is None:
                    yield package, place

    @functools.cached_property
    def _records(self) -> tuple[_Recorded, ...]:
        return tuple(self._read_records())

    def _read_records(self) -> t.Iterator[_Recorded]:
        for name in self._tree.names(INFO):
            if not name.endswith(".md5sums"):
                continue
            package = name[: -len(".md5sums")].partition(":")[0]
            for line in self._text(f"{INFO}/{name}").splitlines():
                md5, _space, path = line.partition(" ")
                path = "/" + path.strip()
                if len(md5) == 32 and not self.excluded(path):
                    yield _Recorded(package, self.place(package, path), md5)

    def _compare(self, records: t.Iterable[_Recorded]) -> list[FileFault]:
        faults = []
        for record in records:
            try:
                digest = _md5(os.fspath(self._tree.location(record.path)))
            except OSError:
                faults.append(FileFault(record.package, record.path, Fault.UNREADABLE))
                continue
            if digest != record.md5:
                faults.append(FileFault(record.package, record.path, Fault.MODIFIED))
        return faults


def _md5(path: str) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb", buffering=0) as stream:  # noqa: PTH123 (a hundred thousand times per image)
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def parse_status(text: str) -> t.Iterator[Package]:
    """The packages of a dpkg status file."""
    for stanza in re.split(r"\n[ \t]*\n", text):
        fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*(?:\n[ \t].*)*)", stanza, re.MULTILINE))
        words = fields.get("Status", "").split()
        if "Package" not in fields or len(words) != 3:
            continue
        conffiles = tuple(line.split()[0] for line in fields.get("Conffiles", "").splitlines() if line.strip())
        yield Package(fields["Package"], fields.get("Version", ""), fields.get("Architecture", ""), words[0], words[1], words[2], conffiles)


def parse_filters(text: str) -> t.Iterator[tuple[bool, re.Pattern[str]]]:
    """The ``path-exclude`` and ``path-include`` lines of a dpkg configuration, in order; True excludes."""
    for kind, pattern in re.findall(r"^\s*path-(exclude|include)[ \t=]+[\"']?(.+?)[\"']?\s*$", text, re.MULTILINE):
        yield kind == "exclude", re.compile(fnmatch.translate(pattern))
