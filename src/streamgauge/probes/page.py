"""The kind `json`: a page of the service (or beside it) that tells its memory as JSON over HTTP(S).

Strategy: one request on a fresh connection, so that a load balancer may send it to any instance; the way there is the
targets' (proxy, TLS, Unix socket). The whole asking has one time-out, the answer is at most MOST bytes, and redirects
are not followed: a token goes only where the spec sends it.

Where the answer tells its own time and that stood still, a cache answered and it is no reading.
"""

from __future__ import annotations

import msgspec

from streamgauge.clock import Clock, S
from streamgauge.fault import NetError, net_error
from streamgauge.http1 import FramingError, Response, request_bytes
from streamgauge.line import Line
from streamgauge.net import addresses_of
from streamgauge.probes.contract import Ask, Asking, Gauges, OfJson, ProbeError
from streamgauge.probes.lives import Lives
from streamgauge.probes.places import gauges_in, keys_of, read
from streamgauge.target import AGENT, Target

MOST = 1 << 20
MOST_PIDS, LONGEST_S = 2.0**32, 3e9
OLD_NS = 2 * S
"""A server's time that stood still for longer is not its time any more."""


def page(source: OfJson, clock: Clock) -> Ask:
    """A probe of `source`."""
    return _Page(source, clock).ask


class _Page:
    """What was known when it was last asked."""

    def __init__(self, source: OfJson, clock: Clock) -> None:
        self._source, self._clock = source, clock
        self._lives = Lives()
        self._times: dict[str, tuple[float, int]] = {}

    def ask(self, asking: Asking) -> Gauges:
        """One answer."""
        source, path = self._source, self._source.target.path
        collect = source.collect if asking.collect else None
        asked_first = False
        if collect is not None and collect.startswith("/"):
            self._get(collect)
            asked_first = True
        elif collect is not None:
            path += ("&" if "?" in path else "?") + collect[1:]
        began = self._clock.now()
        body = self._get(path)
        at = (began + self._clock.now()) // 2
        found, missing = read(_decoded(body), source.places)
        values = gauges_in(found)
        if not values:
            raise ProbeError("; ".join(missing) or f"no gauge is in the answer; there is: {keys_of(_decoded(body))}")
        told = str(found.get("instance", ""))
        self._must_be_new(told, found.get("time"), at)
        pid, uptime = _within(found.get("pid"), MOST_PIDS), _within(found.get("uptime"), LONGEST_S)
        pid = None if pid is None else round(pid)
        instance, restarts = self._lives.told(told, pid, uptime, at)
        if pid is not None or uptime is not None:
            values["restarts"] = float(restarts)
        collected = found.get("collected", asked_first)
        return Gauges(
            values, instance, uptime, pid, collected is True and asking.collect, at,
            who=f"instance {instance}" if instance else source.shown, missing=tuple(missing),
        )  # fmt: skip

    def _must_be_new(self, instance: str, time_s: object, at_ns: int) -> None:
        if not isinstance(time_s, float):
            return
        before, since_ns = self._times.get(instance, (None, at_ns))
        if time_s != before:
            self._times[instance] = time_s, at_ns
        elif at_ns - since_ns > OLD_NS:
            raise ProbeError("the same answer came again: a cache stands between; leave this path out of it")

    def _get(self, path: str) -> bytes:
        """The body of one answer, within the time-out."""
        source = self._source
        target = source.target
        try:
            response, body = _exchange(source, path, self._clock)
        except TimeoutError:
            raise ProbeError(f"no answer within {source.timeout_s:g} s") from None
        except NetError as error:
            raise ProbeError(error.words) from None
        except FramingError as error:
            raise ProbeError(f"not readable as HTTP: {error}") from None
        except OSError as error:
            raise ProbeError(f"{target.host}:{target.port}: {net_error(error).words}") from None
        wrong = _refusal(response, path)
        if wrong is not None:
            raise ProbeError(wrong)
        return body


def _within(value: object, most: float) -> float | None:
    """A number that can be meant; anybody may have written it."""
    return value if isinstance(value, float) and 0 <= value <= most else None


def _exchange(source: OfJson, path: str, clock: Clock) -> tuple[Response, bytes]:
    """One request and its whole answer. TimeoutError, OSError, NetError, FramingError, ProbeError."""
    target = source.target
    with _line(target, source.timeout_s, clock) as line:
        line.go_through()
        if target.secure:
            line.secure()
        line.sendall(_request(source, path))
        response, body = Response(), bytearray()
        try:
            while not response.complete:
                try:
                    body += response.feed(line.next())
                except ConnectionError:
                    if response.whole_at_close:
                        break
                    raise
                if len(body) > MOST:
                    raise ProbeError(f"the answer is over {MOST >> 20} MB; name a page that tells less")
        finally:
            response.release()
    return response, bytes(body)


def _line(target: Target, timeout_s: float, clock: Clock) -> Line:
    """A line to the first of the name's addresses that can be reached. One name, one time-out."""
    deadline = clock.now() + round(timeout_s * S)
    addresses = addresses_of(target)
    for left, address in zip(range(len(addresses) - 1, -1, -1), addresses, strict=True):
        try:
            return Line(target, address, max((deadline - clock.now()) / S, 0.01), clock)
        except TimeoutError:
            raise
        except OSError:
            if not left:
                raise
    raise AssertionError("a name has an address")


def _request(source: OfJson, path: str) -> bytes:
    target = source.target
    headers: tuple[tuple[str, str], ...] = (
        ("Host", target.authority), ("User-Agent", AGENT), ("Accept", "application/json"),
        ("Accept-Encoding", "identity"), ("Cache-Control", "no-cache"), ("Connection", "close"),
    )  # fmt: skip
    if source.body is not None:
        headers += (("Content-Type", "application/json"),)
    proxy = None if target.secure else target.proxy
    if proxy is not None:
        path = target.origin + path
        if proxy.authorization is not None:
            headers += (("Proxy-Authorization", proxy.authorization),)
    return request_bytes(source.method, path, (*headers, *target.headers), (source.body or "").encode())


def _refusal(response: Response, path: str) -> str | None:
    """What a status that is no success means, without the answer's own words: they may hold anything."""
    status, shown = response.status or 0, path.partition("?")[0]
    if 200 <= status < 300:
        return None
    if status in (401, 403):
        return f"{status}: it does not accept the token (or there is none): see this probe's headers and the server's"
    if 300 <= status < 400:
        where = response.headers.get("location", "").partition("?")[0][:100]
        return (
            f"{status}: redirected to {where or 'nowhere'}, which is not followed; is it a sign-in? Name the last url"
        )
    if status == 404:
        return f"404: nothing is at {shown}; is the handler there, and deployed? (it also hides so without a token)"
    return f"{status}: {shown} answers with an error; its log says why"


def _decoded(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise ProbeError("the answer is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        kind = "an html page" if body.lstrip()[:1] == b"<" else "empty" if not body.strip() else "no JSON"
        raise ProbeError(f"the answer is {kind}; name the url that answers with JSON") from None
