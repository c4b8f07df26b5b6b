"""Samples as columns: what the right half computes from, held as arrays so that a million requests fit and are quick.

Strategy: Samples are taken as they come, turned into arrays some thousand at a time (`facts`) and then let go. Kept of
each are its facts and its gaps; of the ten slowest of each target and phase the Sample itself; of failures one example
a kind. The value of every metric is computed from the facts of all at once.

Rules:
- A metric's value comes from `metrics.METRICS` and nowhere else. NaN and MISSING stand for "not reached".
- A selection is an array of row numbers in ascending order. `population` is the only place where the rules of who
  counts (judged, shed, censored, no text) are applied to metrics with a value a request.
- Tokens are taken from usage for a target only when every good Sample of it has it, else from events for all of them.
- The order in which Samples came changes no number.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from streamgauge import bulk
from streamgauge.errors import UsageError
from streamgauge.facts import ABSENT, CODE, MISSING, OUTCOMES, Facts, FloatArray, Taking
from streamgauge.metrics import BY_EVENTS, FROM_DUE, METRICS, Formula, Metric
from streamgauge.sample import GOOD, NOT_JUDGED, Block, GapsPart, Outcome, Record, Sample

__all__ = ["MISSING", "OUTCOMES", "Columns", "Failure", "FloatArray", "Intake", "Population", "population", "waited_ns"]

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Moved = Literal["as_is", "earliest", "latest"]

CHUNK = 2_048
"""Samples held as objects before they become arrays: few enough to stay in the processor's cache."""
SLOWEST = 10
UNNOTICED_NS = 50_000_000
"""A stamp that a step of the clock moved further than this is noticed with the read that it came with."""
KINDS_OF_FAILURE = 1_000
"""Beyond so many kinds, who answered is no longer told apart."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One kind of failure in one phase, with its first example."""

    phase: str
    target: str
    outcome: str
    http_status: int | None
    answered_by: str | None
    count: int
    message: str | None
    example_id: str
    headers: dict[str, str]
    """Of the example: those that a Sample keeps."""
    retry_after_s: float | None


@dataclass(frozen=True, slots=True)
class Columns:
    """All Samples of a run, an array a field, row i the i-th Sample taken. Stamps in ns, metrics in their own unit."""

    facts: Facts
    """What every Sample said; the fields below are views of it or were computed from it."""
    targets: tuple[str, ...]
    prompts: tuple[str, ...]
    phases: tuple[str, ...]
    target: npt.NDArray[np.int32]
    """Index into `targets`; prompt and phase likewise."""
    prompt: npt.NDArray[np.int32]
    phase: npt.NDArray[np.int32]
    level: npt.NDArray[np.int32]
    slot: npt.NDArray[np.int32]
    outcome: npt.NDArray[np.int8]
    """Index into OUTCOMES."""
    due: IntArray
    start: IntArray
    first_output: IntArray
    last_output: IntArray
    end: IntArray
    values: dict[str, FloatArray]
    early: dict[str, npt.NDArray[np.float32]]
    late: dict[str, npt.NDArray[np.float32]]
    owes_text: BoolArray
    clock_step: BoolArray
    kernel_stamps: BoolArray
    slack_ms: npt.NDArray[np.float32]
    """Slack of the first token; NaN where there is none."""
    late_ms: npt.NDArray[np.float32]
    """How late the start was through us."""
    tokens: npt.NDArray[np.int32]
    usage: npt.NDArray[np.int32]
    """Output tokens as the server counted them; -1 where it did not say."""
    input_tokens: npt.NDArray[np.int32]
    """As the server counted them; -1 where it did not say."""
    text_events: npt.NDArray[np.int32]
    merged: npt.NDArray[np.int32]
    stalls: npt.NDArray[np.int32]
    gaps: npt.NDArray[np.uint32]
    """Inter-token gaps in us, those of row i at gaps[gaps_from[i]:gaps_from[i + 1]]."""
    gaps_from: IntArray
    tokens_from: dict[str, str]
    """For each target: `usage` or `events`."""
    slowest: tuple[Sample, ...]
    """Of each target and phase the ten whose user waited longest for a first token (see `waited_ns`)."""
    failures: tuple[Failure, ...]
    step_ms: float = math.inf
    """How far the wall clock stepped in the whole run, all steps together, as far as that is known."""

    def __repr__(self) -> str:
        return f"Columns(n={len(self.due)}, gaps={len(self.gaps)}, targets={self.targets}, phases={self.phases})"

    def select(
        self,
        *,
        targets: Collection[str] | None = None,
        prompts: Collection[str] | None = None,
        phases: Collection[str] | None = None,
        level: int | None = None,
    ) -> IntArray:
        """Row numbers of a slice, ascending; None: not sliced by it."""
        keep = np.ones(len(self.due), dtype=np.bool_)
        for wanted, names, codes in (
            (targets, self.targets, self.target),
            (prompts, self.prompts, self.prompt),
            (phases, self.phases, self.phase),
        ):
            if wanted is not None and not all(name in wanted for name in names):
                keep &= np.array([name in wanted for name in names], dtype=np.bool_)[codes]
        if level is not None:
            keep &= self.level == level
        return np.flatnonzero(keep)

    def having(self, rows: IntArray, outcomes: Iterable[Outcome]) -> BoolArray:
        """Whether each of `rows` ended in one of these outcomes."""
        among = np.zeros(len(OUTCOMES), dtype=np.bool_)
        among[[CODE[outcome] for outcome in outcomes]] = True
        return among[self.outcome[rows]]

    def counted(self, name: str, rows: IntArray) -> IntArray:
        """Those of `rows` in the population of the metric `name`: not ended by plan or by us; shed only from due."""
        out = NOT_JUDGED if name in FROM_DUE else NOT_JUDGED | {Outcome.SHED}
        gone = self.having(rows, out)
        return rows[~gone] if gone.any() else rows

    def stepped(self, steps: Collection[tuple[int, int, int]]) -> Columns:
        """With what the workers saw of the clock: (from, to, jump) of each step, ns.

        A request is flagged also where it ended after the step and before the worker noticed it.
        """
        if not steps:
            return self
        flagged = self.clock_step.copy()
        for since, until, _ in steps:
            flagged |= (self.due <= until) & (self.end >= since - UNNOTICED_NS)
        # Several workers see one step each for itself: the sum is then more than it was, never less.
        return replace(self, clock_step=flagged, step_ms=sum(abs(jump) for *_, jump in steps) / 1e6)

    def in_order_of_due(self, rows: IntArray) -> IntArray:
        """The same rows in the order in which they came due."""
        return rows[np.argsort(self.due[rows], kind="stable")]

    def gaps_of(self, rows: IntArray) -> tuple[npt.NDArray[np.uint32], IntArray]:
        """Gaps of these rows in turn (us), and how many each row has."""
        lengths = np.diff(self.gaps_from)
        if len(rows) == len(lengths):
            return self.gaps, lengths
        keep = np.zeros(len(lengths), dtype=np.bool_)
        keep[rows] = True
        return self.gaps[np.repeat(keep, lengths)], lengths[rows]


