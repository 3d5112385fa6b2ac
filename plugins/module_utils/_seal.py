# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Take identity, secrets, caches and logs out of a root file system: plan first, then apply the plan."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fnmatch
import os
import re
import shutil
import stat
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._command import ADMIN_PATH, Command
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import part_file
from ansible_collections.hyperscaler.images.plugins.module_utils._seal_grub import fresh_environment, remembers_choice
from ansible_collections.hyperscaler.images.plugins.module_utils._seal_rules import RULES, Action, Category, Rule

MAX_LINKS = 40
ACCOUNT_FILES = ("etc/passwd", "etc/shadow", "etc/subuid", "etc/subgid")
GROUP_FILES = ("etc/group", "etc/gshadow")
GRUB_DEFAULTS = ("etc/default/grub", "etc/default/grub.d/*.cfg")


class SealError(ImageError):
    """A root file system cannot be sealed."""


@dataclasses.dataclass(frozen=True)
class Effect:
    """One change: ``verb`` is removed, emptied or rewritten; ``path`` is as seen inside the root."""

    verb: str
    path: str
    rule: str
    category: Category
    size: int = 0
    content: str = ""

    def sentence(self) -> str:
        return f"{self.verb} {self.path} ({self.rule})"


@dataclasses.dataclass(frozen=True)
class Wishes:
    """What the caller wants sealed. ``users`` are removed with everything that is theirs; ``keep`` are patterns that no rule touches."""

    categories: frozenset[Category] = frozenset(Category)
    users: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    in_use: tuple[str, ...] = ()


@dataclasses.dataclass
class Plan:
    """The effects in the order in which they are applied, and the paths that were left alone because something is mounted there."""

    effects: list[Effect] = dataclasses.field(default_factory=list)
    mounted: list[str] = dataclasses.field(default_factory=list)


def mount_points(table: str) -> frozenset[str]:
    """The mount points named in the text of /proc/self/mountinfo."""
    return frozenset(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code.group(1), 8)), line.split()[4]) for line in table.splitlines() if len(line.split()) > 4)


def resolve(root: Path, path: Path) -> Path | None:
    """Where a path inside ``root`` really is, with every symbolic link read as the image would read it; None when it is missing."""
    todo, found, links = list(path.relative_to(root).parts), root, 0
    while todo:
        part = todo.pop(0)
        if part == "..":
            found = found.parent if found != root else root
            continue
        step = found / part
        if not step.is_symlink():
            if not step.exists():
                return None
            found = step
            continue
        links += 1
        if links > MAX_LINKS:
            return None
        target = step.readlink()
        found = root if target.is_absolute() else found
        todo = [piece for piece in target.parts if piece != "/"] + todo
    return found


def expand(root: Path, pattern: str) -> list[Path]:
    """The existing paths that match a pattern; folders may be links, but only to places inside ``root``."""
    folders, (*above, last) = [root], pattern.split("/")
    for part in above:
        folders = _descend(root, folders, part)
    return sorted({folder / name for folder in folders for name in _names(folder) if fnmatch.fnmatchcase(name, last)})


def _descend(root: Path, folders: t.Iterable[Path], part: str) -> list[Path]:
    if part == "**":
        return [Path(top) for folder in folders for top, dummy, dummy2 in os.walk(folder)]
    below = (resolve(root, folder / name) for folder in folders for name in _names(folder) if fnmatch.fnmatchcase(name, part))
    return list(dict.fromkeys(path for path in below if path is not None and path.is_dir()))


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SealError(f"Cannot look for what must be sealed in {folder}: {error.strerror}. Run as root on a root file system that is whole.") from error


