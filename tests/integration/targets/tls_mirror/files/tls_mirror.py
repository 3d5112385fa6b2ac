# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A package mirror on the loopback interface that talks TLS and asks for a certificate; it prints its port.

Arguments: a folder with server.pem, server.key and ca.pem, a log of what was asked for and by whom, and the address of the mirror behind it.
"""

from __future__ import annotations

import http.server
import shutil
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

FOLDER, LOG, BEHIND = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]


class Handler(http.server.BaseHTTPRequestHandler):
    """Fetches what a client with a certificate asks for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with what the mirror says."""
        who = dict(part[0] for part in self.connection.getpeercert()["subject"])["commonName"]
        with LOG.open("a", encoding="utf-8") as log:
            log.write(f"{who} {self.path}\n")
        try:
            with urllib.request.urlopen(f"{BEHIND}{self.path}", timeout=60) as answer:
                self.send_response(answer.status)
                self.send_header("Content-Length", answer.headers["Content-Length"])
                self.end_headers()
                shutil.copyfileobj(answer, self.wfile)
        except urllib.error.HTTPError as error:
            self.send_response(error.code)
            self.send_header("Content-Length", "0")
            self.end_headers()


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(FOLDER / "ca.pem"))
context.verify_mode = ssl.CERT_REQUIRED
context.load_cert_chain(FOLDER / "server.pem", FOLDER / "server.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
