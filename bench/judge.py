"""From samples on disk to all four reports: `streamgauge report` on runs of many requests, in a process of its own.

Requests of 32 text events each, as a `ttft` run of three targets would leave them; nothing was measured. Memory is the
process's peak (resident).
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
from pathlib import Path

from bench.folder import planned, written
from bench.found import Found, progress
from bench.startup import environment
from streamgauge.clock import MS
from streamgauge.sample import Outcome, Sample
from streamgauge.suite.prepare import Prepared

EVENTS = 32
EVERY_NS = 10 * MS


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, nargs="+", default=[1_000, 10_000, 100_000])


def measure(asked: argparse.Namespace) -> Found:
    prepared = planned("ttft")
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        root = Path(name)
        if sys.dont_write_bytecode:  # then the first report compiles the modules
            report(written(root, prepared, made(prepared, 100), phases(100), 200 * EVERY_NS), root)
        for n in asked.requests:
            progress(f"{n:,} requests")
            folder = written(root, prepared, made(prepared, n), phases(n), 2 * n * EVERY_NS)
            size = sum(path.stat().st_size for path in folder.glob("*.sgs"))
            seconds, cpu, peak = report(folder, root)
            rows.append((f"{n:,}", f"{size / 1e6:.1f}", f"{seconds:.1f}", f"{cpu:.1f}", f"{peak / 1e6:.0f}"))
    return Found(
        f"Judging: samples on disk to written reports, {EVENTS} events a request",
        ("requests", "samples MB", "s", "processor s", "peak MB"),
        rows,
    )


def phases(n: int) -> list[tuple[str, int, int]]:
    """One judged phase over all requests."""
    return [("hold", 4, 0), ("drain", 0, n * EVERY_NS)]


def made(prepared: Prepared, n: int) -> Iterator[Sample]:
    """n good Samples, one due each 10 ms, first tokens log-normal about 300 ms, gaps about 20 ms."""
    draw = random.Random(n)
    targets = [target.name for target in prepared.load.targets]
    prompts = list(prepared.load.prompts)
    for seq in range(n):
        due = seq * EVERY_NS
        first = due + round(draw.lognormvariate(5.7, 0.2) * MS)
        gaps = array("I", (round(draw.gauss(20_000, 2_000)) for _ in range(EVENTS - 1)))
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


def report(folder: Path, root: Path) -> tuple[float, float, int]:
    """(s, processor s, peak bytes) of `streamgauge report` on the folder."""
    command = [sys.executable, "-m", "streamgauge", "report", str(folder), "--out", str(root / "reports")]
    began = time.monotonic()
    process = subprocess.Popen(command, env=environment(root / "pyc"), cwd=root, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 3):
        raise RuntimeError(f"{' '.join(command)} ended {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024
