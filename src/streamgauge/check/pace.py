"""Whether tokens come one by one, in lumps, or all at once; and what a browser's Accept-Encoding makes of it. Pure."""

from __future__ import annotations

from itertools import pairwise
from statistics import median

from streamgauge.check.finding import Finding, ms, ok, shown_ms, warn
from streamgauge.client import Answer
from streamgauge.dialects.contract import TEXT

LUMP_NS = 100_000_000
"""Reads with several tokens this far apart, again and again, are lumps: somebody holds tokens back."""
AT_ONCE_NS = 5_000_000
LATER_NS = 300_000_000
OFFER = "gzip, deflate"
"""Of what browsers offer, what can be decoded here."""
_NGINX = "nginx: proxy_buffering off, or the app sends X-Accel-Buffering: no"


def pace(answer: Answer) -> Finding:
    """Buffered or not, by the reads in which text came."""
    stamps, reads = _text(answer)
    span = reads[-1] - reads[0] if reads else 0
    gaps = [b - a for a, b in pairwise(reads)]
    every = round(median(gaps)) if gaps else None
    facts: dict[str, object] = {
        "text_events": len(stamps), "reads": len(reads), "span_ms": ms(span), "median_gap_ms": ms(every),
        "longest_gap_ms": ms(max(gaps, default=None)),
    }  # fmt: skip
    if len(stamps) < 4:
        return ok("pace", f"{len(stamps)} text events: too few to tell", **facts)
    if len(reads) == 1:
        text = f"all {len(stamps)} text events came in one read: the answer is buffered"
        return warn("pace", text, f"{_NGINX}; look for compression and for code that gathers the answer", **facts)
    sent = answer.sample.sent_ns
    if len(stamps) >= 8 and span < AT_ONCE_NS and sent is not None and reads[0] - sent > 20 * AT_ONCE_NS:
        text = f"all {len(stamps)} text events came within {shown_ms(span)}, {shown_ms(reads[0] - sent)} after sending"
        step = f"the answer is held back until it is whole, or comes from a cache. {_NGINX}"
        return warn("pace", f"{text}: buffered", step, **facts)
    if len(stamps) >= 12 and len(stamps) >= 3 * len(reads) and every is not None and every >= LUMP_NS:
        text = f"lumps of {len(stamps) / len(reads):.0f} text events every {shown_ms(every)}"
        step = "a proxy holds them back; nginx: proxy_buffering off, HAProxy: option http-no-delay"
        return warn("pace", text, step, **facts)
    return ok("pace", f"not buffered: {len(stamps)} text events in {len(reads)} reads", **facts)


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
    fix = "leave text/event-stream out of compression, or flush after each event"
    if per_read[0] is not None and per_read[1] is not None and per_read[1] >= 2 * per_read[0] and len(after[0]) >= 4:
        text = f"compressed ({encoding}), and tokens come merged: {len(after[1])} reads instead of {len(before[1])}"
        if first[0] is not None and first[1] is not None and first[1] > first[0]:
            text += f", the first after {shown_ms(first[1])} instead of {shown_ms(first[0])}"
        return warn("gzip", text, f"browsers get it so: {fix}", **facts)
    if first[0] is not None and first[1] is not None and first[1] > 2 * first[0] and first[1] - first[0] > LATER_NS:
        text = f"compressed ({encoding}), first text after {shown_ms(first[1])} instead of {shown_ms(first[0])}"
        return warn("gzip", text, f"ask again, one request each proves little; if it stays so: {fix}", **facts)
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
