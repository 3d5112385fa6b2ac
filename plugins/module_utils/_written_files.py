# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Files that every machine from an image gets at boot: by ``write_files`` of cloud-init, and by lines of tmpfiles.d with their credentials."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import posixpath
import re
import shlex
import typing as t
import zlib

from ansible_collections.hyperscaler.images.plugins.module_utils._cloud_config import CloudFile, accounts, configurations, default_users
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree, significant_lines

TMPFILES = ("/usr/lib/tmpfiles.d", "/usr/local/lib/tmpfiles.d", "/etc/tmpfiles.d")
CREDSTORES = ("/etc/credstore", "/usr/local/lib/credstore", "/usr/lib/credstore")
RIGHTS = (("sudo", "/etc/sudoers.d/90-cloud-init-users"), ("doas", "/etc/doas.conf"))
LINE_CREDENTIAL = "tmpfiles.extra"
GZIP_WINDOW = 31
SIZE_LIMIT = 1 << 20
ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|[0-7]{3}|.)")
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "s": " "}


@dataclasses.dataclass(frozen=True)
class Written:
    """A file that a machine gets: ``source`` is the file of the image that says so, ``data`` None where the ``address`` is asked for it."""

    source: str
    path: str
    data: bytes | None
    append: bool = False
    address: str = ""


def written_by_cloud_init(files: t.Iterable[CloudFile]) -> t.Iterator[Written]:
    """What ``write_files`` of each configuration writes, with the encodings that cloud-init knows."""
    for file in files:
        for config in configurations(file.data or {}):
            items = config.get("write_files")
            for item in items if isinstance(items, list) else []:
                if not isinstance(item, dict) or not isinstance(item.get("path"), str):
                    continue
                path = posixpath.normpath(f"/{item['path'].lstrip('/')}")
                source = item.get("source")
                address = str(source.get("uri", "")) if isinstance(source, dict) else ""
                content = item.get("content")
                data = None if content is None else _decoded(content, str(item.get("encoding") or ""))
                if data is not None or address:
                    yield Written(file.path, path, None if address else data, append=item.get("append") in (True, "true", "yes", 1), address=address)


def rights_by_cloud_init(files: t.Sequence[CloudFile]) -> t.Iterator[Written]:
    """The rules for sudo and doas of the accounts beside the default user, whose rights whoever starts the machine is meant to have."""
    everything = [(file, config) for file in files for config in configurations(file.data or {})]
    default = {name for _file, config in everything for name, _user in default_users(config)}
    for file, config in everything:
        for name, user in accounts(config):
            for key, path in RIGHTS:
                rules = user.get(key)
                lines = [rules] if isinstance(rules, str) else rules if isinstance(rules, list) else []
                text = "".join(f"{name} {line}\n" if key == "sudo" else f"{line}\n" for line in lines)
                if text and name not in default:
                    yield Written(file.path, path, text.encode(), append=True)


def _decoded(content: t.Any, encoding: str) -> bytes:
    """A content as cloud-init writes it; one that cannot be decoded stays as it is."""
    data = content if isinstance(content, bytes) else str(content).encode()
    name = encoding.lower().strip()
    try:
        if name.endswith(("b64", "base64")):
            data = base64.b64decode(data)
        if name.startswith("gz"):
            data = zlib.decompressobj(GZIP_WINDOW).decompress(data, SIZE_LIMIT)
    except (binascii.Error, ValueError, zlib.error):
        return data
    return data


def written_by_tmpfiles(tree: Tree, packaged: t.Container[str]) -> t.Iterator[Written]:
    """What own lines of tmpfiles.d write, and those of packages that take the content from a credential in the image."""
    files = {entry.path.rpartition("/")[2]: entry.path for folder in TMPFILES for entry in tree.glob(f"{folder}/*.conf")}
    texts = [(path, tree.text(path)) for path in files.values()]
    texts += [(path, tree.text(path)) for path in _credentials(tree, LINE_CREDENTIAL)]
    for path, text in texts:
        for line in significant_lines(text):
            written = _line(tree, path, line)
            if written is not None and (path not in packaged or written.source != path):
                yield written


def _credentials(tree: Tree, name: str) -> list[str]:
    return [f"{folder}/{name}" for folder in CREDSTORES if tree.target(f"{folder}/{name}") is not None]


def _line(tree: Tree, source: str, line: str) -> Written | None:
    """The file that one line of tmpfiles.d(5) writes, or None."""
    try:
        fields = shlex.split(line, posix=False)
    except ValueError:
        fields = line.split()
    if len(fields) < 2:
        return None
    kind, modifiers, path = fields[0][0], fields[0][1:], fields[1].strip("\"'").replace("%%", "%")
    argument = line.split(None, 6)[6] if len(fields) > 6 else ""
    exists = tree.target(path) is not None
    append = kind == "w" and "+" in modifiers
    if kind in "CL":
        target = argument or f"/usr/share/factory{path}"
        return Written(source, path, tree.data(target)) if not exists or "+" in modifiers else None
    if kind not in "fFw" or (kind == "f" and exists and "+" not in modifiers) or (kind == "w" and not exists):
        return None
    if "^" in modifiers:
        found = _credentials(tree, argument)
        return Written(found[0], path, tree.data(found[0])) if found else None
    if "~" in modifiers:
        return Written(source, path, _decoded(argument, "b64"), append=append)
    return Written(source, path, _unescaped(argument).encode(), append=append)


def _unescaped(text: str) -> str:
    def plain(found: re.Match[str]) -> str:
        code = found.group(1)
        if len(code) == 3:
            return chr(int(code[1:], 16) if code.startswith("x") else int(code, 8))
        return ESCAPES.get(code, code)

    return ESCAPE.sub(plain, text)
