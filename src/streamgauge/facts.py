"""Samples as arrays, one a field: how a million of them are held, computed with and written.

Rules: a field has the name it has in a Sample. Target, prompt and phase are codes, their names are held once. What is
missing is MISSING in stamps and durations, -1 in counts. Nothing is computed here: the formulas stand in `metrics` and
take `Facts.fact`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from streamgauge.sample import Outcome, Sample

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]

MISSING = int(np.iinfo(np.int64).min)
"""A stamp or duration that was not reached."""
UNTOLD = -1
"""A count that nobody told."""

OUTCOMES = tuple(Outcome)
CODE = {outcome: code for code, outcome in enumerate(OUTCOMES)}
_CODE_OF = {outcome.value: code for outcome, code in CODE.items()}
NAMED = ("target", "prompt", "phase", "instance")
MOST_INSTANCES = 1_000
"""A server that names another one each time is not asked further."""
STAMPS = (
    "due_ns", "start_ns", "connect_ns", "tls_ns", "sent_ns", "first_byte_ns", "first_output_ns", "first_reasoning_ns",
    "first_token_ns", "last_output_ns", "end_ns",
)  # fmt: skip
_DURATIONS = (
    "first_byte_slack_ns", "first_output_slack_ns", "last_output_slack_ns", "first_reasoning_slack_ns",
    "first_token_slack_ns", "end_slack_ns", "late_ns", "longest_gap_ns",
)  # fmt: skip
_SIZES = ("bytes_in",)
_COUNTS = (
    "level", "slot", "http_status", "text_events", "reasoning_events", "tool_events", "merged_events", "output_reads",
    "stalls", "input_tokens", "output_tokens", "cached_tokens",
    "streamed_tokens", "redirects", "tls_resumed", "worker", "conn",
    "conn_requests", "retried",
)  # fmt: skip
_FLAGS = ("clock_step", "kernel_stamps", "encoded")
_ID = 32


@dataclass(frozen=True, slots=True)
class Facts:
    """Samples as arrays; place i of each is the i-th Sample."""

    fields: dict[str, Array]
    names: dict[str, tuple[str, ...]]
    """What the codes of target, prompt, phase and instance stand for."""

    def __repr__(self) -> str:
        return f"Facts(n={len(self)}, targets={self.names['target']}, phases={self.names['phase']})"

    def __len__(self) -> int:
        return len(self.fields["due_ns"])

    def __getitem__(self, name: str) -> Array:
        return self.fields[name]

    def fact(self, name: str) -> FloatArray:
        """A field as formulas take it: floats, NaN for what is missing; stamps in ns since due, so that none is cut."""
        values = self.fields[name]
        missing = values == (UNTOLD if name in _COUNTS else MISSING)
        found = (values - self.fields["due_ns"] if name in STAMPS else values).astype(np.float64)
        found[missing] = np.nan
        return found

    def ids(self) -> list[str]:
        """The trace ids as text."""
        return [one.decode() if isinstance(one, bytes) else one for one in self.fields["id"].tolist()]

    def blocks(self, size: int) -> Iterator[Facts]:
        """The same facts, so many Samples at a time; nothing is copied."""
        for at in range(0, len(self), size):
            yield Facts({name: array[at : at + size] for name, array in self.fields.items()}, self.names)


def blocks_of(samples: Facts | Iterable[Sample], size: int) -> Iterator[Facts]:
    """Samples, however they come, so many at a time."""
    if isinstance(samples, Facts):
        yield from samples.blocks(size)
        return
    coming = iter(samples)
    while block := list(itertools.islice(coming, size)):
        taking = Taking()
        taking.add(block)
        yield taking.facts()


@dataclass(frozen=True, slots=True)
class Again:
    """Texts of which few differ: place i holds names[codes[i]]; names in the order in which they first come."""

    codes: Array
    names: list[str]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Again:
        """Any texts."""
        places = {text: code for code, text in enumerate(dict.fromkeys(texts))}
        return cls(np.array([places[text] for text in texts], dtype=np.int64), list(places))


@dataclass(slots=True)
class Taking:
    """Takes Samples by the thousand and holds nothing but arrays of them."""

    _codes: dict[str, dict[str, int]] = field(default_factory=lambda: {name: {} for name in NAMED})
    _parts: dict[str, list[Array]] = field(default_factory=dict)

    def add(self, samples: Sequence[Sample]) -> Facts:
        """Take some more; they alone as Facts, whose codes go on from those of the ones before."""
        each = zip(*map(msgspec.structs.astuple, samples), strict=True) if samples else itertools.repeat(())
        said: dict[str, Any] = dict(zip(Sample.__struct_fields__, each, strict=False))
        return self.add_fields(said, samples.__getitem__)

    def add_fields(self, said: Mapping[str, Any], sample: Callable[[int], Sample]) -> Facts:
        """The same from what the Samples say, field by field; `sample` gives the i-th one itself."""
        fields = {"id": _ids(said["id"])}
        for name in NAMED:
            known = self._codes[name]
            texts = _again(said[name])
            if name == "instance" and len(known) > MOST_INSTANCES:
                codes = [known.setdefault(one if one in known else "", len(known)) for one in texts.names]
            else:
                codes = [known.setdefault(one, len(known)) for one in texts.names]
            fields[name] = _coded(texts, codes, np.int32)
        texts = _again(said["outcome"])
        fields["outcome"] = _coded(texts, [_CODE_OF[one] for one in texts.names], np.int8)
        for names, kind, absent in (
            ((*STAMPS, *_DURATIONS, *_SIZES), np.int64, MISSING),
            (_COUNTS, np.int32, UNTOLD),
            (_FLAGS, np.bool_, None),
        ):
            for name in names:
                fields[name] = _numbers(said[name], kind, absent)
        fields["owes_text"] = np.ones(len(fields["due_ns"]), dtype=np.bool_)
        for i in np.flatnonzero(fields["first_token_ns"] == MISSING).tolist():
            fields["owes_text"][i] = sample(i).owes_text
        for name, array in fields.items():
            self._parts.setdefault(name, []).append(array)
        return Facts(fields, self._names())

    def facts(self) -> Facts:
        """All taken so far. Field by field the parts give way to the whole, so that hardly anything is held twice."""
        if not self._parts:
            self.add(())
        for parts in self._parts.values():
            if len(parts) > 1:
                parts[:] = [np.concatenate(parts)]
        return Facts({name: parts[0] for name, parts in self._parts.items()}, self._names())

    def _names(self) -> dict[str, tuple[str, ...]]:
        return {name: tuple(codes) for name, codes in self._codes.items()}


ABSENT = {**dict.fromkeys((*STAMPS, *_DURATIONS, *_SIZES), MISSING), **dict.fromkeys(_COUNTS, UNTOLD), "gap_parts": 0}
"""For `bulk`: the numbers that are wanted, and what stands for one that is missing."""


def _numbers(values: Sequence[Any] | Array, kind: Any, absent: int | None) -> Array:
    """OverflowError where one does not fit."""
    if isinstance(values, np.ndarray):
        if kind is np.int32 and (values > np.iinfo(kind).max).any():
            raise OverflowError
        return values.astype(kind)
    try:
        return np.array(values, dtype=kind)
    except TypeError:  # some are None
        return np.array([absent if value is None else value for value in values], dtype=kind)


def _again(texts: Sequence[str] | Again) -> Again:
    return texts if isinstance(texts, Again) else Again.of(texts)


def _coded(texts: Again, codes: list[int], kind: Any) -> Array:
    found: Array = np.array(codes, dtype=kind)[texts.codes]
    return found


def _ids(ids: Sequence[str] | Array) -> Array:
    """Trace ids as 32 bytes each; texts as they are where any is something else."""
    if isinstance(ids, np.ndarray):
        return ids if ids.dtype.itemsize == _ID else np.array(ids.astype(str), dtype=object)
    joined = "".join(ids)
    if joined.isascii() and joined.isalnum() and set(map(len, ids)) == {_ID}:
        return np.frombuffer(joined.encode(), dtype=f"S{_ID}")
    found: Array = np.array(ids, dtype=object)
    return found
