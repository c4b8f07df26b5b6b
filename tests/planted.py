"""Secrets that are planted everywhere, a server that says them back in every form, and the search for what is left."""

from __future__ import annotations

import base64
import html
import itertools
import json
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

from servers import UNTIL_CLOSE, chunk, read_request, token

SECRETS = {
    "API_KEY": "zq7\"Lo'ng&Key<%/+=\\" + "Wd81kVbX" * 6,
    "SHORT": "Qx7-pLm9_Zt4",
    "COOKIE": "ck9vWq83TzLp5Rn2",
    "URL_KEY": "u9Rk2+Wm/7Xq=4Bd",
    "BODY_KEY": "b0dYs3cr3t.Hj6Fw",
    "LITERAL": "l1t3ralTok9nGs5v",
    "PROXY": "pr0xyPw-Kf4Jt8Zc",
}
"""By the name of the variable that holds them; LITERAL stands in the spec itself, PROXY in a proxy's url."""

WINDOW = 10
"""So many characters of a secret in a row are a leak: fewer may stay where a text was cut in its middle."""


def forms(secret: str) -> Iterator[bytes]:
    """Every piece by which a secret is found, in each form it may have been written in."""
    raw = secret.encode()
    texts = {
        secret, quote(secret, safe=""), quote(secret), quote(secret, safe="").lower(), json.dumps(secret)[1:-1],
        html.escape(secret), json.dumps(json.dumps(secret)[1:-1])[1:-1],
    }  # fmt: skip
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        core = coded[(0, 2, 3)[shift] : (shift + len(raw)) * 8 // 6]
        texts |= {core, core.replace("+", "-").replace("/", "_")}
    for text in texts:
        for at in range(len(text) - WINDOW + 1):
            yield text[at : at + WINDOW].encode()


NEEDLES = {name: frozenset(forms(secret)) for name, secret in SECRETS.items()}


def found_in(data: bytes) -> list[str]:
    """Which secrets, or pieces of them, stand in `data`."""
    told = []
    for name, needles in NEEDLES.items():
        piece = next((needle for needle in needles if needle in data), None)
        if piece is not None:
            at = data.index(piece)
            told.append(f"{name} as {piece!r} in ...{data[max(at - 80, 0) : at + 60]!r}")
    return told


def leaks(folder: Path, *but: str) -> list[str]:
    """Every file under `folder` that holds a piece of a secret, except the user's own (`but`)."""
    return [
        f"{path.relative_to(folder)}: {words}"
        for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in but
        for words in (*found_in(path.read_bytes()), *found_in(path.name.encode()))
    ]  # fmt: skip


WRITTEN: tuple[Callable[[str], str], ...] = (
    str, lambda s: quote(s, safe=""), lambda s: json.dumps(s)[1:-1], html.escape,
    lambda s: base64.b64encode(s.encode()).decode(), lambda s: base64.b64encode(b"user:" + s.encode()).decode(),
)  # fmt: skip
CUTS = (60, 80, 120, 200, 300, 2_048)
"""Where texts of others are cut short in this product: a secret is put across each."""


def sayings() -> Iterator[str]:
    """Texts with every secret in every form, whole and across every cut."""
    for write in WRITTEN:
        yield ", ".join(write(secret) for secret in SECRETS.values())
    for cut, (secret, write) in itertools.product(CUTS, itertools.product(SECRETS.values(), WRITTEN)):
        for inside in (7, len(write(secret)) - 3):
            yield "x " * ((cut - inside) // 2) + write(secret) + " behind"


class Echo:
    """Says planted secrets back, in the way that the path's first part names."""

    def __init__(self) -> None:
        self._said: dict[str, Iterator[str]] = {}
        self.seen: list[bytes] = []

    def __call__(self, conn: socket.socket) -> None:
        while head := read_request(conn):
            self.seen.append(head)
            path = head.split(b" ")[1]
            if path.startswith(b"http://"):  # asked as a proxy
                path = b"/" + path.split(b"/", 3)[3]
            way = path.split(b"/")[1].partition(b"?")[0].decode()
            if way not in self._said:
                self._said[way] = itertools.cycle(sayings())
            answer = getattr(self, f"_{way}")
            data = answer(next(self._said[way]))
            for part in data if isinstance(data, tuple) else (data,):
                conn.sendall(part)
                if isinstance(data, tuple):
                    import time

                    time.sleep(0.03)
            if b"content-length" not in (data[0] if isinstance(data, tuple) else data):
                return

    @staticmethod
    def _whole(status: str, body: bytes, kind: str = "application/json", more: str = "") -> bytes:
        head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{more}content-length: {len(body)}\r\n\r\n"
        return head.encode("latin-1", "replace") + body

    def _ok(self, said: str) -> bytes:
        events = token(said[:100]) + token(said[100:]) + token("", "stop")
        return self._whole("200 OK", events, "text/event-stream", f"x-request-id: {said}\r\nserver: {said}\r\n")

    def _auth(self, said: str) -> bytes:
        body = json.dumps({"error": {"message": f"Incorrect API key provided: {said}", "type": said}})
        return self._whole("401 Unauthorized", body.encode(), more=f"www-authenticate: {said}\r\n")

    def _proxied(self, said: str) -> bytes:
        """The proxy itself refuses its password, and says it."""
        more = f'proxy-authenticate: Basic realm="{said[:40]}"\r\n'
        return self._whole("407 Proxy Authentication Required", said.encode(), "text/plain", more)

    def _page(self, said: str) -> bytes:
        return self._whole("500 Oops", f"<html><body>{said}</body></html>".encode(), "text/html")

    def _plain(self, said: str) -> bytes:
        return self._whole("503 Busy", said.encode(), "text/plain", f"set-cookie: sid={said}\r\nvia: {said}\r\n")

    def _redirect(self, said: str) -> bytes:
        return self._whole("302 Found", b"", more=f"location: https://sso.example/login?next={said}\r\n")

    def _inband(self, said: str) -> bytes:
        error = b"data: " + json.dumps({"error": {"message": said, "code": said}}).encode() + b"\n\n"
        return self._whole("200 OK", token(said[:7]) + token(said[7:]) + error, "text/event-stream")

    def _notours(self, said: str) -> bytes:
        return self._whole("200 OK", said.encode(), "text/event-stream")

    def _reason(self, said: str) -> bytes:
        body = json.dumps({"model": said, "choices": [{"delta": {}, "finish_reason": said}]}).encode()
        return self._whole("200 OK", b"data: " + body + b"\n\n", "text/event-stream")

    def _garbage(self, said: str) -> bytes:
        return said.encode()

    def _broken(self, said: str) -> tuple[bytes, ...]:
        """A chunk, and then no chunk but a secret, cut in two by the reads."""
        half = len(said) // 2
        head = UNTIL_CLOSE.replace(b"connection: close", b"transfer-encoding: chunked")
        return head + chunk(token("a")) + b"1;" + said[:half].encode(), said[half:].encode() + b"\r\nzz\r\n"


WAYS = ("proxied", "ok", "auth", "page", "plain", "redirect", "inband", "notours", "reason", "garbage", "broken")


def processes(pids: Iterable[int]) -> Iterator[tuple[str, bytes, bytes]]:
    """(who, command line, environment) of processes that are still there."""
    for pid in pids:
        try:
            line, environ = (Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
        except OSError:
            continue
        yield f"{pid} {line!r}", line, environ
