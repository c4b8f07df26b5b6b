"""Samples as columns: what the right half computes from, held as arrays so that a million requests fit and are quick.

Strategy: Samples are taken one by one, turned into arrays by the thousand and then let go. Kept of each are its slice
(target, prompt, phase, level), its outcome, a few stamps, the value of every metric, and its gaps; of the ten slowest
of each target and phase the Sample itself; of failures one example a kind.

Rules:
- A metric's value comes from `metrics.METRICS` and nowhere else. NaN and MISSING stand for "not reached".
- A selection is an array of row numbers in ascending order. `population` is the only place where the rules of who
  counts (judged, shed, censored, no text) are applied to metrics with a value a request.
- Tokens are taken from usage for a target only when every good Sample of it has it, else from events for all of them.
- The order in which Samples came changes no number.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from streamgauge.metrics import BY_EVENTS, FROM_DUE, METRICS, Metric, Value
from streamgauge.sample import GOOD, NOT_JUDGED, GapsPart, Outcome, Record, Sample

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Moved = Literal["as_is", "earliest", "latest"]

MISSING = int(np.iinfo(np.int64).min)
"""A stamp that was not reached."""
STAMPS = ("due", "start", "sent", "first_byte", "first_output", "last_output", "end")
"""The stamps that are kept, by their name in a Sample less `_ns`."""
CHUNK = 8_192
"""Samples held as objects before they become arrays."""
SLOWEST = 10
KINDS_OF_FAILURE = 1_000
"""Beyond so many kinds, who answered is no longer told apart."""

OUTCOMES = tuple(Outcome)
_CODE = {outcome: code for code, outcome in enumerate(OUTCOMES)}
_FORMS: dict[str, tuple[Value | None, Value | None, Value | None]] = {
    **{name: (metric.value, metric.early, metric.late) for name, metric in METRICS.items() if metric.value},
    **{f"{name} by events": (value, slack, slack) for name, (value, slack) in BY_EVENTS.items()},
}
"""For each metric, and each second form of one: value, early, late."""


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


@dataclass(frozen=True, slots=True)
class Columns:
    """All Samples of a run, an array a field, row i the i-th Sample taken. Stamps in ns, metrics in their own unit."""

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
    id: npt.NDArray[np.void]
    """The trace id's 16 bytes."""
    http_status: npt.NDArray[np.int16]
    """0 where no answer came."""
    worker: npt.NDArray[np.int32]
    conn: npt.NDArray[np.int32]
    """The worker's number of the connection; -1 where none was made."""
    conn_requests: npt.NDArray[np.int32]
    retried: npt.NDArray[np.int32]
    encoded: BoolArray
    """Whether the answer had a content encoding."""
    bytes_in: IntArray
    due: IntArray
    start: IntArray
    sent: IntArray
    first_byte: IntArray
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
            if wanted is not None:
                keep &= np.array([name in wanted for name in names] or [False], dtype=np.bool_)[codes]
        if level is not None:
            keep &= self.level == level
        return np.flatnonzero(keep)

    def having(self, rows: IntArray, outcomes: Iterable[Outcome]) -> BoolArray:
        """Whether each of `rows` ended in one of these outcomes."""
        among = np.zeros(len(OUTCOMES), dtype=np.bool_)
        among[[_CODE[outcome] for outcome in outcomes]] = True
        return among[self.outcome[rows]]

    def counted(self, name: str, rows: IntArray) -> IntArray:
        """Those of `rows` in the population of the metric `name`: not ended by plan or by us; shed only from due."""
        out = NOT_JUDGED if name in FROM_DUE else NOT_JUDGED | {Outcome.SHED}
        return rows[~self.having(rows, out)]

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
    keep = censored | ~missing
    values = np.where(censored, np.inf, values)[keep]
    return Population(rows[keep], values, int(censored.sum()), int(no_text.sum()))


def waited_ns(sample: Sample) -> int:
    """How long the user waited for a first token; where none came, until the end."""
    return (sample.end_ns if sample.first_token_ns is None else sample.first_token_ns) - sample.due_ns


