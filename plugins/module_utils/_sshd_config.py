# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Read sshd_config(5) with what it includes: which files hold keys that let somebody log in."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree, User

FILE = "/etc/ssh/sshd_config"
FOLDER = "/etc/ssh"
DEPTH_LIMIT = 16
# Where the unit of the server gets arguments, which come before the file.
ARGUMENTS = (
    ("/etc/default/ssh", re.compile(r"^\s*SSHD_OPTS=(.*)$", re.MULTILINE)),
    ("/etc/systemd/system/ssh*.service", re.compile(r"^ExecStart=[-@:+!|]*\S*/sshd\s(.*)$", re.MULTILINE)),
    ("/etc/systemd/system/ssh*.service.d/*.conf", re.compile(r"^(?:ExecStart=[-@:+!|]*\S*/sshd\s|Environment=[\"']?SSHD_OPTS=)(.*)$", re.MULTILINE)),
)
PUBLIC_KEY = re.compile(r"^[^#\n]*\b(?:ssh-(?:ed25519|rsa|dss)|ecdsa-sha2-\S+|sk-\S+)\s+AAAA[A-Za-z0-9+/]", re.MULTILINE)
LINE = re.compile(r"\s*([A-Za-z0-9]+)(?:\s*=\s*|\s+)(.*)$")
WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'|(\S+)')
EFFECTIVE = ("authorizedkeysfile", "authorizedkeyscommand", "trustedusercakeys", "hostbasedauthentication", "ignorerhosts")
DEFAULT_KEY_FILES = (".ssh/authorized_keys", ".ssh/authorized_keys2")


@dataclasses.dataclass
class SshdConfig:
    """Every value of each keyword, in small letters: the one that counts outside Match blocks, and those of each block.

    ``general`` are the keywords that are set outside Match blocks.
    """

    values: dict[str, list[tuple[str, ...]]] = dataclasses.field(default_factory=dict)
    general: set[str] = dataclasses.field(default_factory=set)

    def all_of(self, keyword: str) -> list[tuple[str, ...]]:
        """The values that a keyword may have, depending on who logs in from where."""
        return self.values.get(keyword.lower(), [])

    def allows(self, keyword: str) -> bool:
        """Whether a keyword is ``yes`` for anybody."""
        return any(value[:1] and value[0].lower() == "yes" for value in self.all_of(keyword))

    @property
    def key_files(self) -> tuple[str, ...]:
        """The patterns of AuthorizedKeysFile; those of sshd where nothing is set outside Match blocks."""
        found = [word for value in self.all_of("authorizedkeysfile") for word in value if word.lower() != "none"]
        return tuple(dict.fromkeys(found)) if "authorizedkeysfile" in self.general else tuple(dict.fromkeys((*DEFAULT_KEY_FILES, *found)))


def read_sshd_config(tree: Tree, path: str = FILE) -> SshdConfig:
    """The configuration of an image; empty without a file."""
    config = SshdConfig()
    reader = _Reader(tree, config)
    lines, files = _arguments(tree)
    reader.lines(lines, 0)
    for each in files or [path]:
        reader.read(each, 0)
    return config


def _arguments(tree: Tree) -> tuple[list[str], list[str]]:
    """The lines that options ``-o`` stand for, and the files that ``-f`` names."""
    lines: list[str] = []
    files: list[str] = []
    for pattern, value in ARGUMENTS:
        for text in (found for entry in tree.files(pattern) for found in value.findall(tree.text(entry.path))):
            words = [word for quoted in _words(text) for word in quoted.split()]
            for at, word in enumerate(words):
                given = word[2:] or " ".join(words[at + 1 : at + 2])
                if word.startswith("-o") and given:
                    lines.append(given)
                elif word.startswith("-f") and given:
                    files.append(given)
    return lines, files


def add_effective(config: SshdConfig, text: str) -> None:
    """Add what ``sshd -T`` printed for one or more users."""
    for line in text.splitlines():
        keyword, _space, value = line.strip().partition(" ")
        words = tuple(_words(value))
        if keyword.lower() in EFFECTIVE and words != ("none",) and words not in config.all_of(keyword):
            config.values.setdefault(keyword.lower(), []).append(words)


class _Reader:
    def __init__(self, tree: Tree, config: SshdConfig) -> None:
        self._tree, self._config = tree, config
        self._block, self._blocks = 0, 0
        self._seen: set[tuple[int, str]] = set()

    def read(self, path: str, depth: int) -> None:
        self.lines(self._tree.text(path).splitlines(), depth)

    def lines(self, lines: t.Iterable[str], depth: int) -> None:
        for line in lines:
            found = LINE.match(line)
            if found is None or line.lstrip().startswith("#"):
                continue
            keyword, words = found.group(1).lower(), _words(found.group(2))
            if keyword == "include" and depth < DEPTH_LIMIT:
                before = self._block
                for pattern in words:
                    full = pattern if pattern.startswith("/") else f"{FOLDER}/{pattern}"
                    for entry in self._tree.glob(full):
                        self.read(self._tree.resolve(entry.path), depth + 1)
                # A Match block ends with the file that has it.
                self._block = before
            elif keyword == "match":
                self._blocks += 1
                self._block = 0 if [word.lower() for word in words] == ["all"] else self._blocks
            elif (self._block, keyword) not in self._seen:
                # The first value is the one that counts.
                self._seen.add((self._block, keyword))
                self._config.values.setdefault(keyword, []).append(tuple(words))
                if self._block == 0:
                    self._config.general.add(keyword)


def _words(text: str) -> list[str]:
    words: list[str] = []
    for found in WORD.finditer(text):
        word = next(group for group in found.groups() if group is not None)
        if found.group(3) and word.startswith("#"):
            break
        words.append(word)
    return words


def places_of(pattern: str, user: User) -> str:
    """Where a pattern of AuthorizedKeysFile leads for a user."""
    tokens = {"%%": "%", "%h": user.home.rstrip("/"), "%u": user.name, "%U": str(user.uid)}
    path = re.sub(r"%[%huU]", lambda found: tokens[found.group()], pattern)
    return path if path.startswith("/") else f"{user.home.rstrip('/')}/{path}"
