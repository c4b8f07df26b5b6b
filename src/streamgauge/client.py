"""`StreamClient`: one stream from a script or a notebook, with all its stamps.

It is the same machine that the tests run on (kernel stamps, the same states, the same outcomes), without a plan: what
it measures can be compared with any report.

    from streamgauge import StreamClient

    with StreamClient("http://127.0.0.1:8080", dialect="openai-chat", model="gpt-4o-mini") as client:
        answer = client.ask("Why is the sky blue?", max_tokens=32)
        print(answer.outcome, answer.metric("ttft_ms"), answer.text)
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from streamgauge.clock import Clock, S, SystemClock
from streamgauge.dialects import DIALECTS
from streamgauge.errors import UsageError
from streamgauge.fault import NetError
from streamgauge.loop import Loop
from streamgauge.metrics import METRICS
from streamgauge.net import addresses_of
from streamgauge.plan import Shot
from streamgauge.proxies import UNIX, Proxy, from_environment, parse_proxy, secrets_of_proxy
from streamgauge.sample import Outcome, Sample
from streamgauge.secrets import Redactor, secrets_in_json, secrets_in_url, secrets_of
from streamgauge.stream import Limits, Stream, Trace
from streamgauge.target import Target, Tls, request_for

ENVIRONMENT = "environment"
"""The proxy that the environment names, where it does."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One ended stream: its Sample, and what a Sample does not keep."""

    sample: Sample
    text: str
    """All output in order: text, reasoning and tool calls."""
    events: list[Trace]
    """Every event with its time (ns), slack, type, data and what it brought (bits of dialects.contract)."""
    headers: dict[str, str]
    """All response headers, names in lower case."""
    tls: tuple[str, str] | None
    """(protocol, cipher) where TLS was spoken and the connection is still open."""
    body: bytes
    """The beginning of a body that was no stream of the dialect, at most 64 KB, as it came: it may hold secrets."""

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        return self.sample.outcome

    def metric(self, name: str) -> float | None:
        """One of the metrics that have a value a request (`streamgauge.metrics.METRICS`); None where not reached."""
        metric = METRICS.get(name)
        if metric is None or metric.value is None:
            known = ", ".join(m.name for m in METRICS.values() if m.value is not None)
            raise UsageError(f"{name!r} is no metric of one request; known: {known}")
        return metric.of(self.sample)


def target_from_url(
    url: str,
    *,
    dialect: str,
    name: str = "target",
    model: str | None = None,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    **more: object,
) -> Target:
    """A Target from a url; without a path the dialect's default is added. `more` are further fields of Target.

    `proxy` is a url, "none", or "environment" (the default): HTTPS_PROXY and the like, heeding NO_PROXY.
    """
    if dialect not in DIALECTS:
        raise UsageError(f"dialect {dialect!r} is not known; known: {', '.join(DIALECTS)}")
    shown = Redactor(secrets_in_url(url)).url(url)
    try:
        parts = urlsplit(url)
        unix = parts.scheme == UNIX
        port = None if unix else parts.port
    except ValueError as error:
        raise UsageError(f"url {shown!r}: {error}; it wants the form http://host:port/path") from None
    socket = unquote(parts.netloc) if unix else ""
    if (not socket.startswith("/")) if unix else (parts.scheme not in ("http", "https") or not parts.hostname):
        raise UsageError(
            f"url {shown!r} wants the form http://host:port/path, https://host/path or "
            "http+unix://%2Frun%2Fapp.sock/path"
        )
    path = DIALECTS[dialect].default_path if parts.path in ("", "/") else parts.path
    if parts.query:
        path += f"{'&' if '?' in path else '?'}{parts.query}"
    if not all("!" <= c <= "~" for c in path):
        raise UsageError(f"url {shown!r} holds a space or another character that must be percent-encoded (%20)")
    values: dict[str, object] = {
        "name": name,
        "scheme": "http" if unix else parts.scheme,
        "host": "localhost" if unix else parts.hostname,
        "port": port or (443 if parts.scheme == "https" else 80),
        "socket": socket,
        "path": path,
        "dialect": dialect,
        "model": model,
        "headers": _whole(headers),
        **more,
    }
    proxied = more.get("proxy", ENVIRONMENT)
    if socket:
        values["proxy"] = None
    elif isinstance(proxied, str):
        values["proxy"], values["proxy_note"] = _proxy(proxied, values)
    return msgspec.convert(values, Target)


