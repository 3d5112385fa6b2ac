# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""The files of an image below a folder of the build host, read so that no link leads out of the image."""

from __future__ import annotations

import configparser
import dataclasses
import fnmatch
import functools
import os
import stat
import typing as t
from pathlib import Path

TEXT_LIMIT = 1 << 20
LINK_LIMIT = 40


@dataclasses.dataclass(frozen=True)
class Entry:
    """One name in the image, as lstat(2) sees it."""

    path: str
    mode: int
    size: int
    uid: int
    mtime: float
    inode: int = 0

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_folder(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)


@dataclasses.dataclass(frozen=True)
class User:
    """One line of passwd(5)."""

    name: str
    password: str
    uid: int
    home: str
    shell: str


class Tree:
    """The names of an image, read once; paths are those inside the image and begin with a slash."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # What a damaged file system does not let be read: the reason by path.
        self.unreadable: dict[str, str] = {}

    @functools.cached_property
    def entries(self) -> dict[str, Entry]:
        """Every name in the image by its path, without the root itself."""
        found: dict[str, Entry] = {}
        waiting = [""]
        base = os.fspath(self.root)
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(base + (folder or "/")) as names:
                    children = list(names)
            except OSError as problem:
                self.unreadable[folder or "/"] = str(problem.strerror)
                continue
            for name in children:
                path = f"{folder}/{name.name}"
                try:
                    status = name.stat(follow_symlinks=False)
                except OSError as problem:
                    self.unreadable[path] = str(problem.strerror)
                    continue
                found[path] = Entry(path, status.st_mode, status.st_size, status.st_uid, status.st_mtime, status.st_ino)
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(path)
        return found

    @functools.cached_property
    def _names(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for path in self.entries:
            folder, _slash, name = path.rpartition("/")
            names.setdefault(folder, []).append(name)
        return {folder: sorted(children) for folder, children in names.items()}

    def names(self, folder: str) -> list[str]:
        """The sorted names in a folder; links on the way are followed."""
        return self._names.get(self.resolve(folder).rstrip("/"), [])

    @functools.cached_property
    def _folders(self) -> dict[str, str]:
        return {}

    def resolve(self, path: str) -> str:
        """The path with every link in it followed as inside the image; the names need not exist."""
        resolved, waiting, links = "", [part for part in reversed(path.split("/")) if part], 0
        while waiting:
            part = waiting.pop()
            if part == ".":
                continue
            if part == "..":
                resolved = resolved.rpartition("/")[0]
                continue
            entry = self.entries.get(f"{resolved}/{part}")
            if entry is None or not entry.is_link or links >= LINK_LIMIT:
                resolved = f"{resolved}/{part}"
                continue
            links += 1
            target = self.link_target(entry.path)
            resolved = "" if target.startswith("/") else resolved
            waiting.extend(piece for piece in reversed(target.split("/")) if piece)
        return resolved or "/"

    def canonical(self, path: str) -> str:
        """The path with the links of its folders followed, but not one that it names itself."""
        folder, _slash, name = path.rpartition("/")
        known = self._folders.get(folder)
        if known is None:
            known = self._folders[folder] = self.resolve(folder).rstrip("/")
        return f"{known}/{name}"

    def link_target(self, path: str) -> str:
        """The text of a link."""
        return os.readlink(f"{os.fspath(self.root)}{path}")  # noqa: PTH115 (the text of the link, not a path of the host)

    def find(self, path: str) -> Entry | None:
        """What lies at a path, or None; a link is not followed."""
        return self.entries.get(self.canonical(path))

    def target(self, path: str) -> Entry | None:
        """What a path leads to, or None; links are followed inside the image."""
        return self.entries.get(self.resolve(path))

    def location(self, path: str) -> Path:
        """Where the file that a path leads to lies on the build host."""
        return Path(f"{os.fspath(self.root)}{self.resolve(path)}")

    def text(self, path: str) -> str:
        """The content of a regular file, or nothing when there is none; at most 1 MiB."""
        return self.data(path).decode("utf-8", errors="replace")

    def data(self, path: str, limit: int = TEXT_LIMIT) -> bytes:
        """The first bytes of a regular file, or nothing when there is none."""
        entry = self.target(path)
        if entry is None or not entry.is_file or not entry.size:
            return b""
        try:
            with self.location(path).open("rb") as stream:
                return stream.read(limit)
        except OSError as problem:
            self.unreadable[entry.path] = str(problem.strerror)
            return b""

    def glob(self, *patterns: str) -> t.Iterator[Entry]:
        """What matches shell patterns, in order; ``**`` stands for any number of folders, links to folders are followed for plain names only."""
        for pattern in patterns:
            yield from self._glob("", [part for part in pattern.split("/") if part])

    def _glob(self, folder: str, parts: list[str]) -> t.Iterator[Entry]:
        part, rest = parts[0], parts[1:]
        if part == "**":
            yield from self._glob(folder, rest)
            for name in self._names.get(folder, ()):
                if self.entries[f"{folder}/{name}"].is_folder:
                    yield from self._glob(f"{folder}/{name}", parts)
            return
        plain = not any(character in part for character in "*?[")
        for name in [part] if plain else fnmatch.filter(self._names.get(folder, ()), part):
            entry = self.entries.get(f"{folder}/{name}")
            if entry is None:
                continue
            if not rest:
                yield entry
            else:
                yield from self._glob(self.resolve(entry.path) if plain else entry.path, rest)

    def files(self, *patterns: str) -> t.Iterator[Entry]:
        """The regular files with content that match shell patterns."""
        return (entry for entry in self.glob(*patterns) if entry.is_file and entry.size)

    @functools.cached_property
    def users(self) -> tuple[User, ...]:
        """The users of the image."""
        rows = (line.split(":") for line in self.text("/etc/passwd").splitlines())
        return tuple(User(row[0], row[1], int(row[2]), row[5], row[6]) for row in rows if len(row) == 7 and row[2].isdigit())

    @functools.cached_property
    def homes(self) -> tuple[str, ...]:
        """The home folders of root, of the users that are people, and whatever else lies in /home."""
        people = {user.home.rstrip("/") for user in self.users if user.uid == 0 or 1000 <= user.uid < 60000}
        return tuple(sorted({"/root", *people, *(f"/home/{name}" for name in self.names("/home"))} - {""}))

    def in_homes(self, *names: str) -> t.Iterator[Entry]:
        """What matches patterns below the home folders."""
        return self.glob(*(f"{home}/{name}" for home in self.homes for name in names))

    @functools.cached_property
    def os_release(self) -> dict[str, str]:
        """The fields of os-release(5) in lower case."""
        return assignments(self.text("/etc/os-release"))


def assignments(text: str) -> dict[str, str]:
    """The ``NAME=value`` lines of a shell-like file; names in lower case, quotes removed."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip().lower(): value.strip().strip("\"'") for name, value in pairs}


def ini_values(text: str) -> dict[tuple[str, str], str]:
    """The values of a file with sections, by section and name; a file that cannot be parsed has none."""
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True, delimiters=("=",), comment_prefixes=("#", ";"))
    try:
        parser.read_string(text)
    except configparser.Error:
        return {}
    return {(section, name): value or "" for section in parser.sections() for name, value in parser.items(section)}


def significant_lines(text: str) -> list[str]:
    """The lines that are neither empty nor a comment."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", ";"))]
