"""What answers at a target, and how: one short request's facts turned into lines a person can act on.

Rules: facts in, lines out; nothing is sent here. A line is ok, warn or FAIL, says what was seen, and, unless it is ok,
what to do next. No secret is in any line.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

from streamgauge.client import Answer
from streamgauge.dialects import recognise_event
from streamgauge.dialects.contract import OUTPUT, TEXT
from streamgauge.sample import Outcome
from streamgauge.target import Target

Mark = Literal["ok", "warn", "FAIL"]

LUMP_NS = 100_000_000
"""Reads with several tokens this far apart, again and again, are lumps: somebody holds tokens back."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at."""

    mark: Mark
    subject: str
    words: str
    next_step: str | None = None


_NEXT: dict[Outcome, str] = {
    Outcome.DNS_ERROR: "check the host's spelling, or whether this machine may resolve it (VPN, /etc/hosts)",
    Outcome.CONNECT_REFUSED: "nothing listens there: start the service, or check host and port",
    Outcome.UNREACHABLE: "no route: check VPN, firewall and the address",
    Outcome.CONNECT_TIMEOUT: "packets are dropped on the way: check firewall, security groups and the port",
    Outcome.TLS_ERROR: "own CA: set tls.ca; other name: tls.server_name; for a test alone: tls.verify = false",
    Outcome.AUTH_ERROR: "look at the headers that carry your secrets, and whether they are still valid",
    Outcome.RATE_LIMITED: "wait as Retry-After says, or use a key with more quota; set rpm for the run",
    Outcome.HTTP_ERROR: "the words above are the server's own: its log says more",
    Outcome.PROTOCOL_ERROR: "check path and dialect, and that the body asks for a stream",
    Outcome.FIRST_TOKEN_TIMEOUT: "the server took the request and gave nothing: look at its log",
    Outcome.STALL_TIMEOUT: "the stream stood still: look for a time-out between you and the model",
    Outcome.TRUNCATED: "the answer ended without its terminal event: look for a proxy or a crash behind it",
    Outcome.DROPPED: "the connection ended half-way: look for a time-out of a proxy or load balancer",
    Outcome.EMPTY: "the answer held no output: raise max_tokens, or look at the model's own log",
    Outcome.STREAM_ERROR: "the words above are the server's own: its log says more",
}
_BY_STATUS = {
    404: "check the path",
    405: "check the path: this one takes no POST",
    413: "the body is too large for the server",
    415: "the body's media type is not what the route takes: set the content-type header",
    422: "the body's shape is not what the route takes: set body",
}


def lines_of(target: Target, answer: Answer) -> list[Line]:
    """What one request showed, from connect to finish."""
    sample = answer.sample
    lines = [_connected(target, answer)]
    if sample.http_status is not None:
        who = f", answered by {sample.answered_by}" if sample.answered_by else ""
        mark: Mark = "ok" if sample.http_status == 200 else "FAIL"
        lines.append(Line(mark, "status", f"{sample.http_status}{who}", _BY_STATUS.get(sample.http_status)))
    other = _other_dialect(target, answer)
    if other is not None:
        lines.append(
            Line(
                "FAIL", "dialect", f"this is {other}, not {target.dialect}", f'set dialect = "{other}" for this target'
            )
        )
    if not sample.good:
        words = f"{sample.outcome}: {sample.error or 'no words'}"
        step = _BY_STATUS.get(sample.http_status or 0) or _NEXT.get(sample.outcome)
        return [*lines, Line("FAIL", "answer", words, None if other else step)]
    return [*lines, *_stream(answer), _pace(answer)]


def _connected(target: Target, answer: Answer) -> Line:
    sample = answer.sample
    if sample.connect_ns is None or sample.start_ns is None:
        return Line(
            "FAIL", "connect", f"{target.authority}: {sample.error or sample.outcome}", _NEXT.get(sample.outcome)
        )
    told = [f"{sample.peer} in {(sample.connect_ns - sample.start_ns) / 1e6:.1f} ms"]
    if target.secure and sample.tls_ns is not None:
        took = (sample.tls_ns - sample.connect_ns) / 1e6
        told.append(f"{answer.tls[0] if answer.tls else 'TLS'} in {took:.1f} ms")
    if target.secure and not target.tls.verify:
        return Line(
            "warn", "connect", ", ".join(told) + ", certificate not verified", "set tls.ca instead of verify = false"
        )
    return Line("ok", "connect", ", ".join(told))