@dataclass(frozen=True, slots=True)
class Population:
    """The values of one metric over one slice. +inf: owed and not reached; no NaN. `rows` says whose each is."""

    rows: IntArray
    values: FloatArray
    censored: int
    no_text: int
    """Good answers that owed no text: not among the values."""


def population(columns: Columns, metric: Metric, rows: IntArray, moved: Moved = "as_is") -> Population:
    """A per-request metric's population, stamps as they are or moved as far as our own slack and lateness allow."""
    rows = columns.counted(metric.name, rows)
    values = columns.values[metric.name][rows]
    if moved == "earliest" and metric.name in columns.early:
        values = values - np.nan_to_num(columns.early[metric.name][rows])
    if moved == "latest" and metric.name in columns.late:
        values = values + np.nan_to_num(columns.late[metric.name][rows])
    missing = np.isnan(values)
    no_text = np.zeros(len(rows), dtype=np.bool_)
    if metric.owed == "text":
        no_text = missing & ~columns.owes_text[rows]
        censored = missing & ~no_text
    elif metric.owed == "answer":
        censored = ~columns.having(rows, GOOD)
    elif metric.owed == "arrival":
        good = columns.having(rows, GOOD)
        # Where most good answers do without it (a model that does not reason), failed ones did not owe it either.
        censored = missing & ~good & bool((good & missing).sum() <= (good & ~missing).sum())
    else:
        censored = np.zeros(len(rows), dtype=np.bool_)
    values[censored] = np.inf
    keep = censored | ~missing
    if not keep.all():
        rows, values = rows[keep], values[keep]
    return Population(rows, values, int(censored.sum()), int(no_text.sum()))


def waited_ns(sample: Sample) -> int:
    """How long the user waited for a first token; where none came, until the end."""
    return (sample.end_ns if sample.first_token_ns is None else sample.first_token_ns) - sample.due_ns


