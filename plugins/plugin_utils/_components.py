# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Third-party components as inputs: where they come from, what is locked of them, and whether one that was missing can be had now."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._artefact import OTHERWISE, Source, merge, source_from
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_lock import Locked, read_lock
from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_offer import Fetcher, Wish, fetcher_from
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
    """A digest of where each component of some roles comes from. What is locked is compared with what the image has, see ``locked_otherwise``."""
    return {
        name: document_digest({"source": entry, "architecture": settings.architecture})
        for name, entry in described(settings, data).items()
        if entry.get("role") in roles
    }


def locked_otherwise(components: t.Iterable[t.Mapping[str, t.Any]], settings: Settings, data: Path) -> list[str]:
    """Which components of an image have another digest, or come from another source, than what is locked now.

    ``components`` are those of its manifest. What is not locked, and what came from a local path, agrees with every lock.
    """
    descriptions, lock = described(settings, data), read_lock(Path(settings.lock))
    found = []
    for entry in components:
        name, version = str(entry.get("component")), str(entry.get("version"))
        if entry.get("state") != "installed" or entry.get("source") == "path":
            continue
        locked = lock.get(name, {})
        description = descriptions.get(name, {})
        # It was taken because the first choice was not locked.
        replaced = version == str((description.get(OTHERWISE) or {}).get("version")) and str(description.get("version")) in locked
        if replaced or (version in locked and not _agrees(locked[version], entry.get("packages") or [])):
            found.append(name)
    return sorted(found)


def _agrees(locked: Locked, packages: t.Iterable[t.Mapping[str, t.Any]]) -> bool:
    """Whether each package of an image is as it is locked, or not locked at all."""
    for package in packages:
        digests = {
            entry.sha256 for entry in locked.packages if (entry.package.name, entry.package.architecture) == (package.get("name"), package.get("architecture"))
        }
        if digests and package.get("sha256") not in digests:
            return False
    return True


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
        wish = Wish(strict=settings.policy == "strict")
        thread = threading.Thread(target=_ask, args=(name, descriptions[name], locks.get(name, {}), wish, fetcher, answers), daemon=True)
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


def _ask(name: str, description: t.Mapping[str, t.Any], locked: t.Mapping[str, Locked], wish: Wish, fetcher: Fetcher, answers: queue.Queue[str]) -> None:
    # Whatever is wrong with a source is told when it is used. Here it means that the component cannot be had.
    with contextlib.suppress(ImageError, OSError):
        source = source_from(name, description)
        if source.files and not (source.otherwise or wish.strict or source.version in locked or any(entry.sha256 for entry in source.files)):
            # Their digests are learned by reading them, which takes its time.
            if all(_answers(source, entry.url) for entry in source.files):
                answers.put(name)
            return
        choice = fetcher.chosen(source, locked, wish)
        if choice.offers and _answers(choice.source, choice.offers[0].location):
            answers.put(name)


def _answers(source: Source, location: str) -> bool:
    """Whether a package is really there: what is locked is known without asking its server."""
    here = local_path(location)
    if source.path or here is not None:
        return here is not None and here.is_file()
    with open_body(location, Policy(retries=0, connect_timeout=CONNECT_TIMEOUT)):
        return True
