"""From samples on disk to all four reports: `streamgauge report` on runs of up to a million requests, each in a process
of its own.

Requests of 32 text events each, as a `ttft` run of three targets would leave them; nothing was measured. Memory is the
process's peak (resident). Linear: the largest run is held to the line through the smallest one (start-up and pictures,
which every report has) and the one before it. There is room above the line: what others do to the machine is noise, and
the memory of start-up hides a part of what a small run takes.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
"""Times linear that still holds."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one report took."""

    n: int
    seconds: float
    cpu: float
    peak: int
    html: int
    csv: int
    samples: int


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, nargs="+", default=[1_000, 10_000, 100_000, MILLION])


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
            costs.append(report(n, folder, root / f"{n}"))
    return Found(
        f"Judging: samples on disk to written reports, {EVENTS} events a request",
        ("requests", "samples MB", "s", "processor s", "peak MB", "csv MB", "html KB"),
        [
            (
                f"{one.n:,}", f"{one.samples / 1e6:.1f}", f"{one.seconds:.1f}", f"{one.cpu:.1f}",
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
    if len(costs) < 3:
        return tuple(found)
    base, before, last = costs[0], costs[-2], costs[-1]
    for what, values in (
        ("processor s", [one.cpu for one in (base, before, last)]),
        ("peak MB", [one.peak / 1e6 for one in (base, before, last)]),
    ):
        linear = values[0] + (values[1] - values[0]) * (last.n - base.n) / (before.n - base.n)
        words = f"{what} from {before.n:,} to {last.n:,}: {values[2]:.1f}, linear would be {linear:.1f}"
        found.append(Bound(words, values[2] <= ROOM * max(linear, values[0])))
    return tuple(found)


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


def report(n: int, folder: Path, out: Path) -> Cost:
    """What `streamgauge report` on the folder takes, and what it writes."""
    command = [sys.executable, "-m", "streamgauge", "report", str(folder), "--out", str(out)]
    began = time.monotonic()
    environ = environment(out.parent / "pyc")
    process = subprocess.Popen(command, env=environ, cwd=out.parent, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    if os.waitstatus_to_exitcode(status) not in (0, 3):
        raise RuntimeError(f"{' '.join(command)} ended {os.waitstatus_to_exitcode(status)}")
    html, csv, samples = (
        sum(path.stat().st_size for path in where.glob(pattern))
        for where, pattern in ((out, "*.html"), (out, "*.csv"), (folder, "*.sgs"))
    )
    return Cost(n, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, html, csv, samples)
