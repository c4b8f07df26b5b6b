"""What is said to a proxy before a target can be spoken to through it: CONNECT, and its answer (RFC 9110 9.3.6). Pure.

Rules: what a proxy refuses is no answer of the service, and the words say that it was the proxy. 401, 403 and 407 are
`auth_error` (the proxy does not let us), 504 is `connect_timeout` and every other refusal `unreachable` (it could not,
or would not, go on to the target); an answer that is no HTTP is `protocol_error`, none at all `dropped`.
"""

from __future__ import annotations

import re

from streamgauge.fault import NetError
from streamgauge.proxies import Proxy
from streamgauge.sample import Outcome

REPLY_CAP = 64 * 1024
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})(?: ([^\r\n]*))?\r?\n")
_END = re.compile(rb"\r?\n\r?\n")
_ASKS = re.compile(rb"\nproxy-authenticate:[ \t]*([^\s,]+)", re.I)
_SQUID = re.compile(rb"\nx-squid-error:[ \t]*([A-Z_]+)", re.I)


def authority(host: str, port: int) -> str:
    """`host:port` as CONNECT names it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def connect_request(proxy: Proxy, host: str, port: int, agent: str) -> bytes:
    """The request that opens a way to host:port."""
    place = authority(host, port)
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}", f"User-Agent: {agent}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


class Reply:
    """A proxy's answer to CONNECT as it comes in."""

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self._asked = f"CONNECT {authority(host, port)}"
        self._by = f"the proxy {proxy.shown}"
        self._with_credentials = proxy.authorization is not None
        self._seen = b""

    @property
    def awaited(self) -> str:
        """What is missing as long as it has not come."""
        return f"answer of {self._by} to {self._asked}"

    def feed(self, data: bytes) -> bytes | None:
        """None while the answer is not whole; then the way is open, and what came behind it is given.

        NetError when it was refused, is no HTTP, or never ends.
        """
        self._seen += data
        while end := _END.search(self._seen):
            head, rest = self._seen[: end.end()], self._seen[end.end() :]
            status = _STATUS.match(head)
            if status is None:
                break
            if status[1].startswith(b"2"):
                return rest
            if not status[1].startswith(b"1"):
                raise self._refused(int(status[1]), _printable(status[2] or b""), head)
            self._seen = rest
        if not b"HTTP/1.".startswith(self._seen[:7]) or len(self._seen) > REPLY_CAP or end:
            begins = _printable(self._seen[:60])
            raise NetError(Outcome.PROTOCOL_ERROR, f"{self._by} answered {self._asked} with no HTTP/1.1: {begins!r}")
        return None

    def lost(self, words: str) -> NetError:
        """What it means that the connection ended before the answer was whole."""
        return NetError(Outcome.DROPPED, f"{self._by}: {words} instead of an answer to {self._asked}")

    def _refused(self, status: int, reason: str, head: bytes) -> NetError:
        outcome = {
            401: Outcome.AUTH_ERROR,
            403: Outcome.AUTH_ERROR,
            407: Outcome.AUTH_ERROR,
            504: Outcome.CONNECT_TIMEOUT,
        }.get(status, Outcome.UNREACHABLE)
        words = f"{self._by} refused {self._asked}: {status} {reason}".rstrip()
        squid = _SQUID.search(head)
        if squid is not None:
            words += f" ({squid[1].decode()})"
        if status == 407:
            asks = _ASKS.search(head)
            words += f"; it asks for {_printable(asks[1])}" if asks else ""
            words += ", and did not take the credentials" if self._with_credentials else ", and none were given"
        return NetError(outcome, words)


def _printable(data: bytes) -> str:
    return "".join(c if c.isprintable() else " " for c in data.decode("latin-1"))[:200].strip()
