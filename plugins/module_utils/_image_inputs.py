# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Decide whether an image has to be built: compare what shapes it now with what shaped the one that is there."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._digest import changes
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._files import file_digest

MANIFEST = "manifest.json"
# Of the document. What was recorded in another form cannot be compared.
FORMAT = 2
MOST_REASONS = 3
# The sections of the document whose values are digests, with the sentences for a change, for what is new, and for what is gone.
SENTENCES = {
    "roles": ("the files of role {} changed", "role {} is reached now", "role {} is not reached any more"),
    "variables": ("variable {} changed", "variable {} is new", "variable {} is gone"),
    "groups": ("the members of group {} changed", "group {} is new", "group {} is gone"),
    "components": ("the source of component {} changed", "component {} is new", "component {} is gone"),
    "collections": ("collection {} changed", "collection {} is used now", "collection {} is not used any more"),
    "controller_files": ("file {} changed", "file {} is new", "file {} is gone"),
    "files": ("input file {} changed", "input file {} is new", "input file {} is gone"),
    "builder": ("the code of the collection changed ({})",) * 3,
}


def file_digests(paths: t.Iterable[str]) -> dict[str, str]:
    """The sha256 of each input file, of a directory that of each file in it, by path. Raises ImageError for one that is missing."""
    found = {}
    for path in sorted(paths):
        if not Path(path).exists():
            raise ImageError(f"Cannot read the input file {path}: there is no such file. Correct image_input_files.")
        inside = sorted(file for file in Path(path).rglob("*") if file.is_file()) if Path(path).is_dir() else [Path(path)]
        found.update({str(file): file_digest(file) for file in inside})
    return found


def answer(name: str, reason: str) -> dict[str, t.Any]:
    """Whether an image has to be built and why, as return values; no reason means that it is up to date."""
    because = f"{name} is built because {reason}." if reason else f"{name} is up to date: nothing changed."
    return {"stale": bool(reason), "reason": reason or "nothing changed", "msg": because}


def rebuild_reason(document: t.Mapping[str, t.Any], output: Path, rebuild: str) -> str:
    """Why the image has to be built, as a sentence; empty when the output is there, intact and made from the same inputs."""
    if rebuild == "always":
        return "a rebuild was asked for"
    manifest_file = output / MANIFEST
    if not manifest_file.is_file():
        return "there is no image yet" if not any(output.glob("*.qcow2")) else "the image has no manifest"
    try:
        manifest = json.loads(manifest_file.read_text(encoding="utf-8"))
        recorded, files = manifest["inputs"]["document"], manifest["files"]
    except (ValueError, KeyError, TypeError):
        return "its manifest cannot be read"
    return _damage(output, files) or ("" if rebuild == "never" else _difference(recorded, document))


def _damage(output: Path, files: t.Mapping[str, t.Mapping[str, t.Any]]) -> str:
    for name, wanted in sorted(files.items()):
        path = output / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != wanted["size"] or file_digest(path) != wanted["sha256"]:
            return f"{name} is damaged: it differs from its checksum"
    return ""


def _difference(recorded: t.Mapping[str, t.Any], document: t.Mapping[str, t.Any]) -> str:
    if recorded.get("format") != document["format"]:
        return "its inputs were recorded in another form"
    if recorded.get("key") != document["key"]:
        return "the key of its inputs was lost or replaced, so that its variables and files cannot be compared"
    found = [_sentence(change) for change in changes(_comparable(recorded, document), _comparable(document, document))]
    unique = list(dict.fromkeys(found))
    more = f" and {len(unique) - MOST_REASONS} more" if len(unique) > MOST_REASONS else ""
    return ", ".join(unique[:MOST_REASONS]) + more


def _comparable(recorded: t.Mapping[str, t.Any], document: t.Mapping[str, t.Any]) -> t.Any:
    """A document without what counted only because it could not be known, before the build, which roles would be reached. The build has shown it."""
    guessed = recorded.get("guessed") or {}
    left = {
        section: {name: value for name, value in content.items() if name in document.get(section, {}) or name not in guessed.get(section, ())}
        for section, content in recorded.items()
        if isinstance(content, dict) and section != "guessed"
    }
    return json.loads(json.dumps(left, default=str))


def _sentence(change: str) -> str:
    """Turn the path of a change in the document into words."""
    section, _dot, rest = change.partition(".")
    if section in SENTENCES:
        # From digest to digest says nothing to a reader.
        for kind, sentence in zip((" changed from ", " is new", " is gone"), SENTENCES[section]):
            name, found, _after = rest.rpartition(kind)
            if found:
                return sentence.format(name)
    names = {"base": "the base image: ", "definition": "variable ", "tools": "tool "}
    return f"{names[section]}{rest}" if section in names else change
