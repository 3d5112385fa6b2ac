# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Try a guest that stands still under KVM once with emulation, before its image is blamed."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._accelerator import Accelerator, remember_failure, select
from ansible_collections.hyperscaler.images.plugins.module_utils._errors import ImageError, ToolError
from ansible_collections.hyperscaler.images.plugins.module_utils._qemu_guest import GuestError, GuestSettings
from ansible_collections.hyperscaler.images.plugins.module_utils._qemu_process import GuestRecord

# The guest did nothing wrong that its console would show: it stopped, or QEMU did.
STANDSTILL = ("boot_incomplete", "no_console_output", "guest_ended")

Boot = t.Callable[[Accelerator], GuestRecord]


def boot_with_fallback(settings: GuestSettings, cache: Path | None, boot: Boot) -> GuestRecord:
    """Start a guest with ``boot`` under the accelerator that the settings ask for.

    Only where KVM was chosen by the probe (the settings say auto) a standstill is followed by a second try, and its outcome is kept in ``cache``.
    Raises GuestError: that of the emulated guest when both stood still.
    """
    accelerator = select(settings.accelerator, cache=cache)
    try:
        return boot(accelerator)
    except GuestError as error:
        if settings.accelerator != "auto" or accelerator.name != "kvm" or error.details.get("kind") not in STANDSTILL:
            raise
        return _emulate(settings, cache, boot, error)


def _emulate(settings: GuestSettings, cache: Path | None, boot: Boot, before: GuestError) -> GuestRecord:
    # The first line has the time and the kind of failure, the rest is the console.
    told = str(before).splitlines()[0]
    try:
        accelerator = select("tcg")
    except ToolError as error:
        raise GuestError(f"{before}\nIt ran under KVM, which may be at fault, but it could not be tried without: {error}", **before.details) from error
    reason = f"KVM passed the probe, but a guest stood still under it and was emulated: {told}"
    try:
        record = boot(accelerator._replace(reason=reason))
    except ImageError as error:
        raise GuestError(f"{error}\nThe guest was emulated, because it had failed under KVM as well: {told}", **error.details) from error
    remember_failure(cache, f"KVM passed its probe, but the guest {settings.name} came up only when it was emulated.")
    return record