def _other_dialect(target: Target, answer: Answer) -> str | None:
    """The dialect that is really spoken, where none of the events was of the target's own."""
    if any(trace.bits & OUTPUT for trace in answer.events):
        return None
    spoken = (recognise_event(trace.event, trace.data) for trace in answer.events[:50])
    found = next((name for name in spoken if name is not None), None)
    return found if found != target.dialect else None


def _stream(answer: Answer) -> list[Line]:
    sample = answer.sample
    ttft = answer.metric("ttft_service_ms")
    if ttft is None:
        first = Line("warn", "ttft", "no visible text came", "raise max_tokens, or judge ttfr_ms for a reasoning model")
    else:
        exact = "" if sample.first_token_slack_ns == 0 else f", to within {sample.first_token_slack_ns / 1e6:.1f} ms"
        first = Line("ok", "ttft", f"{ttft:,.0f} ms{exact}")
    events = f"{len(answer.events)} events, {sample.text_events} with text"
    if sample.unknown_events:
        events += f", {sample.unknown_events} unknown"
    if sample.output_tokens is None:
        usage = Line("warn", "usage", "not on the wire: tokens are counted as text events", "rates are events a second")
    else:
        usage = Line("ok", "usage", f"{sample.input_tokens} tokens in, {sample.output_tokens} out")
    finish = f"{sample.finish or 'no reason given'} ({sample.outcome})"
    return [first, Line("ok", "events", events), usage, Line("ok", "finish", finish)]


def _pace(answer: Answer) -> Line:
    """Whether tokens come one by one, in lumps, or all at once."""
    stamps = [trace.at_ns for trace in answer.events if trace.bits & TEXT]
    reads = sorted(set(stamps))
    if len(stamps) >= 4 and len(reads) == 1:
        return Line(
            "warn", "pace", f"all {len(stamps)} text events came in one read: the answer is buffered",
            "nginx: proxy_buffering off, or X-Accel-Buffering: no; look for compression",
        )  # fmt: skip
    gaps = [b - a for a, b in pairwise(reads)]
    if len(stamps) >= 12 and len(stamps) >= 3 * len(reads) and gaps and median(gaps) >= LUMP_NS:
        return Line(
            "warn", "pace", f"lumps of {len(stamps) / len(reads):.0f} text events every {median(gaps) / 1e6:.0f} ms",
            "a proxy holds them back; nginx: proxy_buffering off, HAProxy: option http-no-delay",
        )  # fmt: skip
    return Line("ok", "pace", f"not buffered: {len(stamps)} text events in {len(reads)} reads")


def compressed(plain: Answer, answer: Answer) -> Line:
    """Whether a browser's Accept-Encoding changes how tokens arrive: `answer` offered gzip and deflate."""
    encoding = answer.headers.get("content-encoding", "")
    if not answer.sample.good:
        return Line(
            "warn", "gzip", f"with Accept-Encoding: gzip, deflate: {answer.outcome}: {answer.sample.error or ''}"
        )
    if not encoding:
        return Line("ok", "gzip", "not compressed, also when a browser offers it")
    before, after = _reads(plain), _reads(answer)
    if after * 2 < before:
        return Line(
            "warn", "gzip", f"compressed ({encoding}), and tokens come merged: {after} reads instead of {before}",
            "browsers get it so: leave text/event-stream out of compression, or flush after each event",
        )  # fmt: skip
    return Line("ok", "gzip", f"compressed ({encoding}), flushed token by token")


def _reads(answer: Answer) -> int:
    return len({trace.at_ns for trace in answer.events if trace.bits & TEXT})


def machine(*, uncertainty_ns: int, kernel_stamps: bool, descriptors: int, streams: int, workers: int) -> list[Line]:
    """Clock and limits of this machine against what the plan needs."""
    clock = f"kernel clock mapped to within {uncertainty_ns / 1e3:.1f} us"
    stamps = (
        Line("ok", "clock", clock)
        if kernel_stamps
        else Line(
            "warn", "clock", "no kernel stamps here: the user clock is used", "measure from Linux for exact times"
        )
    )
    each = streams // max(workers, 1) + 64
    room = f"{descriptors:,} descriptors, {workers} worker{'s' if workers > 1 else ''}, {streams} streams planned"
    limits = (
        Line("ok", "limits", room)
        if each <= descriptors
        else Line("FAIL", "limits", room, "raise ulimit -n, or ask for fewer streams")
    )
    return [stamps, limits]
