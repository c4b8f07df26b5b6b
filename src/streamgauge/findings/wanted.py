"""What to add so that a line of a root-cause list is looked at: exactly what the probes of this run did not give.

Rules: where no probe was there, the line's own words ask for one. Where one was, it is named, with the gauge that it
lacks and where that goes; a probe is never asked for twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streamgauge.findings.finding import RunFacts
from streamgauge.findings.memory import section
from streamgauge.findings.probes import HEAP, LEAST
from streamgauge.sample import Reading

PAGES = "docs/probes.md"
OF_PAGES = frozenset((HEAP,))
"""What no process tells from outside."""
BY_PATH = frozenset(("cpu_s",))
"""Gauges that are not looked for under a usual name: `cpus` of a page may be its cores."""
COLLECTED = 3

Asks = Callable[[RunFacts], str]


def gauge(names: Sequence[str], without: str) -> Asks:
    """One of these gauges. without: what is asked for where there is no probe."""

    def ask(run: RunFacts) -> str:
        return _by_probes(run, names) or without

    return ask


def collected(without: str) -> Asks:
    """Readings of the heap right after a collection."""

    def ask(run: RunFacts) -> str:
        heaps = [one for one in run.readings if HEAP in one.values]
        if not heaps:
            return _by_probes(run, (HEAP,)) or without
        name = heaps[0].probe
        after = sum(one.collected for one in heaps)
        if after:
            return f"longer runs of memory: {name} was read {_times(after)} after a collection, {COLLECTED} are needed"
        return f'collect = "?collect=1" to [probes.{name}], and a page that heeds it and tells `collected` ({PAGES})'

    return ask


def growth(without: str) -> Asks:
    """Memory over so long a time that a rate can be fitted to it."""

    def ask(run: RunFacts) -> str:
        mixed = next((one.probe for one in section(run) if one.mixed), None)
        if mixed is not None:
            return f"`instance` to what {mixed} tells: several processes answered by turns as one ({PAGES})"
        return _by_probes(run, (HEAP, "rss")) or without

    return ask


def _by_probes(run: RunFacts, names: Sequence[str]) -> str | None:
    """What the probes of this run lack to tell one of these gauges; None where there was no probe."""
    if not run.readings:
        return None
    good = [one for one in run.readings if one.error is None]
    if not good:
        one = run.readings[-1]
        return f"a probe that reads: {one.probe} gave none ({one.error})"
    given = [one for one in good if any(name in one.values for name in names)]
    if not given:
        return _added(run, good[0], names)
    most = max(_count(given, name, names) for name in {one.probe for one in given})
    if most < LEAST:
        return f"longer runs: {given[0].probe} was read {_times(most)}, {LEAST} readings are needed"
    return f"longer runs: too few of the readings of {given[0].probe} fell into the judged part"


def _added(run: RunFacts, read: Reading, names: Sequence[str]) -> str:
    """Where a gauge goes that a probe does not tell."""
    kind, place = run.probes.get(read.probe, ("", ""))
    gauges = " or ".join(f"`{name}`" for name in names)
    if kind == "process":
        if OF_PAGES.issuperset(names):
            return f"a JSON page that tells {gauges} ({PAGES}): {read.probe} reads a process from outside"
        return (
            f"the right to read {gauges} of {place or read.probe}: the system hid it from the user streamgauge ran as"
        )
    where = f"the JSON page at {place}" if place else f"what {read.probe} tells"
    path = f" and its place to paths in [probes.{read.probe}]" if BY_PATH.intersection(names) else ""
    return f"{gauges} to {where}{path} ({PAGES})"


def _count(given: Sequence[Reading], probe: str, names: Sequence[str]) -> int:
    """The most readings that one instance gave of one of the gauges."""
    instances = {one.instance for one in given if one.probe == probe}
    return max(
        sum(name in one.values for one in given if one.probe == probe and one.instance == instance)
        for instance in instances
        for name in names
    )


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"
