"""What a plan would send, cost and take, before anything is sent. Pure.

Rules: an answer is as long as its request allows it to be; where the request sets no limit, as long as the one `check`
saw; else a guess, and it says so. A target's pace (rpm) bounds its share of the load.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from streamgauge.arrivals import Arrivals, Rate, most_within
from streamgauge.chat import KEPT
from streamgauge.clock import MS, US, S
from streamgauge.load import workers_for
from streamgauge.plan import Hold, Lane, Phase, lane_end
from streamgauge.sample import REPEATS
from streamgauge.spans import span
from streamgauge.spec.presets import Settings
from streamgauge.spec.resolved import Resolved
from streamgauge.suite.seen import Seen
from streamgauge.target import Target, request_for

GUESSED_TOKENS = 300
"""Output tokens of one answer where the request sets no limit and none was seen."""
SHORT_TOKENS = 100
"""Of a short answer."""
GUESSED_TTFT_S, GUESSED_TOKENS_PER_S = 0.5, 40.0
CHARS_PER_TOKEN = 4.0
START_NS, REQUEST_NS = 150 * US, 300 * US
"""What one worker needs at least for a start on a new connection, and for a short answer from start to end
(bench/openloop.py measures both)."""
LATE_NS = 5 * MS
"""Starts that late are worth a word before the run."""
_LIMIT = re.compile(
    rb'"(?:max_tokens|max_completion_tokens|max_output_tokens|maxOutputTokens|maxTokens)"\s*:\s*(\d{1,9})\b'
)
"""Where a request says how long its answer may be. Quotes inside a text are escaped, so no prompt looks like it."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a plan would send. `usd` None: some price is unknown."""

    requests: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    seconds: float
    phases_s: tuple[float, ...]
    """Of each phase."""
    streams: int
    """Open at once at most: the level, in open loop the cap."""
    rate_per_s: float | None
    """Arrivals of the judged phase, on average; None in closed loop."""
    most_open: int | None
    """Streams that will be open at once in open loop, as long as answers are believed to take."""
    sends: dict[str, dict[str, float]]
    """Requests by phase and target."""
    words: tuple[str, ...]
    """What the numbers rest on: where an answer's length comes from, what a pace leaves of the streams."""


def estimate_of(
    resolved: Resolved, targets: tuple[Target, ...], phases: tuple[Phase, ...], seen: dict[str, Seen | None]
) -> Estimate:
    """Requests, tokens, money and time, by what is known of the service."""
    out, lengths = _lengths(targets, seen)
    first = {name: GUESSED_TTFT_S if one is None or one.ttft_ms is None else one.ttft_ms / 1e3
             for name, one in seen.items()}  # fmt: skip
    takes = {name: first[name] + tokens / GUESSED_TOKENS_PER_S for name, tokens in out.items()}
    rpm = {t.name: t.rpm for t in targets}
    sent: dict[str, float] = {}
    sends: dict[str, dict[str, float]] = {}
    phases_s: list[float] = []
    for phase in phases:
        within = takes if phase.max_tokens is None else _cut_short(targets, takes, first, phase.max_tokens)
        loads = [
            (lane, *_lane_load(lane, phase, max(within[name] for name in lane.targets), rpm)) for lane in phase.lanes
        ]
        phases_s.append(max((took for _, _, took in loads), default=(phase.duration_ns or 0) / S))
        for lane, n, _ in loads:
            for name in lane.targets:
                sent[name] = sent.get(name, 0.0) + n / len(lane.targets)
                of_phase = sends.setdefault(phase.name, {})
                of_phase[name] = of_phase.get(name, 0.0) + n / len(lane.targets)
    each = {t.name: input_tokens(resolved, t) for t in targets}
    prices = {t.name: t.usd_per_mtok for t in (*resolved.targets, *resolved.controls)}
    known = [(n * each[name] * price.input + n * out[name] * price.output) / 1e6
             for name, n in sent.items() if (price := prices[name]) is not None]  # fmt: skip
    return Estimate(
        requests=round(sum(sent.values())),
        input_tokens=round(sum(n * each[name] for name, n in sent.items())),
        output_tokens=round(sum(n * out[name] for name, n in sent.items())),
        usd=sum(known) if len(known) == len(sent) else None,
        seconds=sum(phases_s) + max(takes.values()),
        phases_s=tuple(phases_s),
        streams=max(phase.streams for phase in phases),
        rate_per_s=next((phase.rate for phase in phases if phase.rate is not None), None),
        most_open=_most_open(phases, takes),
        sends=sends,
        words=(
            *lengths,
            *_repeated(phases),
            *_sooner(targets, phases, out, first),
            *_end_early(resolved.settings, out, first),
            *_thinned(phases, takes, rpm),
            *_cannot_hold(phases, takes),
        ),
    )


