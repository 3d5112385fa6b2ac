# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read folders of source text once: a digest over them, and the words in them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import re
import typing as t
from pathlib import Path

# What describes or tests a role is not what it does.
UNREAD = frozenset({"README.md", "README.rst", "README", "CHANGELOG.md", "meta/argument_specs.yml", "meta/argument_specs.yaml"})
UNREAD_FOLDERS = frozenset({"tests", "molecule"})
CACHE = "__pycache__"
WORD = re.compile(r"[^\W\d]\w*")
# A comment of a whole line in YAML or Python is read by nobody but people; with an expression in it, it may be a line of a template.
COMMENT = re.compile(r"^[ \t]*#(?!.*\{[{%]).*$", re.MULTILINE)
COMMENTED = (".yml", ".yaml", ".py")
LARGEST_TEXT = 1 << 20


@dataclasses.dataclass(frozen=True)
class SourceTree:
    """A folder: its digest, and its texts by their name below the folder."""

    path: Path
    digest: str
    texts: dict[str, str]

    @functools.cached_property
    def words(self) -> frozenset[str]:
        """Every word of its texts."""
        return frozenset(word for name, text in self.texts.items() for word in words_of(text, name))

    def under(self, *folders: str) -> dict[str, str]:
        """The YAML texts below some of its folders."""
        return {name: text for name, text in self.texts.items() if name.partition("/")[0] in folders and name.endswith((".yml", ".yaml"))}


def words_of(text: str, name: str = "") -> set[str]:
    """The words of a text; comments of YAML and Python are left out."""
    return set(WORD.findall(COMMENT.sub("", text) if name.endswith(COMMENTED) else text))


def read_role(path: Path) -> SourceTree:
    """The folder of a role without what describes or tests it."""
    return _read(path, [(name, file) for name, file in _files(path) if not _is_unread(name)])


def tree_digest(*folders: Path) -> str:
    """A digest over the names and contents of all files below some folders."""
    digest = hashlib.sha256()
    for folder in folders:
        digest.update(_read(folder, _files(folder)).digest.encode())
    return digest.hexdigest()


def path_digest(path: Path) -> str:
    """A digest of a file or of a folder with all that is in it."""
    return tree_digest(path) if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


def text_of(path: Path) -> str:
    """The text of a file; empty for one that is large or no text."""
    return _text(path.read_bytes()) if path.is_file() and path.stat().st_size <= LARGEST_TEXT else ""


def _is_unread(name: str) -> bool:
    top = name.partition("/")[0]
    return name in UNREAD or ("/" in name and top in UNREAD_FOLDERS) or top.startswith(".")


def _files(folder: Path) -> list[tuple[str, Path]]:
    """The files below a folder, also through links to folders, which Ansible follows as well."""
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        if CACHE in folders:
            folders.remove(CACHE)
        found += [(Path(place, name).relative_to(folder).as_posix(), Path(place, name)) for name in names]
    return sorted((name, path) for name, path in found if path.is_file())


def _read(folder: Path, files: t.Iterable[tuple[str, Path]]) -> SourceTree:
    digest, texts = hashlib.sha256(), {}
    for name, path in files:
        data = path.read_bytes()
        digest.update(f"{name}\0{path.stat().st_mode & 0o111:o}\0".encode())
        digest.update(hashlib.sha256(data).digest())
        if text := _text(data):
            texts[name] = text
    return SourceTree(folder, digest.hexdigest(), texts)


def _text(data: bytes) -> str:
    if len(data) > LARGEST_TEXT or b"\0" in data:
        return ""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
