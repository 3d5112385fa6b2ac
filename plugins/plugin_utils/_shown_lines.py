# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this plugin util is private to the hyperscaler.images collection.
"""Show lines of a module that runs on the controller while it runs."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import typing as t
from pathlib import Path

END = b"\0\n"


@contextlib.contextmanager
def shown_lines(show: t.Callable[[str], t.Any]) -> t.Iterator[str]:
    """Yield the path of a named pipe; each line that is written to it is shown at once."""
    with tempfile.TemporaryDirectory(prefix="ansible-progress-") as folder:
        path = Path(folder, "progress")
        os.mkfifo(path, 0o600)
        # Open for writing too: so the reader waits for the next line instead of seeing an end, and we can end it.
        with open(os.open(path, os.O_RDWR | os.O_CLOEXEC), "rb", buffering=0) as stream:  # noqa: PTH123
            reader = threading.Thread(target=_show_until_end, args=(stream, show), daemon=True)
            reader.start()
            try:
                yield str(path)
            finally:
                os.write(stream.fileno(), END)
                reader.join()


def _show_until_end(stream: t.BinaryIO, show: t.Callable[[str], t.Any]) -> None:
    for line in iter(stream.readline, END):
        show(line.decode("utf-8", errors="replace").rstrip("\n"))
