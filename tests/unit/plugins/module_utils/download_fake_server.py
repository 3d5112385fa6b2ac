# SPDX-FileCopyrightText: hyperscaler.images contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A web server without a network: answers that a test prescribes, in the shape that requests gives them."""

from __future__ import annotations

import typing as t

import requests
from requests.structures import CaseInsensitiveDict

Piece = t.Union[bytes, BaseException]
Answer = t.Union["Response", BaseException]


class Raw:
    """The stream of a response: gives one piece for each read, and raises those that are errors."""

    def __init__(self, pieces: t.Iterable[Piece], clock: Clock | None = None) -> None:
        self._pieces = iter(pieces)
        self._clock = clock

    def read1(self, _size: int, decode_content: bool) -> bytes:
        assert decode_content is False
        if self._clock is not None:
            self._clock.now += self._clock.step
        piece = next(self._pieces, b"")
        if isinstance(piece, BaseException):
            raise piece
        return piece


class OldResponse:
    """The part of http.client.HTTPResponse that is used."""

    def __init__(self, pieces: t.Iterable[Piece]) -> None:
        self._pieces = iter(pieces)

    def read1(self, _size: int) -> bytes:
        piece = next(self._pieces, b"")
        if isinstance(piece, BaseException):
            raise piece
        return piece


class OldRaw:
    """The stream of urllib3 before 2.1, which has no read1 but the response of the standard library below it."""

    def __init__(self, *pieces: Piece) -> None:
        self._original_response = OldResponse(pieces)


class Clock:
    """Stands in for the time module; each piece that is read takes ``step`` seconds."""

    def __init__(self, step: float) -> None:
        self.now = 1000.0
        self.step = step

    def monotonic(self) -> float:
        return self.now


class Response:
    """The part of requests.Response that is used."""

    def __init__(self, status: int = 200, pieces: t.Iterable[Piece] = (), headers: dict[str, str] | None = None, reason: str = "", raw: t.Any = None) -> None:
        self.status_code = status
        self.reason = reason
        self.headers = CaseInsensitiveDict(headers or {})
        self.raw = raw or Raw(pieces)
        self.url = ""
        self.closed = False

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class Request(t.NamedTuple):
    url: str
    headers: dict[str, str]
    options: dict[str, t.Any]


class Server:
    """Gives the prescribed answers one after the other and remembers the requests."""

    def __init__(self, *answers: Answer | t.Callable[[Request], Answer]) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.given: list[Response] = []

    def get(self, _session: requests.Session, url: str, headers: dict[str, str], **options: t.Any) -> Response:
        request = Request(url, dict(headers), options)
        self.requests.append(request)
        answer = self.answers.pop(0)
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, BaseException):
            raise answer
        answer.url = url
        self.given.append(answer)
        return answer

    @property
    def ranges(self) -> list[str | None]:
        return [request.headers.get("Range") for request in self.requests]
