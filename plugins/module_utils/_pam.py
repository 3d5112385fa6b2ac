# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Work out by pam.d(5) whether a service lets somebody in when every module that asks for a credential says no."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._inspect_tree import Tree

FOLDER = "/etc/pam.d"
DEPTH_LIMIT = 16
# Services that are root themselves, whoever calls; to modules of su, sudo and their kin, the caller is who counts.
LOGINS = ("sshd", "login", "remote", "cockpit", "gdm-password", "lightdm", "sddm", "xrdp-sesman", "vsftpd")
SWITCHES = ("su", "su-l", "sudo", "sudo-i", "polkit-1")
LINE = re.compile(r"-?auth\s+(\[[^\]]*\]|\S+)\s+(\S+)\s*(.*)$", re.IGNORECASE)
CONTROLS = {
    "required": {"success": "ok", "ignore": "ignore", "default": "bad"},
    "requisite": {"success": "ok", "ignore": "ignore", "default": "die"},
    "sufficient": {"success": "done", "default": "ignore"},
    "optional": {"success": "ok", "default": "ignore"},
}
IGNORING = ("pam_env", "pam_faildelay", "pam_group", "pam_cap", "pam_echo", "pam_warn", "pam_nologin", "pam_issue", "pam_keyinit", "pam_mount", "pam_motd")
# What these say depends on the account; whoever tries may be the one that they accept.
DEPENDING = ("pam_succeed_if", "pam_listfile", "pam_shells", "pam_localuser", "pam_rhosts")
AGREEING = ("pam_permit", "pam_debug")


class Line(t.NamedTuple):
    """One module of a stack; ``inner`` is the stack that a ``substack`` line names."""

    path: str
    text: str
    control: dict[str, str]
    module: str
    arguments: str
    inner: tuple[Line, ...] = ()


def openings(tree: Tree) -> t.Iterator[tuple[str, str]]:
    """The file and the line by which each service lets somebody in without a credential."""
    found: dict[tuple[str, str], None] = {}
    for service in (*LOGINS, *SWITCHES):
        lines = tuple(_lines(tree, f"{FOLDER}/{service}", 0))
        opened = _opening(lines, service, 0, None, positive=False)
        if opened:
            found[opened.path, opened.text] = None
    yield from found


def _lines(tree: Tree, path: str, depth: int) -> t.Iterator[Line]:
    text = re.sub(r"\\\n", " ", tree.text(path)) if depth < DEPTH_LIMIT else ""
    for raw in text.splitlines():
        line = " ".join(raw.split("#", 1)[0].split())
        if line.startswith("@include "):
            yield from _lines(tree, f"{FOLDER}/{line.split()[1]}", depth + 1)
        found = LINE.match(line)
        if found is None:
            continue
        control, module, arguments = found.groups()
        if control.lower() == "include":
            yield from _lines(tree, f"{FOLDER}/{module}", depth + 1)
        elif control.lower() == "substack":
            yield Line(path, line, CONTROLS["required"], "", "", tuple(_lines(tree, f"{FOLDER}/{module}", depth + 1)))
        else:
            yield Line(path, line, _control(control), module.rpartition("/")[2].partition(".")[0], arguments)


def _control(text: str) -> dict[str, str]:
    if not text.startswith("["):
        return CONTROLS.get(text.lower(), CONTROLS["required"])
    return {"default": "bad", **dict(pair.split("=", 1) for pair in text.strip("[]").split() if "=" in pair)}


def _results(line: Line, service: str) -> tuple[str, ...]:
    """What a module may say when nobody has a credential."""
    if line.inner:
        return ("success",) if _opening(line.inner, service, 0, None, positive=False) else ("auth_err",)
    if line.module in AGREEING or (line.module == "pam_rootok" and service not in SWITCHES):
        return ("success",)
    if line.module == "pam_wheel":
        return ("success", "ignore") if re.search(r"\btrust\b", line.arguments) else ("ignore",)
    if line.module == "pam_faillock":
        return ("success",) if "authfail" not in line.arguments else ("auth_err",)
    if line.module in IGNORING:
        return ("ignore",)
    return ("success", "auth_err") if line.module in DEPENDING else ("auth_err",)


def _opening(lines: t.Sequence[Line], service: str, at: int, opener: Line | None, *, positive: bool) -> Line | None:
    """The line that makes the rest of a stack succeed, or None; ``positive`` and ``opener`` are what the lines before it came to."""
    if at >= len(lines):
        return opener if positive else None
    line = lines[at]
    for result in _results(line, service):
        action = line.control.get(result, line.control.get("default", "bad"))
        success = result == "success"
        if action in ("done", "ok") and success:
            found = line if action == "done" else _opening(lines, service, at + 1, _weakest(opener, line), positive=True)
        elif action == "ignore" or (action in ("done", "ok") and result == "ignore"):
            found = _opening(lines, service, at + 1, opener, positive=positive)
        elif action.isdigit():
            found = _opening(lines, service, at + 1 + int(action), line if success else opener, positive=positive or success)
        elif action == "reset":
            found = _opening(lines, service, at + 1, None, positive=False)
        else:
            found = None
        if found:
            return found
    return None


def _weakest(before: Line | None, line: Line) -> Line:
    """The line to blame: one that lets everybody in says less than one that makes a choice."""
    return before if before is not None and line.module in AGREEING and before.module not in AGREEING else line