class Planner:
    """Reads a root file system and finds out what sealing it takes."""

    def __init__(self, root: Path, wishes: Wishes, mounts: t.Collection[str]) -> None:
        self.root = root
        self.wishes = wishes
        self._mounts = mounts
        self._claimed: set[Path] = set()
        self._kept = {path for pattern in wishes.keep for path in expand(root, pattern.strip("/"))} | {root / path.strip("/") for path in wishes.in_use}
        self._homes = ["home/*/", *(f"{home}/" for home in sorted(home_folders(self._text("etc/passwd"))))]
        self.plan = Plan()

    def build(self) -> Plan:
        """Everything to be done, in order."""
        rules = [rule for rule in RULES if rule.category in self.wishes.categories]
        extra = Rule("asked for", Category.SECRETS, Action.REMOVE, tuple(pattern.strip("/") for pattern in self.wishes.extra))
        if self.wishes.users:
            self._accounts(self.wishes.users)
        for rule in (extra, *rules):
            for pattern in rule.patterns:
                self._pattern(rule, pattern)
        return self.plan

    def _pattern(self, rule: Rule, pattern: str) -> None:
        places = self._homes if pattern.startswith("~/") else [""]
        found = list(dict.fromkeys(path for place in places for path in expand(self.root, f"{place}{pattern.lstrip('~/')}")))
        if rule.create and not any(path.is_file() and not path.is_symlink() for path in found) and not any(map(self._left_alone, found)):
            # A link leads to what is removed as well, or to nothing.
            self._add(rule, "emptied", self.root / pattern)
        if rule.again and not any(expand(self.root, place) for place in rule.again):
            return
        for path in found:
            if rule.action is Action.REMOVE:
                self._remove(rule, path)
            elif rule.action is Action.TRUNCATE:
                self._truncate(rule, path)
            elif rule.action in (Action.STRIP, Action.REPLACE):
                self._rewrite(rule, path)
            elif rule.action is Action.REMOVE_IF_EMPTY:
                self._prune(rule, path)
            elif rule.action is Action.FORGET:
                self._forget(rule, path)
            else:
                self._folder(rule, path)

    def _left_alone(self, path: Path) -> bool:
        """Whether a path is someone else's business: kept by wish, already planned, or a mount point."""
        if path in self._kept or path in self._claimed:
            return True
        if os.fspath(path) in self._mounts or (path.is_dir() and not path.is_symlink() and path.is_mount()):
            inside = self._inside(path)
            if inside not in self.plan.mounted:
                self.plan.mounted.append(inside)
            return True
        return False

    def _remove(self, rule: Rule, path: Path) -> bool:
        """Plan the removal of a path; a folder with something in it that must stay stays too."""
        if self._left_alone(path):
            return path in self._claimed
        if path.is_symlink() or not path.is_dir():
            self._add(rule, "removed", path)
            return True
        before = len(self.plan.effects)
        outcomes = [self._remove(rule, path / name) for name in sorted(_names(path))]
        whole = all(outcomes)
        if whole:
            size = sum(effect.size for effect in self.plan.effects[before:])
            del self.plan.effects[before:]
            self._add(rule, "removed", path, size=size)
        return whole

    def _prune(self, rule: Rule, folder: Path) -> None:
        """Plan the removal of a folder that has nothing in it, once what is planned already is done."""
        if not self._left_alone(folder) and folder.is_dir() and not folder.is_symlink() and all(folder / name in self._claimed for name in _names(folder)):
            self._add(rule, "removed", folder)

    def _folder(self, rule: Rule, folder: Path) -> None:
        """Plan what happens to the content of a folder that itself stays."""
        if self._left_alone(folder) or folder.is_symlink() or not folder.is_dir():
            return
        for name in sorted(_names(folder)):
            path = folder / name
            plain = path.is_symlink() or not path.is_dir()
            if rule.action is Action.EMPTY or (rule.action is Action.REMOVE_FILES and plain):
                self._remove(rule, path)
            elif plain:
                self._truncate(rule, path)
            else:
                self._folder(rule, path)

    def _truncate(self, rule: Rule, path: Path) -> None:
        status = path.lstat()
        chosen = rule.given is not None and stat.S_ISREG(status.st_mode) and not rule.given(self._text(self._inside(path).lstrip("/")), self._text)
        if stat.S_ISREG(status.st_mode) and status.st_size and not chosen and not self._left_alone(path):
            self._add(rule, "emptied", path)

    def _rewrite(self, rule: Rule, path: Path) -> None:
        if path.is_symlink() or not path.is_file() or self._left_alone(path):
            return
        before = path.read_text(encoding="utf-8", errors="surrogateescape")
        if rule.given is not None and not rule.given(before, self._text):
            return
        after = rule.content if rule.strip is None else without_text(before, rule.strip)
        self._replace(rule, path, before, after, drop_empty=rule.strip is not None)

    def _forget(self, rule: Rule, path: Path) -> None:
        """Plan that the environment block of GRUB forgets what boots wrote into it."""
        if path.is_symlink() or not path.is_file() or self._left_alone(path):
            return
        before = path.read_text(encoding="utf-8", errors="surrogateescape")
        defaults = [found.read_text(encoding="utf-8", errors="replace") for name in GRUB_DEFAULTS for found in expand(self.root, name) if found.is_file()]
        self._replace(rule, path, before, fresh_environment(before, keep_choice=remembers_choice("\n".join(defaults))))

    def _accounts(self, users: t.Collection[str]) -> None:
        """Plan the removal of accounts with their groups, homes, mail, timers and sudo rules."""
        rule = Rule("build user", Category.ACCESS, Action.REMOVE, ())
        homes = homes_of(self._text("etc/passwd"), users)
        for name in (*ACCOUNT_FILES, *GROUP_FILES):
            before = self._text(name)
            after = without_members(before, users) if name in GROUP_FILES else without_accounts(before, users)
            self._replace(rule, self.root / name, before, after)
        places = ("etc/sudoers.d", "var/mail", "var/spool/mail", "var/spool/cron/crontabs", "var/lib/systemd/linger")
        owned = [f"{place}/{user}" for user in users for place in places]
        for pattern in (*owned, *homes):
            for found in expand(self.root, pattern):
                self._remove(rule, found)
        line = re.compile(rf"^\s*(?:{'|'.join(map(re.escape, users))})\s.*$")
        for path in expand(self.root, "etc/sudoers.d/*"):
            self._sudo_rules(dataclasses.replace(rule, action=Action.STRIP, strip=line), path, line)

    def _sudo_rules(self, rule: Rule, path: Path, line: re.Pattern[str]) -> None:
        """A file that has nothing but comments left goes: cloud-init wrote it for these users."""
        if path.is_symlink() or not path.is_file() or self._left_alone(path):
            return
        before = path.read_text(encoding="utf-8", errors="surrogateescape")
        after = without_text(before, line)
        rules = [text for text in after.splitlines() if text.strip() and not text.lstrip().startswith("#")]
        if after != before and not rules:
            self._add(rule, "removed", path)
        else:
            self._replace(rule, path, before, after)

    def _text(self, name: str) -> str:
        path = resolve(self.root, self.root / name)
        return "" if path is None else path.read_text(encoding="utf-8", errors="surrogateescape")

    def _replace(self, rule: Rule, path: Path, before: str, after: str, drop_empty: bool = False) -> None:
        if before == after:
            return
        if drop_empty and not after.strip():
            self._add(rule, "removed", path)
        else:
            self._add(rule, "rewritten", path, content=after)

    def _add(self, rule: Rule, verb: str, path: Path, *, size: int = 0, content: str = "") -> None:
        if verb != "rewritten" and os.path.lexists(path):
            size += path.lstat().st_blocks * 512
        self.plan.effects.append(Effect(verb, self._inside(path), rule.name, rule.category, size, content))
        self._claimed.add(path)

    def _inside(self, path: Path) -> str:
        return "/" + os.fspath(path.relative_to(self.root))


