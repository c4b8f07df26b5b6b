"""What a benchmark found, as Markdown that can stand in docs/benchmarks.md; and what it ran on."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Bound:
    """Something a benchmark is held to, in words with its figure."""

    words: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Found:
    """One table. `notes` say how it came to be."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    bounds: tuple[Bound, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether no bound is broken."""
        return all(bound.holds for bound in self.bounds)

    def markdown(self, machine: str) -> str:
        """A section: title, machine, table, notes, bounds."""
        lines = [f"### {self.title}", "", machine, ""]
        lines += [_row(self.columns), _row(["---"] * len(self.columns)), *map(_row, self.rows), ""]
        lines += [f"- {note}" for note in self.notes]
        lines += [f"- {'ok' if bound.holds else 'BROKEN'}: {bound.words}" for bound in self.bounds]
        return "\n".join([*lines, ""] if lines[-1] else lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


class Machine:
    """The machine from here until `said`, and how much of it others took meanwhile."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._busy, self._ours = _busy_s(), _ours_s()

    @property
    def others(self) -> float | None:
        """Share of the cores that went to programs other than this process and its ended children; None: unknown."""
        busy = _busy_s()
        if self._busy is None or busy is None:
            return None
        cores_s = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        return max(busy - self._busy - (_ours_s() - self._ours), 0.0) / cores_s

    def said(self) -> str:
        """One line."""
        took, others = time.monotonic() - self._began, self.others
        system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
        said = f"{os.cpu_count() or 1} cores ({_model()}), {system}, {took:.0f} s"
        if others is None:
            return f"{said}."
        return f"{said}; others took {others:.0%} of the cores, load {os.getloadavg()[0]:.1f} at the end."


def _ours_s() -> float:
    """Processor time of this process and of its children that ended."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _busy_s() -> float | None:
    """Processor time of the whole machine that was not idle, steal included; None where there is no /proc."""
    if sys.platform != "linux":
        return None
    user, nice, system, _, _, irq, soft, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def _model() -> str:
    """The processor's name, where Linux tells it."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def at(ordered: Sequence[float], share: float) -> float:
    """A quantile of values in ascending order, by nearest rank from above: p50 of two is the second."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def progress(words: str) -> None:
    """A line on stderr."""
    print(f"  {words}", file=sys.stderr, flush=True)
