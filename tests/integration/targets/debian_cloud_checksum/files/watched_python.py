# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand in for the Python interpreter of a module.

WATCHED_PYTHON is the interpreter to run. WATCHED_MEMORY is a file that gets its peak resident memory in KiB.
With WATCHED_FOLDER it is killed as soon as a part file in this folder has more than 1 MiB.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

child = subprocess.Popen([os.environ["WATCHED_PYTHON"], *sys.argv[1:]])
while True:
    try:
        child.wait(timeout=0.05)
        break
    except subprocess.TimeoutExpired:
        if "WATCHED_FOLDER" in os.environ and any(part.stat().st_size > 1 << 20 for part in Path(os.environ["WATCHED_FOLDER"]).glob(".*.part")):
            child.kill()
if "WATCHED_MEMORY" in os.environ:
    Path(os.environ["WATCHED_MEMORY"]).write_text(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss), encoding="utf-8")
sys.exit(child.returncode % 256)
