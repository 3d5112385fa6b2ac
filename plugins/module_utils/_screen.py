# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is private to the hyperscaler.images collection.
"""Read the screen of a virtual machine: firmware and boot loader write there, and not to the serial port."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._qmp import Qmp, QmpError
from ansible_collections.hyperscaler.images.plugins.module_utils._serial_log import SCREEN_ADDRESS, SCREEN_BYTES, screen_text


def read_screen(monitor: Path, copy: Path) -> str:
    """The text on the screen of the QEMU whose QMP socket is ``monitor``; an empty text when there is none or no QEMU answers.

    QEMU writes a copy of the text memory to ``copy``.
    """
    try:
        with Qmp(monitor) as qmp:
            qmp.execute("pmemsave", val=SCREEN_ADDRESS, size=SCREEN_BYTES, filename=str(copy))
        return screen_text(copy.read_bytes())
    except (QmpError, OSError):
        return ""
