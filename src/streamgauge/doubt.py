"""Doubt: could our own doing, or a wrong set-up, have made the verdict?

Rules: only what the generator did counts here. Load that is missing because the target refused, failed or was slow is
data. Each function gives the reason in words, or nothing.

- Time: the verdict on a time criterion is taken again with every stamp moved to the earliest and the latest that our
  own slack and lateness allow, and with the Samples that were in flight over a step of the clock moved as far as the
  clock was; it does not stand if it changes, nor if the number itself moves by more than 5 % of the limit.
- How far a quantile could be off is known exactly: where each of n values lies between two others, their quantile lies
  between the quantiles of those (it is monotone in every value). A mean likewise. A spread is not; there it is the p95
  of the movements that may not exceed 5 %.
- Load: more than 5 % of the starts that plan and free slots called for were late or missing through us, or a limit of
  this machine was met. Streams held are counted again as if no start had been late.
- The target's own machine: where it runs on this one, and we filled it, we can have made it slow, never fast.
- Presence: a machine that slept, or stood still for over 5 s, measured nothing, and what failed meanwhile may be its
  doing too. It leaves nothing of the run standing, also not what was seen on the wire.
- Set-up: nothing ever succeeded, and everything ended alike in a way that speaks of credentials, address or dialect.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from streamgauge import stats
from streamgauge.columns import OUTCOMES, Columns, IntArray, population
from streamgauge.evidence import Answer, Requirement, View, movement, reach
from streamgauge.metrics import METRICS, Metric
from streamgauge.sample import NOT_JUDGED, SETUP, Outcome
from streamgauge.spans import span
from streamgauge.summary import Scope

OURS_AT_MOST = 0.05
"""Of a limit: how far we may have moved its metric (p95). Of the starts: how many may be late or missing through us."""
_BETWEEN_READS = frozenset({"itl_ms", "stalls"})
"""What is made of gaps: reads of ours that merged are minded in their own way, so only the clock is in doubt here."""
_MOVED = (View(moved="earliest"), View(moved="latest"))
_FLAGGED = (View(flagged="least"), View(flagged="most"))
SHOWN = {"p50": 500.0, "p95": 1000.0, "p99": 2000.0}
"""The strategy's limits of TTFT in ms: what a quantile that no criterion asks about is held against."""
FULL = 0.9
"""Busy share of a machine's processor time from which a program that wants some waits for it."""
STILL_S = 5.0
"""A worker that did not look at itself for longer was not there: no machine is so slow."""
OUR_PART = 0.1
"""Share of the machine's processor time from which our workers count among those that filled it."""


def time_doubt(
    columns: Columns, ask: Requirement, rows: IntArray, answer: Answer, look: Callable[[View], Answer]
) -> str | None:
    """Why `answer` on a time criterion over `rows` does not stand; None where it does, or rests on no time.

    look: the answer as it would be in another view.
    """
    metric = METRICS["ttft_ms" if ask.metric == "ttft_degradation" else ask.metric]
    if metric.name == "concurrency_held":
        on_time = look(_MOVED[0])
        return None if on_time == answer else f"our own lateness could turn {answer} into {on_time}"
    if metric.kind in ("time", "per_request"):
        doubt = _moved_doubt(columns, ask, metric, rows, answer, look)
        if doubt is not None:
            return doubt
    elif metric.name not in _BETWEEN_READS:
        return None
    if not columns.clock_step[rows].any():
        return None
    other = next((seen for seen in map(look, _FLAGGED) if seen != answer), None)
    if other is not None:
        return f"requests in flight over a step of the clock could turn {answer} into {other}"
    allowed = _allowed_movement(columns, ask, rows)
    moved = reach(columns, ask, metric, rows, _FLAGGED)
    if allowed is None or moved is None or moved <= allowed:
        return None
    return f"a step of the clock could have moved it by {_over(moved, metric, allowed)}"


def could_fail(answer: Answer, look: Callable[[View], Answer]) -> bool:
    """Whether a criterion fails, as it is or in any view: only so can one that holds back no pass change the run."""
    return answer == "fail" or any(look(view) == "fail" for view in (*_MOVED, *_FLAGGED))


def _moved_doubt(
    columns: Columns, ask: Requirement, metric: Metric, rows: IntArray, answer: Answer, look: Callable[[View], Answer]
) -> str | None:
    """Why `answer` does not stand when stamps move as far as our own slack and lateness allow."""
    movements = movement(columns, metric, rows)
    if not movements.any():
        return None
    other = next((seen for seen in map(look, _MOVED) if seen != answer), None)
    if other is not None:
        return f"our own slack and lateness could turn {answer} into {other}"
    if metric.name == "output_rate":
        # A rate far above its limit is moved by more than its limit by any slack; what counts is the time a token.
        metric = METRICS["tpot_ms"]
        movements = movement(columns, metric, rows)
    allowed = _allowed_movement(columns, ask, rows)
    if allowed is None:
        return None
    moved = None if ask.metric == "output_rate" else reach(columns, ask, metric, rows, _MOVED)
    if moved is not None:
        told = f"our own slack and lateness could have moved it by {_over(moved, metric, allowed)}"
        return told if moved > allowed else None
    moved = stats.quantile(movements, 0.95) or 0.0
    told = f"our own slack and lateness reach {moved:.3g} {metric.unit} at p95, over 5 % of the limit"
    return f"{told} ({allowed:.3g} {metric.unit})" if moved > allowed else None


