# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Canonical JSON, its digest, and the sentence that tells two documents apart."""

from __future__ import annotations

import hashlib
import json
import typing as t


def canonical_json(document: t.Any) -> str:
    """JSON that is the same for the same content: sorted keys, no spaces that vary."""
    return json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False, default=str) + "\n"


def document_digest(document: t.Any) -> str:
    """The sha256 of the canonical JSON of a document, as 64 hex digits."""
    return hashlib.sha256(canonical_json(document).encode("utf-8")).hexdigest()


def changes(before: t.Any, after: t.Any, path: str = "") -> list[str]:
    """One short sentence for each place where two documents differ, in the order of the keys."""
    if isinstance(before, dict) and isinstance(after, dict):
        found: list[str] = []
        for key in sorted({*before, *after}, key=str):
            where = f"{path}.{key}" if path else str(key)
            if key not in before:
                found.append(f"{where} is new")
            elif key not in after:
                found.append(f"{where} is gone")
            else:
                found.extend(changes(before[key], after[key], where))
        return found
    if before == after:
        return []
    return [f"{path} changed from {_short(before)} to {_short(after)}"]


def _short(value: t.Any, limit: int = 48) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= limit else text[: limit - 1] + "…"
