"""Between two tests: wait until the targets have got over the one before, so that none is judged by another's load.

Each target is asked alone, before it comes under load for the first time: the median TTFT of three answers. Before the
next test it is asked again, once a second, until one answer is good and its TTFT lies within twice that (and 100 ms):
it answers as before. After 60 s the next test begins in any case, and the report says so. A target that gave no token
before has nothing to get back to and is not waited for.

Rules: one request at a time, at the target's pace where it has one, with a mark of its own and few tokens. These
requests are in no sample file and in no number of a report.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Mapping

import msgspec

from streamgauge.client import Answer, StreamClient
from streamgauge.clock import Clock, S
from streamgauge.prompts import prompt_text
from streamgauge.reports.suite_document import Answered, Settled
from streamgauge.stream import Limits
from streamgauge.target import Target

CALM_REQUESTS = 3
TIMES, PLUS_MS = 2.0, 100.0
"""As before: TTFT within so many times the calm one, plus so much."""
MOST_S = 60.0
EVERY_S = 1.0
TOKENS = 8
LIMITS = Limits(connect_ns=5 * S, first_output_ns=15 * S, stall_ns=10 * S, total_ns=20 * S)

Prompts = Mapping[str, tuple[str, ...]]


def calm_ttft(target: Target, prompts: Prompts, clock: Clock) -> float | None:
    """The median TTFT (ms, from sent) of a few requests alone; None where one of them gave no token."""
    seen: list[float] = []
    with StreamClient.for_target(_short(target), clock) as client:
        for turn in range(CALM_REQUESTS):
            if turn:
                clock.sleep_until(clock.now() + _pace_ns(target))
            answer = client.ask(_prompt(prompts, turn, target))
            ttft = answer.metric("ttft_service_ms")
            if ttft is None or not answer.sample.good:
                return None
            seen.append(ttft)
    return statistics.median(seen)


def limit_of(before_ms: float) -> float:
    """Up to which TTFT (ms) a target answers as before."""
    return TIMES * before_ms + PLUS_MS


def settle(
    targets: Iterable[Target],
    before_ms: Mapping[str, float | None],
    prompts: Prompts,
    clock: Clock,
    *,
    most_s: float = MOST_S,
) -> Settled:
    """Wait until each target answers as before, `most_s` over all at most."""
    began = clock.now()
    until = began + round(most_s * S)
    told = [_settle_one(target, before_ms.get(target.name), prompts, clock, until) for target in targets]
    waited = (clock.now() - began) / S
    return Settled(
        waited_s=round(waited, 3), settled=all(one.settled for one in told), sentence=_words(told, waited), targets=told
    )


def _settle_one(target: Target, before: float | None, prompts: Prompts, clock: Clock, until: int) -> Answered:
    if before is None:
        return Answered(
            target=target.name, before_ms=None, limit_ms=None, after_ms=None, outcome=None, asked=0, settled=True
        )
    limit, asked = limit_of(before), 0
    with StreamClient.for_target(_short(target), clock) as client:
        while True:
            answer = client.ask(_prompt(prompts, asked, target))
            asked += 1
            well = _as_before(answer, limit)
            next_at = max(clock.now() + round(EVERY_S * S), clock.now() + _pace_ns(target))
            if well or next_at >= until:
                break
            clock.sleep_until(next_at)
    return Answered(
        target=target.name, before_ms=before, limit_ms=limit, after_ms=answer.metric("ttft_service_ms"),
        outcome=str(answer.outcome), asked=asked, settled=well,
    )  # fmt: skip


def _as_before(answer: Answer, limit_ms: float) -> bool:
    ttft = answer.metric("ttft_service_ms")
    return answer.sample.good and ttft is not None and ttft <= limit_ms


def _short(target: Target) -> Target:
    """The target as it is asked here: soon given up, and few tokens where its request can say so."""
    fewer = None if target.max_tokens is None else min(target.max_tokens, TOKENS)
    return msgspec.structs.replace(target, limits=LIMITS, max_tokens=fewer, expect=None)


def _prompt(prompts: Prompts, turn: int, target: Target) -> str:
    return prompt_text(prompts, next(iter(prompts)), turn, unique=os.urandom(8).hex() if target.unique else None)


def _pace_ns(target: Target) -> int:
    return 0 if target.rpm is None else round(60 * S / target.rpm)


def waits_for(before_ms: Mapping[str, float | None]) -> str:
    """What is waited for, in words."""
    known = {name: ttft for name, ttft in before_ms.items() if ttft is not None}
    if not known:
        return "no target answered before the first test, so there is nothing to wait for"
    told = ", ".join(f"{name} within {limit_of(ttft):,.0f} ms" for name, ttft in known.items())
    return f"until every target answers as before, asked alone ({told}), at most {MOST_S:.0f} s"


def _words(told: list[Answered], waited_s: float) -> str:
    known = [one for one in told if one.before_ms is not None]
    late = [one for one in known if not one.settled]
    if not known:
        return "not waited: no target answered before the first test"
    if not late:
        who = "the target answers" if len(known) == 1 else "every target answers"
        return f"{who} as before, after {waited_s:.1f} s"
    whose = "; ".join(f"{one.target}: {_last(one)} ({one.before_ms:,.0f} ms before any test)" for one in late)
    return f"not as before after {waited_s:.0f} s: {whose}. What follows may still feel the load of the test before"


def _last(one: Answered) -> str:
    """How the last request went, in words."""
    if one.after_ms is None:
        return str(one.outcome)
    well = "" if one.outcome in ("ok", "length_capped", "filtered") else f", {one.outcome}"
    return f"first token after {one.after_ms:,.0f} ms{well}"