def _over(moved: float, metric: Metric, allowed: float) -> str:
    if moved == math.inf:
        return f"any length, over 5 % of the limit ({allowed:.3g} {metric.unit})"
    told = f"{moved:,.0f}" if moved >= 100 else f"{moved:.3g}"
    return f"{told} {metric.unit}, over 5 % of the limit ({allowed:.3g} {metric.unit})"


def unsure(columns: Columns, scope: Scope) -> list[tuple[str, str, str, float]]:
    """(target, metric, stat, ms) of each TTFT quantile that we could have moved by over 5 % of the strategy's limit.

    For the report's numbers, whether or not a criterion asks about them.
    """
    found = []
    for target in scope.targets:
        rows = columns.select(targets=(target,), phases=scope.judged)
        for name in ("ttft_ms", "ttft_service_ms"):
            for stat, limit in SHOWN.items():
                ask = Requirement(name, stat, "<", limit)
                moved = reach(columns, ask, METRICS[name], rows, (*_MOVED, *_FLAGGED))
                if moved is not None and moved > OURS_AT_MOST * limit:
                    found.append((target, name, stat, moved))
    return found


def filled(machine: float | None, ours: float | None, *, on_this_machine: bool) -> str | None:
    """That the target ran on this machine, which was full, and not without us; None where that is not so.

    machine, ours: mean share of all its processor time that was in use in the judged phases, by all and by our workers.
    Want of processor time makes a service slow, never fast: a pass stands, a fail by time need not be the service's.
    """
    if not on_this_machine or machine is None or ours is None or machine < FULL or ours < OUR_PART:
        return None
    return f"this machine was full ({machine:.0%} busy, {ours:.0%} with our load) and the target runs on it"


def stood_still(slept_s: float, still_s: float) -> str | None:
    """That the machine, or we on it, did nothing for a while, so that nothing of the run stands; None where not.

    slept_s: how long it was suspended. still_s: the longest time between two looks of a worker at itself, which are due
    every quarter of a second. What failed meanwhile can be our doing as well: a peer gives up on who does not read.
    """
    if slept_s > 0:
        return f"this machine slept for {span(slept_s)} while it measured"
    if still_s > STILL_S:
        return f"this machine, or streamgauge on it, stood still for {span(still_s)} (paused, stopped, or suspended)"
    return None


def _allowed_movement(columns: Columns, ask: Requirement, rows: IntArray) -> float | None:
    """5 % of the limit in ms. A cv's limit is a share of the mean, a rate's is in tokens a second; the degradation's
    has no unit.
    """
    if ask.limit <= 0 or ask.metric == "ttft_degradation":
        return None
    if ask.metric == "output_rate":
        return OURS_AT_MOST * 1e3 / ask.limit
    if ask.stat != "cv":
        return OURS_AT_MOST * ask.limit
    values = population(columns, METRICS[ask.metric], rows).values
    reached = values[values < math.inf]
    return OURS_AT_MOST * ask.limit * float(reached.mean()) if len(reached) else None


def run_doubts(columns: Columns, scope: Scope, *, starts: int, missed: int) -> list[str]:
    """Why the whole run's timing and load do not stand; empty where they do.

    starts: what plan and free slots called for in the judged phases. missed: those of them that were over 50 ms late or
    never made, through us.
    """
    doubts = []
    if starts and missed > OURS_AT_MOST * starts:
        doubts.append(f"{missed:,} of {starts:,} starts were late or missing through us, over 5 %")
    limited = int(columns.having(scope.rows(columns), [Outcome.CLIENT_LIMIT]).sum())
    if limited:
        doubts.append(f"{limited:,} requests met a limit of this machine (descriptors or ports)")
    return doubts


def set_up(columns: Columns) -> str | None:
    """The outcome in which every request of the run ended, where that speaks of the set-up and not of the service.

    That is: none ever succeeded, and all ended alike in auth_error, protocol_error, tls_error or http_error 4xx.
    """
    ended = {outcome for code, outcome in enumerate(OUTCOMES) if (columns.outcome == code).any()}
    ended -= NOT_JUDGED | {Outcome.SHED}
    if len(ended) != 1:
        return None
    outcome = ended.pop()
    refused = outcome is Outcome.HTTP_ERROR and all(
        failure.http_status is not None and 400 <= failure.http_status < 500
        for failure in columns.failures
        if failure.outcome == Outcome.HTTP_ERROR
    )
    return outcome.value if outcome in SETUP or refused else None
