"""Live progress: what is shown, on a terminal and off it, from events alone."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from streamgauge.clock import FakeClock, S
from streamgauge.control import Brief, Report
from streamgauge.plan import Hold, Lane, Phase
from streamgauge.progress import Progress
from streamgauge.run import Began
from streamgauge.sample import Outcome

LANE = Lane(("a",), ("short",), Hold(4), 100)
PHASES = (
    Phase("warmup", (Lane(("a",), ("short",), Hold(1), 2),), 1),
    Phase("hold", (LANE,), 4, duration_ns=60 * S),
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def brief(ttft_ms: int, outcome: Outcome = Outcome.OK, error: str | None = None) -> Brief:
    return Brief("a", "hold", outcome, 200, ttft_ms * 1_000_000, None, 20, 10, 20, error, 0)


def story(clock: FakeClock) -> Iterator[Began | Report]:
    """A hold of 25 s: four streams open, one request ended in each half second."""
    yield Began(PHASES[0], clock.now())
    yield Began(PHASES[1], clock.now())
    for k in range(50):
        clock.advance(S // 2)
        wrong = k == 7
        ended = [brief(100 + k, *((Outcome.TRUNCATED, "no terminal event") if wrong else ()))]
        yield Report(worker=0, at_ns=clock.now(), open_streams=4, ended=ended, cpu=0.31, late_ns=400_000)


def test_off_a_terminal_a_plain_line_comes_at_each_phase_and_every_ten_seconds() -> None:
    clock, out = FakeClock(), io.StringIO()
    with Progress("ttft", PHASES, clock, stream=out) as progress:
        for event in story(clock):
            progress(event)
    lines = out.getvalue().splitlines()
    assert [line.split(" | ")[:2] for line in lines] == [
        ["ttft warmup at 1", "0 s"], ["ttft hold at 4", "0 s"], ["ttft hold at 4", "10 s"], ["ttft hold at 4", "20 s"],
    ]  # fmt: skip
    for part in (
        "30 s left in phase", "4 open", "40 requests", "ttft p50 120 p95 138 ms", "40 tok/s", "39 ok 1 truncated",
        "cpu 31%, late 0.4 ms",
    ):  # fmt: skip
        assert f" | {part}" in lines[-1]
    assert "\x1b" not in out.getvalue()


def test_quiet_says_nothing() -> None:
    clock = FakeClock()
    for out in (io.StringIO(), Terminal()):
        with Progress("ttft", PHASES, clock, quiet=True, stream=out) as progress:
            for event in story(clock):
                progress(event)
        assert out.getvalue() == ""


def test_a_terminal_gets_a_block_that_is_taken_away_at_the_end() -> None:
    clock, out = FakeClock(), Terminal()
    with Progress("ttft", PHASES, clock, stream=out) as progress:
        for event in story(clock):
            progress(event)
        shown = frame(progress)
    for part in (
        "warmup › hold", "50%  25 s left", "4 streams open, 50 requests, 40 tok/s", "p50 125 ms   p95 147 ms",
        "ok 49  truncated 1", "no terminal event", "cpu 31%, late 0.4 ms",
    ):  # fmt: skip
        assert part in shown
    assert out.getvalue().endswith("\x1b[2K") or "\x1b[1A" in out.getvalue()


def test_when_the_plan_is_done_it_says_what_takes_so_long() -> None:
    clock = FakeClock()
    progress = Progress("ttft", PHASES, clock, stream=Terminal())
    for event in story(clock):
        progress(event)
    clock.advance(40 * S)
    progress(Report(worker=0, at_ns=clock.now(), open_streams=0))
    assert "judging, writing the reports" in frame(progress)


def test_a_generator_that_is_behind_says_so() -> None:
    clock = FakeClock()
    progress = Progress("ttft", PHASES, clock, stream=io.StringIO())
    progress(Began(PHASES[1], clock.now()))
    progress(Report(worker=0, at_ns=clock.now(), open_streams=4, cpu=0.97, late_ns=12_000_000))
    assert progress.state.line(clock.now()).endswith("cpu 97% (busy), late 12.0 ms (behind)")


@pytest.mark.parametrize("width", [40, 60, 100])
def test_the_block_fits_any_terminal(width: int) -> None:
    clock = FakeClock()
    progress = Progress("concurrent", PHASES, clock, stream=Terminal())
    for event in story(clock):
        progress(event)
    assert max(map(len, frame(progress, width).splitlines())) <= width


def frame(progress: Progress, width: int = 100) -> str:
    """The block as a terminal of this width shows it."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width)
    with console.capture() as captured:
        console.print(progress._block())
    return captured.get()
