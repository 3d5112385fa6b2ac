# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve a folder on 127.0.0.1 and misbehave on request: mirror_server.py FOLDER [CERTIFICATE KEY].

The first part of a path chooses the behaviour: /plain/…, /truncate/…, /stall/… and so on, see ``Handler.behave``. It applies to images;
the behaviours that start with ``sums_`` apply to SHA512SUMS. /requests tells what was asked for since the last /forget; /quit ends the server.
The server goes to the background and prints its ports as JSON when it is ready.
"""

from __future__ import annotations

import collections
import json
import os
import re
import ssl
import sys
import threading
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PIECE = 1 << 16
SHARE = 3 << 20
HTML = b"<!DOCTYPE html><html><body>Please log in</body></html>\n"


def damage_sums(kind: str, data: bytes) -> bytes:
    first = data.split(b"\n")[0]
    return {
        "sums_empty": b"",
        "sums_missing": b"".join(line + b"\n" for line in data.splitlines() if b"qcow2" not in line),
        "sums_html": HTML,
        "sums_huge": data * 4000,
        "sums_other": re.sub(rb"^[0-9a-f]", b"e" if first[:1] != b"e" else b"f", data, flags=re.MULTILINE),
    }[kind]


class State:
    """What all connections share."""

    root: Path
    asked: t.ClassVar[list[dict[str, str]]] = []
    seen: t.ClassVar[collections.Counter[str]] = collections.Counter()
    ending = threading.Event()
    ports: t.ClassVar[dict[str, int]] = {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: t.Any) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        if self.path in ("/requests", "/forget", "/quit"):
            self.control()
            return
        kind, _separator, relative = self.path.lstrip("/").partition("/")
        State.asked.append({"path": "/" + relative, "range": self.headers.get("Range", ""), "if_range": self.headers.get("If-Range", "")})
        State.seen[self.path] += 1
        path = State.root / relative
        if kind.startswith("sums_") and path.name == "SHA512SUMS":
            self.reply(200, damage_sums(kind, path.read_bytes()))
        elif kind == "manifest_lies" and path.name == "SHA512SUMS":
            self.reply(200, damage_sums("sums_other", path.read_bytes()))
        elif not path.is_file():
            self.reply(404, b"not here\n")
        elif path.suffix in (".qcow2", ".raw") or kind.startswith("all_"):
            self.behave(kind.removeprefix("all_"), path, State.seen[self.path] == 1)
        else:
            self.send_file(path)

    def control(self) -> None:
        answer = json.dumps(State.asked).encode()
        if self.path == "/forget":
            State.asked.clear()
            State.seen.clear()
        self.reply(200, answer, {"Content-Type": "application/json"})
        if self.path == "/quit":
            State.ending.set()

    def behave(self, kind: str, path: Path, first: bool) -> None:
        """One kind of behaviour for each name; ``first`` is the first request for this address."""
        simple = {
            "html": lambda: self.reply(200, HTML, {"Content-Type": "text/html; charset=utf-8"}),
            "forbidden": lambda: self.reply(403, b"no\n"),
            "broken": lambda: self.reply(500, b"no\n"),
            "busy": lambda: self.reply(503, b"later\n", {"Retry-After": "1"}) if first else self.send_file(path),
            "to_https": lambda: self.redirect(f"https://localhost:{State.ports.get('https')}/plain/"),
            "to_http": lambda: self.redirect(f"http://127.0.0.1:{State.ports['http']}/plain/"),
            "to_file": lambda: self.redirect(f"file://{State.root}/"),
            "to_ftp": lambda: self.redirect("ftp://127.0.0.1/"),
            "loop": lambda: self.redirect("/loop/"),
            "lie": lambda: self.send_file(path, change=True),
            "lie_once": lambda: self.send_file(path, change=first, stop=SHARE if first else None),
            "truncate": lambda: self.send_file(path, stop=SHARE),
            "truncate_once": lambda: self.send_file(path, stop=SHARE if first else None),
            "nothing": lambda: self.send_file(path, stop=0),
            "stall": lambda: self.send_file(path, stop=SHARE, then=self.hang),
            "stall_once": lambda: self.send_file(path, stop=SHARE if first else None, then=self.hang),
            "drip": lambda: self.send_file(path, stop=SHARE, then=self.drip),
            "norange": lambda: self.send_file(path, stop=SHARE if first else None, ranges=False),
            "badrange": lambda: self.send_file(path, stop=SHARE if first else None, shift=17),
            "norange_416": lambda: self.send_file(path) if "Range" not in self.headers else self.reply(416, b"", {"Content-Range": "bytes */5"}),
            "short_length": lambda: self.send_file(path, length=SHARE),
            "slow": lambda: self.send_file(path, pause=0.05),
            "plain": lambda: self.send_file(path),
        }
        simple.get(kind, lambda: self.send_file(path))()

    def redirect(self, prefix: str) -> None:
        self.reply(302, b"", {"Location": prefix + self.path.lstrip("/").partition("/")[2]})

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def hang(self, _stream: t.BinaryIO) -> None:
        State.ending.wait(30)

    def drip(self, stream: t.BinaryIO) -> None:
        while not State.ending.wait(0.3):
            self.wfile.write(stream.read(1))

    def send_file(
        self,
        path: Path,
        *,
        stop: int | None = None,
        then: t.Callable[[t.BinaryIO], None] | None = None,
        change: bool = False,
        ranges: bool = True,
        shift: int = 0,
        length: int | None = None,
        pause: float = 0,
    ) -> None:
        """Send the range asked for; ``stop`` ends the connection after so many bytes, after calling ``then``."""
        size = path.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if ranges else None
        start = int(asked.group(1)) if asked else 0
        if start >= size:
            self.reply(416, b"", {"Content-Range": f"bytes */{size}"})
            return
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start + shift}-{size - 1}/{size}")
        self.send_header("Content-Length", str(length or size - start))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("ETag", f'"{path.name}"')
        self.end_headers()
        with path.open("rb") as stream:
            stream.seek(start)
            left = min(size - start, length or size, size if stop is None else stop)
            while left > 0:
                piece = stream.read(min(PIECE, left))
                left -= len(piece)
                self.wfile.write(piece[:-1] + b"\0" if change else piece)
                if pause:
                    State.ending.wait(pause)
            if stop is not None and then:
                self.wfile.flush()
                then(stream)
        self.close_connection = stop is not None


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *arguments: t.Any) -> None:
        """A client that goes away is part of the test."""


def main() -> None:
    State.root = Path(sys.argv[1])
    servers = {"http": Server(("127.0.0.1", 0), Handler)}
    if len(sys.argv) > 2:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[2], sys.argv[3])
        servers["https"] = Server(("127.0.0.1", 0), Handler)
        servers["https"].socket = context.wrap_socket(servers["https"].socket, server_side=True, do_handshake_on_connect=False)
    State.ports.update({name: server.server_address[1] for name, server in servers.items()})
    if os.fork():
        print(json.dumps(State.ports), flush=True)
        os._exit(0)
    os.setsid()
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(quiet, stream)
    for server in servers.values():
        threading.Thread(target=server.serve_forever, daemon=True).start()
    State.ending.wait(1800)


if __name__ == "__main__":
    main()
