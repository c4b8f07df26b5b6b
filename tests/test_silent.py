"""Never wrong in silence: what is done to a run from outside shows in its slack, its lateness or its verdict.

The long form, over load and disturbance, is `python -m bench silent`. Truth is the log of the server in C, or of the
simulator; nothing here depends on how fast this machine is: a run may be invalid, it may not be wrong and say nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from bench.disturb import ACTS
from bench.load import compiled
from bench.silent import HERE, MODEL, Result, keep, kept, one
from bench.truth import SERVER

from asked import ended
from cli import environment, valid_report
from hands import MS, Hand, job, process, target
from real import require
from streamgauge.plan import Hold, Lane, Phase
from streamgauge.sample import Sample
from streamgauge.simulator import Simulator, start

pytestmark = pytest.mark.alone

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="kernel stamps and /proc are Linux")
MODEL_OF_SIM = "sim-t300-i10-n30"
SLOWLY = '[["wait",90],["text","a"],' + ",".join('["wait",10],["text","b"]' for _ in range(60)) + ',["finish","stop"]]'


# What happens to a run as a whole, beside the server in C.

TRIED = ("worker stopped 0.7 s", "busy core", "clock 5 ms")


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """Several runs at once: they mostly wait, and what they do to each other is one more disturbance."""
    made = tmp_path_factory.mktemp("silent")
    server, shim = compiled(SERVER, made), compiled(HERE / "stepped_clock.c", made, "-shared", "-fPIC", "-ldl")
    require(server and shim, "a C compiler (cc)")
    assert server is not None
    assert shim is not None
    asked = argparse.Namespace(model=MODEL, rounds=6, fair=False)
    with ThreadPoolExecutor(len(TRIED)) as pool:
        return dict(zip(TRIED, pool.map(lambda name: one(server, shim, 20, name, asked), TRIED), strict=True))


@LINUX
@pytest.mark.real
@pytest.mark.parametrize("name", TRIED)
def test_no_disturbed_run_is_wrong_without_saying_so(name: str, tried: dict[str, Result]) -> None:
    assert name in ACTS
    result = tried[name]
    assert result.n >= 100
    assert not result.silent, f"off by {result.worst:.1f} % of a limit, and {result.verdict}"


@LINUX
@pytest.mark.real
def test_the_truth_that_runs_are_held_against_is_not_their_own(tried: dict[str, Result]) -> None:
    """A worker stopped for 0.7 s of 7 is far off, so the bound can be broken."""
    assert tried["worker stopped 0.7 s"].worst > 5
    assert tried["worker stopped 0.7 s"].verdict == "invalid"


def test_a_sweep_that_was_cut_off_goes_on_from_its_file(tmp_path: Path) -> None:
    path, how = tmp_path / "results", {"model": MODEL, "rounds": 24, "fair": False}
    first, second = (Result(n, "none", n, {}, "pass", [], False, 0, others=0.02) for n in (100, 500))
    assert kept(path, how) == {}
    keep(path, how, first)
    with path.open("a") as file:
        file.write(json.dumps({"how": how})[:-9])
    assert kept(path, how) == {(100, "none"): first}
    keep(path, how, second)
    assert kept(path, how) == {(100, "none"): first, (500, "none"): second}
    assert kept(path, {**how, "fair": True}) == {}


# A stopped worker's stamps.


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with start() as running:
        yield running


def first_tokens(hand: Hand, sim: Simulator) -> Iterator[tuple[Sample, int, int]]:
    """(Sample, before, after) of the true send of each first token."""
    for sample in hand.samples():
        send = ended(sim, sample.id).first("text")
        assert send is not None
        yield sample, send.before_ns, send.after_ns


def listen(hand: Hand, seconds: float) -> None:
    """Take in what the worker says for so long, or until it is done."""
    until = time.monotonic() + seconds
    hand.hear(lambda: time.monotonic() >= until or hand.phase_done())


@LINUX
def test_what_came_while_the_worker_was_stopped_has_the_slack_that_it_needs(sim: Simulator, tmp_path: Path) -> None:
    """Stopped in its sleep, again and again: streams of 10 ms gaps come in lumps, their first token first of all."""
    streams = 8
    lane = Lane(("app",), ("short",), Hold(streams), 3 * streams)
    phase = Phase("hold", (lane,), streams, settles=True)
    with process(job(tmp_path, (target(sim, SLOWLY),), phase)) as (hand, worker):
        hand.begin()
        until = time.monotonic() + 20
        while not hand.phase_done() and time.monotonic() < until:
            worker.send_signal(signal.SIGSTOP)
            time.sleep(0.15)
            worker.send_signal(signal.SIGCONT)
            listen(hand, 0.03)
        hand.finish()
    seen = list(first_tokens(hand, sim))
    assert len(seen) == 3 * streams
    late = [s for s, _, _ in seen if s.first_token_slack_ns > 20 * MS]
    assert late, "some first tokens were read together with later ones"
    beyond = 0
    for sample, before, after in seen:
        stamp = sample.first_token_ns
        assert stamp is not None
        beyond += stamp - sample.first_token_slack_ns > after + MS
        assert stamp >= before - MS
    assert beyond <= 2, "it came no later than it was sent, unless a busy kernel delivered it late"


# Who is stopped, and who notices.


class Running:
    """`run ttft` against the simulator, in its own process."""

    def __init__(self, sim: Simulator, cwd: Path, *flags: str) -> None:
        self.cwd = cwd
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "streamgauge", "run", "ttft", "--url", f"{sim.url}/v1/chat/completions",
                "--model", MODEL_OF_SIM, "-q", "--json", *flags,
            ],
            cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def wait_for_hold(self) -> None:
        until = time.monotonic() + 90
        while not any('"hold"' in path.read_text() for path in self.cwd.glob(".streamgauge/runs/*/journal.jsonl")):
            assert time.monotonic() < until
            assert self.process.poll() is None
            time.sleep(0.05)

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def report(self) -> dict[str, object]:
        out, err = self.process.communicate(timeout=300)
        assert out, err
        return valid_report(out)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.communicate()


@LINUX
def test_a_parent_that_was_stopped_does_not_stretch_the_phase_that_ended_meanwhile(
    sim: Simulator, tmp_path: Path
) -> None:
    run = Running(sim, tmp_path, "--requests", "60", "--concurrency", "30")
    try:
        run.wait_for_hold()
        os.kill(run.process.pid, signal.SIGSTOP)
        time.sleep(5)
        os.kill(run.process.pid, signal.SIGCONT)
        report = run.report()
    finally:
        run.close()
    (hold,) = [phase for phase in report["run"]["phases"] if phase["name"] == "hold"]  # type: ignore[index]
    held_s = (hold["end_ns"] - hold["start_ns"]) / 1e9
    assert 0.3 < held_s < 4.5, "two rounds of 0.6 s, not the 5 s in which nobody listened"
    assert report["metrics"]["ttft_ms"]["n"] == 60  # type: ignore[index]


@LINUX
@pytest.mark.slow
def test_a_worker_that_stays_stopped_ends_the_run_as_invalid_with_the_cause_named(
    sim: Simulator, tmp_path: Path
) -> None:
    run = Running(sim, tmp_path, "--duration", "90s", "--concurrency", "4")
    try:
        run.wait_for_hold()
        (worker,) = run.workers()[:1]
        time.sleep(1.5)
        worker.suspend()
        report = run.report()
        assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    finally:
        run.close()
    assert run.process.returncode == 5
    assert (report["verdict"], report["partial"]) == ("invalid", True)
    reasons = report["measurement"]["invalid_because"]  # type: ignore[index]
    assert any("worker 0 said nothing for 10 s" in reason for reason in reasons), reasons
    assert json.dumps(report["headline"])
