# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this plugin util is private to the hyperscaler.images collection.
"""The project of a user that a play belongs to."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._artefact_lock_file import lock_path

OWN_PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"


def project_lock(settings: t.Mapping[str, t.Any], variables: t.Mapping[str, t.Any]) -> Path:
    """The lock file: ``settings`` are resolved and may have ``artefact_lock``, ``variables`` are those of the task. Raises what ``lock_path`` raises."""
    return lock_path(str(settings.get("artefact_lock") or ""), Path(str(variables.get("playbook_dir") or Path.cwd())), OWN_PLAYBOOKS)
