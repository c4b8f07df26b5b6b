"""Judges: criteria and Samples to pass, fail, inconclusive or invalid, each with its uncertainty.

Rules:
- A criterion is fixed, with its gating, before the first request. It gates when the planned n shows a healthy service
  (one fifth of the share the limit allows) to be inside the limit with probability 80 % or more.
- A FAIL of any criterion that is not advisory fails the run. Else doubt of the measurement makes it invalid; else a
  gating criterion that is not a pass, no gating criterion at all, or a partial run makes it inconclusive.
- A criterion that does not gate cannot hold back a pass, so doubt of it only leaves it open, unless it could fail.
- A FAIL by outcomes seen on the wire (errors, drops, time-outs, tokens that never came) stands whatever our own doing
  was. What rests on time or on the load we made does not stand once that doing could have changed it.
  What counts as doubt stands in `doubt`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from streamgauge import stats
from streamgauge.columns import Columns, IntArray
from streamgauge.doubt import could_fail, run_doubts, set_up, time_doubt
from streamgauge.errors import Exit
from streamgauge.evidence import (
    AS_IS,
    NOT_MEASURED,
    Answer,
    Evidence,
    Requirement,
    View,
    Weigh,
    observed,
    weigh,
    weigh_degradation,
)
from streamgauge.metrics import METRICS
from streamgauge.sentences import sentence
from streamgauge.slices import over_time
from streamgauge.summary import Scope, Summary

__all__ = [
    "Criterion",
    "Decision",
    "Judged",
    "Severity",
    "Word",
    "allowed_share",
    "chance",
    "decide",
    "doubts_of",
    "gates",
    "judge",
    "least_n",
    "leaves_open",
    "points",
    "run_doubts",
    "set_up",
    "severity",
    "void",
    "worth_doubling",
]

Word = Literal["pass", "fail", "inconclusive", "invalid"]
Severity = Literal["P0", "P1", "P2"]

GATES_FROM = 0.8
"""Probability of PASS for a healthy service from which a criterion gates."""
HEALTHY = 0.2
"""A healthy service has this share of what the limit allows."""
MOMENT_GATES_FROM = 50
"""Requests from which a mean, sd or cv gates: a lognormal service at half the limit then passes in 80 % of runs."""
SEVERE: tuple[tuple[Severity, float, float], ...] = (("P0", 2_000.0, 0.05), ("P1", 1_500.0, 0.02))
"""The strategy's thresholds: ttft p95 in ms, error rate."""
IN_ITSELF: dict[str, Severity] = {"crashes": "P0"}
"""A service that is gone fails whoever asks: beyond the strategy's 5 %, whatever the judged phases saw."""
_WIRE = frozenset({"error_rate", "drop_rate", "errors", "drops", "timeouts", "streams_complete"})
_OWN = frozenset({"memory_growth_mb_per_h", "memory_cleanup", "memory_unbounded", "crashes", "level_error_rate"})
"""What fails by what the server tells of itself or did: no load that we failed to make, and no stamp of ours, makes its
memory grow, its door close, or its answers fail."""


