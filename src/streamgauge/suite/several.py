"""Several tests one after another. What one test cannot do stops no other: it is listed, with the reason.

Between two tests the targets are waited for (`settle`). A signal ends the test that runs, and no further one begins.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from streamgauge.clock import Clock
from streamgauge.errors import Exit, StreamgaugeError, TargetError
from streamgauge.reports.suite_document import Settled
from streamgauge.suite.execute import Bug, Outcome
from streamgauge.suite.prepare import Prepared
from streamgauge.suite.settle import calm_ttft, settle


@dataclass(frozen=True, slots=True)
class Planned:
    """One test that was asked for."""

    test: str
    rerun: str
    """The command that runs it alone."""
    plan: Prepared | None
    refused: str | None = None
    """Why there is no plan: what is missing or not allowed here, and what to do."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of it."""

    planned: Planned
    code: Exit
    outcome: Outcome | None = None
    why: str | None = None
    """Why it was not run to its end, or has no report."""
    next_step: str | None = None
    settled: Settled | None = None
    error: Exception | None = None


class _Terminated(BaseException):
    """SIGTERM came while no test ran."""


def run_several(
    items: Sequence[Planned],
    one: Callable[[Planned], Outcome],
    clock: Clock,
    *,
    refused: Exit,
    settling: Callable[[Planned, dict[str, float | None]], None],
    bug: Callable[[Exception], object],
) -> Iterator[Ended]:
    """Run each by `one` and give what became of it as soon as it is over.

    refused: the exit code of a test that has no plan. settling: told before the targets are waited for. bug: told of
    an exception that is nobody's fault but ours, while it is being handled.
    """
    before: dict[str, float | None] = {}
    several = sum(item.plan is not None for item in items) > 1
    loaded, over = False, None
    for item in items:
        if item.plan is None:
            yield Ended(item, refused, why=item.refused, next_step=item.rerun)
            continue
        if over is not None:
            yield Ended(item, over, why="the command was stopped before it began", next_step=item.rerun)
            continue
        waited: Settled | None = None
        try:
            with _terminable():
                if several:
                    if loaded:
                        settling(item, before)
                        waited = settle(item.plan.load.targets, before, item.plan.load.prompts, clock)
                    _look(item.plan, before, clock)
                loaded = True
                outcome = one(item)
        except (KeyboardInterrupt, _Terminated) as error:
            over = Exit.TERMINATED if isinstance(error, _Terminated) else Exit.INTERRUPTED
            yield Ended(item, over, why="the command was stopped", next_step=item.rerun, settled=waited)
        except TargetError as error:
            yield Ended(item, error.exit, why=str(error), next_step=error.next, settled=waited, error=error)
        except StreamgaugeError as error:
            yield Ended(item, error.exit, why=str(error), next_step=item.rerun, settled=waited, error=error)
        except Exception as error:  # a bug of ours in one test must not cost the others; it is told loudly all the same
            bug(error)
            kept = error.outcome if isinstance(error, Bug) else None
            why = (
                f"a bug of streamgauge, not of your service ({type(error).__name__}); standard error has its traceback"
            )
            yield Ended(
                item, Exit.INTERNAL, kept, why, f"please report it; the test alone: {item.rerun}", waited, error
            )
        else:
            if outcome.ending.signal is not None:
                over = Exit(128 + outcome.ending.signal)
            yield Ended(item, outcome.exit, outcome, settled=waited)


def _look(plan: Prepared, before: dict[str, float | None], clock: Clock) -> None:
    """Note how targets answer that no test has put under load yet."""
    for target in plan.load.targets:
        if target.name not in before:
            before[target.name] = calm_ttft(target, plan.load.prompts, clock)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM raises _Terminated while the block runs, where no run of its own heeds it (main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def heed(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, heed)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