class Intake:
    """Takes records one by one and gives Columns. Linear in time and memory: about 450 bytes a Sample, 4 a gap."""

    def __init__(self) -> None:
        self._pending: list[Sample] = []
        self._taking = Taking()
        self._parts: dict[str, list[GapsPart]] = {}
        self._gaps: list[npt.NDArray[np.uint32]] = []
        self._lengths: list[IntArray] = []
        self._slow: dict[tuple[str, str], list[tuple[int, str, int, Sample]]] = {}
        self._failures: dict[tuple[str, str, str, int | None, str | None], _Kind] = {}
        self._stored = 0

    def __repr__(self) -> str:
        return f"Intake(n={self.n})"

    @property
    def n(self) -> int:
        """How many Samples were taken."""
        return self._stored + len(self._pending)

    def add(self, record: Record) -> None:
        """Take one Sample or part of a Sample's gaps. What the worker saw of itself is not for here."""
        self.extend((record,))

    def extend(self, records: Iterable[Record]) -> None:
        """Take many of them."""
        for record in records:
            if isinstance(record, Sample):
                self._pending.append(record)
            elif isinstance(record, GapsPart):
                self._parts.setdefault(record.id, []).append(record)
        if len(self._pending) >= CHUNK:
            self._store()

    def take(self, block: Block) -> list[Record]:
        """Take all records of one block of a file, which is quicker by far; gives those that are no Samples."""
        try:
            return self._take(block)
        except OverflowError:
            words = "a number is larger than any of ours"
            raise UsageError(f"{block.path} is damaged near byte {block.offset}: {words}") from None

    def _take(self, block: Block) -> list[Record]:
        self._store()
        try:
            reader = bulk.Reader(block)
            said = reader.fields(ABSENT) if len(reader.rows) else {}
            others = [block.record(i) for i in reader.others.tolist()]
            if any(isinstance(record, Sample) for record in others):
                raise bulk.Unusual("a Sample of an older version")
        except bulk.Unusual:
            records = list(block.records())
            self.extend(records)
            self._store()
            return [record for record in records if not isinstance(record, Sample)]
        self.extend(others)  # parts of gaps stand before their Sample
        rows = reader.rows.tolist()

        def sample(i: int) -> Sample:
            found = block.record(rows[i])
            assert isinstance(found, Sample)
            return found

        if said:
            gaps = said["gaps"]
            for i in np.flatnonzero(said["gap_parts"]).tolist():
                gaps[i] = self._whole_gaps(sample(i))
            self._note(self._taking.add_fields(said, sample), gaps, sample)
        return others

    def _store(self) -> None:
        """Turn the pending Samples into arrays and let them go."""
        samples, self._pending = self._pending, []
        if samples:
            gaps = [self._whole_gaps(sample) if sample.gap_parts else sample.gaps for sample in samples]
            self._note(self._taking.add(samples), gaps, samples.__getitem__)

    def _whole_gaps(self, sample: Sample) -> bytes:
        parts = sorted(self._parts.pop(sample.id, []), key=lambda part: part.part)
        return b"".join(part.gaps for part in parts) + sample.gaps

    def _note(self, facts: Facts, gaps: Sequence[bytes], sample: Callable[[int], Sample]) -> None:
        """Keep of some more Samples what is no fact of each; `sample` gives the i-th of them."""
        self._gaps.append(np.frombuffer(b"".join(gaps), dtype="<u4"))
        self._lengths.append(np.array(list(map(len, gaps)), dtype=np.int64) // 4)
        self._note_slow(facts, sample)
        for i in np.flatnonzero(~_among(facts, (*GOOD, Outcome.CANCELLED))).tolist():
            self._note_failure(sample(i))
        self._stored += len(facts)

    def _note_slow(self, facts: Facts, sample: Callable[[int], Sample]) -> None:
        """Keep the ten slowest of each target and phase. The id breaks ties: the order of arrival decides nothing."""
        first = facts["first_token_ns"]
        waited = np.where(first == MISSING, facts["end_ns"], first) - facts["due_ns"]
        phases = facts.names["phase"]
        groups, group = np.unique(facts["target"].astype(np.int64) * len(phases) + facts["phase"], return_inverse=True)
        heaps = [
            self._slow.setdefault((facts.names["target"][one // len(phases)], phases[one % len(phases)]), [])
            for one in groups.tolist()
        ]
        bars = np.array([heap[0][0] if len(heap) == SLOWEST else MISSING for heap in heaps], dtype=np.int64)
        for i in np.flatnonzero((waited >= bars[group]) & ~_among(facts, NOT_JUDGED)).tolist():
            heap, slow = heaps[group[i]], sample(i)
            entry = (waited_ns(slow), slow.id, self._stored + i, slow)
            if len(heap) < SLOWEST:
                heapq.heappush(heap, entry)
            elif entry[:2] > heap[0][:2]:
                heapq.heapreplace(heap, entry)

    def _note_failure(self, sample: Sample) -> None:
        key = (sample.phase, sample.target, sample.outcome.value, sample.http_status, sample.answered_by)
        if key not in self._failures and len(self._failures) >= KINDS_OF_FAILURE:
            key = (*key[:4], None)
        kind = self._failures.setdefault(key, _Kind(sample))
        kind.count += 1
        if sample.id < kind.example.id:
            kind.example = sample

    def columns(self) -> Columns:
        """Everything taken so far. More may be added after it."""
        self._store()
        facts = self._taking.facts()
        for parts in (self._gaps, self._lengths):
            if len(parts) > 1:
                parts[:] = [np.concatenate(parts)]
        none = np.empty(0, dtype=np.uint32)
        uses = _use_usage(facts)
        counted = np.array(uses or [False], dtype=np.bool_)[facts["target"]]
        usage, events = facts["output_tokens"], facts["text_events"]
        late_ms = (facts["late_ns"] / 1e6).astype(np.float32)
        values, early, late = _forms(facts, counted)
        return Columns(
            facts=facts,
            targets=facts.names["target"],
            prompts=facts.names["prompt"],
            phases=facts.names["phase"],
            target=facts["target"],
            prompt=facts["prompt"],
            phase=facts["phase"],
            level=facts["level"],
            slot=facts["slot"],
            outcome=facts["outcome"],
            due=facts["due_ns"],
            start=facts["start_ns"],
            first_output=facts["first_output_ns"],
            last_output=facts["last_output_ns"],
            end=facts["end_ns"],
            values=values,
            early=early,
            late=late,
            owes_text=facts["owes_text"],
            clock_step=facts["clock_step"],
            kernel_stamps=facts["kernel_stamps"],
            slack_ms=_slack_ms(facts),
            late_ms=late_ms,
            # A failed request of a counting target may have no usage: what it streamed then counts by its events.
            tokens=np.where(counted & (usage >= 0), usage, events),
            usage=usage,
            input_tokens=facts["input_tokens"],
            text_events=events,
            merged=facts["merged_events"],
            stalls=facts["stalls"],
            gaps=self._gaps[0] if self._gaps else none,
            gaps_from=np.concatenate(([0], np.cumsum(self._lengths[0] if self._lengths else none, dtype=np.int64))),
            tokens_from={
                name: "usage" if own else "events" for name, own in zip(facts.names["target"], uses, strict=True)
            },
            slowest=tuple(sample for heap in self._slow.values() for *_, sample in heap),
            failures=tuple(
                Failure(
                    *key,
                    count=kind.count,
                    message=kind.example.error,
                    example_id=kind.example.id,
                    headers=kind.example.headers,
                    retry_after_s=kind.example.retry_after_s,
                )
                for key, kind in self._failures.items()
            ),
        )


@dataclass(slots=True)
class _Kind:
    """Failures of one kind: the one with the least id stands for all."""

    example: Sample
    count: int = 0


def _among(facts: Facts, outcomes: Iterable[Outcome]) -> BoolArray:
    return np.isin(facts["outcome"], [CODE[outcome] for outcome in outcomes])


def _use_usage(facts: Facts) -> list[bool]:
    """For each target, whether every good Sample of it has usage."""
    good, targets = _among(facts, GOOD), len(facts.names["target"])
    ended = np.bincount(facts["target"][good], minlength=targets)
    counted = np.bincount(facts["target"][good & (facts["output_tokens"] >= 0)], minlength=targets)
    return [bool(a == b > 0) for a, b in zip(ended, counted, strict=True)]


def _forms(
    facts: Facts, counted: BoolArray
) -> tuple[dict[str, FloatArray], dict[str, npt.NDArray[np.float32]], dict[str, npt.NDArray[np.float32]]]:
    """Value, early and late of each metric with a value a request, for each target as its tokens allow."""

    def computed(formula: Formula, by_events: Formula | None) -> FloatArray:
        plain: FloatArray = formula(facts.fact)
        return plain if by_events is None else np.where(counted, plain, by_events(facts.fact))

    every_target_counts = bool(counted.all())
    values, early, late = {}, {}, {}
    for name, metric in METRICS.items():
        if metric.value is None:
            continue
        value, slack = (None, None) if every_target_counts else BY_EVENTS.get(name, (None, None))
        values[name] = computed(metric.value, value)
        if metric.early is not None:
            early[name] = computed(metric.early, slack).astype(np.float32)
        if metric.late is not None:
            late[name] = early[name] if metric.late is metric.early else computed(metric.late, slack).astype(np.float32)
    return values, early, late


def _slack_ms(facts: Facts) -> npt.NDArray[np.float32]:
    found = (facts["first_token_slack_ns"] / 1e6).astype(np.float32)
    found[facts["first_token_ns"] == MISSING] = np.nan
    return found
