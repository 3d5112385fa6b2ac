# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure a verified download against curl followed by sha512sum, in one run, from a server on this machine.

The collection has to be importable: PYTHONPATH=.venv/collections python tests/benchmarks/download.py --json result.json
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import http.server
import json
import os
import tempfile
import threading
import time
import typing as t
from pathlib import Path

from ansible_collections.hyperscaler.images.plugins.module_utils._command import Command
from ansible_collections.hyperscaler.images.plugins.module_utils._download import download


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serve a folder in silence."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        del format, args


def make_file(path: Path, megabytes: int) -> str:
    """Write random data and return its sha512."""
    digest = hashlib.sha512()
    with path.open("wb") as out:
        for _count in range(megabytes):
            chunk = os.urandom(1 << 20)
            digest.update(chunk)
            out.write(chunk)
    return digest.hexdigest()


def seconds(run: t.Callable[[], object], output: Path, runs: int) -> float:
    """The best time of several runs, each without the output of the one before."""
    times = []
    for _count in range(runs):
        output.unlink(missing_ok=True)
        started = time.monotonic()
        run()
        times.append(time.monotonic() - started)
    output.unlink(missing_ok=True)
    return min(times)


def measure(folder: Path, megabytes: int, runs: int) -> dict[str, t.Any]:
    """Both ways, one after the other."""
    digest = make_file(folder / "file", megabytes)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url, output = f"http://127.0.0.1:{server.server_port}/file", folder / "output"
    curl, sums = Command("curl", reason="measure", package="curl"), Command("sha512sum", reason="measure", package="coreutils")

    def plain() -> None:
        curl.run("--silent", "--fail", "--output", output, url, attempt=f"fetch {url}")
        sums.run("--check", "--quiet", "-", attempt=f"verify {output}", stdin=f"{digest}  {output}\n".encode())

    try:
        ours = seconds(lambda: download(url, output, digest), output, runs)
        theirs = seconds(plain, output, runs)
    finally:
        server.shutdown()
        server.server_close()
    return {"megabytes": megabytes, "download_seconds": round(ours, 2), "curl_and_sha512sum_seconds": round(theirs, 2), "ratio": round(ours / theirs, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--runs", type=int, default=3, help="how often each way is run; the best counts (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hyperscaler-bench-") as folder:
        result = measure(Path(folder), options.megabytes, options.runs)
    print(f"{result['megabytes']} MiB, verified download {result['download_seconds']} s")
    print(f"{result['megabytes']} MiB, curl and sha512sum {result['curl_and_sha512sum_seconds']} s")
    print(f"ratio {result['ratio']} (less is better)")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
