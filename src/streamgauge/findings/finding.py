"""What a rule reads and what it gives: `RunFacts` of the run or `TargetFacts` of one target in, `Finding`s out.

Rules: a finding has evidence. What it costs is told in one of three ways, which also order the findings: `lost`, the
share of answers that are lost through it; `later`, something that will cost answers if it goes on; `waits_ms`, what
each request waits through it on average. None of them: advice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import msgspec
import numpy as np

from streamgauge.columns import BoolArray, Columns, FloatArray, IntArray, population
from streamgauge.compare import Comparison
from streamgauge.connections import NO_CLOSINGS, Closings
from streamgauge.metrics import METRICS
from streamgauge.sample import GOOD, NOT_JUDGED, Outcome, Reading
from streamgauge.strain import Strain
from streamgauge.summary import Scope
from streamgauge.verdict import Judged

IDS = 5
"""So many Samples are named as examples."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What a finding rests on."""

    k: int
    """How many of the `n` that were looked at show it."""
    n: int
    of: str
    """What was counted: `answers`, `streams`, `connections`, `requests`."""
    values: dict[str, float | None]
    """Numbers, units in their names."""
    from_s: float | None
    """When the first and the last of the k came due, from the run's start."""
    to_s: float | None
    samples: list[str]
    """Trace ids of some of the k, at most five."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was seen, why it may be so, how to make sure, and what to do."""

    name: str
    """The rule that found it."""
    target: str | None
    words: str
    evidence: Basis
    cause: str
    """The likely one: the data alone does not prove it."""
    check: str
    """How to make sure."""
    remedy: str
    lost: float | None = None
    """Share of answers lost through it, at most."""
    later: bool = False
    """Nothing is lost yet; it will be if this goes on."""
    waits_ms: float | None = None
    """What each request waits through it, at most, on average."""

    @property
    def place(self) -> tuple[int, float]:
        """Where it stands among others: lost answers first, then later ones, then waits, then advice; most first."""
        if self.lost:
            return 0, -self.lost
        if self.later:
            return 1, 0.0
        return (2, -self.waits_ms) if self.waits_ms else (3, 0.0)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """All that rules may look at. What a run did not look at is empty."""

    columns: Columns
    scope: Scope
    start_ns: int = 0
    """When the run began."""
    closings: Closings = NO_CLOSINGS
    readings: Sequence[Reading] = ()
    """Of the probes, in order of time."""
    probes: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """probe -> (its kind, what it reads in words)."""
    sections: Mapping[str, msgspec.Struct | None] = field(default_factory=dict)
    """Parts of the Document that only some tests have, by field: memory, capacity, lives."""
    judged: Sequence[Judged] = ()
    comparisons: Sequence[Comparison] = ()
    controls: Mapping[str, str] = field(default_factory=dict)
    """target -> its control."""
    prices: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """target -> US dollars a million tokens (in, out)."""
    steady: bool = True
    """Whether the load of the judged phases was to stay the same."""

    @property
    def outages(self) -> list[tuple[int, int]]:
        """When the service was gone (from, until ns), as `crashed` tells: what that cost is told there, and once."""
        found = self.sections.get("capacity")
        end = int(self.columns.end.max()) if len(self.columns.end) else 0
        crashes = [] if found is None else cast(Strain, found).crashes
        return [(one.at_ns, end if one.back_ns is None else one.back_ns) for one in crashes]

    def amid_outage(self, from_ns: IntArray, until_ns: IntArray) -> BoolArray:
        """Which of these stretches of time lie in an outage, in part at least."""
        amid = np.zeros(len(from_ns), dtype=np.bool_)
        for since, until in self.outages:
            amid |= (until_ns >= since) & (from_ns <= until)
        return amid

    def of(self, target: str, phases: tuple[str, ...] | None = None) -> TargetFacts:
        """One target's facts, in the judged phases unless others are named."""
        rows = self.columns.select(targets=[target], phases=self.scope.judged if phases is None else phases)
        return TargetFacts(target, self.columns, rows, _way(self.columns, target), self.start_ns, self)

    def failing(self, *metrics: str, target: str | None = None) -> bool:
        """Whether a criterion of one of these metrics fails, for this target or for all together."""
        return any(
            one.verdict == "fail" and one.metric in metrics and (target is None or one.target in (None, target))
            for one in self.judged
        )

    def limit(self, target: str, metric: str = "ttft_ms", stat: str = "p95") -> float | None:
        """What a target's quantile may be at most, over all prompts and judged phases; None where nothing asks."""
        return next(
            (
                one.limit
                for one in self.judged
                if (one.metric, one.stat) == (metric, stat) and one.target in (None, target) and one.prompt is None
            ),
            None,
        )


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """One target's requests of the judged phases."""

    target: str
    columns: Columns
    rows: IntArray
    way: frozenset[str]
    """Those on the way whom answers of this target name: nginx, Envoy, CloudFront... HAProxy tells no one."""
    start_ns: int
    """When the run began."""
    run: RunFacts

    @property
    def counted(self) -> IntArray:
        """The rows that count, whatever their outcome: not those that plan or limits of ours ended."""
        return self.rows[~self.columns.having(self.rows, NOT_JUDGED)]

    @property
    def good(self) -> IntArray:
        """The rows with a good answer."""
        return self.rows[self.columns.having(self.rows, GOOD)]

    def ended(self, *outcomes: Outcome) -> IntArray:
        """The rows that ended so."""
        return self.rows[self.columns.having(self.rows, outcomes)]

    def ended_in_service(self, *outcomes: Outcome) -> IntArray:
        """The rows that ended so while the service was there."""
        rows = self.ended(*outcomes)
        ends = self.columns.end[rows]
        return rows[~self.run.amid_outage(ends, ends)]

    def values(self, metric: str, rows: IntArray | None = None) -> FloatArray:
        """The finite values of a metric with one a request."""
        found = population(self.columns, METRICS[metric], self.rows if rows is None else rows).values
        return found[np.isfinite(found)]

    def median(self, metric: str, rows: IntArray | None = None) -> float | None:
        """Their median; None where there are none."""
        return median_of(self.values(metric, rows))

    def basis(self, found: IntArray, n: int, of: str, **values: float | None) -> Basis:
        """The evidence that `found`, rows of these facts, are."""
        due = (self.columns.due[found] - self.start_ns) / 1e9
        picked = found[np.unique(np.linspace(0, len(found) - 1, IDS).round().astype(np.int64))] if len(found) else found
        return Basis(
            k=len(found),
            n=n,
            of=of,
            values={name: None if x is None else round(x, 2) for name, x in values.items()},
            from_s=round(float(due.min()), 2) if len(found) else None,
            to_s=round(float(due.max()), 2) if len(found) else None,
            samples=[_id(self.columns.facts["id"][row]) for row in picked],
        )


Rule = Callable[[TargetFacts], Iterator[Finding]]
RunRule = Callable[[RunFacts], Iterator[Finding]]


def median_of(values: FloatArray) -> float | None:
    """None of nothing."""
    return float(np.median(values)) if len(values) else None


def _id(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


KNOWN_ON_THE_WAY = ("nginx", "HAProxy", "Envoy", "CloudFront", "Cloudflare", "AWS load balancer", "Vercel", "Fastly")


def _way(columns: Columns, target: str) -> frozenset[str]:
    """Those on the way that the kept answers and failures of a target name."""
    told = [one.answered_by or "" for one in columns.failures if one.target == target]
    for sample in columns.slowest:
        if sample.target == target:
            told += [sample.answered_by or "", sample.headers.get("server", ""), sample.headers.get("via", "")]
    words = " ".join(told).lower().replace("awselb", "aws load balancer")
    return frozenset(name for name in KNOWN_ON_THE_WAY if name.lower() in words)
