# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Read the configuration of cloud-init in an image, and find in it what would let somebody log in to every machine.

The forms are those of cloud-init 25.1 (modules set_passwords, users_groups, ssh and ssh_import_id).
"""

from __future__ import annotations

import dataclasses
import re
import typing as t
import urllib.parse

from ansible.module_utils.common.yaml import HAS_YAML, yaml_load
from ansible_collections.hyperscaler.images.plugins.module_utils._cloud_user_data import DEPTH_LIMIT, PROBLEMS, Part, parts_of
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ToolError
from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree

MAIN_FILE = "/etc/cloud/cloud.cfg"
FOLDER = "/etc/cloud/cloud.cfg.d"
COMMAND_LINE = "the command line of the kernel"
ADDRESS = re.compile(r"(?!file:)[a-z][a-z0-9+.-]*://", re.IGNORECASE)
SEED_FOLDERS = ("/var/lib/cloud/seed/nocloud/", "/var/lib/cloud/seed/nocloud-net/")
SEED_ARGUMENT = re.compile(r"ds=nocloud[^;]*;(?:[^;]*;)*(?:s|seedfrom)=([^;]+)", re.IGNORECASE)
RANDOM = ("R", "RANDOM")
# What a data source is given as user data of its own.
USER_DATA = frozenset({"user_data", "userdata", "userdata_raw", "vendor_data", "vendordata"})
# Commands that set a password, or write a file that decides who gets in.
OPENING_COMMAND = re.compile(
    r"\bchpasswd\b|\|\s*(?:sudo\s+)?passwd\b|\bpasswd\s+(?:-[a-z]*[du]|--delete|--unlock|--stdin)\b|\bssh-import-id\b"
    r"|\busermod\b.*\s(?:-[a-zA-Z]*[pU]\b|--password\b|--unlock\b)|\buseradd\b.*\s(?:-[a-zA-Z]*p\b|--password\b)"
    r"|(?:>>?|\b(?:tee|cp|mv|ln|install|curl|wget)\b[^|;&\n]*\s|\bdd\b[^|;&\n]*\sof=)\s*[\"']?[^\s\"'|;&>]*(?:authorized_keys|/etc/sudoers|/etc/g?shadow\b)"
    # What they write comes before the file, and is not shown.
    r"|\b(?:sed|perl)\b(?=[^\n]*\s-[a-zA-Z]*i|[^\n]*\s--in-place)(?=[^\n]*(?:authorized_keys|/etc/sudoers|/etc/passwd\b|/etc/g?shadow\b))"
    r"|\b(?:SUDO_EDITOR|VISUAL|EDITOR)=(?=[^\n]*\bvisudo\b)"
)


@dataclasses.dataclass(frozen=True)
class CloudFile:
    """One file; ``data`` is None where cloud-init cannot read it and leaves it out, with the ``problem``."""

    path: str
    data: dict[str, t.Any] | None
    problem: str = ""


class WayIn(t.NamedTuple):
    """What a configuration sets; ``what`` continues the sentence that the file begins.

    ``kind`` is ``password``, ``empty``, ``key``, ``command`` (which somebody has to look at) or ``address`` (where user data is fetched).
    """

    kind: str
    what: str


def parse(text: str) -> tuple[dict[str, t.Any] | None, str]:
    """A configuration as cloud-init reads it, with small and one-word keys; None and the reason where it is no mapping."""
    if not HAS_YAML:
        raise ToolError("Cannot read the configuration of cloud-init in the image: Python on this machine has no PyYAML. Install the package python3-yaml.")
    try:
        data = yaml_load(text)
    except PROBLEMS as problem:
        return None, " ".join(str(problem).split())
    if data is None:
        return {}, ""
    return ({str(name): value for name, value in data.items()}, "") if isinstance(data, dict) else (None, "it is no mapping")


def read_files(tree: Tree, arguments: t.Sequence[str] = ()) -> list[CloudFile]:
    """The files in the order in which cloud-init reads them, and what the command line of the kernel adds; the last one counts most."""
    paths = [path for path in (MAIN_FILE, *(entry.path for entry in tree.glob(f"{FOLDER}/*.cfg"))) if tree.target(path) is not None]
    files = [CloudFile(path, *parse(tree.text(path))) for path in paths]
    inline = re.findall(r"(?:^|\s)cc:\s*(.*?)\s*(?:end_cc|$)", " ".join(arguments))
    if inline:
        text = "\n".join(urllib.parse.unquote(part).replace("\\n", "\n") for part in inline)
        files.append(CloudFile(COMMAND_LINE, *parse(text)))
    return [*files, *_seeds(tree, files, arguments)]


def _seeds(tree: Tree, files: t.Sequence[CloudFile], arguments: t.Sequence[str]) -> t.Iterator[CloudFile]:
    """User data in folders of the image, as a configuration that has them."""
    named = [str(source.get("seedfrom") or "") for file in files for source in _sources(_normal(file.data or {}))]
    named += [found.group(1) for word in arguments if (found := SEED_ARGUMENT.match(word))]
    folders = [name.removeprefix("file://") for name in named if name.startswith(("/", "file:///"))]
    for folder in dict.fromkeys((*SEED_FOLDERS, *folders)):
        for name in ("user-data", "vendor-data", "meta-data"):
            # The name is put behind the address as it is.
            path = f"{folder}{name}"
            if tree.target(path) is not None:
                yield CloudFile(path, {"datasource": {"NoCloud": {name: tree.text(path)}}})


def value_of(files: t.Iterable[CloudFile], name: str) -> tuple[str, t.Any]:
    """The file that decides on a top-level value, and the value; ``("", None)`` where none has it. Lists of several files are not joined."""
    found: tuple[str, t.Any] = ("", None)
    for file in files:
        if file.data is not None and file.data.get(name) is not None:
            found = (file.path, file.data[name])
    return found


def ways_in(data: t.Mapping[str, t.Any]) -> t.Iterator[WayIn]:
    """Every password, key, command and address by which a configuration may let somebody in on each machine."""
    for names in configurations(data):
        yield from _credentials(names)
        yield from _commands(names)
        for source in _sources(names):
            if _normal(_mapping(source.get("meta_data"))).get("public_keys"):
                yield WayIn("key", "lets the holder of a key log in as the default user")
            if ADDRESS.match(str(source.get("seedfrom") or "")):
                yield WayIn("address", f"takes user data from {source['seedfrom']}")
    for part in _pieces(data):
        if part.kind == "script" and OPENING_COMMAND.search(part.text):
            yield WayIn("command", "may let somebody in by a script in user data")
        for address in part.text.split() if part.kind == "include" else ():
            if ADDRESS.match(address):
                yield WayIn("address", f"takes user data from {address}")


def configurations(data: t.Mapping[str, t.Any], depth: int = 0) -> t.Iterator[dict[str, t.Any]]:
    """The configuration, and those in user data that its data sources have, with keys as cloud-init compares them."""
    yield _normal(data)
    for part in _pieces(data) if depth < DEPTH_LIMIT else ():
        if part.kind == "config":
            yield from configurations(parse(part.text)[0] or {}, depth + 1)


def accounts(names: t.Mapping[str, t.Any]) -> t.Iterator[tuple[str, dict[str, t.Any]]]:
    """The accounts that a configuration makes beside the default user, with their settings."""
    users = names.get("users")
    if isinstance(users, dict):
        yield from ((str(name), _normal(user)) for name, user in users.items())
    elif isinstance(users, list):
        for user in map(_normal, users):
            # An item without a name may be a mapping from the name to the settings.
            inner = [(name, value) for name, value in user.items() if isinstance(value, dict)]
            if "name" in user or not inner:
                yield str(user.get("name", "a user")), user
            else:
                yield from ((name, _normal(value)) for name, value in inner)


def default_users(names: t.Mapping[str, t.Any]) -> t.Iterator[tuple[str, dict[str, t.Any]]]:
    """The settings of the account that cloud-init makes for whoever starts the machine."""
    for value in (names.get("user"), _normal(names.get("system_info")).get("default_user")):
        if isinstance(value, dict):
            yield str(value.get("name", "the default user")), _normal(value)


def _sources(names: t.Mapping[str, t.Any]) -> t.Iterator[dict[str, t.Any]]:
    yield from map(_normal, _normal(names.get("datasource")).values())


def _pieces(data: t.Mapping[str, t.Any]) -> t.Iterator[Part]:
    """The pieces of user data that data sources have in the configuration itself."""
    for source in _sources(_normal(data)):
        for key, text in source.items():
            if key in USER_DATA and isinstance(text, (str, bytes)):
                yield from parts_of(text if isinstance(text, str) else text.decode("utf-8", errors="replace"))


def _mapping(value: t.Any) -> t.Any:
    return (parse(value)[0] or {}) if isinstance(value, str) else value


def _credentials(names: t.Mapping[str, t.Any]) -> t.Iterator[WayIn]:
    if _is_secret(names.get("password")):
        yield WayIn("password", "sets the password of the default user")
    yield from _chpasswd(names.get("chpasswd"))
    for name, user in (*accounts(names), *default_users(names)):
        yield from _user(name, user)
    if names.get("ssh_authorized_keys"):
        yield WayIn("key", "lets the holder of a key log in as the default user")
    if names.get("ssh_import_id"):
        yield WayIn("key", f"lets the holders of the keys of {_listed(names['ssh_import_id'])} log in as the default user")


def _normal(value: t.Any) -> dict[str, t.Any]:
    """A mapping with the keys as cloud-init compares them."""
    return {str(name).replace("-", "_").lower(): inner for name, inner in value.items()} if isinstance(value, dict) else {}


def _is_secret(value: t.Any) -> bool:
    """Whether a value sets a password that somebody may know: neither locked, nor empty, nor made at random on each machine."""
    text = "" if value is None or isinstance(value, bool) else str(value)
    return bool(text) and not text.startswith(("!", "*")) and text not in RANDOM


def _listed(value: t.Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _chpasswd(value: t.Any) -> t.Iterator[WayIn]:
    names = _normal(value)
    listed = names.get("list")
    lines = listed.splitlines() if isinstance(listed, str) else listed if isinstance(listed, list) else []
    for line in lines:
        # An item that looks like "user: password" is a mapping to YAML.
        pairs = [(str(name), inner) for name, inner in line.items()] if isinstance(line, dict) else [tuple(str(line).split(":", 1))]
        for pair in pairs:
            if len(pair) == 2 and _is_secret(pair[1].strip() if isinstance(pair[1], str) else pair[1]):
                yield WayIn("password", f"sets the password of {pair[0].strip()}")
    users = names.get("users")
    for user in map(_normal, users if isinstance(users, list) else []):
        if str(user.get("type", "hash")).upper() != "RANDOM" and _is_secret(user.get("password")):
            yield WayIn("password", f"sets the password of {user.get('name', 'a user')}")


def _user(name: str, user: t.Mapping[str, t.Any]) -> t.Iterator[WayIn]:
    locked = user.get("lock_passwd")
    passwords = [user.get(key) for key in ("passwd", "hashed_passwd", "plain_text_passwd")]
    if any(map(_is_secret, passwords)) and locked is not True:
        yield WayIn("password", f"sets the password of {name}")
    elif locked is False and any(value == "" for value in passwords):
        yield WayIn("empty", f"gives {name} an empty password")
    if user.get("ssh_authorized_keys"):
        yield WayIn("key", f"lets the holder of a key log in as {name}")
    if user.get("ssh_import_id"):
        yield WayIn("key", f"lets the holders of the keys of {_listed(user['ssh_import_id'])} log in as {name}")


def _commands(names: t.Mapping[str, t.Any]) -> t.Iterator[WayIn]:
    for key in ("bootcmd", "runcmd"):
        commands = names.get(key)
        for command in commands if isinstance(commands, list) else [commands]:
            text = " ".join(map(str, command)) if isinstance(command, list) else str(command or "")
            found = OPENING_COMMAND.search(text)
            if found:
                # The rest of the line may hold the password.
                yield WayIn("command", f"may let somebody in by a command of {key} ({' '.join(found.group().split())})")
