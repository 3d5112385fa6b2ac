# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Third-party components as inputs: where they come from, and whether one that was missing can be had now."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._artefact import Source, merge, source_from
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_lock import Locked, read_lock
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_offer import Fetcher, fetcher_from
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_record import Settings
from ansible_collections.hyperscaler.images.plugins.module_utils._digest import document_digest
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError
from ansible_collections.hyperscaler.images.plugins.module_utils._transport import Policy, local_path, open_body
from ansible_collections.hyperscaler.images.plugins.plugin_utils._role_tasks import load_yaml

# Seconds. A server that does not answer at once does not make an image stale: the next run asks again.
CONNECT_TIMEOUT = 1.0
TIME_FOR_ALL = 2.0


def described(settings: Settings, data: Path) -> dict[str, dict[str, t.Any]]:
    """What the catalogue and the user say of each component."""
    catalogue = load_yaml((data / "artefacts.yml").read_text(encoding="utf-8"))["artefact_catalogue"]
    return {name: merge(catalogue.get(name, {}), settings.sources.get(name, {})) for name in {*catalogue, *settings.sources}}


def component_digests(settings: Settings, data: Path, roles: t.Collection[str]) -> dict[str, str]:
    """A digest of where each component of some roles comes from and of what is locked of it."""
    locked = read_lock(Path(settings.lock))
    return {
        name: document_digest({"source": entry, "locked": str(locked.get(name, "")), "architecture": settings.architecture})
        for name, entry in described(settings, data).items()
        if entry.get("role") in roles
    }


def component_paths(settings: Settings, data: Path, roles: t.Collection[str]) -> list[str]:
    """The local packages, or their folders, that components of some roles come from."""
    return [str(entry["path"]) for entry in described(settings, data).values() if entry.get("path") and entry.get("role") in roles]


def can_be_had(missing: t.Collection[str], settings: Settings, data: Path) -> list[str]:
    """Which of these components can be had now; servers are asked side by side, for a short time."""
    descriptions, locks = described(settings, data), read_lock(Path(settings.lock))
    fetcher = fetcher_from(settings, Policy(retries=0, connect_timeout=CONNECT_TIMEOUT))
    answers: queue.Queue[str] = queue.Queue()
    asked = []
    for name in sorted(set(missing) & set(descriptions)):
        thread = threading.Thread(target=_ask, args=(name, descriptions[name], locks.get(name), fetcher, answers), daemon=True)
        thread.start()
        asked.append(thread)
    until = time.monotonic() + TIME_FOR_ALL
    for thread in asked:
        thread.join(max(0.0, until - time.monotonic()))
    found = []
    with contextlib.suppress(queue.Empty):
        while True:
            found.append(answers.get_nowait())
    return sorted(found)


def _ask(name: str, description: t.Mapping[str, t.Any], locked: Locked | None, fetcher: Fetcher, answers: queue.Queue[str]) -> None:
    # Whatever is wrong with a source is told when it is used. Here it means that the component cannot be had.
    with contextlib.suppress(ImageError, OSError):
        source, offers = fetcher.chosen(source_from(name, description), locked)
        if offers and _answers(source, offers[0].location):
            answers.put(name)


def _answers(source: Source, location: str) -> bool:
    """Whether a package is really there: what is locked is known without asking its server."""
    here = local_path(location)
    if source.path or here is not None:
        return here is not None and here.is_file()
    with open_body(location, Policy(retries=0, connect_timeout=CONNECT_TIMEOUT)):
        return True
