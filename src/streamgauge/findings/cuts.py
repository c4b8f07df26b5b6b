"""Streams that end before their time, all at one age or after one silence: a time-out on the way.

Told apart: an idle time-out strikes after equal silences whatever the age, a total one at equal ages whatever was
said; where both are equal it may be either. Not told: streams that died at one moment (a restart), ages that other
streams of the same target outlived, and ends that our own limits made.

Measured (docs/proxies.md): HAProxy and Envoy keep to the ms; nginx closes up to 0.3 s early, since it does not set its
timer anew for less; Envoy closes the connection 1 s after it gave the stream up, unless the answer had not begun.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from streamgauge.columns import MISSING, BoolArray, FloatArray, IntArray
from streamgauge.findings.finding import Finding, TargetFacts
from streamgauge.sample import NOT_JUDGED, Outcome

ENDED = (Outcome.DROPPED, Outcome.TRUNCATED, Outcome.STREAM_ERROR)
TIME_OUT_STATUS = (408, 504, 524)
"""What proxies say when the answer did not begin in time; 524 is Cloudflare's."""
LEAST = 3
LEAST_S = 1.0
"""Nobody sets a time-out below it, and streams so short end alike by chance."""
AGE_WITHIN_S, SILENCE_WITHIN_S, WITHIN = 0.1, 0.35, 0.01
"""Equal: within so many seconds and 1 %."""
ENVOY_CLOSES_AFTER_S = 1.0
"""Its delayed_close_timeout."""

BOTH = 0.8
"""Of a group equal in one way so many must be equal in the other, or it says nothing."""
AS_OLD = 0.1
"""A few streams may end by themselves just then."""

IDLE = {
    "nginx": "proxy_read_timeout",
    "HAProxy": "timeout server",
    "Envoy": "stream_idle_timeout",
}
TOTAL = "the route's timeout (Envoy, 15 s by default)"
IDLE_MORE = "or the idle time-out of a load balancer (60 s at AWS)"
TOTAL_MORE = "or the longest duration that the platform (ECS, Lambda, CloudFront) gives a request or function"


def idle_settings(way: frozenset[str] = frozenset()) -> str:
    """The settings that end a silent stream, those of the proxies on the way first."""
    return " / ".join(IDLE[name] for name in sorted(IDLE, key=lambda name: name not in way))


@dataclass(frozen=True, slots=True)
class _Deaths:
    """A target's streams and which of them died alike. Ages and silences in s, a place a row."""

    rows: IntArray
    age: FloatArray
    silence: FloatArray
    by_age: BoolArray
    by_silence: BoolArray


def cut_at_equal_ages(facts: TargetFacts) -> Iterator[Finding]:
    """Deaths at equal ages or after equal silences."""
    deaths = _deaths(facts)
    if deaths is not None:
        yield _told(facts, deaths)


def died_alike(facts: TargetFacts) -> IntArray:
    """The rows of streams that a time-out ended."""
    deaths = _deaths(facts)
    return facts.rows[:0] if deaths is None else deaths.rows[deaths.by_age | deaths.by_silence]


def _deaths(facts: TargetFacts) -> _Deaths | None:
    """None where none died alike."""
    columns, rows = facts.columns, facts.rows
    rows = rows[(columns.facts["sent_ns"][rows] != MISSING) & ~columns.having(rows, NOT_JUDGED)]
    refused = columns.having(rows, [Outcome.HTTP_ERROR]) & np.isin(columns.facts["http_status"][rows], TIME_OUT_STATUS)
    dead = columns.having(rows, ENDED) | refused
    if int(dead.sum()) < LEAST:
        return None
    age = (columns.end[rows] - columns.facts["sent_ns"][rows]) / 1e9
    heard = np.maximum(
        columns.facts["sent_ns"][rows], np.maximum(columns.facts["first_byte_ns"][rows], columns.last_output[rows])
    )
    silence = np.where(refused, age, (columns.end[rows] - heard) / 1e9)
    if "Envoy" in facts.way:
        late = np.where(refused, 0.0, ENVOY_CLOSES_AFTER_S)
        age, silence = age - late, np.maximum(silence - late, 0.0)
    came = columns.start[rows] / 1e9
    by_age = _alike(age, dead, came, AGE_WITHIN_S)
    if by_age.any() and _outlived(age[~dead], age[by_age]):
        by_age = np.zeros_like(by_age)
    by_silence = _alike(silence, dead, came, SILENCE_WITHIN_S)
    if not by_age.any() and not by_silence.any():
        return None
    return _Deaths(rows, age, silence, by_age, by_silence)


