# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""The configuration that grub-mkconfig writes: menu entries, and the one that starts by default."""

from __future__ import annotations

import dataclasses
import re
import shlex
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree, assignments

CONFIG = "/boot/grub/grub.cfg"
ENVIRONMENT = "/boot/grub/grubenv"


@dataclasses.dataclass(frozen=True)
class MenuEntry:
    """One entry of the boot menu; ``index`` has the numbers of the submenus before its own, ``linux`` and ``initrd`` are paths for GRUB."""

    titles: tuple[str, ...]
    ids: tuple[str, ...]
    index: tuple[int, ...]
    linux: str = ""
    arguments: tuple[str, ...] = ()
    initrd: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The title as GRUB writes it in ``saved_entry``."""
        return ">".join(self.titles)

    @property
    def kernel(self) -> str:
        """The version of the kernel by the name of its file, or nothing."""
        name = self.linux.rpartition("/")[2]
        return name.partition("-")[2] if name.startswith(("vmlinuz-", "vmlinux-", "kernel-")) else ""

    def argument(self, name: str) -> str:
        """The last value of an argument of the kernel."""
        values = [word.partition("=")[2] for word in self.arguments if word.startswith(name + "=")]
        return values[-1] if values else ""


@dataclasses.dataclass(frozen=True)
class GrubConfig:
    """What GRUB will show; ``wanted`` is the value of its variable ``default`` and ``pending`` an entry for the next boot only."""

    entries: tuple[MenuEntry, ...]
    wanted: str
    pending: str = ""

    @property
    def default(self) -> MenuEntry | None:
        """The entry that starts when nobody chooses one, or None when the default names none."""
        return self.find(self.pending or self.wanted)

    def find(self, name: str) -> MenuEntry | None:
        """The entry that a number, title, identifier or path of these means."""
        parts = (name or "0").split(">")
        for entry in self.entries:
            if len(parts) <= len(entry.index) and all(_means(part, entry, depth) for depth, part in enumerate(parts)):
                return entry
        return None


def _means(part: str, entry: MenuEntry, depth: int) -> bool:
    return part in (str(entry.index[depth]), entry.titles[depth]) or (bool(part) and part == entry.ids[depth])


def load_grub(tree: Tree) -> GrubConfig | None:
    """The configuration of GRUB in an image, or None when there is none."""
    if tree.target(CONFIG) is None:
        return None
    environment = assignments(tree.text(ENVIRONMENT))
    return parse_grub(tree.text(CONFIG), environment)


def parse_grub(text: str, environment: t.Mapping[str, str]) -> GrubConfig:
    """The menu of a grub.cfg, with the variables that grubenv saved (names in lower case)."""
    wanted = "0"
    for value in re.findall(r"^\s*set default=(\S.*|)$", text, re.MULTILINE):
        value = value.strip().strip("\"'")
        if value == "${saved_entry}":
            wanted = environment.get("saved_entry", "")
        elif not value.startswith("${"):
            wanted = value
    return GrubConfig(tuple(_entries(text)), wanted, environment.get("next_entry", ""))


class _Level:
    """A menu that is being read: the numbers used in it, and the titles and identifiers that lead to it."""

    def __init__(self, titles: tuple[str, ...] = (), ids: tuple[str, ...] = (), index: tuple[int, ...] = ()) -> None:
        self.titles, self.ids, self.index, self.next = titles, ids, index, 0

    def name(self, words: t.Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...]]:
        title = next((word for word in words[1:] if not word.startswith("-")), "")
        marks = [words[at + 1] for at, word in enumerate(words[:-1]) if word in ("--id", "$menuentry_id_option")]
        number, self.next = self.next, self.next + 1
        return (*self.titles, title), (*self.ids, marks[0] if marks else ""), (*self.index, number)


def _entries(text: str) -> t.Iterator[MenuEntry]:
    levels = [_Level()]
    lines = iter(text.splitlines())
    for line in lines:
        words = _words(line)
        if not words:
            continue
        if words[0] == "submenu":
            levels.append(_Level(*levels[-1].name(words)))
        elif words[0] == "menuentry":
            yield _entry(MenuEntry(*levels[-1].name(words)), lines)
        elif words == ["}"] and len(levels) > 1 and not line.startswith((" ", "\t")):
            levels.pop()


def _entry(entry: MenuEntry, lines: t.Iterator[str]) -> MenuEntry:
    searches: list[str] = []
    for line in lines:
        words = _words(line)
        if words == ["}"]:
            break
        if words and words[0] in ("linux", "linuxefi", "linux16") and len(words) > 1:
            entry = dataclasses.replace(entry, linux=words[1], arguments=tuple(words[2:]))
        elif words and words[0] in ("initrd", "initrdefi", "initrd16"):
            entry = dataclasses.replace(entry, initrd=tuple(words[1:]))
        elif words and words[0] == "search" and "--fs-uuid" in words:
            searches.append(words[-1])
    return dataclasses.replace(entry, searches=tuple(searches))


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return line.split()
