# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Set a bit of the incompatible features in the header of a qcow2 file: 0 is dirty, 1 is corrupt."""

from __future__ import annotations

import sys
from pathlib import Path

LAST_BYTE_OF_FEATURES = 79

path, bit = Path(sys.argv[1]), int(sys.argv[2])
data = bytearray(path.read_bytes())
data[LAST_BYTE_OF_FEATURES] |= 1 << bit
path.write_bytes(data)