def secrets_of_target(target: Target) -> tuple[str, ...]:
    """What is secret in a target by the names it stands under: headers, url, keys of the body, its proxy's password."""
    found = [secret for header in target.headers for secret in secrets_of(*header)]
    found += (*secrets_in_url(target.path), *secrets_in_json(target.body or ""), *secrets_in_json(target.extra))
    return tuple(dict.fromkeys([*found, *secrets_of_proxy(target.proxy)]))


def _proxy(wanted: str, values: Mapping[str, object]) -> tuple[Proxy | None, str | None]:
    """The proxy that `wanted` names: a url, "none", or what the environment says."""
    try:
        if wanted != ENVIRONMENT:
            return parse_proxy(wanted), None
        choice = from_environment(str(values["scheme"]), str(values["host"]), int(str(values["port"])), os.environ)
    except ValueError as error:
        raise UsageError(f"proxy: {error}") from None
    return choice.proxy, choice.why


def _whole(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Headers as a Target takes them. UsageError for one that would break the request."""
    pairs = tuple(headers.items() if isinstance(headers, Mapping) else headers)
    for name, value in pairs:
        if not name or not name.isprintable() or set(name) & set(" :") or not value.isprintable():
            raise UsageError(f"header {name!r} wants a name without spaces and a value without control characters")
    return pairs


class StreamClient:
    """Asks one target, one stream at a time, and keeps its connections alive in between.

    `headers` may hold secrets: they are taken out of every text that is kept. A failure of the target is an outcome of
    the Answer, never an exception; a wrong argument raises UsageError.
    """

    def __init__(
        self,
        url: str,
        *,
        dialect: str,
        model: str | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        tls: Tls | None = None,
        limits: Limits | None = None,
        clock: Clock | None = None,
        **more: Any,
    ) -> None:
        if tls is not None:
            more["tls"] = tls
        if limits is not None:
            more["limits"] = limits
        self._start(target_from_url(url, dialect=dialect, model=model, headers=headers, **more), clock)

    @classmethod
    def for_target(cls, target: Target, clock: Clock | None = None) -> StreamClient:
        """A client for a target that a spec describes."""
        client = cls.__new__(cls)
        client._start(target, clock)
        return client

    def _start(self, target: Target, clock: Clock | None) -> None:
        self.target = target
        self._clock = clock or SystemClock()
        self._redact = Redactor(secrets_of_target(target)).text
        self._ended: list[Stream] = []
        self._loop = Loop(self._clock, self._ended.append)
        self._asked = 0

    def __repr__(self) -> str:
        target = self.target
        return f"<StreamClient {target.scheme}://{target.authority}{target.path.partition('?')[0]} {target.dialect}>"

    def __enter__(self) -> StreamClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(
        self,
        prompt: str,
        *,
        max_tokens: int | None = None,
        headers: Mapping[str, str] | None = None,
        expect: str | None = None,
    ) -> Answer:
        """Send one prompt as it is (no mark is added) and follow the answer to its end.

        `headers` are added to the target's for this request; `expect` is a pattern the answer must match.
        """
        target = self._resolved()
        if max_tokens is not None:
            target = msgspec.structs.replace(target, max_tokens=max_tokens)
        if headers:
            target = msgspec.structs.replace(target, headers=(*target.headers, *_whole(headers)))
        dialect = target.speaks()
        now = self._clock.now()
        wall_s = self._clock.wall() // S
        stream = Stream(
            Shot(self._asked, target.name, "own", 0, "ask", 1, 0, now),
            f"{wall_s:08x}{os.urandom(12).hex()}",
            dialect,
            target.limits,
            max_tokens=target.max_tokens,
            expect=re.compile(expect) if expect else None,
            wall_s=wall_s,
            keep_text=True,
            keep_events=True,
        )
        self._asked += 1
        request = request_for(target, dialect, prompt, stream.id, os.urandom(8).hex())
        stream.on_start(now, 0)
        self._loop.fire(stream, target, request)
        while not self._ended:
            self._loop.turn(None)
        self._ended.clear()
        conn = self._loop.connection(stream.conn)
        return Answer(
            stream.sample(self._redact),
            stream.text,
            stream.events or [],
            dict(stream.response.headers),
            conn.tls_facts() if conn else None,
            stream.body,
        )

    def _resolved(self) -> Target:
        """The target with its addresses; a name that does not resolve leaves it without (outcome dns_error)."""
        if not self.target.addresses:
            try:
                found = addresses_of(self.target)
            except NetError:
                return self.target
            self.target = msgspec.structs.replace(self.target, addresses=found)
        return self.target

    def close(self) -> None:
        """Close the connections."""
        self._loop.close()
