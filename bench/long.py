"""Long runs: as many events as 8 hours of 10 streams give, sent faster. Does our own memory stay flat, and are the
files bounded?

`streamgauge run ttft` as a user runs it, 10 streams at a time, twice. Flood: against a server that sends as fast as it
is read, 320 answers of 45,000 text events each, which is what 10 streams of 50 tokens a second, 15 minutes long, give
in 8 hours; then many events come in one read. Singly: each event in a read of its own, 1 ms apart, fewer of them; a
read is what takes room. Memory is what parent and workers hold (resident) while the load runs, from the moment in which
a tenth of the run was over. A gap between two reads with text takes 4 bytes on the disk, and nothing else there grows
with an answer's length. What judging takes afterwards is told beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.found import Bound, Found, progress
from bench.startup import environment

STREAMS, WARMUP = 10, 2
MOST_GROWTH, MOST_JUDGING = 8e6, 1.5e9
BYTES_A_READ = 4.5
BYTES_A_REQUEST, BYTES_A_SECOND = 2_000, 1_000
"""A Sample with its texts; ticks of a worker, lines of the journal."""


@dataclass
class Held:
    """What the processes of a run held over time."""

    at: list[tuple[float, int, int]] = field(default_factory=list)
    """(seconds, parent's memory, workers' memory)"""
    judging: int = 0
    """The parent's most, once no worker was left."""

    def growth(self, which: int) -> float:
        """Bytes more at the most than when a tenth of the time was over."""
        began, ended = self.at[0][0], self.at[-1][0]
        later = [row[which] for row in self.at if row[0] >= began + (ended - began) / 10]
        return max(later) - later[0]


@dataclass(frozen=True, slots=True)
class Ran:
    """One run."""

    events: int
    reads: int
    requests: int
    seconds: float
    files: int
    held: Held


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--flood", type=int, default=320, help="answers of the first run; 0: without it")
    parser.add_argument("--singly", type=int, default=10, help="answers of the second run; 0: without it")
    parser.add_argument("--events", type=int, default=45_000, help="text events of each answer")


def measure(asked: argparse.Namespace) -> Found:
    rows, bounds = [], []
    for name, answers, per_write, pause_us in (("flood", asked.flood, 16, 0), ("singly", asked.singly, 1, 1_000)):
        if not answers:
            continue
        progress(f"{name}: {answers * asked.events:,} events")
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            ran = run(Path(folder), answers, asked.events, per_write, pause_us)
        rows.append(row_of(name, ran))
        bounds += bounds_of(name, ran)
    return Found(
        f"Long runs: {STREAMS} streams at a time, answers of {asked.events:,} events",
        ("run", "events", "reads with text", "s", "worker MB", "grew", "parent MB", "grew", "files MB", "judging MB"),
        rows,
        tuple(bounds),
    )


def row_of(name: str, ran: Ran) -> tuple[str, ...]:
    """One run as a row."""
    held = ran.held
    first, last = held.at[0], held.at[-1]
    return (
        name, f"{ran.events:,}", f"{ran.reads:,}", f"{last[0] - first[0]:.0f}", f"{last[2] / 1e6:.0f}",
        f"{held.growth(2) / 1e6:+.1f}", f"{last[1] / 1e6:.0f}", f"{held.growth(1) / 1e6:+.1f}",
        f"{ran.files / 1e6:.2f}", f"{held.judging / 1e6:.0f}",
    )  # fmt: skip


def bounds_of(name: str, ran: Ran) -> list[Bound]:
    """What one run is held to."""
    may = BYTES_A_READ * ran.reads + BYTES_A_REQUEST * ran.requests + BYTES_A_SECOND * ran.seconds
    workers, parent, judging = ran.held.growth(2), ran.held.growth(1), ran.held.judging
    each = f"{BYTES_A_READ:g} bytes a read with text, {BYTES_A_REQUEST:,} a request, {BYTES_A_SECOND:,} a second"
    limit = f"limit {MOST_GROWTH / 1e6:g}"
    return [
        Bound(f"{name}: workers grow by {workers / 1e6:.1f} MB, {limit}", workers <= MOST_GROWTH),
        Bound(f"{name}: the parent grows by {parent / 1e6:.1f} MB, {limit}", parent <= MOST_GROWTH),
        Bound(f"{name}: files of {ran.files / 1e6:.2f} MB, limit {may / 1e6:.2f} ({each})", ran.files <= may),
        Bound(f"{name}: judging holds {judging / 1e6:.0f} MB, limit {MOST_JUDGING / 1e6:g}", judging <= MOST_JUDGING),
    ]


def run(root: Path, answers: int, events: int, per_write: int, pause_us: int) -> Ran:
    """One run of so many answers in `root`, watched from beside."""
    server = subprocess.Popen(
        [sys.executable, "-m", "bench.long_server", str(events), str(per_write), str(pause_us)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1/chat/completions"
        began = time.monotonic()
        command = subprocess.Popen(
            [sys.executable, "-m", "streamgauge", "run", "ttft", "--url", url, "--model", "m", "--json", "-q",
             "--requests", str(answers), "--concurrency", str(STREAMS)],
            cwd=root, env=environment(root / "cache"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        held = _watched(command, root)
        _, said = command.communicate()
        report = next(root.glob("tests/performance/reports/*.json"), None)
        assert report is not None, said
        told = json.loads(report.read_text("utf-8"))
        assert told["outcomes"] == {"ok": answers}, (told["outcomes"], said)
    finally:
        server.communicate("")
    whole = answers + WARMUP
    reads = round((told["metrics"]["itl_ms"]["n"] + answers) * whole / answers)
    events = round(told["measurement"]["text_events"] * whole / answers)
    return Ran(events, reads, whole, time.monotonic() - began, _on_disk(root), held)


def _watched(command: subprocess.Popen[str], root: Path) -> Held:
    """Look at its processes ten times a second until it is over."""
    held, began = Held(), time.monotonic()
    parent = psutil.Process(command.pid)
    while command.poll() is None:
        with suppress(psutil.Error):
            workers = [child for child in parent.children() if "streamgauge.worker" in child.cmdline()]
            rss = parent.memory_info().rss
            if workers and _on_disk(root):
                most = sum(worker.memory_info().rss for worker in workers)
                held.at.append((time.monotonic() - began, rss, most))
                if len(held.at) % 200 == 0:
                    progress(f"{held.at[-1][0]:.0f} s, {most / 1e6:.0f} MB in workers, {rss / 1e6:.0f} in the parent")
            elif held.at:
                held.judging = max(held.judging, rss)
        time.sleep(0.1)
    return held


def _on_disk(root: Path) -> int:
    """Bytes of a run's samples and journal."""
    found = [*root.glob(".streamgauge/runs/*/samples-*"), *root.glob(".streamgauge/runs/*/journal.jsonl")]
    return sum(os.stat(path).st_size for path in found)
