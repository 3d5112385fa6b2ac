# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Wait until systemd in an open image has started what the image starts by itself."""

from __future__ import annotations

import math
import typing as t

from ansible_collections.hyperscaler.images.plugins.module_utils._enter import run
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._host_speed import grown

TIMEOUT = 180
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"}
# systemd answers once it listens; before, there is nothing that could be asked or waited on.
COMMAND = "timeout {} sh -c 'until [ -S /run/systemd/private ]; do sleep 0.05; done; systemctl is-system-running --wait'"
FAILED = "systemctl --failed --plain --no-legend --no-pager | cut -d' ' -f1"
JOURNAL = "journalctl --boot --priority=warning --no-pager --lines=20 --output=cat"


def await_boot(state: t.Mapping[str, t.Any]) -> list[str]:
    """Wait, and return the units that failed. Raises ImageError with the last lines of the journal when systemd does not come up."""
    limit = math.ceil(grown(TIMEOUT))
    _rc, out, err = run(state["enter"], COMMAND.format(limit), ENVIRONMENT)
    outcome = _text(out)
    if outcome == "running":
        return []
    if outcome == "degraded":
        return _text(run(state["enter"], FAILED, ENVIRONMENT)[1]).split()
    lines = " | ".join(_text(run(state["enter"], JOURNAL, ENVIRONMENT)[1]).splitlines()[-12:])
    raise ImageError(
        f"Cannot open {state['path']} with systemd: it did not come up within {limit} s ({_text(err) or outcome or 'it did not answer'}). "
        f"Last lines of its journal: {lines or 'none'}. Look inside while it is open, or close it with state=closed."
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace").strip()
