"""A small real server of pages that a JSON probe may meet."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Pages:
    """What is answered, and what was asked."""

    answer: Callable[[str], tuple[int, str, bytes]]
    """path -> status, content type, body."""
    port: int = 0
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    """method, path, headers (names in lower case), body."""
    pause_s: float = 0.0

    @property
    def url(self) -> str:
        """Its origin."""
        return f"http://127.0.0.1:{self.port}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that leaves early is what some tests are about."""


@contextmanager
def serving(answer: Callable[[str], tuple[int, str, bytes]]) -> Iterator[Pages]:
    """A server that answers by `answer` while the block runs."""
    pages = Pages(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            pages.asked.append((self.command, self.path, headers, self.rfile.read(length)))
            status, kind, body = pages.answer(self.path)
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            if 300 <= status < 400:
                self.send_header("location", "/login?next=secret")
            self.end_headers()
            for begin in range(0, len(body), 65_536):
                self.wfile.write(body[begin : begin + 65_536])
                time.sleep(pages.pause_s)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    with _Server(("127.0.0.1", 0), Handler) as server:
        pages.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield pages
        finally:
            server.shutdown()


def as_json(value: object) -> tuple[int, str, bytes]:
    """A good answer."""
    return 200, "application/json", json.dumps(value).encode()
