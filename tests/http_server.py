"""A server on 127.0.0.1 that does to a download whatever a test asks for."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """One request; what answers it is a function of `Site.answers`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site: Site = self.server.site  # type: ignore[attr-defined]
        site.requests.append((self.path, dict(self.headers)))
        self.close_connection = True
        answer = site.answers.get(self.path, status(404))
        (answer.pop(0) if isinstance(answer, list) else answer)(self)

    def do_CONNECT(self) -> None:
        self.server.site.requests.append((self.path, dict(self.headers)))  # type: ignore[attr-defined]
        self.close_connection = True
        self.head(403)

    def head(self, code: int, **headers: Any) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


class Site:
    """What the server holds and what it was asked.

    A list of answers serves one request each. Paths that are not here answer 404.
    """

    def __init__(self, address: str):
        self.address = address
        self.answers: dict[str, Answer | list[Answer]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.released = threading.Event()  # ends what stalls


def whole(body: bytes, **headers: Any) -> Answer:
    """An honest answer, and to a Range request if it has an ETag that the client names."""

    def answer(handler: Handler) -> None:
        start, asked = 0, handler.headers.get("Range")
        if asked and headers.get("ETag") == handler.headers.get("If-Range"):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            span = f"bytes {start}-{len(body) - 1}/{len(body)}"
            handler.head(206, Content_Range=span, Content_Length=len(body) - start, **headers)
        else:
            handler.head(200, Content_Length=len(body), **headers)
        handler.wfile.write(body[start:])

    return answer


def raw(code: int, body: bytes, **headers: Any) -> Answer:
    """These headers and these bytes, then the connection is closed."""

    def answer(handler: Handler) -> None:
        handler.head(code, **headers)
        handler.wfile.write(body)

    return answer


def status(code: int) -> Answer:
    return raw(code, b"", Content_Length=0)


def redirect(target: str) -> Answer:
    return raw(302, b"", Location=target, Content_Length=0)


def chunked(*pieces: bytes, ends: bool = True) -> Answer:
    def answer(handler: Handler) -> None:
        handler.head(200, Transfer_Encoding="chunked")
        for piece in pieces:
            handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n" if ends else b"")

    return answer


def endless(handler: Handler) -> None:
    """Zeros, until the client has enough."""
    handler.head(200)
    while not handler.server.site.released.is_set():  # type: ignore[attr-defined]
        handler.wfile.write(bytes(1 << 16))


def stalling(body: bytes, **headers: Any) -> Answer:
    """Part of a body and then nothing, with the connection open."""

    def answer(handler: Handler) -> None:
        handler.head(200, **headers)
        handler.wfile.write(body)
        handler.wfile.flush()
        handler.server.site.released.wait(20)  # type: ignore[attr-defined]

    return answer


def silent(handler: Handler) -> None:
    """Nothing at all, with the connection open."""
    handler.server.site.released.wait(20)  # type: ignore[attr-defined]


@contextmanager
def serving(certificate: Path | None) -> Iterator[Site]:
    """A server, by https if it gets a certificate with its key."""
    server = _Server(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.context = context
    site = server.site = Site(f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield site
    finally:
        site.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    context: ssl.SSLContext | None = None
    site: Site

    def finish_request(self, request: Any, client_address: Any) -> None:
        if (
            self.context
        ):  # here and not on the listening socket: a handshake has a thread of its own
            request = self.context.wrap_socket(request, server_side=True)
        try:
            super().finish_request(request, client_address)
        finally:
            request.close()

    def handle_error(self, *args: object) -> None:
        """A client that goes away is what many tests are about."""
