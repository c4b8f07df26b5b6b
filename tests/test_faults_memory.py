"""Leaks of real processes, read by the shipped probes: an hour by an injected clock, real memory, no rule weakened."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from made import START
from probed import MB, Memory, Plan, growing, memory_run, noisy, verdicts, with_burst
from streamgauge.client import target_from_url
from streamgauge.clock import FakeClock, S, SystemClock
from streamgauge.probes.contract import Asking, OfJson, OfProcess
from streamgauge.probes.page import page
from streamgauge.probes.process import process
from streamgauge.probes.watch import Probe
from streamgauge.reports.document import Document
from streamgauge.sample import Reading

GROWING = Path(__file__).parent / "growing_process.py"
GROWTH, CLEANUP, UNBOUNDED = "memory_growth_mb_per_h", "memory_cleanup", "memory_unbounded"
BOTH = ("by process", "by page")
EVERY_S = 30.0
PLAN = Plan()
BURST = 120 * MB


@dataclass(frozen=True)
class Grows:
    """The process: its number, the port of its page, and the two ends of its pipe."""

    pid: int
    port: int
    orders: IO[str]
    said: IO[str]

    def hold(self, at_s: float, wanted: float) -> None:
        """Have it hold so many bytes at so many seconds of its life."""
        self.orders.write(f"{at_s} {wanted}\n")
        self.orders.flush()
        assert self.said.readline() == "held\n"


@contextmanager
def growing_process() -> Iterator[Grows]:
    with subprocess.Popen([sys.executable, GROWING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one:
        assert one.stdin is not None
        assert one.stdout is not None
        try:
            yield Grows(one.pid, int(one.stdout.readline()), one.stdin, one.stdout)
        finally:
            one.kill()


def read_through(memory: Memory) -> list[Reading]:
    """The whole plan by both probes, every 30 s of a clock of our own, of one process that really holds that much."""
    clock = FakeClock(monotonic_ns=START, wall_ns=SystemClock().wall())
    with growing_process() as one:
        at = target_from_url(f"http://127.0.0.1:{one.port}/probe", dialect="openai-chat")
        asks = process(OfProcess(pid=one.pid), clock), page(OfJson(target=at), clock)
        probes = [Probe(name, ask, clock) for name, ask in zip(BOTH, asks, strict=True)]
        found = []
        for t in np.arange(0.0, PLAN.over, EVERY_S):
            one.hold(float(t), memory(float(t)))
            found += [probe.read(Asking()) for probe in probes]
            clock.advance(round(EVERY_S * S))
    return found


@pytest.fixture(scope="module", params=[0.0, 40.0, 400.0], ids=lambda rate: f"{rate:g} MB an hour")
def planted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[float, Document]:
    """(rate, document of a `memory` run) of a process that leaks so much in noise of 2 MB."""
    rate = float(request.param)
    memory = growing(rate * MB) if rate else noisy()
    low = with_burst(lambda t: memory(t) - 270 * MB, BURST, 0.1)
    folder = tmp_path_factory.mktemp("leak")
    return rate, memory_run(folder, read_through(low), settings={"probes": list(BOTH)})


def test_a_leak_of_a_real_process_is_judged_by_its_rate_by_either_probe(planted: tuple[float, Document]) -> None:
    rate, document = planted

    assert document.memory is not None
    series = {one.probe: one for one in document.memory.series}
    assert set(series) == set(BOTH)
    for one in series.values():
        assert (one.gauge, one.judged, one.failed, one.restarts, one.mixed) == ("rss", True, 0, 0, False)
        assert one.growth_mb_per_h == pytest.approx(rate, rel=0.1, abs=4)
        assert one.shape == ("line" if rate else "flat")
        assert one.cleanup is not None
        assert one.cleanup > 0.5
    over = "fail" if rate else "pass"
    assert verdicts(document) == {GROWTH: "fail" if rate == 400 else "pass", CLEANUP: "pass", UNBOUNDED: over}


def test_a_leak_of_a_real_process_is_a_finding_with_its_rate_and_a_clean_one_has_none(
    planted: tuple[float, Document],
) -> None:
    rate, document = planted

    told = [one for one in document.findings if one.name == "memory_grows"]
    assert {one.name for one in document.findings} - {"left_by_requests"} == ({"memory_grows"} if rate else set())
    assert len(told) == (2 if rate else 0), "one a probe"
    for one in told:
        assert one.evidence.values["mb_per_h"] == pytest.approx(rate, rel=0.1)
        assert one.words.startswith("rss of by p")
