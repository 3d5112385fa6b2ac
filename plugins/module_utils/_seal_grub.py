# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""The environment block of GRUB: a file of a fixed size in which a boot and its services leave what they remember."""

from __future__ import annotations

import re

# What a boot, its services or grub-reboot write for the boot that comes next.
PASSING = frozenset(
    {
        *("next_entry", "prev_entry", "prev_saved_entry", "recordfail", "boot_once", "boot_success", "boot_indeterminate", "boot_counter"),
        *("initrdless_boot_fallback_triggered", "initrdfail", "menu_show_once", "menu_show_once_timeout"),
    }
)
CHOICE = "saved_entry"
FILLER = "#"


def remembers_choice(defaults: str) -> bool:
    """Whether ``saved_entry`` is what somebody chose: the settings use it, and no boot writes it (GRUB_SAVEDEFAULT)."""
    values = dict(re.findall(r"^\s*(?:export\s+)?(GRUB_DEFAULT|GRUB_SAVEDEFAULT)=[\"']?([^\"'\s#]*)", defaults, re.MULTILINE))
    return values.get("GRUB_DEFAULT") == "saved" and values.get("GRUB_SAVEDEFAULT", "").lower() not in ("true", "y", "yes", "1")


def fresh_environment(text: str, *, keep_choice: bool) -> str:
    """The block without what boots remember, of the same size, as ``grub-editenv unset`` leaves it."""
    forgotten = PASSING if keep_choice else PASSING | {CHOICE}
    lines = text.splitlines(keepends=True)
    kept = "".join(line for line in lines if line.startswith(FILLER) or line.partition("=")[0] not in forgotten)
    missing = len(text.encode("utf-8", "surrogateescape")) - len(kept.encode("utf-8", "surrogateescape"))
    return kept + FILLER * missing
