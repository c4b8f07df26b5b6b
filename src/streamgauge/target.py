"""Who is asked and how: a `Target` as plain values, and the bytes of one request to it."""

from __future__ import annotations

import msgspec

from streamgauge import __version__
from streamgauge.dialects import DIALECTS, with_options
from streamgauge.dialects.contract import Ask, Dialect
from streamgauge.http1 import LENGTH, request_head
from streamgauge.stream import Limits

_TRACE, _AMAZON = "\0trace", "\0amazon"  # what differs from request to request


class Tls(msgspec.Struct, frozen=True):
    """How TLS is spoken: file names of an own CA and of a client certificate; `verify` off is said in the report."""

    verify: bool = True
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint and what to ask of it. `addresses` are (IP, port), used in turn; empty: the name did not resolve."""

    name: str
    scheme: str
    host: str
    port: int
    path: str
    dialect: str
    addresses: tuple[tuple[str, int], ...] = ()
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

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """The Host header's value."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    def speaks(self) -> Dialect:
        """The dialect with this target's options."""
        return with_options(self.dialect, self.options) if self.options else DIALECTS[self.dialect]


def request_for(target: Target, dialect: Dialect, prompt: str, trace_id: str, span_id: str) -> bytes:
    """The whole request for `prompt`. The target's own headers win over ours.

    One id names the request everywhere: W3C traceparent, and X-Amzn-Trace-Id whose first 8 digits are epoch seconds.
    """
    asked = dialect.request(
        target.path,
        Ask(
            prompt=prompt,
            model=target.model,
            max_tokens=target.max_tokens,
            include_usage=target.include_usage,
            body=target.body,
            extra=target.extra,
            system=target.system,
        ),
    )
    headers = (
        ("Host", target.authority),
        ("User-Agent", f"streamgauge/{__version__}"),
        ("Accept", ", ".join(dialect.content_types) or "text/event-stream"),
        ("Accept-Encoding", "identity"),
        ("traceparent", _TRACE),
        ("X-Amzn-Trace-Id", _AMAZON),
        *asked.headers,
        *target.headers,
    )
    head = request_head(asked.method, asked.path, headers)
    head = head.replace(_TRACE, f"00-{trace_id}-{span_id}-01")
    head = head.replace(_AMAZON, f"Root=1-{trace_id[:8]}-{trace_id[8:]};Parent={span_id};Sampled=1")
    return head.replace(LENGTH, str(len(asked.body))).encode("latin-1", "replace") + asked.body
