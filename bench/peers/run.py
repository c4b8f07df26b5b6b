"""One run of one tool against the server in C: what it told, what was true, what it took.

Truth is the server's log alone: TTFT from the whole request to just before the first write, over every answer that was
read to its end. Open: answers between whole request and last write, from the first request to the last end, ramp and
tail included. Processor time and memory are those of the tool's whole process tree, sampled twice a second: under load
is from the first request to the last end, and memory is the sum of resident sets, which counts shared pages twice.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import psutil

from bench.found import at
from bench.peers.tool import OUTPUT, QUANTILES, Case, Told, Tool
from bench.truth_log import Answer, answers, held_open, serving, written

SAMPLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Truth:
    """What the server's log tells of a run. Times in ms and s."""

    ttft_ms: tuple[float, ...]
    open_mean: float
    open_most: int
    tokens: int
    left: int
    """Answers whose reader left before the end."""
    begin_ns: int
    end_ns: int

    @property
    def tokens_per_s(self) -> float:
        return self.tokens * 1e9 / (self.end_ns - self.begin_ns)


@dataclass(frozen=True, slots=True)
class Used:
    """What a process tree took. `load_s`: processor time while answers were open."""

    wall_s: float
    cpu_s: float
    load_s: float
    peak_mb: float
    processes: int


@dataclass(frozen=True, slots=True)
class Ran:
    """One run. `failed` says why there is nothing told; None when there is."""

    told: Told | None
    truth: Truth | None
    used: Used
    failed: str | None = None

    @property
    def errors(self) -> tuple[float | None, ...]:
        """(told - true) / true at p50, p95 and p99."""
        if self.told is None or self.truth is None:
            return (None,) * len(QUANTILES)
        pairs = zip(self.told.ttft_ms, self.truth.ttft_ms, strict=True)
        return tuple(None if told is None else told / true - 1 for told, true in pairs)


def run(
    tool: Tool, server: str, streams: int, requests: int, model: str, timeout_s: float, keep: Path | None = None,
    form: str = "same",
) -> Ran:  # fmt: skip
    """Start the server and the tool, wait for its end, read what both told. A tool that fails is data.

    What the tool wrote is copied to `keep`, if it is given. `form`: what differs between an answer's events.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        folder = Path(made)
        inside = folder / "run"
        inside.mkdir()
        with serving(server, folder / "truth.bin", whole=False, form=form) as (port, _):
            case = Case(port, streams, requests, model, inside)
            status, tree = _watched(list(tool.command(case)), inside, timeout_s)
        if keep is not None:
            shutil.copytree(inside, keep, symlinks=True, dirs_exist_ok=True)
        asked = sorted((answer for _, answer in answers(folder / "truth.bin")), key=lambda answer: answer.request_ns)
        truth = truth_of(asked[tool.warm_up :])
        used = tree.used(truth)
        if status is None:
            return Ran(None, truth, used, f"not done after {timeout_s:g} s")
        try:
            told = tool.read(case)
        except (OSError, ValueError, KeyError, IndexError, StopIteration, TypeError) as error:
            last = (case.output().strip().splitlines() or ["it said nothing"])[-1]
            return Ran(None, truth, used, f"status {status}, no report ({type(error).__name__}): {last[:120]}")
        return Ran(told, truth, used)


def truth_of(found: list[Answer]) -> Truth | None:
    """What the log tells; None when nothing was asked."""
    whole = [answer for answer in found if answer.writes and not answer.left]
    if not whole:
        return None
    begin = min(answer.request_ns for answer in found)
    end = max(answer.writes[-1][1] for answer in found if answer.writes)
    ttft = sorted(answer.ttft_ns / 1e6 for answer in whole)
    turns = sorted([(a.request_ns, 1) for a in found if a.writes] + [(a.writes[-1][1], -1) for a in found if a.writes])
    return Truth(
        tuple(at(ttft, share) for share in QUANTILES), held_open(found, begin, end),
        max(accumulate(step for _, step in turns)), written(found, begin, end), len(found) - len(whole), begin, end,
    )  # fmt: skip


class _Tree:
    """A process and all its descendants, looked at from time to time."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._began = time.monotonic_ns()
        self._seen: dict[int, float] = {}
        self._at_ns = [self._began]
        self._cpu_s = [0.0]
        self._peak = self._most = 0
        self._ended = self._began

    def look(self) -> None:
        """Take down processor time and memory. A process that ended keeps what it had at the last look."""
        resident = count = 0
        for process in self._all():
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    resident += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
            count += 1
            self._seen[process.pid] = times.user + times.system
        self._peak, self._most = max(self._peak, resident), max(self._most, count)
        self._at_ns.append(time.monotonic_ns())
        self._cpu_s.append(sum(self._seen.values()))

    def kill(self) -> None:
        """End all of it. Some start sessions of their own, so its process group is not enough."""
        for process in self._all():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _all(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def end(self, cpu_s: float) -> None:
        """It is over; the system tells what it and those it waited for used."""
        self._ended = time.monotonic_ns()
        self._at_ns.append(self._ended)
        self._cpu_s.append(max(cpu_s, self._cpu_s[-1]))

    def used(self, truth: Truth | None) -> Used:
        """Of the whole run, and of the span in which answers were open."""
        load = 0.0
        if truth is not None:
            since, until = np.interp([truth.begin_ns, truth.end_ns], self._at_ns, self._cpu_s)
            load = float(until - since)
        wall = (self._ended - self._began) / 1e9
        return Used(wall, self._cpu_s[-1], load, self._peak / 1e6, self._most)


def _watched(words: list[str], folder: Path, timeout_s: float) -> tuple[int | None, _Tree]:
    """(status, what it took) of a command started in `folder`; status None where it was ended for its time."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    with (folder / OUTPUT).open("wb") as output:
        process = subprocess.Popen(
            words, cwd=folder, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environ
        )
    tree = _Tree(process.pid)
    until = time.monotonic() + timeout_s
    ended, late = 0, False
    try:
        while not ended:
            if not late and time.monotonic() > until:
                late = True
                tree.kill()
            tree.look()
            time.sleep(SAMPLE_S)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    except BaseException:  # Ctrl-C: nothing stays behind
        tree.kill()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    tree.end(usage.ru_utime + usage.ru_stime)
    return (None if late else process.returncode), tree
