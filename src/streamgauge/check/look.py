"""One target looked at whole: the way to it, then at most two short requests. The I/O of `check`; findings come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime

import msgspec

from streamgauge.check.answer import answer_findings
from streamgauge.check.failure import References, failure_findings
from streamgauge.check.finding import Finding, clean
from streamgauge.check.knock import Way, find_way, speaks_http, speaks_tls
from streamgauge.check.pace import OFFER, compression, keep_alive, pace
from streamgauge.check.way import way_findings
from streamgauge.client import Answer, StreamClient
from streamgauge.clock import Clock, S
from streamgauge.sample import Outcome, Sample
from streamgauge.stream import Limits
from streamgauge.target import Target
from streamgauge.who import who_answered

PROMPT = "Count from one to twenty in words."
LENGTH = 48
TOTAL_NS = 120 * S


@dataclass(frozen=True, slots=True)
class Looked:
    """What one target showed."""

    findings: tuple[Finding, ...]
    kernel_stamps: bool | None = None
    skew_s: float | None = None
    """Our wall clock less the server's `Date`, which has whole seconds; None where it sent none."""
    length: tuple[int, float | None] | None = None
    """(output tokens, TTFT in ms) of an answer that no cap of ours cut; None where there was none."""

    @property
    def usable(self) -> bool:
        """Whether a run could work."""
        return all(finding.level != "fail" for finding in self.findings)


def look(
    target: Target,
    clock: Clock,
    *,
    prompt: str = PROMPT,
    references: References | None = None,
    redact: Callable[[str], str] = str,
) -> Looked:
    """Knock, ask, and ask once more as a browser that offers compression.

    `prompt` is one of the run's own: it is used where the answer's length cannot be capped, so that the length tells
    what a run would get. `redact` takes secrets out of every text.
    """
    way = _way(target, clock)
    found = list(way_findings(target, way, clock.wall() / S))
    if not way.usable:
        return Looked(tuple(clean(finding, redact) for finding in found))
    capped = is_capped(target)
    plain, offered = _ask(
        msgspec.structs.replace(
            target,
            addresses=way.usable,
            max_tokens=LENGTH,
            limits=_bounded(target.limits),
        ),
        PROMPT if capped else prompt,
        clock,
    )
    who = who_answered(plain.headers, plain.body)
    if streamed(plain.sample):
        found += [*answer_findings(plain, who), pace(plain)]
        if offered is not None:
            found += [compression(plain, offered), keep_alive(plain)]
    else:
        tls = (
            not target.secure
            and target.proxy is None
            and plain.sample.http_status in (None, 400)
            and speaks_tls(target, way.usable[0], clock)
        )
        found += failure_findings(target, plain, who, references=references or {}, expects_tls=tls)
    return Looked(
        tuple(clean(finding, redact) for finding in found),
        kernel_stamps=plain.sample.kernel_stamps if plain.sample.first_byte_ns is not None else None,
        skew_s=_skew(plain, clock),
        length=None if capped else _length(plain),
    )


def _way(target: Target, clock: Clock) -> Way:
    """The way, with a server named that speaks plain HTTP and is struck dumb by a TLS hello."""
    way = find_way(target, clock)
    if way.usable:
        return way
    knocks = (
        replace(one, trouble="plain_http")
        if one.trouble in ("silent", "other") and speaks_http(target, one.address, clock)
        else one
        for one in way.knocks
    )
    return replace(way, knocks=tuple(knocks))


def is_capped(target: Target) -> bool:
    """Whether a request to it carries our max_tokens."""
    return target.speaks().has_max_tokens and (target.body is None or "{max_tokens}" in target.body)


def streamed(sample: Sample) -> bool:
    """Whether it was a stream as it should be, if perhaps longer than we waited for."""
    return sample.good or (sample.outcome is Outcome.TOTAL_TIMEOUT and sample.first_output_ns is not None)


def _ask(target: Target, prompt: str, clock: Clock) -> tuple[Answer, Answer | None]:
    """The plain answer, and where it was good the one to a request that offers compression.

    Each on a connection of its own: on a used one, delayed ACKs can make the server merge what compression did not.
    """
    with StreamClient.for_target(target, clock) as client:
        plain = client.ask(prompt)
    if not plain.sample.good:
        return plain, None
    with StreamClient.for_target(target, clock) as client:
        return plain, client.ask(prompt, headers={"Accept-Encoding": OFFER})


def _bounded(limits: Limits) -> Limits:
    total = TOTAL_NS if limits.total_ns is None else min(limits.total_ns, TOTAL_NS)
    return msgspec.structs.replace(limits, total_ns=total)


def _length(plain: Answer) -> tuple[int, float | None] | None:
    """The whole length of an answer, by usage or else by its events of output."""
    sample = plain.sample
    if sample.outcome is not Outcome.OK:
        return None
    counted = sample.text_events + sample.reasoning_events + sample.tool_events
    return counted if sample.output_tokens is None else sample.output_tokens, plain.metric("ttft_ms")


def _skew(plain: Answer, clock: Clock) -> float | None:
    """Our wall clock less the answer's `Date` at the time its headers came."""
    headers_ns = plain.sample.headers_ns
    if headers_ns is None or "age" in plain.headers:
        return None
    try:
        theirs = parsedate_to_datetime(plain.headers.get("date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return round((clock.wall() - (clock.now() - headers_ns)) / S - theirs - 0.5, 1)
