# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Everything in an image that two images can be compared by: packages, units, accounts and files."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import os
import re
import stat
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._files import CHUNK
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_dpkg import PackageDatabase
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree

WORKERS = 4
CAPABILITIES = "security.capability"
UNITS = ("/etc/systemd/system", "/etc/systemd/user")
# Columns of shadow(5) and gshadow(5) that are compared; the third of shadow is the day of the last change.
SHADOW_COLUMNS = (0, 1, 3, 4, 5, 6, 7, 8)

_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
}


@dataclasses.dataclass(frozen=True)
class FileFacts:
    """One name: ``content`` is a SHA-256, the target of a link or a device number; ``mode`` is octal."""

    type: str
    mode: str
    owner: str
    content: str = ""
    capabilities: str = ""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The facts of one image, each section from a name to its facts."""

    packages: dict[str, dict[str, str]]
    units: dict[str, dict[str, str]]
    users: dict[str, dict[str, str]]
    groups: dict[str, dict[str, str]]
    files: dict[str, dict[str, str]]


# Files whose content differs though they say the same: how they are written down for the comparison.
Normalize = t.Callable[[bytes], bytes]


def take_snapshot(tree: Tree, normalize: t.Mapping[str, Normalize]) -> Snapshot:
    """Read an image. ``normalize`` is by shell pattern the function that a content goes through before its digest is taken."""
    database = PackageDatabase(tree)
    return Snapshot(
        packages={
            f"{package.name}:{package.architecture}": {"version": package.version, "state": f"{package.want} {package.flag} {package.state}"}
            for package in database.packages
        },
        units=read_units(tree),
        users=read_users(tree.text("/etc/passwd"), tree.text("/etc/shadow")),
        groups=read_groups(tree.text("/etc/group"), tree.text("/etc/gshadow")),
        files=read_files(tree, normalize),
    )


def read_units(tree: Tree) -> dict[str, dict[str, str]]:
    """The units that are masked, and by which units each is wanted or required, or which alias it has."""
    found: dict[str, dict[str, str]] = {}
    for folder in UNITS:
        scope = folder.rpartition("/")[2]
        for path, entry in tree.entries.items():
            if not entry.is_link or not path.startswith(f"{folder}/"):
                continue
            place, _slash, name = path[len(folder) + 1 :].rpartition("/")
            target = tree.link_target(path)
            if target == "/dev/null":
                found.setdefault(f"{name} ({scope})", {})["masked"] = "yes"
            elif place.endswith((".wants", ".requires")):
                found.setdefault(f"{name} ({scope})", {})[f"in {place}"] = "yes"
            elif not place:
                found.setdefault(f"{target.rpartition('/')[2]} ({scope})", {})[f"alias {name}"] = "yes"
    return found


def read_users(passwd: str, shadow: str) -> dict[str, dict[str, str]]:
    """The accounts of passwd(5), with the password field and the limits of shadow(5)."""
    limits = {row[0]: ":".join(row[column] for column in SHADOW_COLUMNS[1:]) for row in _rows(shadow, 9)}
    return {
        row[0]: {"ids": f"{row[2]}:{row[3]}", "comment": row[4], "home": row[5], "shell": row[6], "password": limits.get(row[0], "none")}
        for row in _rows(passwd, 7)
    }


def read_groups(group: str, gshadow: str) -> dict[str, dict[str, str]]:
    """The groups of group(5), with the password field of gshadow(5)."""
    passwords = {row[0]: row[1] for row in _rows(gshadow, 4)}
    return {row[0]: {"id": row[2], "members": row[3], "password": passwords.get(row[0], "none")} for row in _rows(group, 4)}


def read_files(tree: Tree, normalize: t.Mapping[str, Normalize]) -> dict[str, dict[str, str]]:
    """The facts of every name, in the order of the names."""
    patterns = [(re.compile(pattern), function) for pattern, function in normalize.items()]
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        paths = sorted(tree.entries)
        facts = pool.map(lambda path: _facts(tree, path, next((function for pattern, function in patterns if pattern.fullmatch(path)), None)), paths)
        return dict(zip(paths, (dataclasses.asdict(entry) for entry in facts)))


def _facts(tree: Tree, path: str, normalize: Normalize | None) -> FileFacts:
    location = f"{os.fspath(tree.root)}{path}"
    status = os.lstat(location)
    kind = _TYPES.get(stat.S_IFMT(status.st_mode), "unknown")
    content = ""
    if kind == "file":
        content = _digest(location, normalize)
    elif kind == "link":
        content = tree.link_target(path)
    elif kind.endswith("device"):
        content = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    capabilities = ""
    if kind == "file":
        with contextlib.suppress(OSError):
            capabilities = os.getxattr(location, CAPABILITIES, follow_symlinks=False).hex()
    return FileFacts(kind, f"{stat.S_IMODE(status.st_mode):04o}", f"{status.st_uid}:{status.st_gid}", content, capabilities)


def _digest(location: str, normalize: Normalize | None) -> str:
    digest = hashlib.sha256()
    with open(location, "rb", buffering=0) as stream:  # noqa: PTH123
        if normalize is not None:
            digest.update(normalize(stream.read()))
            return digest.hexdigest()
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _rows(text: str, columns: int) -> t.Iterator[list[str]]:
    return (row for row in (line.split(":") for line in text.splitlines()) if len(row) == columns)
