# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start a program, press Ctrl-C when a file has some text, and print how many seconds later it had ended: interrupt.py FILE TEXT PROGRAM …"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

APPEAR_SECONDS = 180
# Python drops a KeyboardInterrupt that comes while it runs a destructor, so Ctrl-C is pressed again, as people do.
AGAIN_SECONDS = 10
END_SECONDS = 60


def main() -> None:
    path, text, *command = sys.argv[1:]
    # A signal that is ignored here would be ignored by the program as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=sys.stderr) as program:
        deadline = time.monotonic() + APPEAR_SECONDS
        while not (Path(path).exists() and text in Path(path).read_text(encoding="utf-8")):
            if time.monotonic() > deadline or program.poll() is not None:
                sys.exit(f"{path} does not have the text {text}.")
            time.sleep(0.1)
        pressed = time.monotonic()
        while program.returncode is None:
            if time.monotonic() > pressed + END_SECONDS:
                os.killpg(program.pid, signal.SIGKILL)
                sys.exit(f"The program still ran {END_SECONDS} seconds after the first Ctrl-C.")
            os.killpg(program.pid, signal.SIGINT)
            try:
                program.wait(AGAIN_SECONDS)
            except subprocess.TimeoutExpired:
                print(f"Ctrl-C had no effect within {AGAIN_SECONDS} seconds and is pressed again.", file=sys.stderr)
        print(f"{time.monotonic() - pressed:.1f}")


if __name__ == "__main__":
    main()
