"""Live progress on stderr: what runs, how far it is, what was seen so far, and how the generator itself feels.

A terminal gets a small live block, anything else a plain line every 10 s; `quiet` gets nothing. It only listens: it
reads no clock but the one it is given and nothing it shows enters a report.
"""

from __future__ import annotations

import bisect
import sys
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from streamgauge.clock import Clock, S
from streamgauge.control import Report
from streamgauge.plan import Phase
from streamgauge.run import Began, Stopping
from streamgauge.sample import GOOD
from streamgauge.spans import span
from streamgauge.wild import plain

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

LINE_EVERY_NS = 10 * S
BUSY_CPU, LATE_MS = 0.85, 5.0
KEPT = 20_000
"""TTFTs held for the running quantiles; beyond it every second one is dropped."""


@dataclass(frozen=True, slots=True)
class Course:
    """What is known beforehand of how long it takes: by the plan's estimate, so that time left can be told."""

    phases_s: tuple[float, ...] = ()
    """Of each phase of this test; empty where nothing is known."""
    place: tuple[int, int] = (1, 1)
    """Which of how many tests this is."""
    later_s: float = 0.0
    """Of the tests after this one."""


class State:
    """What was heard so far. Fed by `heard`; pure but for its own memory."""

    def __init__(self, test: str, phases: tuple[Phase, ...], course: Course | None = None) -> None:
        self.test = test
        self.phases = phases
        self.course = course or Course()
        self.phase: Phase | None = None
        self.phase_began = 0
        self.phase_ended = 0
        self.ended = 0
        self.outcomes: Counter[str] = Counter()
        self.ttft_ms: list[float] = []
        self.failed: str | None = None
        self.stopping: str | None = None
        self.late_ms = 0.0
        self._stride = 1
        self._seen = 0
        self._open: dict[int, int] = {}
        self._cpu: dict[int, float] = {}
        self._tokens: list[tuple[int, int]] = []
        self._began = 0

    def __repr__(self) -> str:
        return f"State({self.test!r}, {self.phase.name if self.phase else 'not begun'}, ended={self.ended})"

    def heard(self, event: Began | Stopping | Report) -> None:
        """Take in what the run told."""
        if isinstance(event, Stopping):
            wait = f"open streams get {event.grace_ns / S:g} s (Ctrl-C again ends them now)"
            self.stopping = f"no new requests; {wait if event.grace_ns else 'open streams end now'}"
            return
        if isinstance(event, Began):
            self._began = self._began or event.at_ns
            if event.phase not in self.phases:  # decided on while the load ran
                self.phases = (*self.phases, event.phase)
            self.phase, self.phase_began, self.phase_ended = event.phase, event.at_ns, 0
            self.ttft_ms.clear()
            self._stride = 1
            return
        self._open[event.worker] = event.open_streams
        if event.cpu is not None:
            self._cpu[event.worker] = event.cpu
        self.late_ms = max(event.late_ns / 1e6, self.late_ms * 0.8)
        tokens = 0
        for brief in event.ended:
            self.ended += 1
            tokens += brief.output_tokens or brief.text_events
            self.outcomes[str(brief.outcome)] += 1
            if brief.outcome not in GOOD and brief.error:
                self.failed = brief.error
            if self.phase is not None and brief.phase == self.phase.name:
                self.phase_ended += 1
                if brief.ttft_ns is not None:
                    self._keep(brief.ttft_ns / 1e6)
        self._tokens.append((event.at_ns, tokens))
        while self._tokens and self._tokens[0][0] < event.at_ns - 5 * S:
            del self._tokens[0]

    def _keep(self, ttft_ms: float) -> None:
        self._seen += 1
        if self._seen % self._stride == 0:
            bisect.insort(self.ttft_ms, ttft_ms)
        if len(self.ttft_ms) > KEPT:
            del self.ttft_ms[::2]
            self._stride *= 2

    @property
    def open_streams(self) -> int:
        """Streams open now, over all workers."""
        return sum(self._open.values())

    @property
    def cpu(self) -> float | None:
        """The busiest worker's share of a core."""
        return max(self._cpu.values(), default=None)

    def tokens_per_s(self) -> float | None:
        """Tokens of the answers that ended in the last 5 s."""
        if len(self._tokens) < 2:
            return None
        span = (self._tokens[-1][0] - self._tokens[0][0]) / S
        # What the first report brought ended before the span began.
        return sum(n for _, n in self._tokens[1:]) / span if span > 0.5 else None

    def quantile(self, q: float) -> float | None:
        """A running quantile of TTFT in this phase, ms."""
        values = self.ttft_ms
        return values[min(int(q * len(values)), len(values) - 1)] if values else None

    def fraction(self, now: int) -> float | None:
        """How far the phase is, 0 to 1; None where only the service knows."""
        phase = self.phase
        if phase is None:
            return None
        told = []
        if phase.duration_ns:
            told.append((now - self.phase_began) / phase.duration_ns)
        if phase.requests:
            told.append(self.phase_ended / phase.requests)
        return min(max(told), 1.0) if told else None

    def left_s(self, now: int) -> float | None:
        """Seconds left of this phase at the pace so far; None before there is one."""
        done = self.fraction(now)
        passed = (now - self.phase_began) / S
        if done is None or done <= 0.02 or passed <= 0:
            return None
        return passed * (1 - done) / done

    def left_in_all_s(self, now: int) -> float | None:
        """Seconds left of this test and those after it: this phase at its pace, the others as estimated; None where
        nothing is known beforehand."""
        if not self.course.phases_s:
            return None
        at = next((i for i, phase in enumerate(self.phases) if phase is self.phase), None)
        if at is None:
            return sum(self.course.phases_s) + self.course.later_s if self.phase is None else None
        own = self.left_s(now)
        if own is None:
            planned = self.course.phases_s[at] if at < len(self.course.phases_s) else 0.0
            own = max(planned - (now - self.phase_began) / S, 0.0)
        return own + sum(self.course.phases_s[at + 1 :]) + self.course.later_s

    @property
    def name(self) -> str:
        """The test, and which one of how many."""
        k, n = self.course.place
        return f"{self.test} ({k} of {n})" if n > 1 else self.test

    def health(self) -> str:
        """How the generator feels, in words."""
        cpu = self.cpu
        busy = "" if cpu is None else f"cpu {cpu:.0%}"
        if cpu is not None and cpu > BUSY_CPU:
            busy += " (busy)"
        late = f"late {self.late_ms:.1f} ms" + (" (behind)" if self.late_ms > LATE_MS else "")
        return ", ".join(part for part in (busy, late) if part)

    def over(self, now: int) -> bool:
        """Whether the plan is done: what follows is judging and drawing, which takes a few seconds."""
        last = self.phase is not None and self.phase is self.phases[-1]
        return last and self.open_streams == 0 and (self.fraction(now) or 0.0) >= 1

    def line(self, now: int) -> str:
        """Everything in one plain line."""
        phase = self.phase.name if self.phase else "starting"
        left, in_all = self.left_s(now), self.left_in_all_s(now)
        p50, p95 = self.quantile(0.5), self.quantile(0.95)
        rate = self.tokens_per_s()
        parts = [
            f"{self.name} {phase}{_level(self.phase)}",
            span(max(now - self._began, 0) // S) if self._began else "",
            f"{_whole(left)} left in phase" if left is not None else "",
            f"about {span(in_all)} in all" if in_all is not None else "",
            f"{self.open_streams} open",
            f"{self.ended:,} requests",
            f"ttft p50 {p50:,.0f} p95 {p95:,.0f} ms" if p50 is not None and p95 is not None else "",
            f"{rate:,.0f} tok/s" if rate else "",
            " ".join(f"{count:,} {name}" for name, count in self.outcomes.most_common()),
            self.health(),
        ]
        return " | ".join(part for part in parts if part)


def _whole(seconds: float) -> str:
    """A length to come, which is an estimate: whole seconds, one at least."""
    return span(max(round(seconds), 1))


def _level(phase: Phase | None) -> str:
    """Streams wanted at a time: ` at 100`; `, 4 a target` where each has a lane of its own; "" in open loop."""
    if phase is None or not phase.level:
        return ""
    each = len(phase.lanes) > 1 and {lane.load.most for lane in phase.lanes} == {phase.level}
    return f", {phase.level} a target" if each else f" at {phase.level}"


class Progress:
    """Shows a State while a run goes on. Use as a context manager and as the run's listener."""

    def __init__(
        self,
        test: str,
        phases: tuple[Phase, ...],
        clock: Clock,
        *,
        course: Course | None = None,
        quiet: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        self.state = State(test, phases, course)
        self._clock = clock
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._live: Live | None = None
        self._next_line = 0

    def __repr__(self) -> str:
        return f"Progress({self.state!r}, quiet={self._quiet})"

    def __enter__(self) -> Progress:
        if not self._quiet and self._stream.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(file=self._stream)
            if console.is_dumb_terminal:  # it cannot redraw: plain lines, as in a file
                return self
            self._live = Live(console=console, refresh_per_second=4, transient=True, get_renderable=self._block)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __call__(self, event: Began | Stopping | Report) -> None:
        """Hear an event; show it when it is time."""
        self.state.heard(event)
        if self._quiet or self._live is not None:
            return
        if isinstance(event, Stopping):
            self._say(f"stopping: {self.state.stopping}")
            return
        now = self._clock.now()
        if isinstance(event, Began) or now >= self._next_line:
            self._say(self.state.line(now))
            self._next_line = now + LINE_EVERY_NS

    def _say(self, line: str) -> None:
        self._stream.write(plain(line) + "\n")
        self._stream.flush()

    def _block(self) -> RenderableType:
        """The live block for a terminal."""
        from rich.table import Table
        from rich.text import Text

        state, now = self.state, self._clock.now()
        table = Table.grid(padding=(0, 2))
        done = state.fraction(now)
        bar = "" if done is None else "█" * round(done * 24) + "░" * (24 - round(done * 24)) + f" {done:.0%}"
        left, in_all = state.left_s(now), state.left_in_all_s(now)
        now_in = None if state.phase is None else state.phase.name
        names = dict.fromkeys(p.name for p in state.phases)  # each once: a climb has a ramp and a hold a level
        phases = " › ".join(f"[bold]{name}[/]" if name == now_in else f"[dim]{name}[/]" for name in names)
        table.add_row("test", Text.from_markup(f"[bold]{state.name}[/]  {phases}"))
        rest = "judging, writing the reports" if state.over(now) else "" if left is None else f"{_whole(left)} left"
        if in_all is not None and not state.over(now):
            rest += f"{', ' if rest else ''}about {span(in_all)} in all"
        table.add_row("phase", f"{bar}  {rest}")
        rate = state.tokens_per_s()
        table.add_row(
            "load",
            f"{state.open_streams} {'stream' if state.open_streams == 1 else 'streams'} open, {state.ended:,} requests"
            + (f", {rate:,.0f} tok/s" if rate else ""),
        )
        p50, p95 = state.quantile(0.5), state.quantile(0.95)
        if p50 is not None and p95 is not None:
            table.add_row("ttft", f"p50 {p50:,.0f} ms   p95 {p95:,.0f} ms   (this phase, so far)")
        table.add_row(
            "outcomes", "  ".join(f"{name} {count:,}" for name, count in state.outcomes.most_common(6)) or "-"
        )
        if state.stopping:
            table.add_row("stopping", Text(state.stopping, style="bold"))
        if state.failed:
            table.add_row("last error", Text(plain(state.failed, 100), style="red"))
        table.add_row("generator", state.health() or "-")
        return table