def _outlived(others: FloatArray, group: FloatArray) -> bool:
    """Whether other streams lived longer, or many as long: then nothing ends streams at that age."""
    longer = others > group.max() * (1 + WITHIN) + AGE_WITHIN_S
    return bool(longer.any()) or int((others >= group.min()).sum()) > AS_OLD * len(group)


def _alike(values: FloatArray, dead: BoolArray, came: FloatArray, within_s: float) -> BoolArray:
    """The largest group of deaths with equal values, if it is evidence: enough, most of them, and not at one moment."""
    own = np.flatnonzero(dead)
    order = own[np.argsort(values[own], kind="stable")]
    ordered = values[order]
    ends = np.searchsorted(ordered, ordered * (1 + WITHIN) + within_s, "right")
    sizes = np.where(ordered >= LEAST_S, ends - np.arange(len(ordered)), 0)
    none = np.zeros(len(values), dtype=np.bool_)
    first = int(np.argmax(sizes))
    group = order[first : first + int(sizes[first])]
    if len(group) < LEAST or 2 * len(group) < len(own) or np.ptp(came[group]) <= within_s:
        return none
    none[group] = True
    return none


def _told(facts: TargetFacts, deaths: _Deaths) -> Finding:
    rows, age, silence = deaths.rows, deaths.age, deaths.silence
    by_age, by_silence = deaths.by_age, deaths.by_silence
    both = by_age & by_silence
    either = int(both.sum()) >= BOTH * max(int(by_age.sum()), int(by_silence.sum()))
    idle = not either and int(by_silence.sum()) > int(by_age.sum())
    group = both if either else by_silence if idle else by_age
    seconds = float((silence if idle else age)[group].max())
    kind = "an idle or total" if either else "an idle" if idle else "a total"
    how = f"after {seconds:.1f} s without output" if idle else f"at {seconds:.1f} s"
    total = not idle and not either
    settings, more = (TOTAL, TOTAL_MORE) if total else (idle_settings(facts.way), IDLE_MORE)
    more = f"{more}, {TOTAL_MORE}" if either else more
    k, n = int(group.sum()), len(rows)
    return Finding(
        name="cut_at_equal_ages",
        target=facts.target,
        words=f"{k} of {n} streams ended {how}: {kind} time-out of {nominal(seconds)} s: {settings}",
        evidence=facts.basis(
            rows[group], n, "streams", seconds=seconds, age_min_s=float(age[group].min()),
            age_max_s=float(age[group].max()), silence_min_s=float(silence[group].min()),
            silence_max_s=float(silence[group].max()), alike_by_age=float(by_age.sum()),
            alike_by_silence=float(by_silence.sum()),
        ),
        cause=f"{settings}, {more}",
        check="ask the app itself, past the proxy, for an answer as long or as silent: there it goes on",
        remedy=(
            f"raise it above the longest {'silence' if idle else 'answer'} you allow"
            + ("" if total else "; or have the app send a comment line while it waits")
        ),
        lost=k / n,
    )  # fmt: skip


def nominal(seconds: float) -> str:
    """The round number that was probably set: a time-out strikes a little after it, or with nginx a little before."""
    whole = round(seconds + SILENCE_WITHIN_S / 2 - AGE_WITHIN_S / 2)
    near = -max(AGE_WITHIN_S, WITHIN * seconds) <= whole - seconds <= max(SILENCE_WITHIN_S, WITHIN * seconds)
    return f"{whole}" if near else f"{seconds:.1f}"