def _repeated(phases: tuple[Phase, ...]) -> list[str]:
    """That some requests are there to see whether prompts are cached."""
    n = sum(phase.requests or 0 for phase in phases if phase.name == REPEATS)
    return (
        [f"{n} of them repeat one prompt beside new ones: is it cached? (not judged; repeats = 0: none)"] if n else []
    )


def _cut_short(
    targets: tuple[Target, ...], takes: dict[str, float], first: dict[str, float], most: int
) -> dict[str, float]:
    """Seconds an answer of each target takes in a phase that allows at most so many tokens."""
    shorter = {t.name: first[t.name] + most / GUESSED_TOKENS_PER_S for t in targets
               if t.max_tokens is not None and t.speaks().has_max_tokens}  # fmt: skip
    return {name: min(took, shorter.get(name, took)) for name, took in takes.items()}


def _lane_load(lane: Lane, phase: Phase, takes_s: float, rpm: dict[str, float | None]) -> tuple[float, float]:
    """(requests, seconds) of one lane, as fast as its slots and its targets' paces let it."""
    if not isinstance(lane.load, Hold):
        return lane_end(lane, phase.duration_ns)
    pace = min(lane.load.most / takes_s, _lane_pace(lane, rpm))
    limit = None if phase.duration_ns is None else phase.duration_ns / S
    if lane.requests is None:  # each slot starts one, however soon the time is over
        started = min(float(lane.load.most), _lane_pace(lane, rpm) * (limit or 0.0) + 1)
        return max(pace * (limit or 0.0), started), limit or 0.0
    n = float(lane.requests)
    if limit is not None:
        n = min(n, pace * limit + lane.load.most)
    return n, n / pace if pace else 0.0


def _thinned(phases: tuple[Phase, ...], takes: dict[str, float], rpm: dict[str, float | None]) -> list[str]:
    """Where a pace leaves fewer streams open than the judged phase wants."""
    out = []
    for lane in (lane for phase in phases if phase.name == "hold" for lane in phase.lanes):
        streams = _lane_pace(lane, rpm) * sum(takes[name] for name in lane.targets) / len(lane.targets)
        if isinstance(lane.load, Hold) and streams < 0.9 * lane.load.most:
            most = f"about {max(streams, 1):.0f} of {lane.load.most} streams"
            out.append(f"rpm leaves {most} open at a time to {', '.join(lane.targets)}")
    return out


def _sooner(
    targets: tuple[Target, ...], phases: tuple[Phase, ...], out: dict[str, int], first: dict[str, float]
) -> list[str]:
    """Where time ends the hold and answers are counted as long as they may be: shorter ones make more requests."""
    lanes = [lane for phase in phases if phase.name == "hold" for lane in phase.lanes]
    capped = [t.name for t in targets if _limit_sent(t) is not None and out[t.name] > SHORT_TOKENS]
    if not capped or any(lane.requests is not None or not isinstance(lane.load, Hold) for lane in lanes):
        return []
    more = max(_takes(first[name], out[name]) / _takes(first[name], SHORT_TOKENS) for name in capped)
    chats = any(lane.chat_ns is not None for lane in lanes)
    each = f", each with up to {KEPT // 4:,} tokens of what was said before" if chats else " and tokens in"
    told = f"at answers of {SHORT_TOKENS} tokens about {more:.0f} times as many requests{each}"
    return [f"an answer that ends sooner leaves time for another: {told}"] if more >= 2 else []


def _takes(first_s: float, tokens: int) -> float:
    return first_s + tokens / GUESSED_TOKENS_PER_S


def _end_early(settings: Settings, out: dict[str, int], first: dict[str, float]) -> list[str]:
    """Where answers are too short for the lives that endurance wants: what that leaves open, and what decides it."""
    if settings.lives is None:
        return []
    wanted = settings.lives.stream_s
    found = []
    for name, tokens in out.items():
        takes = first[name] + tokens / GUESSED_TOKENS_PER_S
        if takes < wanted:
            told = f"{name}: an answer of {tokens:,} tokens lasts {span(takes)} at {GUESSED_TOKENS_PER_S:g} tok/s"
            rest = f"and {span(wanted)} are wanted. Where it ends early it is asked to go on, and streams_complete"
            found.append(f"{told}, {rest} stays open: a slower upstream decides it (docs/operations.md)")
    return found


