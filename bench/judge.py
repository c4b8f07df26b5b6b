"""From samples on disk to all four reports: `streamgauge report` on runs of up to a million requests, each in a process
of its own.

Requests of 32 text events each, as a `ttft` run of three targets would leave them; nothing was measured. Memory is what
the process and its children hold together at most, what they share counted once. It is looked at in a run of its own:
to count a gigabyte's pages four times a second takes processor time, and holds up those whose they are.

Linear: what a request costs above the smallest run (start-up and pictures, which every report has) must not grow from
one run to the next larger one. Runs that are small are made several times and the least counts, since what others do to
the machine only ever adds. Start-up hides what a small run takes: by as much as its own processor time varies, and up
to the memory that it needs itself. From a run whose own cost is less than that nothing is concluded, and it says so.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import psutil

from bench.folder import planned, written
from bench.found import Bound, Found, progress
from bench.startup import environment
from streamgauge.clock import MS
from streamgauge.sample import Outcome, Sample
from streamgauge.suite.prepare import Prepared

EVENTS = 32
EVERY_NS = 10 * MS
PATTERNS = 1_000
"""So many different answers are drawn; their gaps come again and again."""
MILLION = 1_000_000
MOST_S, MOST_BYTES, MOST_HTML = 20.0, 1.5e9, 2e6
ROOM = 1.5
"""So many times what a request costs in the next smaller run still count as linear."""
SMALL = 100_000
"""Runs of up to so many requests are made several times."""
LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class Cost:
    """What one report took."""

    n: int
    seconds: float
    cpu: float
    cpu_most: float
    """The most that any of several runs took; `cpu` is the least."""
    peak: int
    html: int
    csv: int
    samples: int


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--requests", type=int, nargs="+", default=[1_000, 10_000, 100_000, 300_000, MILLION], help="runs of so many"
    )
    parser.add_argument("--times", type=int, default=3, help=f"runs of up to {SMALL:,} requests are made so often")


def measure(asked: argparse.Namespace) -> Found:
    prepared = planned("ttft")
    costs = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        root = Path(name)
        if sys.dont_write_bytecode:  # then the first report compiles the modules
            report(100, written(root, prepared, made(prepared, 100), phases(100), 200 * EVERY_NS), root / "first")
        for n in sorted(asked.requests):
            progress(f"{n:,} requests")
            folder = written(root, prepared, made(prepared, n), phases(n), 2 * n * EVERY_NS)
            timed = [report(n, folder, root / f"{n}-{i}") for i in range(asked.times if n <= SMALL else 1)]
            costs.append(replace(least(timed), peak=report(n, folder, root / f"{n}-watched", watched=True).peak))
    return Found(
        f"Judging: samples on disk to written reports, {EVENTS} events a request",
        ("requests", "samples MB", "s", "processor s", "us a request more", "peak MB", "csv MB", "html KB"),
        [
            (
                f"{one.n:,}", f"{one.samples / 1e6:.1f}", f"{one.seconds:.1f}", f"{one.cpu:.1f}",
                "-" if one is costs[0] else f"{PROCESSOR.each(costs[0], one):.1f}",
                f"{one.peak / 1e6:.0f}", f"{one.csv / 1e6:.1f}", f"{one.html / 1e3:.0f}",
            )
            for one in costs
        ],
        bounds(costs),
    )  # fmt: skip


def bounds(costs: list[Cost]) -> tuple[Bound, ...]:
    """Time and memory of a million, the line that neither may leave, and the size of the page."""
    found = []
    largest = max(one.html for one in costs)
    found.append(Bound(f"html of at most {largest / 1e6:.2f} MB, limit {MOST_HTML / 1e6:g}", largest < MOST_HTML))
    for one in costs:
        if one.n == MILLION:
            found.append(Bound(f"a million in {one.seconds:.1f} s, limit {MOST_S:g}", one.seconds < MOST_S))
            found.append(Bound(f"a million in {one.peak / 1e9:.2f} GB, limit 1.5", one.peak < MOST_BYTES))
    for before, after in pairwise(costs[1:]):
        found += [grown(costs[0], before, after, what) for what in (PROCESSOR, MEMORY)]
    return tuple(found)


@dataclass(frozen=True, slots=True)
class What:
    """One thing that a report takes. `hidden`: below this a run's own cost cannot be told from start-up's."""

    name: str
    unit: str
    of: Callable[[Cost], float]
    hidden: Callable[[Cost], float]

    def each(self, base: Cost, cost: Cost) -> float:
        """What each request more than those of `base` took."""
        return (self.of(cost) - self.of(base)) / (cost.n - base.n)


PROCESSOR = What("processor", "us", lambda cost: cost.cpu * 1e6, lambda base: 2e6 * (base.cpu_most - base.cpu))
MEMORY = What("memory", "bytes", lambda cost: float(cost.peak), lambda base: float(base.peak))


def grown(base: Cost, before: Cost, after: Cost, what: What) -> Bound:
    """Whether a request of the larger run costs no more than one of the smaller."""
    smaller, larger = what.each(base, before), what.each(base, after)
    words = f"{what.name} a request: {larger:,.1f} {what.unit} of {after.n:,}, {smaller:,.1f} of {before.n:,}"
    if what.of(before) - what.of(base) <= what.hidden(base):
        return Bound(f"{words}, which start-up hides: not compared", True)
    return Bound(f"{words}, limit {ROOM:g} times that", larger <= ROOM * smaller)


def least(costs: list[Cost]) -> Cost:
    """The quickest of several, with the least processor time of any."""
    best = min(costs, key=lambda one: one.seconds)
    cpus = [one.cpu for one in costs]
    return replace(best, cpu=min(cpus), cpu_most=max(cpus))


def phases(n: int) -> list[tuple[str, int, int]]:
    """One judged phase over all requests."""
    return [("hold", 4, 0), ("drain", 0, n * EVERY_NS)]


def made(prepared: Prepared, n: int) -> Iterator[Sample]:
    """n good Samples, one due each 10 ms, first tokens log-normal about 300 ms, gaps about 20 ms."""
    draw = random.Random(n)
    targets = [target.name for target in prepared.load.targets]
    prompts = list(prepared.load.prompts)
    patterns = [
        array("I", (round(draw.gauss(20_000, 2_000)) for _ in range(EVENTS - 1))) for _ in range(min(n, PATTERNS))
    ]
    for seq in range(n):
        due = seq * EVERY_NS
        first = due + round(draw.lognormvariate(5.7, 0.2) * MS)
        gaps = draw.choice(patterns)
        end = first + sum(gaps) * 1_000
        yield Sample(
            id=f"{seq:032x}", seq=seq, target=targets[seq % len(targets)],
            prompt=prompts[seq // len(targets) % len(prompts)], phase="hold", level=4, slot=seq % 4, worker=0,
            outcome=Outcome.OK, http_status=200, due_ns=due, start_ns=due, sent_ns=due, first_byte_ns=first,
            headers_ns=first, first_event_ns=first, first_output_ns=first, first_token_ns=first, last_token_ns=end,
            last_output_ns=end, end_ns=end, text_events=EVENTS, output_reads=EVENTS, gaps=gaps.tobytes(),
            longest_gap_ns=max(gaps) * 1_000, bytes_in=EVENTS * 250, input_tokens=40, output_tokens=EVENTS,
            streamed_tokens=EVENTS, finish="stop", model="m", conn=seq % 4,
        )  # fmt: skip


def report(n: int, folder: Path, out: Path, *, watched: bool = False) -> Cost:
    """What `streamgauge report` on the folder takes, and what it writes. watched: its children's memory counts too."""
    command = [sys.executable, "-m", "streamgauge", "report", str(folder), "--out", str(out)]
    began = time.monotonic()
    environ = environment(out.parent / "pyc")
    process = subprocess.Popen(command, env=environ, cwd=out.parent, stdout=subprocess.DEVNULL)
    done, together = threading.Event(), [0]

    def look() -> None:
        while not done.wait(LOOK_S):
            together.append(held(process.pid))

    looking = threading.Thread(target=look)
    if watched:
        looking.start()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    done.set()
    if watched:
        looking.join()
    if os.waitstatus_to_exitcode(status) not in (0, 3):
        raise RuntimeError(f"{' '.join(command)} ended {os.waitstatus_to_exitcode(status)}")
    html, csv, samples = (
        sum(path.stat().st_size for path in where.glob(pattern))
        for where, pattern in ((out, "*.html"), (out, "*.csv"), (folder, "*.sgs"))
    )
    cpu = used.ru_utime + used.ru_stime
    return Cost(n, seconds, cpu, cpu, max(used.ru_maxrss * 1024, *together), html, csv, samples)


def held(pid: int) -> int:
    """Bytes that the process and its children hold now, what they share counted once; 0 of one alone, or one gone.

    One alone tells its own peak when it ends, and is not disturbed by looking.
    """
    with contextlib.suppress(psutil.Error):
        one = psutil.Process(pid)
        if children := one.children():
            return sum(process.memory_full_info().pss for process in (one, *children))
    return 0
