"""Samples to numbers: `MetricsCollector` takes Samples one by one and gives a `Summary`.

    MetricsCollector().add(sample).add(other).summary().metrics["ttft_ms"].p95

Rules: the top level is the judged phases over the judged targets; groups are its slices, and those of the phases and
targets that are not judged (a control is such a target). What each number means stands in `metrics` and `slices`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypedDict

import msgspec
import numpy as np

from streamgauge import occupancy
from streamgauge.columns import OUTCOMES, Columns, Intake, IntArray
from streamgauge.metrics import METRICS
from streamgauge.sample import REPEATS, Block, Record
from streamgauge.slices import Distribution, Rate, count, degradation, distribution, over_time, rate

__all__ = ["Distribution", "Group", "MetricsCollector", "Phase", "Rate", "Scope", "Summary", "scope_of", "summarise"]

UNJUDGED_PHASES = frozenset({"warmup", REPEATS, "reference", "ramp", "drain"})
"""Not judged unless asked for by name."""
AT_ONCE = 2
"""Slices that are summed up at once: each takes memory while it is."""
MANY = 100_000
"""So many Samples are worth it."""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of one slice. None in target, prompt, phase or level: not sliced by it."""

    target: str | None = None
    prompt: str | None = None
    phase: str | None = None
    level: int | None = None
    metrics: dict[str, Distribution]
    rates: dict[str, Rate]
    scalars: dict[str, float | None]
    outcomes: dict[str, int]


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of the run. Level 0 in open loop."""

    name: str
    level: int
    start_ns: int
    end_ns: int
    rate: float | None = None
    """Arrivals a second wanted in open loop, where the run recorded it."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """All numbers of a run: the top level over judged phases and targets, then slice by slice."""

    metrics: dict[str, Distribution]
    rates: dict[str, Rate]
    scalars: dict[str, float | None]
    outcomes: dict[str, int]
    groups: list[Group]
    tokens_from: dict[str, str]
    """For each target: `usage` or `events`."""
    judged_phases: list[str]
    judged_targets: list[str]

    def group(
        self, target: str | None = None, prompt: str | None = None, phase: str | None = None, level: int | None = None
    ) -> Group | None:
        """The slice with exactly these, None where there is none."""
        wanted = (target, prompt, phase, level)
        return next((g for g in self.groups if (g.target, g.prompt, g.phase, g.level) == wanted), None)


@dataclass(frozen=True, slots=True)
class Scope:
    """What is judged: which phases of which targets, when they ran, and against what."""

    judged: tuple[str, ...]
    targets: tuple[str, ...]
    phases: tuple[Phase, ...]
    reference: str = "reference"
    """The phase that ttft_degradation compares with."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """What a request must keep to count in goodput: metric to its most (where higher is better, its least)."""

    def rows(self, columns: Columns) -> IntArray:
        """Every row that is judged, whatever its outcome."""
        return columns.select(targets=self.targets, phases=self.judged)

    def in_order(self, columns: Columns) -> list[str]:
        """Every target seen: the judged ones as the run names them, then the others."""
        judged = [name for name in self.targets if name in columns.targets]
        return judged + [name for name in columns.targets if name not in judged]

    def windows(self, names: Collection[str], level: int | None = None) -> list[occupancy.Window]:
        """When the phases of these names ran."""
        return [(p.start_ns, p.end_ns) for p in self.phases if p.name in names and level in (None, p.level)]


def scope_of(
    columns: Columns,
    *,
    phases: Iterable[Phase] = (),
    judged: Collection[str] | None = None,
    targets: Collection[str] | None = None,
    reference: str = "reference",
    limits: Mapping[str, float] | None = None,
) -> Scope:
    """A Scope, with what is not given taken from the Samples.

    judged: every phase but warm-up, reference, ramp and drain, or all where there is no other. targets: all. Phases
    without a given time last from the first due to the last end of their Samples.
    """
    known = list(phases)
    if judged is None:
        judged = [name for name in columns.phases if name not in UNJUDGED_PHASES] or columns.phases
    for name in columns.phases:
        if not any(phase.name == name for phase in known):
            rows = columns.select(phases=[name])
            start, end = int(columns.due[rows].min()), int(columns.end[rows].max())
            known.append(Phase(name=name, level=int(columns.level[rows].max()), start_ns=start, end_ns=end))
    wanted = tuple(columns.targets if targets is None else targets)
    return Scope(tuple(judged), wanted, tuple(known), reference, dict(limits or {}))


Slice = tuple[tuple[str, ...], tuple[str] | None, tuple[str, ...], int | None]
"""Targets, prompts (None: all), phases, level (None: all)."""


class Numbers(TypedDict):
    """What a Group and the top level tell of a slice."""

    metrics: dict[str, Distribution]
    rates: dict[str, Rate]
    scalars: dict[str, float | None]
    outcomes: dict[str, int]


class MetricsCollector:
    """Takes Samples (and the parts of their gaps) in any order of time and gives their Summary.

    Time and memory are linear: about 450 bytes a Sample and 4 a gap.
    """

    def __init__(self) -> None:
        self._intake = Intake()

    def __repr__(self) -> str:
        return f"MetricsCollector(n={self._intake.n})"

    def __len__(self) -> int:
        return self._intake.n

    def add(self, record: Record) -> MetricsCollector:
        """Take one record; what a worker saw of itself is ignored. Returns the collector, so that calls chain."""
        self._intake.add(record)
        return self

    def take(self, block: Block) -> list[Record]:
        """Take all records of one block of a file, quicker by far than one by one; gives those that are no Samples."""
        return self._intake.take(block)

    def columns(self) -> Columns:
        """What was taken so far as columns, for series, comparisons and verdicts."""
        return self._intake.columns()

    def summary(
        self,
        *,
        phases: Iterable[Phase] = (),
        judged: Collection[str] | None = None,
        targets: Collection[str] | None = None,
        reference: str = "reference",
        limits: Mapping[str, float] | None = None,
    ) -> Summary:
        """The numbers of what was taken so far; for the arguments see `scope_of`."""
        columns = self.columns()
        scope = scope_of(columns, phases=phases, judged=judged, targets=targets, reference=reference, limits=limits)
        return summarise(columns, scope)


def summarise(columns: Columns, scope: Scope) -> Summary:
    """The Summary of what `scope` judges, with a group for each target, prompt, phase and level."""
    every = [(None, None, None, None), *_slices(columns, scope)]
    of = [_covered(scope, *one) for one in every]
    # Where one phase is judged, a target as a whole is that target in that phase. Arrays are worked on side by side:
    # numpy lets go of the interpreter while it sorts and sums.
    different = list(dict.fromkeys(of))
    with ThreadPoolExecutor(AT_ONCE if len(columns.due) >= MANY else 1) as pool:
        known = dict(zip(different, pool.map(partial(_numbers, columns, scope), different), strict=True))
    return Summary(
        **known[of[0]],
        groups=[
            Group(target=target, prompt=prompt, phase=phase, level=level, **known[one])
            for (target, prompt, phase, level), one in zip(every[1:], of[1:], strict=True)
        ],
        tokens_from=columns.tokens_from,
        judged_phases=list(scope.judged),
        judged_targets=list(scope.targets),
    )


def _covered(scope: Scope, target: str | None, prompt: str | None, phase: str | None, level: int | None) -> Slice:
    return (
        scope.targets if target is None else (target,),
        None if prompt is None else (prompt,),
        scope.judged if phase is None else (phase,),
        level,
    )


def _slices(columns: Columns, scope: Scope) -> list[tuple[str | None, str | None, str | None, int | None]]:
    """(target, prompt, phase, level) of every group: target; target and prompt; target and phase; phase and level where
    levels differ.
    """
    slices: list[tuple[str | None, str | None, str | None, int | None]] = []
    several = len(scope.targets) > 1
    for target in scope.in_order(columns):
        slices.append((target, None, None, None))
        rows = columns.select(targets=[target], phases=scope.judged)
        slices += [(target, columns.prompts[code], None, None) for code in np.unique(columns.prompt[rows])]
    for code, phase in enumerate(columns.phases):
        of_phase = np.flatnonzero(columns.phase == code)
        seen = {columns.targets[one] for one in np.unique(columns.target[of_phase])}
        pooled = [None] if several or not seen else []
        each = [*pooled, *(target for target in scope.in_order(columns) if target in seen)]
        slices += [(target, None, phase, None) for target in each]
        levels = np.unique(columns.level[of_phase])
        if len(levels) > 1:
            split = each if several else [None]
            slices += [(target, None, phase, int(level)) for level in levels for target in split]
    return slices


def _numbers(columns: Columns, scope: Scope, of: Slice) -> Numbers:
    targets, prompts, phases, level = of
    rows = columns.select(targets=targets, prompts=prompts, phases=phases, level=level)
    alongside = columns.select(targets=targets, prompts=prompts)
    reference = columns.select(targets=targets, prompts=prompts, phases=(scope.reference,))
    counts = np.bincount(columns.outcome[rows], minlength=len(OUTCOMES))
    return {
        "metrics": {
            name: distribution(columns, metric, rows)
            for name, metric in METRICS.items()
            if metric.kind in ("time", "per_request", "gaps")
        },
        "rates": {name: rate(columns, name, rows) for name, metric in METRICS.items() if metric.kind == "rate"},
        "scalars": {
            **{name: count(columns, name, rows)[0] for name, metric in METRICS.items() if metric.kind == "count"},
            **over_time(columns, alongside, scope.windows(phases, level), scope.limits),
            "ttft_degradation": None if scope.reference in phases else degradation(columns, rows, reference),
        },
        "outcomes": {outcome.value: int(n) for outcome, n in zip(OUTCOMES, counts, strict=True) if n},
    }