def settings_told(effects: t.Iterable[Effect]) -> str:
    """A sentence on the settings that lose their content, for whoever wrote them; nothing when there are none."""
    told = [effect.sentence() for effect in effects if effect.verb != "removed" and effect.path.startswith("/etc/") and effect.path != "/etc/machine-id"]
    return f" Settings that are no longer what they were: {'; '.join(told)}." if told else ""


def refuse_running(root: Path, system: Path = Path("/run/systemd/system")) -> None:
    """Raise SealError when ``root`` is the root of a machine that is in use."""
    if root == Path("/") and system.is_dir():
        raise SealError(
            "Cannot seal /: systemd is running here, so this is a machine in use and not an opened image. It would lose its SSH host keys, its machine id and "
            "its logs. Give the folder of the image as root, or set live to true when this machine is stopped and turned into an image right after."
        )


def plan_seal(root: Path, wishes: Wishes) -> Plan:
    """What has to change below ``root`` so that nothing of the build and of the machine it ran on is left."""
    if not (root / "etc").is_dir():
        raise SealError(f"Cannot seal {root}: it has no folder etc, so it is no root file system. Give the folder in which the image is mounted.")
    table = Path("/proc/self/mountinfo")
    mounts = mount_points(table.read_text(encoding="utf-8", errors="surrogateescape")) if table.exists() else frozenset()
    return Planner(root, wishes, mounts).build()


