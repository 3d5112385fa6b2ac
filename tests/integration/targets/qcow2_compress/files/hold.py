# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep a file open for writing until a second file, which is made when it is open, is removed."""

from __future__ import annotations

import sys
import time
from pathlib import Path

held, signal = Path(sys.argv[1]), Path(sys.argv[2])
with held.open("r+b"):
    signal.touch()
    while signal.exists():
        time.sleep(0.05)
