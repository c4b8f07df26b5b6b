"""How many streams one process tree holds open, and what memory of ours each takes.

10,000 streams of 5 tok/s of the server in C (bench/truth_server.c), all held for a minute by the real worker. Memory is
the proportional set size (PSS) of parent and workers in the middle of the hold, less that just before the first start,
divided by the streams. Open: mean over time and least of the hold, by the workers' own ticks. Merged: text events whose
slack exceeds 1 ms. A process may have as many descriptors as the hard limit says; it is raised for this one's children.
Where a worker and a server do not get enough of them, the streams are shared among as many of both as it takes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import msgspec
import psutil

from bench.found import Bound, Found, at, progress
from bench.load import PROMPT, compiled
from bench.truth_log import SERVER, answers, serving
from streamgauge.client import target_from_url
from streamgauge.clock import S, SystemClock
from streamgauge.journal import Journal
from streamgauge.load import Load, workers_for
from streamgauge.plan import Hold, Lane, Phase
from streamgauge.run import conduct
from streamgauge.sample import GOOD, AuditTick, Sample
from streamgauge.suite.folder import records
from streamgauge.worker import raise_descriptor_limit

MOST_KB = 40.0
"""Of our memory, a stream."""
LEAST_OPEN = 0.99
SPARE = 64
"""Descriptors of a process that are no streams."""
COLUMNS = (
    "streams", "workers", "open mean / least", "good", "KB a stream", "MB at start / held", "of a core", "merged",
    "late ms p50 / p95", "servers wrote tok/s",
)  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--streams", type=int, nargs="+", default=[10_000], help="levels")
    parser.add_argument("--gap-ms", type=int, default=200, help="between two tokens of a stream")
    parser.add_argument("--ramp-s", type=float, default=20.0, help="over which the starts are spread")
    parser.add_argument("--hold-s", type=float, default=60.0, help="in which all are open")
    parser.add_argument(
        "--descriptors", type=int, help="at most so many a process; what the hard limit allows by itself"
    )


def measure(asked: argparse.Namespace) -> Found:
    title = f"Scale: streams of {1000 / asked.gap_ms:g} tok/s, all held for {asked.hold_s:g} s"
    limit = min(raise_descriptor_limit(), asked.descriptors or sys.maxsize)
    rows, bounds = [], []
    notes = [f"descriptors: {limit:,} a process"]
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        server = compiled(SERVER, Path(made))
        if server is None or sys.platform != "linux":
            return Found(title, COLUMNS, [("-",) * len(COLUMNS)], notes=("wants cc and Linux: not measured",))
        for streams in asked.streams:
            progress(f"{streams} streams")
            shares = max(workers_for(streams), -(-streams // (limit - SPARE)))
            told, own = one(server, streams, shares, asked)
            rows.append(told)
            bounds += own
    return Found(title, COLUMNS, rows or [("-",) * len(COLUMNS)], tuple(bounds), tuple(notes))


def one(server: str, streams: int, shares: int, asked: argparse.Namespace) -> tuple[tuple[str, ...], list[Bound]]:
    """One level, by so many workers and as many servers: its row and its bounds."""
    ramp, hold = round(asked.ramp_s * S), round(asked.hold_s * S)
    tokens = round(
        (asked.ramp_s + asked.hold_s + 3) * 1e3 / asked.gap_ms
    )  # longer than ramp and hold: none ends before
    model = f"sim-t300-i{asked.gap_ms}-n{tokens}"
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        folder = Path(made)
        logs = [folder / f"truth-{share}.bin" for share in range(shares)]
        with ExitStack() as stack:
            ports = [stack.enter_context(serving(server, log, whole=False))[0] for log in logs]
            target = target_from_url(
                f"http://127.0.0.1:{ports[0]}/v1/chat/completions", dialect="openai-chat", model=model
            )
            target = msgspec.structs.replace(target, addresses=tuple(("127.0.0.1", port) for port in ports))
            lane = (target.name,), ("own",)
            phases = (
                Phase("ramp", (Lane(*lane, Hold(streams, ramp)),), streams, duration_ns=ramp),
                Phase("hold", (Lane(*lane, Hold(streams)),), streams, duration_ns=hold),
            )
            load = Load(targets=(target,), prompts={"own": (PROMPT,)}, phases=phases, seed=1, grace_ns=ramp + 30 * S,
                        workers=shares)  # fmt: skip
            journal, memory = Journal(folder), Memory(server)
            with memory:
                ending = conduct(load, folder, SystemClock(), journal, lambda event: None)
            journal.close()
        if ending.partial:
            progress(f"the run did not end as planned: {ending}")
        found = list(records(folder))
        writes = [before for log in logs for _, answer in answers(log) for before, _ in answer.writes]
    samples = [record for record in found if isinstance(record, Sample)]
    since = min(sample.due_ns for sample in samples) + ramp
    until = since + hold
    ticks = [record for record in found if isinstance(record, AuditTick) and since + S <= record.at_ns <= until]
    held = [_held([tick for tick in ticks if tick.worker == worker]) for worker in range(shares)]
    mean, least = sum(one[0] for one in held), sum(one[1] for one in held)
    outcomes = Counter(str(sample.outcome) for sample in samples)
    good = sum(sample.outcome in GOOD for sample in samples)
    lost = max(streams, len(samples)) - good
    before, during = memory.at(since - ramp), memory.at((since + until) // 2)
    late = sorted(sample.late_ns / 1e6 for sample in samples)
    each = (during - before) / streams / 1024
    row = (
        f"{streams:,}",
        str(shares),
        f"{mean:,.0f} / {least:,}",
        f"{good:,} of {len(samples):,}",
        f"{each:.1f}",
        f"{before / 2**20:.0f} / {during / 2**20:.0f}",
        " + ".join(f"{core:.0%}" for _, _, core in held),
        f"{sum(s.merged_events for s in samples) / max(sum(s.text_events for s in samples), 1):.2%}",
        f"{at(late, 0.5):.2f} / {at(late, 0.95):.2f}",
        f"{sum(since <= write <= until for write in writes) / asked.hold_s:,.0f}",
    )
    words = f"{streams:,} streams"
    return row, [
        Bound(f"{words}: {each:.1f} KB a stream, limit {MOST_KB:g}", each <= MOST_KB),
        Bound(f"{words}: {mean:,.0f} open in the mean, at least {LEAST_OPEN:.0%}", mean >= LEAST_OPEN * streams),
        Bound(f"{words}: {lost:,} did not end well, limit 0 ({dict(outcomes)})", not lost),
    ]


def _held(ticks: list[AuditTick]) -> tuple[float, int, float]:
    """One worker's streams, mean over time and fewest, and the share of a core that it took: none, where it died."""
    if len(ticks) < 2:
        return 0.0, 0, 0.0
    span = [(b.at_ns - a.at_ns, b) for a, b in pairwise(ticks)]
    whole = sum(ns for ns, _ in span)
    mean = sum(ns * tick.open_streams for ns, tick in span) / whole
    return mean, min(tick.open_streams for tick in ticks), sum(ns * tick.cpu for ns, tick in span) / whole


@dataclass
class Memory:
    """PSS of this process and its children, but for the server's, once a second while the block runs."""

    server: str
    seen: list[tuple[int, int]] = field(default_factory=list)
    """(monotonic ns, bytes)."""
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> None:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.25 if len(self.seen) < 8 else 1.0):
            own = [os.getpid(), *(child.pid for child in psutil.Process().children() if not self._served(child))]
            self.seen.append((time.monotonic_ns(), sum(map(pss, own))))

    def _served(self, child: psutil.Process) -> bool:
        try:
            return child.cmdline()[:1] == [self.server]
        except psutil.Error:
            return True

    def at(self, at_ns: int) -> int:
        """Bytes at the look nearest to that time."""
        return min(self.seen, key=lambda seen: abs(seen[0] - at_ns))[1]


def pss(pid: int) -> int:
    """Bytes: what is shared counts in parts. 0 where the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