class Criterion(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of one number. Fixed, with its gating, before the first request."""

    name: str
    metric: str
    stat: str | None
    op: str
    limit: float
    unit: str
    target: str | None = None
    prompt: str | None = None
    phase: str | None = None
    """None: the judged phases."""
    advisory: bool = False
    gating: bool = True
    planned_n: int | None = None
    severity: Severity | None = None
    """Of a fail; None: by the strategy's thresholds."""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A criterion with what was seen, as it stands in the report's JSON."""

    name: str
    metric: str
    stat: str | None
    op: str
    limit: float
    unit: str
    target: str | None
    prompt: str | None
    phase: str | None
    value: float | None
    low: float | None
    high: float | None
    confidence: float
    n: int
    gating: bool
    advisory: bool
    verdict: Word
    why: str | None = None
    """For a null value: censored, merged, too_few, no_text, not_measured; else a short reason or None."""
    needs: int | None = None
    """Requests (or more requests) that would settle it; None where it is settled or cannot be told."""
    sentence: str = ""
    """In words a team lead understands: `1 chat in 22 waits over 1 s`."""
    n_effective: int | None = None
    """How many independent requests the n are worth, where they come in bouts; None where that is all of them."""
    severity: Severity | None = None
    """The criterion's own, where it has one."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The run's verdict."""

    word: Word
    severity: Severity | None
    exit: Exit


# Before the run


def chance(criterion: Criterion, planned_n: int | None = None, confidence: float = stats.CONFIDENCE) -> float | None:
    """Probability that `planned_n` requests (the criterion's own by default) of a healthy service give a PASS.

    Healthy: one fifth of the share of requests that the limit allows beyond it (p95: 1 %, p99: 0.2 %, error_rate < 0.5
    %: 0.1 %). Exact binomial; gaps count as one a request. None where no such share exists (mean, cv, counts, scalars).
    """
    n = criterion.planned_n if planned_n is None else planned_n
    allowed = allowed_share(criterion)
    return None if allowed is None else stats.chance_of_pass(n or 0, allowed, HEALTHY * allowed, confidence)


def allowed_share(criterion: Criterion) -> float | None:
    """The share of requests that may lie beyond the limit; None where the criterion speaks of no share."""
    ask = _requirement(criterion)
    if criterion.metric == "ttft_degradation":
        return 0.05
    if ask.quantile is not None:
        share = 1 - ask.quantile if ask.upper else ask.quantile
    elif METRICS[criterion.metric].kind == "rate" and ask.upper:
        share = criterion.limit
    else:
        return None
    return share if 0 < share < 1 else None


def gates(criterion: Criterion, planned_n: int | None = None, confidence: float = stats.CONFIDENCE) -> bool:
    """Whether the planned n can decide the criterion well enough for it to hold back a pass.

    What is judged as observed (counts, scalars, min, max) always gates; advisory criteria never do.
    """
    n = criterion.planned_n if planned_n is None else planned_n
    if criterion.advisory:
        return False
    if criterion.stat in ("mean", "sd", "cv"):
        return (n or 0) >= MOMENT_GATES_FROM
    probability = chance(criterion, n, confidence)
    if probability is None:
        return METRICS[criterion.metric].kind != "rate"
    return probability >= GATES_FROM


def least_n(criterion: Criterion, confidence: float = stats.CONFIDENCE) -> int | None:
    """Fewest requests that show a PASS when none lies beyond the limit (59 for p95); None where n does not matter."""
    allowed = allowed_share(criterion)
    return None if allowed is None else stats.least_n(allowed, confidence)


# After the run, criterion by criterion


def judge(
    criteria: Iterable[Criterion],
    columns: Columns,
    scope: Scope,
    *,
    confidence: float = stats.CONFIDENCE,
    partial: bool = False,
    invalid_because: Sequence[str] = (),
    slowed_by: str | None = None,
    seed: int = 0,
    given: Mapping[str, Weigh] | None = None,
) -> list[Judged]:
    """Each criterion with what was seen of it.

    given: how metrics of kind `run` are held against a requirement; one that is missing there was not measured.

    confidence: of each one-sided bound; 0.975 where the run may be looked at twice. partial: the run ended before its
    plan was done: a count that is fine so far is open. invalid_because: the run's own doubts (`run_doubts`). slowed_by:
    what of ours can only have made the service slower (`filled`): a pass stands beside it.
    """

    def seen(criterion: Criterion, view: View) -> Evidence:
        if METRICS[criterion.metric].kind == "run":
            found = (given or {}).get(criterion.metric)
            return NOT_MEASURED if found is None else found(_requirement(criterion), confidence)
        return _evidence(criterion, columns, scope, confidence, seed, view)

    return [_judge_one(one, columns, scope, confidence, partial, invalid_because, slowed_by, seen) for one in criteria]


def _judge_one(
    criterion: Criterion,
    columns: Columns,
    scope: Scope,
    confidence: float,
    partial: bool,
    invalid_because: Sequence[str],
    slowed_by: str | None,
    seen: Callable[[Criterion, View], Evidence],
) -> Judged:
    ask = _requirement(criterion)
    found = seen(criterion, AS_IS)
    answer = found.answer
    if partial and answer == "pass" and METRICS[criterion.metric].kind == "count":
        answer = "inconclusive"
    word: Word = answer
    why = found.why
    said = sentence(ask, found, answer, confidence, partial=partial)
    if not _on_the_wire(criterion, found):

        def look(view: View) -> Answer:
            return seen(criterion, view).answer

        doubt = time_doubt(columns, ask, _rows(criterion, columns, scope), found.answer, look)
        doubt = doubt or next(iter(invalid_because), None)
        doubt = doubt or (slowed_by if found.answer == "fail" and METRICS[criterion.metric].kind != "count" else None)
        if doubt is not None and (criterion.gating or could_fail(found.answer, look)):
            word, why, said = "invalid", why or doubt, f"not judged: {doubt}"
        elif doubt is not None:
            word, why, said = "inconclusive", why or doubt, f"undecided: {doubt}"
    return Judged(
        name=criterion.name,
        metric=criterion.metric,
        stat=criterion.stat,
        op=criterion.op,
        limit=criterion.limit,
        unit=criterion.unit,
        target=criterion.target,
        prompt=criterion.prompt,
        phase=criterion.phase,
        value=found.value,
        low=found.low,
        high=found.high,
        confidence=confidence,
        n=found.n,
        gating=criterion.gating and not criterion.advisory,
        advisory=criterion.advisory,
        verdict=word,
        why=why,
        needs=found.needs if word == "inconclusive" else None,
        sentence=said,
        n_effective=found.n_effective,
        severity=criterion.severity,
    )


def void(judged: Sequence[Judged], why: str) -> list[Judged]:
    """The same criteria where nothing of the run stands, not even what was seen on the wire."""
    left = [msgspec.structs.replace(one, verdict="invalid", why=why, needs=None) for one in judged]
    return [msgspec.structs.replace(one, sentence=f"not judged: {why}") for one in left]


def _requirement(criterion: Criterion) -> Requirement:
    return Requirement(criterion.metric, criterion.stat, criterion.op, criterion.limit)


def _rows(criterion: Criterion, columns: Columns, scope: Scope) -> IntArray:
    return columns.select(
        targets=scope.targets if criterion.target is None else (criterion.target,),
        prompts=None if criterion.prompt is None else (criterion.prompt,),
        phases=scope.judged if criterion.phase is None else (criterion.phase,),
    )


def _evidence(
    criterion: Criterion, columns: Columns, scope: Scope, confidence: float, seed: int, view: View
) -> Evidence:
    ask, rows = _requirement(criterion), _rows(criterion, columns, scope)
    if METRICS[criterion.metric].kind != "scalar":
        return weigh(columns, ask, rows, confidence=confidence, seed=seed, view=view)
    targets = scope.targets if criterion.target is None else (criterion.target,)
    prompts = None if criterion.prompt is None else (criterion.prompt,)
    if criterion.metric == "ttft_degradation":
        before = columns.select(targets=targets, prompts=prompts, phases=(scope.reference,))
        return weigh_degradation(columns, ask, rows, before, confidence=confidence, seed=seed, view=view)
    alongside = columns.select(targets=targets, prompts=prompts)
    phases = scope.judged if criterion.phase is None else (criterion.phase,)
    on_time = view.moved == "earliest"
    value = over_time(columns, alongside, scope.windows(phases), scope.limits, on_time=on_time)[criterion.metric]
    return observed(ask, value, len(rows))


def _on_the_wire(criterion: Criterion, found: Evidence) -> bool:
    """Whether the answer rests on outcomes alone, or is a fail by what the server did or tells of itself: then no doubt
    about time or load touches it."""
    if criterion.metric in _WIRE:
        return True
    return found.answer == "fail" and (found.why == "censored" or criterion.metric in _OWN)


# The run


def decide(
    judged: Sequence[Judged],
    *,
    partial: bool = False,
    invalid_because: Sequence[str] = (),
    set_up: str | None = None,
    subject: str | None = None,
    ttft_p95_ms: float | None = None,
    error_rate: float | None = None,
) -> Decision:
    """The run's verdict, severity and exit code.

    subject: the metric that the test is about. Where it is asked about, a run that neither could nor did decide any of
    it is no pass, whatever else is met.
    set_up: the outcome that showed the set-up to be wrong (see `set_up`). ttft_p95_ms (inf: not reached) and error_rate
    are the points that severity is taken from (see `points`).
    """
    if set_up is not None:
        return Decision(word="invalid", severity=None, exit=Exit.UNUSABLE)
    binding = [one for one in judged if not one.advisory]
    failed = [one for one in binding if one.verdict == "fail"]
    if failed:
        by_points = severity(ttft_p95_ms, error_rate)
        worst = min(one.severity or min(IN_ITSELF.get(one.metric, by_points), by_points) for one in failed)
        return Decision(word="fail", severity=worst, exit=Exit.FAIL)
    if invalid_because or any(one.verdict == "invalid" for one in binding):
        return Decision(word="invalid", severity=None, exit=Exit.INVALID)
    gating = [one for one in binding if one.gating]
    if partial or not gating or any(one.verdict != "pass" for one in gating) or leaves_open(judged, subject):
        return Decision(word="inconclusive", severity=None, exit=Exit.INCONCLUSIVE)
    return Decision(word="pass", severity=None, exit=Exit.PASS)


def leaves_open(judged: Sequence[Judged], metric: str | None) -> bool:
    """Whether binding criteria ask about the metric, and none of them gates or is met."""
    asked = [one for one in judged if one.metric == metric and not one.advisory]
    return bool(asked) and not any(one.gating or one.verdict == "pass" for one in asked)


def severity(ttft_p95_ms: float | None, error_rate: float | None) -> Severity:
    """P0, P1 or P2 of a failed run, by the strategy's thresholds on the points seen."""
    for name, slow, failing in SEVERE:
        if (ttft_p95_ms is not None and ttft_p95_ms > slow) or (error_rate is not None and error_rate > failing):
            return name
    return "P2"


def points(summary: Summary) -> tuple[float | None, float | None]:
    """ttft p95 of the slowest judged target (inf where it was not reached), and the error rate over all of them."""
    slowest: float | None = None
    for target in summary.judged_targets:
        group = summary.group(target=target)
        ttft = group.metrics["ttft_ms"] if group is not None else None
        if ttft is None:
            continue
        p95 = math.inf if ttft.why.get("p95") == "censored" else ttft.p95
        if p95 is not None:
            slowest = p95 if slowest is None else max(slowest, p95)
    return slowest, summary.rates["error_rate"].value


def doubts_of(judged: Sequence[Judged]) -> list[str]:
    """For `invalid_because` in the report: each binding criterion whose verdict does not stand, with the reason."""
    return [
        f"{one.name}: {one.sentence.removeprefix('not judged: ')}"
        for one in judged
        if one.verdict == "invalid" and not one.advisory
    ]


def worth_doubling(judged: Sequence[Judged]) -> bool:
    """Whether twice the requests could settle the run: nothing is failed or invalid, and all that is open could be.

    For a second look, both looks must have been judged at half the error each (confidence 0.975).
    """
    binding = [one for one in judged if not one.advisory]
    held = [one for one in binding if one.gating and one.verdict == "inconclusive"]
    settled_badly = any(one.verdict in ("fail", "invalid") for one in binding)
    return bool(held) and not settled_badly and all(one.needs is not None and one.needs <= one.n for one in held)
