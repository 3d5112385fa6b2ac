# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Take user data of cloud-init apart: configurations, scripts, and addresses where more is fetched."""

from __future__ import annotations

import email
import re
import typing as t

from ansible.module_utils.common.yaml import HAS_YAML, yaml_load

# PyYAML raises ValueError, too, for dates that do not exist.
PROBLEMS: tuple[type[Exception], ...] = (ValueError,)
if HAS_YAML:
    from yaml import YAMLError

    PROBLEMS = (YAMLError, ValueError)

DEPTH_LIMIT = 4
MIME = re.compile(r"(?:content-type|mime-version)\s*:", re.IGNORECASE)
TEMPLATE = re.compile(r"##\s*template\s*:")


class Part(t.NamedTuple):
    """One piece: ``kind`` is ``config``, ``script`` or ``include`` (one address a line)."""

    kind: str
    text: str


def parts_of(text: str, depth: int = 0) -> t.Iterator[Part]:
    """The pieces of user data, by the first line as cloud-init tells them apart; those of MIME messages and archives as well."""
    plain = text.lstrip()
    first, _newline, rest = plain.partition("\n")
    if depth > DEPTH_LIMIT:
        return
    if MIME.match(plain):
        for part in email.message_from_string(plain).walk():
            payload = part.get_payload(decode=True)
            if not part.is_multipart() and isinstance(payload, bytes):
                yield from parts_of(payload.decode("utf-8", errors="replace"), depth + 1)
    elif TEMPLATE.match(first):
        yield from parts_of(rest, depth + 1)
    elif first.startswith("#cloud-config-archive"):
        for item in _items(rest):
            content = item.get("content") if isinstance(item, dict) else item
            yield from parts_of(str(content or ""), depth + 1)
    elif first.startswith(("#!", "#cloud-boothook")):
        yield Part("script", plain)
    elif first.startswith("#include"):
        yield Part("include", rest)
    else:
        yield Part("config", plain)


def _items(text: str) -> list[t.Any]:
    try:
        data = yaml_load(text)
    except PROBLEMS:
        return []
    return data if isinstance(data, list) else []
