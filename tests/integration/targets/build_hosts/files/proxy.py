# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A proxy that logs what it is asked for, to the file named as the first argument; it prints its port."""

from __future__ import annotations

import http.server
import sys
import urllib.error
import urllib.request
from pathlib import Path


class Handler(http.server.BaseHTTPRequestHandler):
    """Fetches what a client asks for."""

    def do_GET(self) -> None:
        """Answer with what the server says."""
        with Path(sys.argv[1]).open("a", encoding="utf-8") as log:
            log.write(f"{self.path}\n")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(self.path, timeout=30) as answer:
                status, body = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, body = error.code, b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
