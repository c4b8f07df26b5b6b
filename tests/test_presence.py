"""A machine that slept, or stood still, measured nothing: the run is invalid, and the cause is named."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from folders import run_folder
from made import MS, START, run_of
from streamgauge.clock import FakeClock, S, SystemClock
from streamgauge.errors import Exit
from streamgauge.run import Began, Stopping
from streamgauge.sample import AuditTick, Outcome, SampleWriter
from streamgauge.simulator import start
from streamgauge.suite.assess import Assessment, assess
from streamgauge.suite.execute import execute
from test_prepare import planned_at
from test_verdict import P95, criterion


class Laptop(SystemClock):
    """The machine's clocks, of a laptop whose lid is closed for 40 s once told."""

    closed_at: int | None = None

    def asleep(self) -> int:
        lid = 0 if self.closed_at is None or self.now() < self.closed_at else 40 * S
        return super().asleep() + lid


def test_a_laptop_that_slept_ends_its_run_as_invalid_and_says_for_how_long(tmp_path: Path) -> None:
    clock = Laptop()

    def listener(event: object) -> None:
        if isinstance(event, Began) and event.phase.name == "hold":
            clock.closed_at = event.at_ns + 2 * S
        assert not isinstance(event, Stopping)

    with start(log=False) as simulator:
        prepared = planned_at(f"{simulator.url}/v1/chat/completions", tmp_path, model="sim-t60-i2-n20", duration_s=60.0)
        began = time.monotonic()
        outcome = execute(
            prepared, clock=clock, root=tmp_path, out=tmp_path / "reports", rerun="streamgauge run ttft",
            listener=listener,
        )  # fmt: skip
    assert time.monotonic() - began < 50, "there is nothing left to measure"
    document = outcome.assessment.document
    assert (document.verdict, document.partial, outcome.exit) == ("invalid", True, Exit.INVALID)
    assert document.measurement.invalid_because[0] == "this machine slept for 40 s while it measured"
    assert document.run.stopped_by == "this machine slept for 40 s"
    assert document.next_step.startswith("keep this machine awake")
    assert {one.verdict for one in document.criteria} == {"invalid"}


def test_the_machines_clock_of_sleep_stands_still_while_it_is_awake() -> None:
    clock = SystemClock()
    before = clock.asleep()
    time.sleep(0.6)
    assert abs(clock.asleep() - before) < S // 2
    assert before > -S


def test_the_clock_of_tests_sleeps_when_told() -> None:
    clock = FakeClock()
    now, wall = clock.now(), clock.wall()
    clock.suspend(30 * S)
    assert (clock.asleep(), clock.now() - now, clock.wall() - wall) == (30 * S, 0, 30 * S)


def with_ticks(tmp_path: Path, *at_ms: float, failing: int = 0) -> Assessment:
    """A run of 60 s whose worker looked at itself at these times."""
    well = run_of([100.0] * 600)
    lost = run_of([100.0] * failing, outcome=Outcome.DROPPED)
    folder = run_folder(tmp_path, [*well, *lost], [criterion(P95), criterion("error_rate < 0.05")])
    writer = SampleWriter(folder / "samples-0-9.sgs")
    for at in at_ms:
        writer.add(
            AuditTick(worker=9, at_ns=START + round(at * MS), cpu=0.1, longest_turn_ns=1, open_streams=1,
                      open_sockets=1, text_events=1, bytes_in=1, starts=1, steps=[])
        )  # fmt: skip
    writer.close()
    return assess(folder)


@pytest.mark.parametrize("failing", [0, 20], ids=["all well", "many dropped"])
def test_a_gap_in_our_own_ticks_leaves_nothing_standing_not_even_what_failed_on_the_wire(
    failing: int, tmp_path: Path
) -> None:
    """A peer that nobody reads from gives up: whose doing a drop was cannot be told."""
    ticks = [*range(0, 20_000, 400), *range(32_000, 60_000, 400)]
    found = with_ticks(tmp_path, *ticks, failing=failing)
    assert (found.document.verdict, found.exit) == ("invalid", Exit.INVALID)
    assert "stood still for 12 s" in found.document.measurement.invalid_because[0]
    assert {one.verdict for one in found.document.criteria} == {"invalid"}


def test_slow_ticks_and_a_gap_after_all_judged_are_none(tmp_path: Path) -> None:
    slow = with_ticks(tmp_path / "slow", *range(0, 60_000, 4_500))
    after = with_ticks(tmp_path / "after", *range(0, 60_400, 400), 90_000)
    for found in (slow, after):
        assert not any("stood still" in why for why in found.document.measurement.invalid_because)
        assert found.document.verdict == "pass"
