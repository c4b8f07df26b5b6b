"""Doubt: could our own doing, or a wrong set-up, have made the verdict?

Rules: only what the generator did counts here. Load that is missing because the target refused, failed or was slow is
data. Each function gives the reason in words, or nothing.

- Time: the verdict on a time criterion is taken again with every stamp moved to the earliest and the latest that our
  own slack and lateness allow, and with the Samples that were in flight over a step of the clock at either extreme; it
  does not stand if it changes, nor if the p95 of that movement exceeds 5 % of the limit.
- Load: more than 5 % of the starts that plan and free slots called for were late or missing through us, or a limit of
  this machine was met.
- Set-up: nothing ever succeeded, and everything ended alike in a way that speaks of credentials, address or dialect.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from streamgauge import stats
from streamgauge.columns import OUTCOMES, Columns, IntArray, population
from streamgauge.evidence import Answer, Requirement, View, movement
from streamgauge.metrics import METRICS, Metric
from streamgauge.sample import NOT_JUDGED, SETUP, Outcome
from streamgauge.summary import Scope

OURS_AT_MOST = 0.05
"""Of a limit: how far we may have moved its metric (p95). Of the starts: how many may be late or missing through us."""
_BETWEEN_READS = frozenset({"itl_ms", "stalls"})
"""What is made of gaps: reads of ours that merged are minded in their own way, so only the clock is in doubt here."""
_MOVED = (View(moved="earliest"), View(moved="latest"))
_FLAGGED = (View(flagged="least"), View(flagged="most"))


def time_doubt(
    columns: Columns, ask: Requirement, rows: IntArray, answer: Answer, look: Callable[[View], Answer]
) -> str | None:
    """Why `answer` on a time criterion over `rows` does not stand; None where it does, or rests on no time.

    look: the answer as it would be in another view.
    """
    metric = METRICS["ttft_ms" if ask.metric == "ttft_degradation" else ask.metric]
    if metric.kind in ("time", "per_request"):
        moved = _moved_doubt(columns, ask, metric, rows, answer, look)
        if moved is not None:
            return moved
    elif metric.name not in _BETWEEN_READS:
        return None
    if columns.clock_step[rows].any():
        other = next((seen for seen in map(look, _FLAGGED) if seen != answer), None)
        if other is not None:
            return f"requests in flight over a step of the clock could turn {answer} into {other}"
    return None


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
    moved = stats.quantile(movements, 0.95) or 0.0
    if allowed is None or moved <= allowed:
        return None
    return (
        f"our own slack and lateness reach {moved:.3g} {metric.unit} at p95, over 5 % of the limit "
        f"({allowed:.3g} {metric.unit})"
    )


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
