"""How the text of answers came: token by token, in lumps, or whole at once. `check` and the report judge by `flow_of`.

Several events that came together are the service's own lump, not ours: where the slack is wide, our loop was late, and
nothing is told. Reads that lie close together are one lump, since a big one takes several segments.

What stands behind the thresholds was measured with real proxies: docs/proxies.md.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np

from streamgauge.columns import MISSING, IntArray
from streamgauge.findings.finding import Finding, TargetFacts
from streamgauge.sample import GOOD

Shape = Literal["singly", "lumps", "at_once", "unclear"]

TOGETHER_US = 5_000
"""Reads less than this apart are one lump."""
LUMP_MS = 100.0
"""Lumps nearer to each other are nothing that a reader sees."""
LEAST_EVENTS = 8
"""Fewer events of text tell nothing: a busy machine alone brings a few of them together."""
EVENTS_A_LUMP = 2
ALIKE = 0.2
"""Lumps are regular where half of the time lies between ones whose distance is the usual one, give or take this."""
QUICK_MS = 100.0
"""An answer that comes whole so soon was made so soon; nobody held it back."""
OURS_MS = LUMP_MS / 2
"""Where the slack of the first token is wider, we may have merged what came singly."""
LOOKED_AT = 1_000
"""So many answers of a target are looked at, evenly spaced; a share needs no more."""
LEAST, SHARE = 3, 0.2
"""A finding wants so many answers, and this share of those that can tell."""
TIMER_MS = (195.0, 245.0)
"""Linux holds back a segment that was announced as unfinished (MSG_MORE) for 200 ms; the next event ends the wait."""
PAGE_BYTES, PAGE_WITHIN = 4_096, 0.2

HOLDS_BACK = {
    "nginx": "proxy_buffering off, or the app sends X-Accel-Buffering: no",
    "HAProxy": "option http-no-delay",
}
"""Who holds tokens back by default, and what stops it. Envoy was not seen to."""
FLUSH = "leave text/event-stream out of compression, or flush after each event"


@dataclass(frozen=True, slots=True)
class Flow:
    """How the visible text of one answer came. Times in ms, None where there is none."""

    shape: Shape
    events: int
    lumps: int
    """Groups of reads."""
    every_ms: float | None
    """The usual distance between them, the last one left out, which brings what was left. Weighted by time: small
    lumps between the big ones (HAProxy's first) say nothing."""
    wait_ms: float | None
    """From sent to the first output."""
    span_ms: float
    """From the first output to the last."""


def flow_of(*, events: int, gaps_us: array[int], wait_ms: float | None, span_ms: float, slack_ms: float) -> Flow:
    """The flow of `events` text events; `gaps_us` lie between reads with text, `slack_ms` is the first token's."""
    far = [gap / 1_000 for gap in gaps_us if gap >= TOGETHER_US]
    body = far[:-1] or far
    every = _usual(body)
    shape: Shape = "singly"
    if events < LEAST_EVENTS or slack_ms > OURS_MS:
        shape = "unclear"
    elif span_ms == 0 or (span_ms < TOGETHER_US / 1_000 and wait_ms is not None and wait_ms > QUICK_MS):
        shape = "at_once"
    elif len(far) < 2:
        shape = "unclear" if events >= EVENTS_A_LUMP * (len(far) + 1) else "singly"
    elif every is not None and every >= LUMP_MS and events >= EVENTS_A_LUMP * (len(far) + 1):
        alike = sum(gap for gap in body if abs(gap - every) <= ALIKE * every)
        if alike * 2 >= sum(body):
            shape = "lumps"
    return Flow(shape, events, len(far) + 1, every, wait_ms, span_ms)


def _usual(distances: list[float]) -> float | None:
    """The distance in which a random moment lies: their median weighted by themselves. None without any."""
    half = sum(distances) / 2
    for distance in sorted(distances):
        half -= distance
        if half <= 0:
            return distance
    return None


def lump_size(flow: Flow, bytes_in: float) -> float:
    """Bytes a full lump: what came of the whole answer in the time of one."""
    every = flow.every_ms or 0.0
    return bytes_in * every / (flow.span_ms + every) if every else 0.0


def who_gathers(every_ms: float, size: float) -> tuple[str | None, str]:
    """(likely name, cause) of lumps, by their distance or by their size in bytes; None where neither is telling."""
    if TIMER_MS[0] <= every_ms <= TIMER_MS[1]:
        return "HAProxy", (
            f"a lump every {every_ms:.0f} ms is Linux's 200 ms wait for the rest of a segment, as HAProxy asks for "
            "without option http-no-delay"
        )
    pages = max(round(size / PAGE_BYTES), 1)
    if abs(size - pages * PAGE_BYTES) <= PAGE_WITHIN * PAGE_BYTES:
        return "nginx", f"lumps of about {pages * PAGE_BYTES // 1024} KB are a buffer that is passed on when it is full"
    return None, "somebody on the way, or the app itself, gathers tokens before it passes them on"


def lump_words(every_ms: float, events: float, by: str | None) -> str:
    """What lumps of `events` every so many ms are called; `by` as `who_gathers` tells."""
    who = "a proxy" if by else "the app or a proxy"
    return f"answers come in lumps of {every_ms:.0f} ms, about {events:.0f} events each: {who} holds them back"


def held_remedy(way: frozenset[str] = frozenset(), first: str | None = None) -> str:
    """What stops it, the most likely one first."""
    names = sorted(HOLDS_BACK, key=lambda name: (name != first, name not in way, list(HOLDS_BACK).index(name)))
    return "; ".join(f"{name}: {HOLDS_BACK[name]}" for name in names)


# The rules.

PAST_THE_PROXY = "ask the app itself, past the proxy, with streamgauge check: there the tokens come singly"


def lumps(facts: TargetFacts) -> Iterator[Finding]:
    """Several events at a time, at a regular distance."""
    hit = _hits(facts, ("lumps",), encoded=False)
    if hit is None:
        return
    every = median(flow.every_ms or 0.0 for flow in hit.flows)
    each = median(flow.events / flow.lumps for flow in hit.flows)
    came = facts.columns.facts["bytes_in"][hit.rows].tolist()
    size = median(lump_size(flow, bytes_in) for flow, bytes_in in zip(hit.flows, came, strict=True))
    by, cause = who_gathers(every, size)
    yield Finding(
        name="lumps",
        target=facts.target,
        words=lump_words(every, each, by),
        evidence=facts.basis(hit.rows, hit.n, "answers", every_ms=every, events_a_lump=each, bytes_a_lump=size),
        cause=cause,
        check=PAST_THE_PROXY,
        remedy=held_remedy(facts.way, by),
        waits_ms=every / 2 * len(hit.rows) / hit.n,
    )


def answer_at_once(facts: TargetFacts) -> Iterator[Finding]:
    """The whole answer in one piece."""
    hit = _hits(facts, ("at_once",), encoded=False)
    if hit is None:
        return
    wait = median(flow.wait_ms or 0.0 for flow in hit.flows)
    byte = (
        float(np.median(facts.columns.facts["first_byte_ns"][hit.rows] - facts.columns.facts["sent_ns"][hit.rows]))
        / 1e6
    )
    early = f", though the first byte comes after {byte:,.0f} ms" if byte < wait / 2 else ""
    cached = ", or it was made at once (a cache)" if wait <= QUICK_MS else ""
    yield Finding(
        name="answer_at_once",
        target=facts.target,
        words=f"{len(hit.rows):,} of {hit.n:,} answers come whole at once, {wait:,.0f} ms after sending{early}",
        evidence=facts.basis(
            hit.rows, hit.n, "answers", text_events=median(flow.events for flow in hit.flows), first_output_ms=wait,
            first_byte_ms=byte, span_ms=median(flow.span_ms for flow in hit.flows),
        ),
        cause=f"a proxy or the app holds the answer back until it is whole{cached}",
        check=PAST_THE_PROXY,
        remedy=f"{held_remedy(facts.way)}; look for compression and for code that gathers the answer",
        # Where the first byte does not tell, tokens are taken to have been made evenly while nothing came.
        waits_ms=(wait - byte if early else wait / 2) * len(hit.rows) / hit.n,
    )  # fmt: skip


def compression_merges(facts: TargetFacts) -> Iterator[Finding]:
    """A compressed answer that comes in lumps or whole: its compressor does not flush."""
    hit = _hits(facts, ("lumps", "at_once"), encoded=True)
    if hit is None:
        return
    whole = sum(flow.shape == "at_once" for flow in hit.flows)
    each = median(flow.events / flow.lumps for flow in hit.flows)
    how = "whole at the end" if whole * 2 >= len(hit.flows) else f"in lumps of about {each:.0f} events"
    yield Finding(
        name="compression_merges",
        target=facts.target,
        words=f"{len(hit.rows):,} of {hit.n:,} compressed answers come {how}",
        evidence=facts.basis(hit.rows, hit.n, "answers", events_a_lump=each),
        cause="whoever compresses waits for a full block, or is fed by a buffer",
        check="leave Accept-Encoding out of the request's headers: then the tokens come singly",
        remedy=f"{FLUSH}; {held_remedy(facts.way)}",
        waits_ms=median(flow.wait_ms or 0.0 for flow in hit.flows) / 2 * len(hit.rows) / hit.n,
    )


@dataclass(frozen=True, slots=True)
class _Hits:
    """Answers of some shapes: their rows and flows, and how many could tell."""

    rows: IntArray
    flows: list[Flow]
    n: int


def _hits(facts: TargetFacts, shapes: tuple[Shape, ...], *, encoded: bool) -> _Hits | None:
    """The answers of these shapes among the compressed or the other ones; None where they are too few to be told."""
    told = [(row, flow) for row, flow in _flows(facts, encoded=encoded) if flow.shape != "unclear"]
    hit = [(row, flow) for row, flow in told if flow.shape in shapes]
    if len(hit) < LEAST or len(hit) < SHARE * len(told):
        return None
    return _Hits(np.array([row for row, _ in hit]), [flow for _, flow in hit], len(told))


def _flows(facts: TargetFacts, *, encoded: bool) -> Iterator[tuple[int, Flow]]:
    """The flow of good answers, compressed ones or the others, of at most LOOKED_AT of the target."""
    columns = facts.columns
    keep = columns.having(facts.rows, GOOD) & (columns.facts["encoded"][facts.rows] == encoded)
    rows = facts.rows[keep & (columns.facts["sent_ns"][facts.rows] != MISSING)]
    step = max(-(-len(rows) // LOOKED_AT), 1)
    for row in rows[::step].tolist():
        gaps = array("I", columns.gaps[columns.gaps_from[row] : columns.gaps_from[row + 1]].tobytes())
        first, last = int(columns.first_output[row]), int(columns.last_output[row])
        yield (
            row,
            flow_of(
                events=int(columns.text_events[row]),
                gaps_us=gaps,
                wait_ms=(first - int(columns.facts["sent_ns"][row])) / 1e6,
                span_ms=(last - first) / 1e6,
                slack_ms=float(np.nan_to_num(columns.slack_ms[row])),
            ),
        )
