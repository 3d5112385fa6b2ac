# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Read sudoers(5): who may become root without a password.

Whoever a rule may mean is taken as meant: users, hosts and groups of a machine are not known while its image is inspected.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

MAIN_FILE = "/etc/sudoers"
DEPTH_LIMIT = 128
ALIASES = ("User_Alias", "Runas_Alias", "Host_Alias", "Cmnd_Alias", "Cmd_Alias")
TAG = re.compile(r"(?:NO)?(?:EXEC|FOLLOW|INTERCEPT|LOG_INPUT|LOG_OUTPUT|MAIL|PASSWD|SETENV)\s*:\s*|FOLLOW\s*:\s*")
OPTION = re.compile(r"(?:ROLE|TYPE|PRIVS|LIMITPRIVS|APPARMOR_PROFILE|TIMEOUT|NOTBEFORE|NOTAFTER|CWD|CHROOT)\s*=\s*(?:\"[^\"]*\"|[^\s,:]+)\s+")
DIGEST = re.compile(r"(?:sha(?:224|256|384|512)\s*:\s*[A-Za-z0-9+/=]+\s*,?\s*)+")
INCLUDE = re.compile(r"^[#@](include|includedir)\s+(.+)$")
DEFAULTS = re.compile(r"^Defaults(?:([@:!>])\s*((?:\"[^\"]*\"|[^\s,]+(?:\s*,\s*)?)+))?\s+(.*)$")
# Programs that run any command, or write any file, when their arguments are free: whoever may run them as root has its rights.
SHELLS = frozenset(
    {"sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "csh", "tcsh", "fish", "busybox", "su", "sudo", "doas", "env", "visudo", "sudoedit"}
    | {"chroot", "nsenter", "unshare", "setpriv", "runuser", "systemd-run", "run0", "machinectl", "pkexec", "python3", "perl", "ruby", "lua"}
    | {"php", "node", "tclsh", "expect", "gdb", "strace", "chpasswd", "passwd", "usermod", "vipw", "dd", "tee", "cp", "mv", "install", "ln"}
    | {"chmod", "chown", "sed", "awk", "gawk", "mawk", "find", "xargs", "tar", "cpio", "rsync", "scp", "ssh", "git", "docker", "podman"}
    | {"nerdctl", "ctr", "lxc", "virsh", "systemctl", "apt", "apt-get", "aptitude", "dpkg", "pip", "pip3", "snap", "mount", "timeout", "nice"}
    | {"ionice", "nohup", "stdbuf", "setsid", "script", "screen", "tmux", "watch", "crontab", "at", "socat", "curl", "wget", "openssl", "insmod"}
    | {"modprobe", "kexec"}
)
# Programs that offer a shell to whoever uses them, whatever their arguments.
INTERACTIVE = frozenset(("vi", "vim", "vim.basic", "vim.tiny", "view", "nvim", "nano", "ed", "ex", "emacs", "mc", "less", "more", "most", "man"))


class Grant(t.NamedTuple):
    """A rule that lets ``who`` become root without a password; ``path`` is the file that has it, ``text`` its line."""

    path: str
    who: str
    text: str


@dataclasses.dataclass
class _Rule:
    path: str
    text: str
    users: list[str]
    commands: list[_Command]


@dataclasses.dataclass
class _Command:
    """One command of a rule; ``asks`` is None where no tag says whether a password is asked for, ``runs`` is whether it may start others."""

    name: str
    runas: list[str] | None
    asks: bool | None
    runs: bool = True


@dataclasses.dataclass
class _Defaults:
    path: str
    kind: str
    names: list[str]
    settings: list[str]


class Sudoers:
    """The rules of an image; ``read`` returns the text of a file, ``names`` the names in a folder."""

    def __init__(self, read: t.Callable[[str], str], names: t.Callable[[str], t.Iterable[str]]) -> None:
        self._read, self._names = read, names
        self._aliases: dict[str, list[str]] = {}
        self._rules: list[_Rule] = []
        self._defaults: list[_Defaults] = []
        self._seen: set[str] = set()
        self._load(MAIN_FILE, 0)
        # An image may get its sudoers later: what lies in the folder counts then.
        self._load_folder("/etc/sudoers.d", 0)

    def _load_folder(self, folder: str, depth: int) -> None:
        for name in sorted(self._names(folder)):
            if "." not in name and not name.endswith("~"):
                self._load(f"{folder.rstrip('/')}/{name}", depth)

    def _load(self, path: str, depth: int) -> None:
        if path in self._seen or depth > DEPTH_LIMIT:
            return
        self._seen.add(path)
        for line in _logical_lines(self._read(path)):
            found = INCLUDE.match(line)
            if found:
                target = _unquoted(found.group(2).strip()).replace("%h", "localhost")
                target = target if target.startswith("/") else f"{path.rpartition('/')[0]}/{target}"
                (self._load_folder if found.group(1) == "includedir" else self._load)(target, depth + 1)
            else:
                self._line(path, line)

    def _line(self, path: str, line: str) -> None:
        word = line.split(None, 1)[0]
        if word in ALIASES:
            for definition in _split(line[len(word) :], ":"):
                name, _equals, members = definition.partition("=")
                self._aliases.setdefault(name.strip(), []).extend(_split(members, ","))
            return
        found = DEFAULTS.match(line)
        if found:
            self._defaults.append(_Defaults(path, found.group(1) or "", _split(found.group(2) or "", ","), _split(found.group(3), ",")))
            return
        users, rest = _split_users(line)
        commands: list[_Command] = []
        for part in _split(rest, ":", tags=True):
            commands.extend(_commands(part.partition("=")[2]))
        if users and commands:
            self._rules.append(_Rule(path, line, users, commands))

    def grants(self) -> t.Iterator[Grant]:
        """Each rule by which somebody other than root becomes root without a password."""
        for rule in self._rules:
            who = [user for user in rule.users if not self._is_root_only(user)]
            if who and any(self._opens(who, command) for command in rule.commands):
                yield Grant(rule.path, ", ".join(who), rule.text)
        for defaults in self._defaults:
            for setting in defaults.settings:
                name, _equals, value = setting.partition("=")
                if name.strip() == "exempt_group" and value.strip():
                    yield Grant(defaults.path, f"the group {_unquoted(value.strip())}", f"Defaults {setting}")

    def _is_root_only(self, user: str) -> bool:
        return user.startswith("!") or all(name in ("root", "#0", "%root", "%#0") for name in self._expanded([user]))

    def _opens(self, who: t.Sequence[str], command: _Command) -> bool:
        if not self._reaches_root(command) or not self._is_any_command(command.name, runs=command.runs):
            return False
        return command.asks is False or (command.asks is None and self._never_asks(who, command))

    def _reaches_root(self, command: _Command) -> bool:
        if command.runas is None:
            settings = (setting for defaults in self._defaults if not defaults.kind for setting in defaults.settings)
            targets = [value.partition("=")[2].strip(' "') for value in settings if value.partition("=")[0].strip() == "runas_default"]
            return not targets or targets[-1] in ("root", "#0")
        names = self._expanded(command.runas)
        if any(f"!{name}" in names for name in ("root", "#0")):
            return False
        return any(name in ("root", "#0", "ALL") or name.startswith(("%", "+")) for name in names)

    def _is_any_command(self, name: str, *, runs: bool) -> bool:
        for each in self._expanded([name]):
            if each.startswith("!"):
                continue
            program = DIGEST.sub("", each).strip()
            path, _space, arguments = program.partition(" ")
            if program == "ALL" or path.startswith("^"):
                return True
            if path.endswith("/") or "*" in path.rpartition("/")[2] or "?" in path.rpartition("/")[2]:
                return True
            name, free = path.rpartition("/")[2], not arguments.strip() or "*" in arguments
            if (name in SHELLS and (free or name in ("su", "sudo"))) or (name in INTERACTIVE and (free or runs)):
                return True
        return False

    def _never_asks(self, who: t.Sequence[str], command: _Command) -> bool:
        asks = True
        for defaults in self._defaults:
            if not self._covers(defaults, who, command):
                continue
            for setting in defaults.settings:
                if setting.replace(" ", "") in ("!authenticate", "authenticate=false"):
                    asks = False
                elif setting.strip() == "authenticate":
                    asks = True
        return not asks

    def _covers(self, defaults: _Defaults, who: t.Sequence[str], command: _Command) -> bool:
        names = self._expanded(defaults.names)
        if defaults.kind in ("", "@"):
            return True
        if defaults.kind == ":":
            mine = set(self._expanded(who))
            # A user may be a member of the group that a rule or a setting names.
            return bool(mine.intersection(names)) or "ALL" in names or "ALL" in mine or any(name.startswith(("%", "+")) for name in (*names, *mine))
        if defaults.kind == ">":
            return bool({"ALL", "root", "#0"}.intersection(names))
        return command.name in names or "ALL" in names or command.name == "ALL"

    def _expanded(self, names: t.Iterable[str], depth: int = 0) -> list[str]:
        """The names with aliases replaced by what they stand for; an odd number of ``!`` before a name stays one."""
        found: list[str] = []
        for name in names:
            plain = name.lstrip("! ")
            negated = (len(name) - len(name.lstrip("! ")) - name[: len(name) - len(plain)].count(" ")) % 2 == 1
            plain = _unquoted(plain)
            members = self._aliases.get(plain) if depth < DEPTH_LIMIT else None
            inner = [plain] if members is None else self._expanded(members, depth + 1)
            found.extend(_negated(each) if negated else each for each in inner)
        return found


def _negated(name: str) -> str:
    return name[1:] if name.startswith("!") else f"!{name}"


def _unquoted(text: str) -> str:
    text = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    return re.sub(r"\\(.)", r"\1", text)


def _logical_lines(text: str) -> t.Iterator[str]:
    """The lines without comments, those that end in a backslash joined with the next."""
    for line in re.sub(r"\\\r?\n[ \t]*", " ", text).splitlines():
        plain = line.strip()
        # A number sign begins a comment unless a number (a user) or an include follows at the start, or a user id anywhere.
        if re.match(r"#(include|includedir)\s", plain):
            yield plain
            continue
        plain = re.sub(r"(?<!\\)#(?!-?\d).*$", "", plain) if not plain.startswith('"') else plain
        if plain.strip():
            yield plain.strip()


def _split(text: str, separator: str, *, tags: bool = False) -> list[str]:
    """Split where the separator is neither quoted, escaped nor part of a tag, a list in parentheses or a digest."""
    parts, start, depth, quoted, at = [], 0, 0, False, 0
    while at < len(text):
        character = text[at]
        if character == "\\":
            at += 1
        elif character == '"':
            quoted = not quoted
        elif not quoted and character in "()":
            depth += 1 if character == "(" else -1
        elif not quoted and depth == 0 and character == separator and not (tags and _belongs(text, at)):
            parts.append(text[start:at].strip())
            start = at + 1
        at += 1
    parts.append(text[start:].strip())
    return [part for part in parts if part]


def _belongs(text: str, at: int) -> bool:
    """Whether a colon follows a tag or the name of a digest, so that it begins no further rule."""
    before = re.search(r"([A-Za-z_0-9]+)\s*$", text[:at])
    return before is not None and (TAG.fullmatch(before.group(1) + ":") is not None or before.group(1) in ("sha224", "sha256", "sha384", "sha512"))


def _split_users(line: str) -> tuple[list[str], str]:
    """The users of a rule, and its rest from the hosts on. Users are separated by commas; what follows without one is the host."""
    token = r"!*\s*(?:\"[^\"]*\"|(?:\\.|[^\s,=\\\"])+)"
    found = re.match(rf"({token}(?:\s*,\s*{token})*)\s+(.*=.*)$", line)
    return (_split(found.group(1), ","), found.group(2)) if found else ([], "")


def _commands(text: str) -> t.Iterator[_Command]:
    """The commands behind an equals sign; runas lists and tags hold for those that follow as well."""
    runas: list[str] | None = None
    asks: bool | None = None
    runs = True
    for part in _joined_digests(_split(text, ",")):
        rest = part
        found = re.match(r"\(([^)]*)\)\s*", rest)
        if found:
            # Without a user, it is the one who calls.
            runas = _split(found.group(1).partition(":")[0], ",") or ["(self)"]
            rest = rest[found.end() :]
        while True:
            tag, option = TAG.match(rest), OPTION.match(rest)
            if tag:
                name = re.sub(r"[\s:]", "", tag.group())
                asks = {"NOPASSWD": False, "PASSWD": True}.get(name, asks)
                runs = {"NOEXEC": False, "EXEC": True}.get(name, runs)
            if not tag and not option:
                break
            rest = rest[(tag or t.cast("re.Match[str]", option)).end() :]
        yield _Command(rest.strip(), runas, asks, runs)


def _joined_digests(parts: t.Iterable[str]) -> t.Iterator[str]:
    """A command may have several digests, with commas between them."""
    pending = ""
    for part in parts:
        if re.fullmatch(r".*sha\d{3}\s*:\s*[A-Za-z0-9+/=]+", part):
            pending += f"{part}, "
            continue
        yield pending + part
        pending = ""
