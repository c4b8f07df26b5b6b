"""Who is asked and how: a `Target` as plain values, and the bytes of one request to it.

Rules: `request_for` says what a request is. `Requests` gives the same bytes sooner, for the way from due to sent: it
has one made with marks in place of prompt and ids, and where the marks are all that a second one differs in, later
requests are that one with the marks replaced. Bodies with fresh ids of their own are made anew each time.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import replace

import msgspec

from streamgauge import __version__
from streamgauge.chat import Chat
from streamgauge.dialects import DIALECTS, with_options
from streamgauge.dialects.contract import Ask, Dialect
from streamgauge.dialects.template import json_text
from streamgauge.http1 import request_bytes
from streamgauge.proxies import Proxy
from streamgauge.stream import Limits

Address = tuple[str, int]
"""(IP, port), or (path, 0) for a Unix socket."""
AGENT = f"streamgauge/{__version__}"


class Tls(msgspec.Struct, frozen=True):
    """How TLS is spoken: file names of an own CA and of a client certificate; `verify` off is said in the report."""

    verify: bool = True
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None
    resume: bool = True
    """Whether a new connection may take up an earlier one's session."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint and what to ask of it.

    `addresses` are where to connect, used in turn: the proxy's where there is one. Empty: the name did not resolve.
    """

    name: str
    scheme: str
    host: str
    port: int
    path: str
    dialect: str
    addresses: tuple[Address, ...] = ()
    socket: str = ""
    """Path of the Unix socket it listens on, in place of the network."""
    proxy: Proxy | None = None
    proxy_note: str | None = None
    """Why a proxy that the environment names is or is not used."""
    options: dict[str, object] = {}
    model: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None
    extra: dict[str, object] = {}
    system: str | None = None
    max_tokens: int | None = None
    include_usage: bool = True
    unique: bool = True
    """Whether each prompt gets its own mark, so that no cache can know it."""
    tls: Tls = Tls()
    expect: str | None = None
    limits: Limits = Limits()
    rpm: float | None = None
    """At most so many requests a minute are started to it, over all workers."""
    control: bool = False
    """Whether it only stands in for another target by a shorter way: counted in cost, not in the verdict."""

    def __repr__(self) -> str:
        """Nothing that may be secret: a traceback of somebody's tool may show it."""
        return f"<Target {self.name} {self.scheme}://{self.authority}{self.path.partition('?')[0]} {self.dialect}>"

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """The Host header's value."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port as one url has them."""
        return f"{self.scheme}://{self.authority}"

    def speaks(self) -> Dialect:
        """The dialect with this target's options."""
        return with_options(self.dialect, self.options) if self.options else DIALECTS[self.dialect]


def request_for(
    target: Target, dialect: Dialect, prompt: str, trace_id: str, span_id: str, chat: Chat | None = None
) -> bytes:
    """The whole request for `prompt`, as the next turn of `chat` where there is one. The target's own headers win.

    A proxy that is asked for an http url itself gets the whole url and its own credentials (RFC 9112 3.2.2).
    One id names the request everywhere: W3C traceparent, and X-Amzn-Trace-Id whose first 8 digits are epoch seconds.
    """
    ask = Ask(
        prompt=prompt,
        model=target.model,
        max_tokens=target.max_tokens,
        include_usage=target.include_usage,
        body=target.body,
        extra=target.extra,
        system=target.system,
    )
    if chat is not None:
        ask = replace(ask, before=chat.before, chat_id=chat.id)
    asked = dialect.request(target.path, ask)
    headers = (
        ("Host", target.authority),
        ("User-Agent", AGENT),
        ("Accept", ", ".join(dialect.content_types) or "text/event-stream"),
        ("Accept-Encoding", "identity"),
        ("traceparent", f"00-{trace_id}-{span_id}-01"),
        ("X-Amzn-Trace-Id", f"Root=1-{trace_id[:8]}-{trace_id[8:]};Parent={span_id};Sampled=1"),
        *asked.headers,
        *target.headers,
    )
    proxy = target.proxy if not target.secure else None
    if proxy is None:
        return request_bytes(asked.method, asked.path, headers, asked.body)
    if proxy.authorization is not None:
        headers += (("Proxy-Authorization", proxy.authorization),)
    return request_bytes(asked.method, target.origin + asked.path, headers, asked.body)


class Requests:
    """The requests to one target: what is the same in all of them is made once."""

    __slots__ = ("_dialect", "_frame", "target")

    def __init__(self, target: Target, dialect: Dialect) -> None:
        self.target, self._dialect = target, dialect
        self._frame = _frame(target, dialect)

    def __repr__(self) -> str:
        return f"Requests({self.target.name!r}, {'each anew' if self._frame is None else 'framed'})"

    def make(self, prompt: str, trace_id: str, span_id: str, chat: Chat | None = None) -> bytes:
        """What `request_for` gives, byte for byte."""
        if self._frame is None or chat is not None:
            return request_for(self.target, self._dialect, prompt, trace_id, span_id, chat)
        head, before, after = self._frame
        text = json_text(prompt).encode("utf-8", "replace")
        filled = head % {
            "trace": trace_id, "root": trace_id[:8], "rest": trace_id[8:], "span": span_id,
            "length": len(before) + len(text) + len(after),
        }  # fmt: skip
        return b"".join((filled.encode("latin-1", "replace"), before, text, after))


def _frame(target: Target, dialect: Dialect) -> tuple[str, bytes, bytes] | None:
    """(head with named places, body before and after the prompt) of every request; None where more than that changes.

    Told by two requests that differ in their marks alone: each must be the frame with its own marks put in.
    """
    made = []
    for _ in range(2):
        prompt, trace, span = f"mark-{secrets.token_hex(8)}", secrets.token_hex(16), secrets.token_hex(8)
        whole = request_for(target, dialect, prompt, trace, span)
        head, _, body = whole.partition(b"\r\n\r\n")
        parts = body.split(prompt.encode())
        text = head.decode("latin-1").replace("%", "%%") + "\r\n\r\n"
        for mark, place in ((trace, "trace"), (f"{trace[:8]}-{trace[8:]}", "root)s-%(rest"), (span, "span")):
            text = text.replace(mark, f"%({place})s")
        text, lengths = re.subn(r"\r\nContent-Length: \d+", "\r\nContent-Length: %(length)d", text)
        if len(parts) != 2 or lengths != 1 or prompt in text:
            return None
        made.append((text, parts[0], parts[1]))
    first, second = made
    return first if first == second else None
