# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read folders of source text once: a digest over them, and the words in them."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._files import file_digest

# What describes or tests a role is not what it does.
UNREAD = frozenset({"README.md", "README.rst", "README", "CHANGELOG.md", "meta/argument_specs.yml", "meta/argument_specs.yaml"})
UNREAD_FOLDERS = frozenset({"tests", "molecule"})
CACHE = "__pycache__"
WORD = re.compile(r"[^\W\d]\w*")
# A comment of a whole line in YAML or Python is read by nobody but people; with an expression in it, it may be a line of a template.
COMMENT = re.compile(r"^[ \t]*#(?!.*\{[{%]).*$", re.MULTILINE)
COMMENTED = (".yml", ".yaml", ".py")
LARGEST_TEXT = 1 << 20
# A folder that counts because nobody knows which of its files is read can be somebody's home: more than this is not read each time.
MOST_FILES = 2000
MOST_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class SourceTree:
    """A folder: its digest, and its texts by their name below the folder."""

    path: Path
    digest: str
    texts: dict[str, str]

    def under(self, *folders: str) -> dict[str, str]:
        """The YAML texts below some of its folders."""
        return {name: text for name, text in self.texts.items() if name.partition("/")[0] in folders and name.endswith((".yml", ".yaml"))}


def without_comments(text: str, name: str) -> str:
    """The text of a file; comments of YAML and Python are left out."""
    return COMMENT.sub("", text) if name.endswith(COMMENTED) else text


def words_of(text: str) -> set[str]:
    """The words of a text."""
    return set(WORD.findall(text))


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
    """A digest of a file or of a folder with all that is in it; of a large folder, of names, sizes and times."""
    if not path.is_dir():
        return file_digest(path)
    if not _is_large(path):
        return tree_digest(path)
    states = ((name, file.stat()) for name, file in _files(path))
    return hashlib.sha256("".join(f"{name}\0{state.st_size}\0{state.st_mtime_ns}\0" for name, state in states).encode()).hexdigest()


def texts_at(path: Path) -> list[tuple[str, str]]:
    """The texts of a file, or of the files of a folder that is not large, with their names."""
    if path.is_dir() and _is_large(path):
        return []
    return [(name, text_of(file)) for name, file in (_files(path) if path.is_dir() else [(path.name, path)])]


def text_of(path: Path) -> str:
    """The text of a file; empty for one that is large or no text."""
    return _text(path.read_bytes()) if path.is_file() and path.stat().st_size <= LARGEST_TEXT else ""


def _is_large(folder: Path) -> bool:
    files = _files(folder)
    return len(files) > MOST_FILES or sum(path.stat().st_size for _name, path in files) > MOST_BYTES


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
