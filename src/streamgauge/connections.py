"""Connections: how many were made and used again, and how each ended, by age and by who ended it.

Rules: what was made and carried is told by the Samples, what became of a connection by its `Closing`. A run that was
killed, or one of an older version, has no closings: then only the Samples speak, and what they cannot tell is null.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import get_args

import msgspec
import numpy as np

from streamgauge.columns import MISSING, BoolArray, Columns, FloatArray, IntArray
from streamgauge.sample import Closer, Closing, Outcome

CLOSERS: tuple[Closer, ...] = get_args(Closer)
AGES_S = (0.0, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, float("inf"))
"""Edges of the table of ages: the time-outs that are met most lie just above one."""
EQUAL, EQUAL_S = 0.02, 0.3
"""Times within so much of each other (2 % and 0.3 s) are equal."""
LEAST = 3
FAILED = (Outcome.CONNECT_TIMEOUT, Outcome.TLS_ERROR, Outcome.UNREACHABLE, Outcome.DNS_ERROR)


@dataclass(frozen=True, slots=True)
class Closings:
    """The ends of connections as arrays, a place a connection. Times in ns."""

    targets: tuple[str, ...]
    target: IntArray
    """Index into `targets`."""
    opened: IntArray
    idle: IntArray
    """Since when no request was on it; MISSING where one was."""
    closed: IntArray
    carried: IntArray
    by: IntArray
    """Index into CLOSERS."""

    def __len__(self) -> int:
        return len(self.opened)

    def of(self, target: str) -> Closings:
        """Those of one target."""
        code = self.targets.index(target) if target in self.targets else -1
        keep = self.target == code
        arrays = (self.target, self.opened, self.idle, self.closed, self.carried, self.by)
        return Closings(self.targets, *(one[keep] for one in arrays))

    def ended_by(self, *closers: Closer) -> BoolArray:
        """Whether each was ended by one of these."""
        return np.isin(self.by, [CLOSERS.index(one) for one in closers])

    @property
    def ages_s(self) -> FloatArray:
        """How old each became."""
        return (self.closed - self.opened) / 1e9

    @property
    def idle_s(self) -> FloatArray:
        """How long each had been idle when it ended; NaN where it was not."""
        return np.where(self.idle == MISSING, np.nan, (self.closed - self.idle) / 1e9)


@dataclass(slots=True)
class TakingClosings:
    """Takes Closings one by one."""

    _numbers: array[int] = field(default_factory=lambda: array("q"))
    _targets: dict[str, int] = field(default_factory=dict)

    def add(self, one: Closing) -> None:
        """Take one."""
        idle = MISSING if one.idle_ns is None else one.idle_ns
        target = self._targets.setdefault(one.target, len(self._targets))
        self._numbers.extend((target, one.opened_ns, idle, one.closed_ns, one.carried, CLOSERS.index(one.by)))

    def closings(self) -> Closings:
        """All taken so far."""
        each = np.array(self._numbers, dtype=np.int64).reshape(-1, 6).T
        return Closings(tuple(self._targets), *each)


NO_CLOSINGS = TakingClosings().closings()


class Age(msgspec.Struct, frozen=True, kw_only=True):
    """Connections that ended at an age from `from_s` on, below `to_s` (null: any), by who ended them."""

    from_s: float
    to_s: float | None
    ended: dict[str, int]


class Connections(msgspec.Struct, frozen=True, kw_only=True):
    """The connections of one target, over all phases."""

    target: str
    requests: int
    """Those that were sent on a connection."""
    new: int
    """Of them, those that had to make one."""
    reused: int
    most_open: int | None
    """Open at once at most, idle ones included; null where ends are not known."""
    refused: int
    failed: int
    """Requests that got no connection for another cause: time-out, TLS, no route, no address."""
    retried: int
    """Requests that met one that was just gone, and were sent again on a new one."""
    ended: dict[str, int] | None
    """By who ended them: `server`, `reset`, `asked` (we, as the answer asked), `us`; null where not known."""
    ages: list[Age]
    idle_limit_s: float | None
    """After so long without a request the server ends one; null where that was not seen."""
    connect_p50_ms: float | None
    tls_p50_ms: float | None
    words: str
    """Whether connections are kept alive."""


def connections(columns: Columns, closings: Closings = NO_CLOSINGS) -> list[Connections]:
    """Those of every target, in the order in which the run met them."""
    return [_of_target(columns, closings.of(name), name) for name in columns.targets]


def _of_target(columns: Columns, closings: Closings, target: str) -> Connections:
    rows = columns.select(targets=[target])
    facts = columns.facts
    sent = rows[(facts["conn"][rows] >= 0) & (facts["sent_ns"][rows] != MISSING)]
    new = int((facts["conn_requests"][sent] == 0).sum())
    known = len(closings) > 0
    counts = np.bincount(closings.by, minlength=len(CLOSERS))
    idle = idle_limit(closings)
    return Connections(
        target=target,
        requests=len(sent),
        new=new,
        reused=len(sent) - new,
        most_open=_most_open(closings) if known else None,
        refused=int(columns.having(rows, [Outcome.CONNECT_REFUSED]).sum()),
        failed=int(columns.having(rows, FAILED).sum()),
        retried=int(facts["retried"][rows].clip(min=0).sum()),
        ended={name: int(n) for name, n in zip(CLOSERS, counts, strict=True)} if known else None,
        ages=_by_age(closings),
        idle_limit_s=idle,
        connect_p50_ms=_median(columns.values["connect_ms"][rows]),
        tls_p50_ms=_median(columns.values["tls_ms"][rows]),
        words=_words(len(sent), new, closings, idle),
    )


def _words(requests: int, new: int, closings: Closings, idle: float | None) -> str:
    """Whether connections are kept alive, as far as it was seen."""
    if idle is not None:
        return f"the server closes a connection after {idle:.1f} s without a request"
    if requests > new:
        return "kept alive"
    asked = int(closings.ended_by("asked", "server").sum())
    if requests and asked * 2 >= new and asked >= LEAST:
        return "not kept alive: each request needs a new one"
    return "not seen: no connection was free for a second request"


def idle_limit(closings: Closings) -> float | None:
    """After how many s without a request the server ends a connection, where at least three tell the same."""
    idle = np.sort(closings.idle_s[closings.ended_by("server", "reset")])
    idle = idle[~np.isnan(idle)]
    # Ended together, they tell one moment (a restart) and not one age.
    if len(idle) < LEAST or idle[0] < EQUAL_S:
        return None
    middle = float(np.median(idle))
    alike = np.abs(idle - middle) <= EQUAL_S + EQUAL * middle
    return middle if alike.mean() >= 0.8 else None


def _by_age(closings: Closings) -> list[Age]:
    found = []
    place = np.searchsorted(AGES_S, np.maximum(closings.ages_s, 0.0), "right") - 1
    for at in np.unique(place).tolist():
        counts = np.bincount(closings.by[place == at], minlength=len(CLOSERS))
        to_s = AGES_S[at + 1]
        ended: dict[str, int] = {name: int(n) for name, n in zip(CLOSERS, counts, strict=True) if n}
        found.append(Age(from_s=AGES_S[at], to_s=None if to_s == float("inf") else to_s, ended=ended))
    return found


def _most_open(closings: Closings) -> int:
    return most_open(closings.opened, closings.closed)


def most_open(start: IntArray, end: IntArray) -> int:
    """How many were open at once at most; one that starts at another's end: both count."""
    if not len(start):
        return 0
    change = np.concatenate((np.ones(len(start), np.int64), -np.ones(len(end), np.int64)))
    order = np.argsort(np.concatenate((start, end)), kind="stable")
    return int(np.cumsum(change[order]).max())


def _median(values: FloatArray) -> float | None:
    values = values[~np.isnan(values)]
    return float(np.median(values)) if len(values) else None


def closings_of(records: Iterable[object]) -> Closings:
    """The Closings among some records."""
    taking = TakingClosings()
    for one in records:
        if isinstance(one, Closing):
            taking.add(one)
    return taking.closings()
