"""What probes read besides memory, in every test: counts that only rise, restarts, a processor that is used up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from streamgauge.columns import FloatArray, IntArray
from streamgauge.findings.finding import Basis, Finding, RunFacts
from streamgauge.sample import Reading
from streamgauge.shares import share_of

MB = 1e6
HEAP = "heap_used"
NOT_COUNTS = frozenset(
    ("rss", "pss", "uss", "heap_used", "heap_total", "external", "array_buffers", "memory_limit", "cpu_s", "restarts",
     "uptime_s")
)  # fmt: skip
CONNECTIONS = frozenset(("connections", "descriptors", "sockets", "open_connections"))
LEAST = 12
BINS = 12
ALPHA = 0.01
RISES, RISES_BY = 0.2, 10.0
"""A count rises where it does so by this share of what it was, and by so many."""
SAME_START_S = 5.0
BUSY = 0.85
"""Of one core: an event loop has no more than one."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """One gauge of one instance over time."""

    name: str
    times: IntArray
    values: FloatArray


def series_of(readings: Iterable[Reading], gauge: str) -> list[Gauge]:
    """A gauge of each probe and instance, readings after a collection that was asked for left out."""
    found: dict[str, list[tuple[int, float]]] = {}
    for one in readings:
        if gauge in one.values and not one.collected:
            name = one.probe + (f" ({one.instance})" if one.instance else "")
            found.setdefault(name, []).append((one.at_ns, one.values[gauge]))
    return [
        Gauge(name, np.array([at for at, _ in rows], dtype=np.int64), np.array([value for _, value in rows]))
        for name, rows in found.items()
        if len(rows) >= LEAST
    ]


def connections_kept(run: RunFacts) -> Iterator[Finding]:
    """The server's open connections or descriptors rise while the streams that we hold do not."""
    for gauge, one, numbers in _rising(run, CONNECTIONS):
        yield _rises(
            run, "connections_kept", gauge, one, numbers,
            "connections (to clients, to the provider, to a database) that are not closed when their stream ends",
            "list them on the server while it runs: lsof -p PID, or ss -tnp: to whom are they, in which state?",
            "close them in a finally; abort the call to the provider when the client leaves; idle time-outs",
        )  # fmt: skip


def gauge_rises(run: RunFacts) -> Iterator[Finding]:
    """Another count that the server tells only rises: threads, listeners, timers, handles."""
    names = {name for one in run.readings for name in one.values} - NOT_COUNTS - CONNECTIONS
    for gauge, one, numbers in _rising(run, names):
        yield _rises(
            run, "gauge_rises", gauge, one, numbers,
            f"{gauge} are added for each request or moment and never taken away",
            "its value before and after a hundred requests, and a minute later",
            "take each away where it was added, in a finally; add listeners once",
        )  # fmt: skip


def _rising(run: RunFacts, gauges: Iterable[str]) -> Iterator[tuple[str, Gauge, tuple[float, float, float]]]:
    """(gauge, series, (first, last, p)) of those that rise over the judged phases."""
    from scipy.stats import kendalltau

    windows = run.scope.windows(run.scope.judged)
    for gauge in sorted(gauges):
        for one in series_of(run.readings, gauge):
            within = np.zeros(len(one.times), dtype=np.bool_)
            for start, end in windows:
                within |= (one.times >= start) & (one.times <= end)
            times, values = one.times[within], one.values[within]
            if len(values) < 2 * LEAST or not run.steady:
                continue
            binned = np.array([float(np.median(part)) for part in np.array_split(values, BINS)])
            binned, times = binned[1:], times  # the first twelfth is the streams' own coming
            p = float(kendalltau(np.arange(len(binned)), binned).pvalue) if np.ptp(binned) else 1.0
            first, last = float(binned[:3].mean()), float(binned[-3:].mean())
            if p < ALPHA and last - first >= max(RISES_BY, RISES * first):
                yield gauge, Gauge(one.name, times, values), (first, last, p)


def _rises(
    run: RunFacts, rule: str, gauge: str, one: Gauge, numbers: tuple[float, float, float], cause: str, check: str,
    remedy: str,
) -> Finding:  # fmt: skip
    first, last, p = numbers
    hours = float(one.times[-1] - one.times[0]) / 3.6e12
    return Finding(
        name=rule,
        target=None,
        words=f"{gauge} of {one.name} rise from {first:,.0f} to {last:,.0f} while the load stays the same",
        evidence=Basis(
            k=len(one.values), n=len(one.values), of="readings",
            values={"first": round(first, 2), "last": round(last, 2), "per_hour": round((last - first) / hours, 1),
                    "p": p},
            from_s=_s(run, one.times[0]), to_s=_s(run, one.times[-1]), samples=[],
        ),
        cause=cause, check=check, remedy=remedy, later=True,
    )  # fmt: skip


