"""Long runs: as many events as 8 hours of 10 streams give, sent faster. Does our own memory stay flat, and are the
files bounded?

`streamgauge run ttft` as a user runs it, 10 streams at a time, twice. Flood: against a server that sends as fast as it
is read, 320 answers of 45,000 text events each, which is what 10 streams of 50 tokens a second, 15 minutes long, give
in 8 hours; then many events come in one read. Singly: the server in C (bench/truth_server.c) writes each event by
itself, 1 ms apart, so that nearly each is a read of its own, which is what takes room; a tenth as many events, unless
`--singly 1600` asks for all of them in half an hour. Its log says how many it wrote. Memory is what parent and workers
hold (resident) while the load runs, from the moment in which a tenth of the run was over. A gap between two reads with
text takes 4 bytes on the disk, and nothing else there grows with an answer's length. What judging takes afterwards is
told beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.found import Bound, Found, progress
from bench.load import compiled
from bench.startup import environment
from bench.truth_log import SERVER, answers, serving

STREAMS, WARMUP = 10, 2
PER_WRITE = 16
"""Events in one send of the first run."""
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
    parser.add_argument("--events", type=int, default=45_000, help="text events of each answer of the first run")
    parser.add_argument("--singly", type=int, default=160, help="answers of the second run; 0: without it")
    parser.add_argument("--singly-events", type=int, default=9_000, help="text events of each answer of the second run")


def measure(asked: argparse.Namespace) -> Found:
    runs: list[tuple[str, Ran]] = []
    notes = []
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        folder = Path(made)
        if asked.flood:
            progress(f"flood: {asked.flood * asked.events:,} events")
            with flooding(asked.events) as url:
                runs.append(("flood", run(folder / "flood", url, asked.flood, "m")))
        server = compiled(SERVER, folder) if asked.singly else None
        if server is not None:
            progress(f"singly: {asked.singly * asked.singly_events:,} events")
            log = folder / "truth.bin"
            with serving(server, log, fair=True) as (port, _):
                ran = run(folder / "singly", chat(port), asked.singly, f"sim-t1-i1-n{asked.singly_events}")
            runs.append(("singly", ran))
            wrote = sum(len(answer.writes) - 1 for _, answer in answers(log))
            notes.append(f"singly: the server wrote {wrote:,} text events by its log, {ran.events:,} were counted")
    return Found(
        f"Long runs: {STREAMS} streams at a time",
        ("run", "events", "reads with text", "s", "worker MB", "grew", "parent MB", "grew", "files MB", "judging MB"),
        [row_of(name, ran) for name, ran in runs] or [("-",) * 10],
        tuple(bound for name, ran in runs for bound in bounds_of(name, ran)),
        tuple(notes),
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


def chat(port: int) -> str:
    """The address of a server of this machine."""
    return f"http://127.0.0.1:{port}/v1/chat/completions"


@contextmanager
def flooding(events: int) -> Iterator[str]:
    """The address of a server that sends as fast as it is read."""
    words = [sys.executable, "-m", "bench.long_server", str(events), str(PER_WRITE)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield chat(int(server.stdout.readline()))
        finally:
            server.communicate("")


def run(root: Path, url: str, asked: int, model: str) -> Ran:
    """One run of so many answers in a new folder `root`, watched from beside."""
    root.mkdir()
    began = time.monotonic()
    command = subprocess.Popen(
        [sys.executable, "-m", "streamgauge", "run", "ttft", "--url", url, "--model", model, "--json", "-q",
         "--requests", str(asked), "--concurrency", str(STREAMS)],
        cwd=root, env=environment(root / "cache"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        held = _watched(command, root)
    finally:
        command.kill()
        _, said = command.communicate()
    report = next(root.glob("tests/performance/reports/*.json"), None)
    assert report is not None, said
    told = json.loads(report.read_text("utf-8"))
    assert told["outcomes"] == {"ok": asked}, (told["outcomes"], said)
    whole = asked + WARMUP
    reads = round((told["metrics"]["itl_ms"]["n"] + asked) * whole / asked)
    events = round(told["measurement"]["text_events"] * whole / asked)
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