class Intake:
    """Takes records one by one and gives Columns. Linear in time and memory: about 320 bytes a Sample, 4 a gap."""

    def __init__(self) -> None:
        self._pending: list[Sample] = []
        self._pending_gaps: list[bytes] = []
        self._parts: dict[str, list[GapsPart]] = {}
        self._chunks: dict[str, list[npt.NDArray[Any]]] = {}
        self._names: tuple[dict[str, int], dict[str, int], dict[str, int]] = ({}, {}, {})
        self._good: dict[str, int] = {}
        self._counted: dict[str, int] = {}
        self._slow: dict[tuple[str, str], list[tuple[int, str, int, Sample]]] = {}
        self._failures: dict[tuple[str, str, str, int | None, str | None], Failure] = {}
        self.n = 0

    def __repr__(self) -> str:
        return f"Intake(n={self.n})"

    def add(self, record: Record) -> None:
        """Take one Sample or part of a Sample's gaps. What the worker saw of itself is not for here."""
        if isinstance(record, GapsPart):
            self._parts.setdefault(record.id, []).append(record)
        elif isinstance(record, Sample):
            self._take(record)

    def _take(self, sample: Sample) -> None:
        self.n += 1
        gaps = sample.gaps
        if sample.gap_parts:
            parts = sorted(self._parts.pop(sample.id, []), key=lambda part: part.part)
            gaps = b"".join(part.gaps for part in parts) + gaps
        self._pending_gaps.append(gaps)
        self._pending.append(sample)
        if sample.good:
            self._good[sample.target] = self._good.get(sample.target, 0) + 1
            if sample.output_tokens is not None:
                self._counted[sample.target] = self._counted.get(sample.target, 0) + 1
        elif sample.outcome is not Outcome.CANCELLED:
            self._take_failure(sample)
        if sample.judged:
            # The id breaks ties, so that which ten are kept does not depend on the order of arrival.
            heap = self._slow.setdefault((sample.target, sample.phase), [])
            entry = (waited_ns(sample), sample.id, self.n, sample)
            if len(heap) < SLOWEST:
                heapq.heappush(heap, entry)
            elif entry[:2] > heap[0][:2]:
                heapq.heapreplace(heap, entry)
        if len(self._pending) >= CHUNK:
            self._store()

    def _take_failure(self, sample: Sample) -> None:
        key = (sample.phase, sample.target, sample.outcome.value, sample.http_status, sample.answered_by)
        if key not in self._failures and len(self._failures) >= KINDS_OF_FAILURE:
            key = (*key[:4], None)
        known = self._failures.get(key)
        if known is None:
            self._failures[key] = Failure(*key, count=1, message=sample.error, example_id=sample.id)
        else:
            first = min(known.example_id, sample.id)
            message = known.message if first == known.example_id else sample.error
            self._failures[key] = replace(known, count=known.count + 1, message=message, example_id=first)

    def _store(self) -> None:
        """Turn the pending Samples into one array a column."""
        samples, gaps = self._pending, self._pending_gaps
        if not samples:
            return
        n = len(samples)
        chunk: dict[str, npt.NDArray[Any]] = {}
        for place, name in enumerate(("target", "prompt", "phase")):
            codes = self._names[place]
            chunk[name] = np.array([codes.setdefault(getattr(s, name), len(codes)) for s in samples], dtype=np.int32)
        for name in ("level", "slot", "text_events", "stalls", "worker", "conn", "conn_requests", "retried"):
            chunk[name] = np.array([getattr(s, name) for s in samples], dtype=np.int32)
        for name in STAMPS:
            stamps = (getattr(s, f"{name}_ns") for s in samples)
            chunk[name] = np.fromiter((MISSING if ns is None else ns for ns in stamps), np.int64, n)
        chunk["id"] = np.frombuffer(bytes.fromhex("".join(s.id for s in samples)), dtype="V16")
        chunk["http_status"] = np.fromiter((s.http_status or 0 for s in samples), np.int16, n)
        chunk["encoded"] = np.array(["content-encoding" in s.headers for s in samples], dtype=np.bool_)
        chunk["bytes_in"] = np.array([s.bytes_in for s in samples], dtype=np.int64)
        chunk["outcome"] = np.array([_CODE[s.outcome] for s in samples], dtype=np.int8)
        for name, field in (("usage", "output_tokens"), ("input_tokens", "input_tokens")):
            counts = (getattr(s, field) for s in samples)
            chunk[name] = np.fromiter((-1 if tokens is None else tokens for tokens in counts), np.int32, n)
        chunk["merged"] = np.array([s.merged_events for s in samples], dtype=np.int32)
        chunk["owes_text"] = np.array([s.owes_text for s in samples], dtype=np.bool_)
        for name in ("clock_step", "kernel_stamps"):
            chunk[name] = np.array([getattr(s, name) for s in samples], dtype=np.bool_)
        chunk["late_ms"] = np.array([s.late_ns / 1e6 for s in samples], dtype=np.float32)
        slack = (np.nan if s.first_token_ns is None else s.first_token_slack_ns / 1e6 for s in samples)
        chunk["slack_ms"] = np.fromiter(slack, np.float32, n)
        chunk["lengths"] = np.array([len(part) // 4 for part in gaps], dtype=np.int64)
        chunk["gaps"] = np.frombuffer(b"".join(gaps), dtype="<u4")
        for name, (value, early, late) in _FORMS.items():
            for role, function, kind in (
                ("value", value, np.float64),
                ("early", early, np.float32),
                ("late", late, np.float32),
            ):
                if function is not None:
                    found = map(function, samples)
                    chunk[f"{role} {name}"] = np.fromiter((np.nan if x is None else x for x in found), kind, n)
        for name, array in chunk.items():
            self._chunks.setdefault(name, []).append(array)
        self._pending, self._pending_gaps = [], []

    def columns(self) -> Columns:
        """Everything taken so far. More may be added after it."""
        self._store()
        targets, prompts, phases = (tuple(codes) for codes in self._names)
        target = self._whole("target", np.int32)
        uses = {name: self._good.get(name, 0) == self._counted.get(name, 0) > 0 for name in targets}
        counted = np.array([uses[name] for name in targets] or [False], dtype=np.bool_)[target]
        usage, events = self._whole("usage", np.int32), self._whole("text_events", np.int32)
        metrics = [name for name in _FORMS if name in METRICS]
        return Columns(
            targets=targets,
            prompts=prompts,
            phases=phases,
            target=target,
            prompt=self._whole("prompt", np.int32),
            phase=self._whole("phase", np.int32),
            level=self._whole("level", np.int32),
            slot=self._whole("slot", np.int32),
            outcome=self._whole("outcome", np.int8),
            id=self._whole("id", "V16"),
            http_status=self._whole("http_status", np.int16),
            worker=self._whole("worker", np.int32),
            conn=self._whole("conn", np.int32),
            conn_requests=self._whole("conn_requests", np.int32),
            retried=self._whole("retried", np.int32),
            encoded=self._whole("encoded", np.bool_),
            bytes_in=self._whole("bytes_in", np.int64),
            **{name: self._whole(name, np.int64) for name in STAMPS},
            values={name: self._form("value", name, counted, np.float64) for name in metrics},
            early={name: self._form("early", name, counted, np.float32) for name in metrics if _FORMS[name][1]},
            late={name: self._form("late", name, counted, np.float32) for name in metrics if _FORMS[name][2]},
            owes_text=self._whole("owes_text", np.bool_),
            clock_step=self._whole("clock_step", np.bool_),
            kernel_stamps=self._whole("kernel_stamps", np.bool_),
            slack_ms=self._whole("slack_ms", np.float32),
            late_ms=self._whole("late_ms", np.float32),
            # A failed request of a counting target may have no usage: what it streamed then counts by its events.
            tokens=np.where(counted & (usage >= 0), usage, events),
            usage=usage,
            input_tokens=self._whole("input_tokens", np.int32),
            text_events=events,
            merged=self._whole("merged", np.int32),
            stalls=self._whole("stalls", np.int32),
            gaps=self._whole("gaps", np.uint32),
            gaps_from=np.concatenate(([0], np.cumsum(self._whole("lengths", np.int64)))),
            tokens_from={name: "usage" if uses[name] else "events" for name in targets},
            slowest=tuple(sample for heap in self._slow.values() for *_, sample in heap),
            failures=tuple(self._failures.values()),
        )

    def _whole(self, name: str, kind: Any) -> npt.NDArray[Any]:
        """The column's chunks as one array, which takes their place: no column is held twice."""
        chunks = self._chunks.get(name, [])
        if len(chunks) != 1:
            whole = np.concatenate(chunks) if chunks else np.empty(0, dtype=kind)
            self._chunks[name] = chunks = [whole.astype(kind, copy=False)]
        return chunks[0]

    def _form(self, role: str, name: str, counted: BoolArray, kind: Any) -> npt.NDArray[Any]:
        """A metric's column, for each target in the form that its tokens allow."""
        plain = self._whole(f"{role} {name}", kind)
        if name not in BY_EVENTS or counted.all():
            return plain
        return np.where(counted, plain, self._whole(f"{role} {name} by events", kind))