def restart_seen(run: RunFacts) -> Iterator[Finding]:
    """A process began anew during the run, other than by a crash that `crashed` tells."""
    found: dict[str, list[Reading]] = {}
    for one in run.readings:
        if one.uptime_s is not None or one.pid is not None:
            found.setdefault(one.probe + (f" ({one.instance})" if one.instance else ""), []).append(one)
    for name, rows in found.items():
        told = run.amid_outage(*_begun(rows, times := _restarts(rows)))
        times = [at for at, known in zip(times, told, strict=True) if not known]
        if not times:
            continue
        columns = run.columns
        open_then = [int(((columns.start <= at) & (columns.end >= at)).sum()) for at in times]
        count = "once" if len(times) == 1 else f"{len(times)} times"
        yield Finding(
            name="restart_seen",
            target=None,
            words=(
                f"{name} began anew {count}, first {_s(run, times[0]):,.0f} s into the run, with {open_then[0]:,} "
                "streams open"
            ),
            evidence=Basis(
                k=len(times), n=len(rows), of="readings", values={"streams_open": float(open_then[0])},
                from_s=_s(run, times[0]), to_s=_s(run, times[-1]), samples=[],
            ),
            cause="a crash, a memory limit, a deployment or a health check that failed",
            check="the platform's events and the exit code (137: killed, mostly for memory)",
            remedy="mend what ends it; let open streams end first when it is you who restarts it",
            lost=max(open_then[0], 1) / max(len(run.scope.rows(columns)), 1),
        )  # fmt: skip


def _begun(rows: list[Reading], times: list[int]) -> tuple[IntArray, IntArray]:
    """(the last reading before, the first one since) of each restart, ns."""
    at = [one.at_ns for one in rows]
    before = [at[at.index(time) - 1] for time in times]
    return np.array(before, dtype=np.int64), np.array(times, dtype=np.int64)


def _restarts(rows: list[Reading]) -> list[int]:
    """When another process answered that stays: several that answer by turns are no restart."""
    begins = [one.at_ns / 1e9 - one.uptime_s if one.uptime_s is not None else float(one.pid or 0) for one in rows]
    times, at, known = [], begins[0], [begins[0]]
    for one, begin in zip(rows[1:], begins[1:], strict=True):
        if abs(begin - at) > SAME_START_S:
            if any(abs(begin - before) <= SAME_START_S for before in known):
                return []
            times.append(one.at_ns)
            known.append(begin)
            at = begin
    return times


def cpu_busy(run: RunFacts) -> Iterator[Finding]:
    """The process has used up a core."""
    for one in series_of(run.readings, "cpu_s"):
        share = cpu_share(run, one)
        if share is None or share < BUSY:
            continue
        yield Finding(
            name="cpu_busy",
            target=None,
            words=f"{one.name} used {share_of(share, 'one core')} in the judged part of the run",
            evidence=Basis(
                k=len(one.values), n=len(one.values), of="readings", values={"cores": round(share, 2)},
                from_s=_s(run, one.times[0]), to_s=_s(run, one.times[-1]), samples=[],
            ),
            cause="work for each token or request; one event loop has no more than one core",
            check="a profile while it runs: node --cpu-prof, py-spy, perf",
            remedy="more processes or instances; take work off each token (logging, parsing, compression)",
            later=True,
        )  # fmt: skip


def cpu_share(run: RunFacts, one: Gauge) -> float | None:
    """Cores in use on average in the judged phases; None where too few readings tell."""
    windows = run.scope.windows(run.scope.judged)
    used = spent = 0.0
    for start, end in windows:
        within = (one.times >= start) & (one.times <= end)
        times, values = one.times[within], one.values[within]
        if len(values) >= 3 and values[-1] >= values[0]:
            used += float(values[-1] - values[0])
            spent += float(times[-1] - times[0]) / 1e9
    return used / spent if spent else None


def _s(run: RunFacts, at_ns: float) -> float:
    return round((float(at_ns) - run.start_ns) / 1e9, 2)
