"""Capacity and what lies beyond it, and the life of long streams: the sections `capacity` and `lives` in words.

What was fitted stands in those sections, which only some tests have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from streamgauge.findings.finding import Basis, Finding, RunFacts
from streamgauge.findings.instances import instances
from streamgauge.lives import Lives
from streamgauge.sample import GOOD
from streamgauge.strain import Rung, Strain, crash_words

SLOWER = 0.85
LEVELS = ("stress", "hold")
FAST_MS, FAST_SHARE = 1_000.0, 0.95


def _strain(run: RunFacts) -> Strain | None:
    found = run.sections.get("capacity")
    return None if found is None else cast(Strain, found)


def scale_out(run: RunFacts) -> Iterator[Finding]:
    """How many there may be for each instance."""
    found = _strain(run)
    if found is None or found.value is None or found.at_least:
        return
    several = max([len(instances(run.of(target)).names) for target in run.scope.targets] or [1]) or 1
    each = (found.low if found.low else found.value) / several
    behind = f" of {several} instances" if several > 1 else ""
    what = "open streams" if found.unit == "users" else found.unit
    yield Finding(
        name="scale_out",
        target=None,
        words=(
            f"the capacity{behind} is {found.value:,.3g} {found.unit}, limited by {found.limited_by}: scale out at "
            f"{each:,.3g} {what} an instance"
        ),
        evidence=_basis(
            found, len(found.levels), value=found.value, low=found.low, high=found.high, instances=float(several),
            per_instance=each,
        ),
        cause="what one instance can do within the criteria",
        check="hold that many and one more step: streamgauge run concurrent --concurrency N",
        remedy="scale by the number of open streams, not by CPU alone; a limit an instance just above that number",
    )  # fmt: skip


def sheds(run: RunFacts) -> Iterator[Finding]:
    """From a level on requests are refused, or queue without an end."""
    found = _strain(run)
    first = _first(found, "shedding")
    if found is None or first is None:
        return
    unit = "user" if first.level == 1 and found.unit == "users" else found.unit
    slow = found.failures_fast is False and not _fast_from(run, first)
    yield Finding(
        name="sheds",
        target=None,
        words=(
            f"from {first.level:,.3g} {unit} on requests are refused, {first.error_rate or 0:.1%} of them there"
            + ("; they are told so late" if slow else "")
        ),
        evidence=_basis(found, _from(found, first), level=first.level, error_rate=first.error_rate),
        cause="a limit of connections, workers or a queue before them that is full",
        check="what was not ok says who refused, and with which status",
        remedy="refuse at once with 429 or 503 and Retry-After; set the limit of the queue to what is served in time",
        lost=first.error_rate,
    )  # fmt: skip


def _fast_from(run: RunFacts, first: Rung) -> bool:
    """Whether the failures at this level and above were told within FAST_MS: those of a spike are not theirs."""
    columns = run.columns
    rows = columns.select(targets=run.scope.targets, phases=LEVELS)
    rows = rows[(columns.level[rows] >= first.level) & ~columns.having(rows, GOOD)]
    took_ms = (columns.end[rows] - columns.due[rows]) / 1e6
    return bool(len(rows)) and float((took_ms <= FAST_MS).mean()) >= FAST_SHARE


def collapses(run: RunFacts) -> Iterator[Finding]:
    """From a level on less is served than before."""
    found = _strain(run)
    first = _first(found, "collapse")
    if found is None or first is None:
        return
    yield Finding(
        name="collapses",
        target=None,
        words=(
            f"from {first.level:,.3g} {found.unit} on less is served than with fewer: it collapses instead of refusing"
        ),
        evidence=_basis(found, _from(found, first), level=first.level, error_rate=first.error_rate),
        cause="all take what is there from each other: threads, memory, locks, retries that add load",
        check="CPU, memory and the run queue at that level (a probe: [probes.NAME])",
        remedy="a limit of streams an instance below that level; circuit breakers; no retries without a pause",
        lost=first.error_rate,
        later=not first.error_rate,
    )


def crashed(run: RunFacts) -> Iterator[Finding]:
    """The service went away under load."""
    found = _strain(run)
    if found is None or not found.crashes:
        return
    first, *others = found.crashes
    again = f", and {len(others)} more times" if len(others) > 1 else ", and once more" if others else ""
    failed, n = sum(one.failed for one in found.crashes), first.n
    back_s = None if first.back_ns is None else (first.back_ns - first.at_ns) / 1e9
    ends = [one.at_ns for one in found.crashes]
    yield Finding(
        name="crashed",
        target=None,
        words=f"it crashed{':' if first.level is None else ''} {crash_words(first, found.unit)}{again}",
        evidence=Basis(
            k=failed, n=n, of="requests",
            values={"crashes": float(len(found.crashes)), "level": first.level,
                    "back_after_s": None if back_s is None else round(back_s, 2)},
            from_s=round((min(ends) - run.start_ns) / 1e9, 2), to_s=round((max(ends) - run.start_ns) / 1e9, 2),
            samples=[],
        ),
        cause="a limit of memory or descriptors, or an error that nobody caught",
        check="its exit code and last words; the platform's events (137: killed, mostly for memory)",
        remedy="limits of streams and memory below which it refuses instead of dying",
        lost=failed / n if n else None,
        later=True,
    )  # fmt: skip


def slows_within(run: RunFacts) -> Iterator[Finding]:
    """Long streams get slower towards their end."""
    lives = run.sections.get("lives")
    pace = None if lives is None else cast(Lives, lives).pace
    if pace is None or pace.high >= SLOWER:
        return
    yield Finding(
        name="slows_within",
        target=None,
        words=(
            f"long streams end at {pace.kept:.0%} of the pace they begin with: {pace.begin_per_s:,.1f} reads/s, "
            f"{pace.end_per_s:,.1f} at the end"
        ),
        evidence=Basis(
            k=pace.streams, n=pace.streams, of="streams",
            values={"kept": pace.kept, "low": pace.low, "high": pace.high, "begin_per_s": pace.begin_per_s,
                    "end_per_s": pace.end_per_s},
            from_s=None, to_s=None, samples=[],
        ),
        cause="work for each token that grows with the answer: it is joined, parsed or stored anew each time",
        check="the same answer in two halves: is the second one as slow?",
        remedy="work on what is new only; write it down once at the end",
        later=True,
    )  # fmt: skip


def _first(found: Strain | None, phase: str) -> Rung | None:
    levels = [] if found is None else sorted(found.levels, key=lambda one: one.level)
    return next((one for one in levels if one.phase == phase), None)


def _from(found: Strain, first: Rung) -> int:
    return sum(one.level >= first.level for one in found.levels)


def _basis(found: Strain, k: int, **values: float | None) -> Basis:
    told = {name: None if value is None else round(value, 4) for name, value in values.items()}
    return Basis(k=k, n=max(len(found.levels), k), of="levels", values=told, from_s=None, to_s=None, samples=[])