def _most_open(phases: tuple[Phase, ...], takes: dict[str, float]) -> int | None:
    """Streams open at once in open loop, cap or not: the arrivals within what an answer takes (Little's law)."""
    return max((math.ceil(_open(lane, phase, takes)) for phase, lane in _open_lanes(phases)), default=None)


def _open_lanes(phases: tuple[Phase, ...]) -> list[tuple[Phase, Lane]]:
    return [(phase, lane) for phase in phases for lane in phase.lanes if not isinstance(lane.load, Hold)]


def _open(lane: Lane, phase: Phase, takes: dict[str, float]) -> float:
    assert not isinstance(lane.load, Hold)
    mean = sum(takes[name] for name in lane.targets) / len(lane.targets)
    return most_within(lane.load, round(mean * S), phase.duration_ns)


def _cannot_hold(phases: tuple[Phase, ...], takes: dict[str, float]) -> list[str]:
    """Where arrivals will be shed at the cap, or come closer together than this machine can start them."""
    out = []
    for phase, lane in _open_lanes(phases):
        assert not isinstance(lane.load, Hold)
        wanted = math.ceil(_open(lane, phase, takes))
        if wanted > lane.load.cap:
            most = f"about {wanted:,} streams would be open at once, and the cap is {lane.load.cap:,}"
            out.append(f"{most}: the rest is shed (raise --concurrency, or ask for less)")
        dense = _too_dense(lane.load, workers_for(phase.streams))
        if dense is not None:
            out.append(f"{dense}: starts will be late, and the report will count them")
    return out


def _too_dense(load: Arrivals, workers: int) -> str | None:
    """That arrivals come faster than `workers` can carry, or closer together than they can start them; else None."""
    if isinstance(load, Rate):
        most = workers * S / REQUEST_NS
        told = f"{load.highest:,.6g} a second are more than this machine carries (about {most:,.0f} short answers)"
        return told if load.highest > most else None
    start_ns = START_NS // workers
    free, late = 0, []
    for at in load.times:
        free = max(free, at)
        late.append(free - at)
        free += start_ns
    worst = sorted(late)[math.ceil(0.99 * len(late)) - 1]
    told = f"the trace is denser than this machine starts requests: 1 in 100 waits {worst / MS:,.0f} ms or more"
    return told if worst > LATE_NS else None


def _lane_pace(lane: Lane, rpm: dict[str, float | None]) -> float:
    """Starts a second that the paces of the lane's targets allow: they take turns, so the slowest one sets it."""
    return min(
        (of * len(lane.targets) / 60 for name in lane.targets if (of := rpm[name]) is not None), default=math.inf
    )


def _lengths(targets: tuple[Target, ...], seen: dict[str, Seen | None]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Output tokens of one answer of each target, and in words where that comes from."""
    out: dict[str, int] = {}
    why: dict[str, list[str]] = {}
    for target in targets:
        found, capped = seen[target.name], _limit_sent(target)
        if capped is not None:
            out[target.name], words = capped, f"at most {capped} tokens an answer are asked for"
        elif found is not None:
            out[target.name] = found.output_tokens
            words = f"{found.output_tokens} tokens an answer, as streamgauge check saw on {found.at[:10]}"
        else:
            out[target.name] = GUESSED_TOKENS
            words = f"{GUESSED_TOKENS} tokens an answer assumed; streamgauge check measures it"
        why.setdefault(words, []).append(target.name)
    return out, tuple(words if len(why) == 1 else f"{', '.join(names)}: {words}" for words, names in why.items())


def _limit_sent(target: Target) -> int | None:
    """The limit that the target's own request sets to its answer: by dialect, `body` or `extra`. UsageError where no
    request can be made of it."""
    found = _LIMIT.findall(request_for(target, target.speaks(), "x", "0" * 32, "0" * 16))
    return int(found[-1]) if found else None


def input_tokens(resolved: Resolved, target: Target) -> float:
    """Input tokens of one request: the prompt sets are taken in turn, and so are the texts of each."""
    sets = [sum(map(len, found.texts)) / len(found.texts) for found in resolved.prompts.values()]
    around = len(target.body or "") + len(target.system or "")
    return (sum(sets) / len(sets) + around) / CHARS_PER_TOKEN + 20
