"""How often `ttft` and `concurrent` (preset smoke, as the demo has them) pass a healthy service.

Real: `streamgauge run` against simulators of their own seeds, several at once; they mostly sleep. Drawn: the same plans
in virtual time with answers drawn from the simulator's models, judged by the same judge from the same files. The
quantiles of both stand beside each other, to show whether the drawn runs are like the real ones.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import msgspec

from bench.draw import drawn
from bench.folder import planned, written
from bench.found import Bound, Found, progress
from bench.startup import environment
from streamgauge import stats
from streamgauge.simulator import start
from streamgauge.suite.assess import assess
from streamgauge.suite.demo import SPEC

SHARE = 0.99
TESTS = ("ttft", "concurrent")


@dataclass(frozen=True, slots=True)
class Run:
    """One judged run. `open`: criteria that gate and did not pass. `ttft`: target -> (p50, p95) in ms."""

    verdict: str
    open: tuple[str, ...]
    ttft: dict[str, tuple[float | None, float | None]]


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tests", nargs="+", choices=TESTS, default=TESTS, help="which to judge")
    parser.add_argument("--drawn", type=int, default=400, help="runs in virtual time, of each test")
    parser.add_argument("--real", type=int, default=6, help="real runs, of each test")
    parser.add_argument("--at-once", type=int, default=3, help="real runs at once")
    parser.add_argument("--requests", type=int, help="of a real run, a target; else the preset's")
    parser.add_argument("--seed", type=int, default=1, help="of the drawn runs")


def measure(asked: argparse.Namespace) -> Found:
    rows, notes, bounds = [], [], []
    for test in asked.tests:
        progress(f"{test}: {asked.real} real runs, {asked.at_once} at once")
        seeds = [asked.seed * 1_000_000 + n for n in range(max(asked.drawn, asked.real))]
        with tempfile.TemporaryDirectory(prefix="bench-") as cache, ThreadPoolExecutor(asked.at_once) as threads:
            real = list(threads.map(lambda seed: really(test, seed, asked.requests, Path(cache)), seeds[: asked.real]))  # noqa: B023
        progress(f"{test}: {asked.drawn} drawn runs")
        with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as processes:
            virtual = list(processes.map(virtually, [test] * asked.drawn, seeds[: asked.drawn], chunksize=10))
        rows += [row(test, "real", real), row(test, "drawn", virtual)]
        notes.append(f"{test}, TTFT p50 / p95 ms, median over runs: {alike(real, virtual)}")
        passed = sum(run.verdict == "pass" for run in virtual)
        bounds.append(Bound(f"{test}: {passed} of {len(virtual)} drawn runs pass, at least {SHARE:.0%} wanted",
                            passed >= SHARE * len(virtual)))  # fmt: skip
    columns = ("test", "runs", "n", "pass", "inconclusive", "fail", "invalid", "share that passes, 95 % sure", "open")
    return Found("Deciding: runs of a healthy service (simulator, preset smoke)", columns, rows, tuple(bounds),
                 tuple(notes))  # fmt: skip


def row(test: str, kind: str, runs: list[Run]) -> tuple[str, ...]:
    """Verdicts counted, and which criteria were left open how often."""
    words = Counter(run.verdict for run in runs)
    least = stats.rate_bounds(words["pass"], len(runs)).low
    names = Counter(name for run in runs for name in run.open)
    shown = ", ".join(f"{name} {count}x" for name, count in names.most_common(4)) or "none"
    counts = (str(words[word]) for word in ("pass", "inconclusive", "fail", "invalid"))
    return (test, kind, str(len(runs)), *counts, "-" if least is None else f">= {least:.1%}", shown)


def alike(real: list[Run], virtual: list[Run]) -> str:
    """Median over the runs of each target's quantiles, real against drawn."""

    def told(runs: Iterable[Run], target: str) -> str:
        sides = zip(*(run.ttft[target] for run in runs), strict=True)
        return " / ".join("-" if None in side else f"{median(side):.0f}" for side in sides) or "-"

    targets = (real or virtual)[0].ttft
    return "; ".join(f"{name} real {told(real, name)}, drawn {told(virtual, name)}" for name in targets)


def virtually(test: str, seed: int) -> Run:
    """One drawn run, from its plan to its report."""
    prepared = planned(test, seed=seed)
    run = drawn(prepared.load, Random(seed))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        assessment = assess(written(Path(folder), prepared, run.samples, run.phases, run.end_ns))
        return judged(msgspec.to_builtins(assessment.document))


def really(test: str, seed: int, requests: int | None, cache: Path) -> Run:
    """One real run, by the command, against a simulator of its own."""
    with start(log=False, seed=seed) as sim, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        Path(folder, "streamgauge.toml").write_text(SPEC.format(url=sim.url), "utf-8")
        more = () if requests is None else ("--requests", str(requests))
        asked = ("run", test, "--preset", "smoke", "-q", "--json", "--seed", str(seed), *more)
        command = (sys.executable, "-m", "streamgauge", *asked)
        done = subprocess.run(command, cwd=folder, env=environment(cache), capture_output=True, text=True)
        if not done.stdout:
            raise RuntimeError(f"{' '.join(command)} ended {done.returncode}: {done.stderr}")
        return judged(json.loads(done.stdout))


def judged(document: dict[str, Any]) -> Run:
    """What counts of a report."""
    open_ = [one for one in document["criteria"] if one["gating"] and one["verdict"] != "pass"]
    left = tuple(f"{one['target'] or 'all'} {one['name']}" for one in open_)
    ttft = {
        group["target"]: (group["metrics"]["ttft_ms"]["p50"], group["metrics"]["ttft_ms"]["p95"])
        for group in document["groups"]
        if group["target"] and not (group["prompt"] or group["phase"] or group["level"])
    }
    return Run(document["verdict"], left, ttft)
