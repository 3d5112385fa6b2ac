# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Packer templates without their block required_plugins, which Packer before 1.7 does not know.

Only that block is left out, whatever else its file has, and lines keep their numbers, so that messages of Packer name the right ones. Sources: the
native syntax and the JSON syntax of HCL (specifications in hashicorp/hcl), and Packer's documentation of the block packer.
"""

from __future__ import annotations

import json
import re
import typing as t
from pathlib import Path

REQUIREMENTS = "required_plugins"
NATIVE, JSON = ".pkr.hcl", ".pkr.json"
COMMENT = re.compile(r"(?:#|//)[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
HEREDOC = re.compile(r"<<-?([^\W\d][\w-]*)[^\S\n]*\n.*?(?:^[^\S\n]*\1[^\S\n]*$|\Z)", re.DOTALL | re.MULTILINE)
WORD = re.compile(r"[^\W\d][\w-]*")
EMPTY_BLOCK = re.compile(r"\bpacker\s*\{\s*\}")


def cut_files(folder: Path) -> dict[str, str]:
    """The files of a template that have the block, by name, each with its text without it. A text is empty when nothing else was in the file."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name.endswith((NATIVE, JSON)) and path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            cut = without_requirements(text) if path.name.endswith(NATIVE) else without_json_requirements(text)
            if cut != text:
                found[path.name] = "" if _says_nothing(cut) else cut
    return found


def _says_nothing(text: str) -> bool:
    return not EMPTY_BLOCK.sub("", COMMENT.sub("", text)).strip() or text == "{}"


def without_requirements(text: str) -> str:
    """HCL in its native syntax without the block; what is left keeps its place."""
    position = 0
    while position < len(text):
        end = _skipped(text, position)
        if end is not None:
            position = end
            continue
        word = WORD.match(text, position)
        if word is None:
            position += 1
            continue
        brace = re.compile(r"\s*\{").match(text, word.end()) if word.group() == REQUIREMENTS else None
        position = word.end()
        if brace is not None:
            end = _end_of_braces(text, brace.end())
            text = text[: word.start()] + re.sub(r"[^\n]", " ", text[word.start() : end]) + text[end:]
            position = end
    return text


def without_json_requirements(text: str) -> str:
    """HCL in its JSON syntax without the block; a text that is no JSON is left to Packer."""
    try:
        document = json.loads(text)
    except ValueError:
        return text
    settings = document.get("packer") if isinstance(document, dict) else None
    blocks = settings if isinstance(settings, list) else [settings]
    with_it = [block for block in blocks if isinstance(block, dict) and REQUIREMENTS in block]
    for block in with_it:
        del block[REQUIREMENTS]
    if with_it and not any(blocks):
        del document["packer"]
    return json.dumps(document, indent=2) if with_it else text


def _skipped(text: str, position: int) -> int | None:
    """The end of a comment, a heredoc or a string that begins here; None when none does."""
    for pattern in (COMMENT, HEREDOC):
        found = pattern.match(text, position)
        if found is not None:
            return max(found.end(), position + 1)
    return _end_of_string(text, position + 1) if text[position] == '"' else None


def _end_of_string(text: str, position: int) -> int:
    """The end of a string; the expressions in it have strings of their own."""
    while position < len(text):
        here = text[position : position + 2]
        if here[0] == "\\":
            position += 2
        elif here in ("${", "%{") and text[position - 1] != here[0]:
            position = _end_of_braces(text, position + 2)
        elif here[0] == '"':
            return position + 1
        else:
            position += 1
    return position


def _end_of_braces(text: str, position: int) -> int:
    """The end of what an opening brace before this position begins."""
    depth = 1
    while position < len(text) and depth:
        end = _skipped(text, position)
        if end is None:
            depth += {"{": 1, "}": -1}.get(text[position], 0)
            end = position + 1
        position = end
    return position


def view_of(folder: Path, view: Path) -> Path:
    """The template as an older Packer reads it: the folder itself, or a folder of links to its files, with copies of those that had the block."""
    cut = cut_files(folder)
    if not cut:
        return folder
    view.mkdir(exist_ok=True)
    for path in folder.iterdir():
        target = view / path.name
        if path.name not in cut:
            if not target.is_symlink():
                target.symlink_to(path)
        elif cut[path.name] or not _others(folder, cut):
            target.write_text(cut[path.name], encoding="utf-8")
    return view


def _others(folder: Path, cut: t.Mapping[str, str]) -> bool:
    """Whether the view has a template without the files that have nothing left."""
    return any(path.name.endswith((NATIVE, JSON)) and cut.get(path.name, "kept") for path in folder.iterdir())
