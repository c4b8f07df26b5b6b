"""`endurance`: do long streams live to their end, one after another, at the pace they began with.

Half of the slots go on with the connection they have, the other half take a fresh one each time. A model that ends
early is asked to go on, as the next turn of that chat, until its answers together lasted as long as one was to live,
and then anew until the hold is over; how long single answers lived is then still open, and the report says what settles
it.
"""

from __future__ import annotations

import math

from streamgauge.errors import UsageError
from streamgauge.evidence import Evidence, Requirement, by_bounds, observed
from streamgauge.findings import RunFacts
from streamgauge.findings.cuts import cut_at_equal_ages
from streamgauge.lives import Lives, lives_of
from streamgauge.plan import Hold, Lane, Phase
from streamgauge.shares import share_of
from streamgauge.spans import span
from streamgauge.spec.presets import Settings
from streamgauge.stats import Bounds
from streamgauge.suite import memory
from streamgauge.suite.contract import Seen, Told
from streamgauge.suite.ttft import open_lane

S = 1_000_000_000
COMPLETE, PACE = "streams_complete", "pace_kept"
LONG_S = 900.0
"""What the test is about; smoke and pr only try the way."""
SHORT_PRESETS = ("smoke", "pr")
MOST_SPREAD_S = 10.0
LEAST_HOLD = 1.1
"""A hold of so many lives holds one of each slot: streams begin spread over a tenth of one."""
RECIPE = "staging with streamgauge sim at 5 tok/s as its upstream decides it (docs/operations.md)"


def phases(settings: Settings, targets: tuple[str, ...], controls: tuple[str, ...]) -> tuple[Phase, ...]:
    """The hold: lanes on kept connections and on fresh ones.

    No warm-up: where the dialect has no limit on an answer's length, it would last as long as the streams.
    Streams begin spread over some seconds, so that deaths at one age are told from deaths at one moment.
    """
    lives = settings.lives
    assert lives is not None
    wanted = None if settings.requests is None else settings.requests * len(targets)
    duration = None if settings.duration_s is None else round(settings.duration_s * S)
    if settings.open_loop is not None:
        lanes = [open_lane(settings, settings.open_loop, targets, wanted)]
    else:
        level = settings.concurrency
        spread = round(min(MOST_SPREAD_S, lives.stream_s / 10) * S)
        kept = None if wanted is None else math.ceil(wanted * (level - level // 2) / level)
        rest = None if wanted is None or kept is None else wanted - kept
        chat_ns = round(lives.stream_s * S)
        lanes = [
            Lane(targets, settings.prompts, Hold(slots, spread), requests, fresh=fresh, chat_ns=chat_ns)
            for slots, requests, fresh in ((level - level // 2, kept, False), (level // 2, rest, True))
            if slots and requests != 0
        ]
    level = 0 if settings.open_loop is not None else settings.concurrency
    hold = Phase("hold", tuple(lanes), level, duration_ns=duration, think_ns=round(settings.think_time_s * S))
    return (hold,)


def needs(settings: Settings) -> None:
    """UsageError where the hold ends before any stream could live as long as it is to."""
    lives, hold_s = settings.lives, settings.duration_s
    if lives is None or hold_s is None or hold_s >= lives.stream_s:
        return
    raise UsageError(
        f"endurance: a hold of {span(hold_s)} (--duration) ends before a stream could live for {span(lives.stream_s)} "
        f"(tests.endurance.stream): ask for --duration {math.ceil(lives.stream_s * LEAST_HOLD)}s or more, or for "
        f"shorter streams (--set tests.endurance.stream={hold_s / LEAST_HOLD:.3g}s)"
    )


def decides(settings: Settings, metric: str, hold_s: float) -> bool:
    """Whether its streams are long enough to be called that, and its hold long enough to judge memory."""
    lives = settings.lives
    short = lives is not None and lives.stream_s < LONG_S and settings.preset in SHORT_PRESETS
    return not (short and metric in (COMPLETE, PACE)) and memory.decides(settings, metric, hold_s)


def see(seen: Seen) -> Told:
    """What became of the streams, and of the server's memory where it was read."""
    wanted_s = _wanted_s(seen)
    rows = seen.columns.select(targets=seen.scope.targets, phases=seen.scope.judged)
    found = lives_of(seen.columns, rows, wanted_s, seen.head.start_ns, seen.head.confidence)
    read = memory.look(seen)
    return Told(
        weigh={
            COMPLETE: lambda ask, confidence: _complete(seen, found, ask),
            PACE: lambda ask, confidence: _pace(found, ask),
            memory.GROWTH: lambda ask, confidence: memory.growth_evidence(seen, read, ask),
        },
        sections={"lives": found, "memory": memory.told(seen, read)},
    )


def _wanted_s(seen: Seen) -> float:
    lives = seen.head.settings.get("lives")
    return float(str(lives["stream_s"])) if isinstance(lives, dict) else LONG_S


def _complete(seen: Seen, found: Lives, ask: Requirement) -> Evidence:
    """The share of streams that lived as long as they were to; open where the model ended any of them early."""
    n, length = found.whole + found.lost, span(found.wanted_s)
    if found.lost:
        ages = sorted(one.age_s for one in found.lives if one.kind == "lost")
        shown = ", ".join(f"{age:,.1f}" for age in ages[:6]) + (", ..." if len(ages) > 6 else "")
        said = (
            f"{found.lost:,} of {n + found.parts:,} streams {'was' if found.lost == 1 else 'were'} lost, at {shown} s"
        )
        said += _alike(seen)
        return Evidence(observed(ask, found.whole / n, n).answer, found.whole / n, n=n, said=said)
    if found.parts or not found.whole:
        longest = "none" if found.longest_s is None else f"the longest lived {span(found.longest_s)}"
        said = f"no stream was lost, and {longest}: "
        said += f"{found.parts:,} answers ended before {length}; {RECIPE}" if found.parts else "none had ended"
        return Evidence("inconclusive", n=n, why="not_measured" if not n else None, said=said)
    said = f"all {found.whole:,} streams lived for {length} or more, up to {found.in_sequence} in sequence"
    if found.wanted_s < LONG_S and seen.head.preset in SHORT_PRESETS:
        said += f"; whether they live for {span(LONG_S)} takes --preset standard"
        return Evidence("inconclusive", 1.0, n=n, said=said)
    return Evidence(observed(ask, 1.0, n).answer, 1.0, n=n, said=said)


def _alike(seen: Seen) -> str:
    """What their ages have in common, where that is evidence."""
    facts = RunFacts(seen.columns, seen.scope, seen.head.start_ns)
    for target in seen.scope.targets:
        for finding in cut_at_equal_ages(facts.of(target)):
            return f": {finding.words}"
    return ""


def _pace(found: Lives, ask: Requirement) -> Evidence:
    """Pace at the end against the beginning, with its bounds."""
    pace = found.pace
    if pace is None:
        said = "no stream was long enough to compare the pace at its end with that at its beginning"
        return Evidence("inconclusive", why="not_measured", said=said)
    said = f"{pace.begin_per_s:.1f} reads a second at the beginning, {pace.end_per_s:.1f} at the end: "
    said += f"{share_of(pace.kept)} ({share_of(pace.low)} to {share_of(pace.high)}, {pace.streams:,} streams)"
    answer = by_bounds(ask, Bounds(pace.low, pace.high))
    return Evidence(answer, pace.kept, pace.low, pace.high, n=pace.streams, said=said)
