# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show the progress of a download that runs on the controller while it runs; otherwise just run the module."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import typing as t
from pathlib import Path

from ansible.plugins.action import ActionBase

END = b"\0\n"


class ActionModule(ActionBase):
    """Give the module a named pipe for its progress and print what comes out of it."""

    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        with contextlib.ExitStack() as stack:
            if self._is_shown(arguments):
                arguments["progress_file"] = stack.enter_context(shown_lines(self._display.display))
            result: dict[str, t.Any] = self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=self._task.async_val)
        return result

    def _is_shown(self, arguments: dict[str, t.Any]) -> bool:
        here = self._connection.transport == "local" and not self._task.async_val and not self._task.no_log
        return here and bool(arguments.get("dest")) and not arguments.get("progress_file")


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