def apply_seal(root: Path, plan: Plan) -> None:
    """Carry out a plan. What has vanished in the meantime is fine: it should be gone anyway."""
    if root == Path("/") and any(effect.rule == "cloud-init state" for effect in plan.effects):
        _clean_cloud_init()
    for effect in plan.effects:
        path = root / effect.path.lstrip("/")
        try:
            _apply(effect, path)
        except OSError as error:
            remedy = {
                errno.EROFS: "The file system is mounted read-only; open the image for writing.",
                errno.EPERM: "The immutable attribute may be set; clear it with chattr -i.",
                errno.EACCES: "Run as root.",
            }.get(error.errno or 0, "Nothing that was planned after it has been changed; run again when this is solved.")
            raise SealError(f"Cannot seal {root}: {path} could not be {effect.verb}: {error.strerror}. {remedy}", failed_path=os.fspath(path)) from error
    lists = root / "var/lib/apt/lists"
    if any(effect.path.startswith("/var/lib/apt/lists/") for effect in plan.effects) and lists.is_dir():
        # The age of this folder tells Ansible and others whether the lists are fresh; without lists it must look old.
        os.utime(lists, (0, 0))


def _apply(effect: Effect, path: Path) -> None:
    if effect.verb == "removed":
        with contextlib.suppress(FileNotFoundError):
            _remove_tree(path)
    elif effect.verb == "emptied":
        if path.is_symlink():
            path.unlink()
        existed = path.exists()
        with path.open("wb"):
            pass
        if not existed:
            path.chmod(0o444)
    else:
        status = path.stat()
        with part_file(path) as part:
            part.write_text(effect.content, encoding="utf-8", errors="surrogateescape")
            os.chown(part, status.st_uid, status.st_gid)
            part.chmod(stat.S_IMODE(status.st_mode))


def _remove_tree(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        shutil.rmtree(path)


def _clean_cloud_init() -> None:
    """Let cloud-init forget its instance and run the clean-up hooks of other packages; the rules above then remove what it left."""
    if shutil.which("cloud-init", path=ADMIN_PATH) is None:
        return
    # Never --machine-id: it writes "uninitialized", which makes the next boot a first boot that presets every service.
    command, attempt = Command("cloud-init", reason="clean its own state"), "clean the state of cloud-init"
    if command.run("clean", "--logs", "--seed", "--configs", "all", attempt=attempt, accepted=(0, 2)).rc == 2:
        command.run("clean", "--logs", "--seed", attempt=attempt)


def without_text(text: str, found: re.Pattern[str]) -> str:
    """A text without what matches; comments are left alone, and so are the lines in which nothing matches."""
    lines = []
    for line in text.splitlines(keepends=True):
        rest = line if line.lstrip().startswith(("#", "//")) else found.sub("", line)
        if rest == line or rest.strip():
            lines.append(rest)
    return "".join(lines)


def homes_of(passwd: str, users: t.Collection[str]) -> list[str]:
    """The home folders below /home that belong to no other account. An account of uid 0 is refused."""
    rows = [line.split(":") for line in passwd.splitlines() if line.count(":") == 6]
    for row in rows:
        if row[0] in users and row[2] == "0":
            raise SealError(
                f"Cannot remove the build user {row[0]}: it has uid 0, and an image needs its root account. Name only the user that the build logged in as."
            )
    others = {row[5].rstrip("/") for row in rows if row[0] not in users}
    return [row[5].strip("/") for row in rows if row[0] in users and row[5].startswith("/home/") and row[5].rstrip("/") not in others]


def home_folders(passwd: str) -> set[str]:
    """The home folders of all accounts, relative to the root."""
    rows = [line.split(":") for line in passwd.splitlines() if line.count(":") == 6]
    return {row[5].strip("/") for row in rows} - {""}


def without_accounts(text: str, users: t.Collection[str]) -> str:
    """A file of colon-separated records without those of ``users``."""
    return "".join(line for line in text.splitlines(keepends=True) if line.split(":")[0] not in users)


def without_members(text: str, users: t.Collection[str]) -> str:
    """The text of group or gshadow without the groups named like ``users`` and without them as members or administrators."""
    lines = []
    for line in without_accounts(text, users).splitlines():
        fields = line.split(":")
        # The name, password and group id come first; only the last one or two fields are lists of names.
        for index in range(2, len(fields)):
            fields[index] = ",".join(name for name in fields[index].split(",") if name not in users)
        lines.append(":".join(fields) + "\n")
    return "".join(lines)
