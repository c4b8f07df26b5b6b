"""The server's memory: growth that passes is still told, and what the burst, the limit and the collector say of it.

What was fitted stands in the report's section `memory`, which only tests with a probe have; here it is read and put
into words.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from streamgauge.findings.finding import Basis, Finding, RunFacts
from streamgauge.findings.probes import HEAP, MB, series_of
from streamgauge.memory import Memory, MemorySeries
from streamgauge.shares import share_of

LEAST_MB_PER_H = 10.0
"""Growth whose lower bound is below it is none."""
LEAST_KB = 1.0
GIVEN_BACK = 0.5
LEAST_RISE_MB = 10.0
NEAR_LIMIT = 0.9
SWING, SWING_MB, DROPS = 0.5, 50.0, 3


def section(run: RunFacts) -> list[MemorySeries]:
    """The series of the section, the worst one first; none where the run has none."""
    found = run.sections.get("memory")
    return [] if found is None else cast(Memory, found).series


def memory_grows(run: RunFacts) -> Iterator[Finding]:
    """Memory grows in a line: a leak, whatever its rate."""
    for one in section(run):
        if not one.judged or one.mixed or one.shape == "plateau" or not _above(one.low, LEAST_MB_PER_H):
            continue
        rate = one.growth_mb_per_h or 0.0
        until = f"; the limit of {one.limit_mb:,.0f} MB in {one.limit_reached_in_h:,.0f} h" if _until(one) else ""
        each = f", {one.growth_kb_per_request:,.1f} KB a request" if _above(one.kb_per_request_low, LEAST_KB) else ""
        yield Finding(
            name="memory_grows",
            target=None,
            words=f"{_whose(one)} grows by {rate:,.0f} MB/h [{_bounds(one)}]{each}{until}",
            evidence=_basis(
                one, mb_per_h=rate, low=one.low, high=one.high, kb_per_request=one.growth_kb_per_request,
                limit_mb=one.limit_mb, limit_in_h=one.limit_reached_in_h,
            ),
            cause=(
                "something that is kept for each request or each moment: listeners, caches without an end, "
                "closed streams"
            ),
            check=(
                "two heap snapshots half an hour apart, compared (Chrome DevTools, tracemalloc, pprof): what "
                "became more?"
            ),
            remedy=(
                "release what a stream holds when it ends or breaks off; bound every cache; a memory limit with "
                "restarts"
            ),
            later=True,
        )  # fmt: skip


def left_by_requests(run: RunFacts) -> Iterator[Finding]:
    """Memory grows with each request."""
    for one in section(run):
        if not one.judged or one.mixed or not _above(one.kb_per_request_low, LEAST_KB) or one.shape == "plateau":
            continue
        if not _above(one.low, LEAST_MB_PER_H):
            continue
        each = one.growth_kb_per_request or 0.0
        yield Finding(
            name="left_by_requests",
            target=None,
            words=f"each request leaves {each:,.1f} KB of {_whose(one)} behind",
            evidence=_basis(one, kb_per_request=each, low=one.kb_per_request_low),
            cause="an event listener, timer or closure that is added for each request and never taken away",
            check="count listeners and open handles before and after a hundred requests; Node warns of more than ten",
            remedy=(
                "take listeners away when a stream ends (once, AbortSignal, finally); give each request its own "
                "emitter"
            ),
            later=True,
        )  # fmt: skip


def memory_not_given_back(run: RunFacts) -> Iterator[Finding]:
    """What the burst took is still held after the idle time."""
    for one in section(run):
        peak, before, after = one.peak_mb, one.before_mb, one.after_mb
        if not one.judged or one.cleanup is None or peak is None or before is None or after is None:
            continue
        peak -= one.grown_mb or 0.0
        if one.cleanup >= GIVEN_BACK or peak - before < LEAST_RISE_MB:
            continue
        yield Finding(
            name="memory_not_given_back",
            target=None,
            words=(
                f"of the {peak - before:,.0f} MB that the burst took, {max(peak - after, 0.0):,.0f} MB were given back "
                f"({_whose(one)})"
            ),
            evidence=_basis(one, cleanup=one.cleanup, before_mb=before, peak_mb=peak, after_mb=after),
            cause="buffers and streams of the burst are still referred to; or an allocator that keeps what it once had",
            check="a second burst: if the peak is no higher, it is kept for use; if it rises, it leaks",
            remedy="limit the size of buffers a stream; close what is done at once; jemalloc, or MALLOC_ARENA_MAX",
            later=True,
        )  # fmt: skip


def outside_heap(run: RunFacts) -> Iterator[Finding]:
    """The process grows and its heap does not."""
    every = section(run)
    for one in every:
        heap = next((h for h in every if h.gauge == HEAP and (h.probe, h.instance) == (one.probe, one.instance)), None)
        if one.gauge != "rss" or one.mixed or heap is None or not _above(one.low, LEAST_MB_PER_H):
            continue
        if _above(heap.low, LEAST_MB_PER_H):
            continue
        yield Finding(
            name="outside_heap",
            target=None,
            words=f"the process grows by {one.growth_mb_per_h or 0:,.0f} MB/h [{_bounds(one)}] outside of its heap",
            evidence=_basis(one, mb_per_h=one.growth_mb_per_h, low=one.low, heap_mb_per_h=heap.growth_mb_per_h),
            cause="buffers, native code or a fragmented allocator: heap snapshots do not show it",
            check="external and array_buffers of the same probe; native memory tracking",
            remedy="limit buffers, honour backpressure when writing to a slow client; another allocator",
            later=True,
        )  # fmt: skip


def memory_limit_near(run: RunFacts) -> Iterator[Finding]:
    """The peak comes near the limit that the server tells."""
    for one in section(run):
        if not one.limit_mb or one.peak_mb is None or one.peak_mb < NEAR_LIMIT * one.limit_mb:
            continue
        yield Finding(
            name="memory_limit_near",
            target=None,
            words=f"{_whose(one)} reached {one.peak_mb:,.0f} MB, {share_of(one.peak_mb / one.limit_mb, 'its limit')}",
            evidence=_basis(one, peak_mb=one.peak_mb, limit_mb=one.limit_mb),
            cause="streams and buffers of the burst, or a leak; at the limit the process is killed",
            check="out-of-memory kills in the platform's events (exit code 137)",
            remedy="fewer streams an instance, smaller buffers, or a higher limit",
            later=True,
        )


def collector_sawtooth(run: RunFacts) -> Iterator[Finding]:
    """A collector that waits long and then gives back much."""
    for one in series_of(run.readings, HEAP):
        swing = float(one.values.max() - one.values.min())
        drops = one.times[1:][(one.values[:-1] - one.values[1:]) > 0.5 * swing]
        if len(drops) < DROPS or swing < SWING_MB * MB or swing < SWING * float(one.values.mean()):
            continue
        every = float((drops[-1] - drops[0]) / (len(drops) - 1)) / 1e9
        yield Finding(
            name="collector_sawtooth",
            target=None,
            words=f"the collector gives {swing / MB:,.0f} MB back every {every:,.0f} s ({one.name})",
            evidence=Basis(
                k=len(drops), n=len(one.values), of="readings",
                values={"swing_mb": round(swing / MB, 1), "every_s": round(every, 1)},
                from_s=_s(run, drops[0]), to_s=_s(run, drops[-1]), samples=[],
            ),
            cause="the collector runs seldom and then long: no leak, but each time it may stop every stream",
            check="gaps between tokens at those times (the longest are in the report); node --trace-gc, GC logs",
            remedy="tune it: a larger young generation (--max-semi-space-size), less garbage for each token",
        )  # fmt: skip


def _above(value: float | None, edge: float) -> bool:
    return value is not None and value > edge


def _until(one: MemorySeries) -> bool:
    return one.limit_mb is not None and one.limit_reached_in_h is not None


def _whose(one: MemorySeries) -> str:
    """`heap_used of node (web-1)`."""
    return f"{one.gauge} of {one.probe}" + (f" ({one.instance})" if one.instance else "")


def _bounds(one: MemorySeries) -> str:
    ends = ["?" if end is None else f"{end:,.0f}" for end in (one.low, one.high)]
    return " to ".join(ends)


def _basis(one: MemorySeries, **values: float | None) -> Basis:
    told = {name: None if value is None else round(value, 2) for name, value in values.items()}
    return Basis(
        k=one.readings - one.failed, n=one.readings, of="readings", values=told, from_s=one.judged_from_s,
        to_s=one.judged_to_s, samples=[],
    )  # fmt: skip


def _s(run: RunFacts, at_ns: float) -> float:
    return round((float(at_ns) - run.start_ns) / 1e9, 2)
