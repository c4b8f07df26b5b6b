"""Whether tokens come one by one, in lumps, or all at once; and what a browser's Accept-Encoding makes of it. Pure.

One answer is judged by the same rule as the many of a run: `findings.flow.flow_of`.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median

from streamgauge.check.finding import Finding, ms, ok, shown_ms, warn
from streamgauge.client import Answer
from streamgauge.dialects.contract import TEXT
from streamgauge.findings.cuts import IDLE_MORE, LEAST_S, TIME_OUT_STATUS, idle_settings
from streamgauge.findings.flow import FLUSH, LEAST_EVENTS, flow_of, held_remedy, lump_size, lump_words, who_gathers
from streamgauge.sample import Outcome, Sample, gaps_us

LATER_NS = 300_000_000
OFFER = "gzip, deflate"
"""Of what browsers offer, what can be decoded here."""


def pace(answer: Answer) -> Finding:
    """Buffered or not, by the reads in which text came."""
    stamps, reads = _text(answer)
    sample = answer.sample
    gaps = [b - a for a, b in pairwise(reads)]
    first, last = sample.first_output_ns or 0, sample.last_output_ns or 0
    flow = flow_of(
        events=len(stamps),
        gaps_us=gaps_us(sample.gaps),
        wait_ms=ms(None if sample.sent_ns is None else first - sample.sent_ns),
        span_ms=(last - first) / 1e6,
        slack_ms=sample.first_token_slack_ns / 1e6,
    )
    facts: dict[str, object] = {
        "text_events": len(stamps), "reads": len(reads), "span_ms": ms(last - first),
        "median_gap_ms": ms(round(median(gaps)) if gaps else None), "longest_gap_ms": ms(max(gaps, default=None)),
        "lumps": flow.lumps, "shape": flow.shape,
    }  # fmt: skip
    if flow.shape == "unclear":
        why = "too few" if flow.events < LEAST_EVENTS else "too soon over"
        return ok("pace", f"{len(stamps)} text events in {len(reads)} reads: {why} to tell", **facts)
    if flow.shape == "at_once":
        how = "in one read" if len(reads) == 1 else f"within {shown_ms(last - first)}"
        if sample.sent_ns is not None:
            how += f", {shown_ms(first - sample.sent_ns)} after sending"
        text = f"all {len(stamps)} text events came {how}: buffered"
        step = "the answer is held back until it is whole, or comes from a cache. "
        return warn("pace", text, f"{step}{held_remedy()}; look for compression too", **facts)
    if flow.shape == "lumps":
        assert flow.every_ms is not None
        by, cause = who_gathers(flow.every_ms, lump_size(flow, sample.bytes_in))
        text = lump_words(flow.every_ms, flow.events / flow.lumps, by)
        return warn("pace", text, f"{held_remedy(first=by)}. {cause}", **facts)
    return ok("pace", f"not buffered: {len(stamps)} text events in {len(reads)} reads", **facts)


def cut(sample: Sample) -> str | None:
    """What an answer that broke off tells of a time-out on the way: its age and its silence; None where nothing."""
    if sample.sent_ns is None:
        return None
    if sample.outcome is Outcome.HTTP_ERROR and sample.http_status in TIME_OUT_STATUS:
        waited = (sample.end_ns - sample.sent_ns) / 1e9
        return f"who answered waited {waited:.1f} s for the app: {idle_settings()}, {IDLE_MORE}"
    if sample.outcome not in (Outcome.DROPPED, Outcome.TRUNCATED):
        return None
    heard = max(sample.sent_ns, sample.first_byte_ns or 0, sample.last_output_ns or 0)
    age, silence = (sample.end_ns - sample.sent_ns) / 1e9, (sample.end_ns - heard) / 1e9
    if silence < LEAST_S:
        return None
    return (
        f"it ended {age:.1f} s after sending, after {silence:.1f} s without output: an idle or total time-out? "
        f"{idle_settings()}, {IDLE_MORE}"
    )


def keep_alive(answer: Answer) -> Finding:
    """Whether the server lets the connection be used again."""
    headers = answer.headers
    said = headers.get("connection", "")
    framed = "content-length" in headers or "chunked" in headers.get("transfer-encoding", "").lower()
    facts: dict[str, object] = {"connection": said or None, "framed": framed}
    step = (
        "each request pays for a new connection; nginx: keepalive_timeout above 0, HAProxy: no option httpclose, "
        "the app: HTTP/1.1 with chunked answers"
    )
    if "close" in said.lower():
        return warn("reuse", "the server closes the connection after the answer (Connection: close)", step, **facts)
    if not framed:
        return warn("reuse", "the server ends the answer by closing the connection", step, **facts)
    return ok("reuse", "the connection can be used again", **facts)


def compression(plain: Answer, offered: Answer) -> Finding:
    """Whether compression delays or merges tokens: `offered` was asked for with Accept-Encoding: gzip, deflate."""
    encoding = offered.headers.get("content-encoding", "")
    before, after = _text(plain), _text(offered)
    first = _first_ns(plain), _first_ns(offered)
    facts: dict[str, object] = {
        "content_encoding": encoding or None, "outcome": str(offered.outcome),
        "text_events_per_read": [_per_read(*before), _per_read(*after)],
        "ttft_service_ms": [plain.metric("ttft_service_ms"), offered.metric("ttft_service_ms")],
    }  # fmt: skip
    if not offered.sample.good:
        text = f"with Accept-Encoding: {OFFER}: {offered.outcome}: {offered.sample.error or 'no words'}"
        return warn("gzip", text, "browsers offer these: see whether they get an answer", **facts)
    if not encoding:
        return ok("gzip", "not compressed, also when a browser offers it", **facts)
    per_read = _per_read(*before), _per_read(*after)
    if per_read[0] is not None and per_read[1] is not None and per_read[1] >= 2 * per_read[0] and len(after[0]) >= 4:
        text = f"compressed ({encoding}), and tokens come merged: {len(after[1])} reads instead of {len(before[1])}"
        if first[0] is not None and first[1] is not None and first[1] > first[0]:
            text += f", the first after {shown_ms(first[1])} instead of {shown_ms(first[0])}"
        return warn("gzip", text, f"browsers get it so: {FLUSH}", **facts)
    if first[0] is not None and first[1] is not None and first[1] > 2 * first[0] and first[1] - first[0] > LATER_NS:
        text = f"compressed ({encoding}), first text after {shown_ms(first[1])} instead of {shown_ms(first[0])}"
        return warn("gzip", text, f"ask again, one request each proves little; if it stays so: {FLUSH}", **facts)
    return ok("gzip", f"compressed ({encoding}), flushed token by token", **facts)


def _text(answer: Answer) -> tuple[list[int], list[int]]:
    """(arrival of each text event, arrival of each read that had some), ns."""
    stamps = [trace.at_ns for trace in answer.events if trace.bits & TEXT]
    return stamps, sorted(set(stamps))


def _per_read(stamps: list[int], reads: list[int]) -> float | None:
    return round(len(stamps) / len(reads), 2) if reads else None


def _first_ns(answer: Answer) -> int | None:
    first, sent = answer.sample.first_token_ns, answer.sample.sent_ns
    return None if first is None or sent is None else first - sent
