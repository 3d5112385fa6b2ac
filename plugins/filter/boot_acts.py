# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tasks in an opened image did that acts at boot only."""

from __future__ import annotations

import json
import typing as t

from ansible.errors import AnsibleFilterError

WORDS = {"module": "modules", "swap": "swap", "clock": "clock", "reboot": "reboot", "mount": "mounts", "kexec": "kexec"}
REFUSED = "refused"


def boot_acts(document: str, seen: int = 0) -> dict[str, t.Any]:
    """The events behind the first ``seen`` ones: how many there are in all, a sentence, and what was refused."""
    lines = [line for line in document.splitlines() if line.strip()]
    try:
        events = [json.loads(line) for line in lines[int(seen) :]]
    except ValueError:
        raise AnsibleFilterError("Cannot read what acts at boot only: expected one JSON document per line, but one is something else") from None
    acts = [event for event in events if event["kind"] != REFUSED]
    return {
        "count": len(lines),
        "sentence": _sentence(acts),
        "refused": list(dict.fromkeys(str(event["what"]) for event in events if event["kind"] == REFUSED)),
    }


def _sentence(acts: list[dict[str, t.Any]]) -> str:
    if not acts:
        return ""
    tasks = {str(event.get("task") or f"event {number}") for number, event in enumerate(acts)}
    kinds: dict[str, dict[str, None]] = {}
    for event in acts:
        kinds.setdefault(str(event["kind"]), {})[str(event["what"])] = None
    parts = [" ".join(filter(None, (WORDS.get(kind, kind), ", ".join(filter(None, whats))))) for kind, whats in kinds.items()]
    return f"{len(tasks)} {'task acts' if len(tasks) == 1 else 'tasks act'} at boot only: {'; '.join(parts)}"


class FilterModule:
    """The filter ``boot_acts``."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filters of this file."""
        return {"boot_acts": boot_acts}
