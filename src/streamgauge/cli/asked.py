"""What the command line asked for, done: plans, the question before load goes far, the tests, what is printed.

One test has its report. Several have an index besides, and what one of them cannot do stops no other.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamgauge.cli.say import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamgauge.errors import TargetError
    from streamgauge.spec.load import Spec
    from streamgauge.spec.settings import Overrides
    from streamgauge.suite.execute import Outcome
    from streamgauge.suite.prepare import Prepared
    from streamgauge.suite.several import Ended, Planned

ALL = "all"
"""In place of the tests' names: every test there is."""
SETTLE_GUESS_S = 5.0
"""What the wait between two tests usually takes, for the time left."""


class Asked:
    """What the command line asked for."""

    def __init__(
        self,
        tests: tuple[str, ...],
        environment: str | None,
        overrides: Overrides,
        out: Path,
        seed: int,
        *,
        dry_run: bool = False,
        as_json: bool = False,
        yes: bool = False,
        quiet: bool = False,
        rerun: str | None = None,
    ) -> None:
        self.tests, self.environment, self.overrides = tests, environment, overrides
        self.out, self.seed = out, seed
        self.dry_run, self.as_json, self.yes, self.quiet = dry_run, as_json, yes, quiet
        self.rerun = rerun
        self.open: list[str] = []
        """Tests that ended undecided, once `run` is over."""

    def run(self, spec: Spec) -> int:
        """Every test asked for, one after another; the exit code over all."""
        from streamgauge.cli.screen import plan_json, show_plan
        from streamgauge.errors import Exit

        items = self._plans(spec)
        plans = [item.plan for item in items if item.plan is not None]
        if self.dry_run and self.as_json:
            told = [
                {"test": item.test, "not_run": item.refused} if item.plan is None else plan_json(item.plan)
                for item in items
            ]
            click.echo(json.dumps({"plan": told}, indent=2))
        elif self.dry_run or not self.quiet:
            for item in items:
                if item.plan is not None:
                    show_plan(item.plan, to_stdout=self.dry_run)
                else:
                    say(f"plan   {item.test}: not run: {item.refused}", err=not self.dry_run)
        if self.dry_run:
            return Exit.PASS if self.every or len(plans) == len(items) else Exit.USAGE
        self._ask(plans)
        return self._alone(plans[0]) if len(items) == 1 else self._several(items)

    @property
    def every(self) -> bool:
        """Whether it was for every test there is."""
        return ALL in self.tests

    def _plans(self, spec: Spec) -> list[Planned]:
        """A plan for each test, before the first one starts. UsageError where none can start; what only some cannot do
        is noted."""
        from streamgauge.cli.calibration import known_of_this_machine
        from streamgauge.errors import UsageError
        from streamgauge.spec.presets import TESTS
        from streamgauge.spec.resolve import resolve
        from streamgauge.suite.prepare import prepare
        from streamgauge.suite.several import Planned

        known = known_of_this_machine()
        items = []
        for name in TESTS if self.every else self.tests or spec.tests:
            try:
                resolved = resolve(spec, self.environment, os.environ, name, self.overrides)
                plan, refused = prepare(resolved, self.seed, calibration=known), None
            except UsageError as error:
                plan, refused = None, str(error)
            items.append(Planned(name, self._rerun(name), plan, refused))
        if all(item.plan is None for item in items):
            raise UsageError("\n".join(dict.fromkeys(str(item.refused) for item in items)))
        return items

    def _ask(self, plans: list[Prepared]) -> None:
        """Ask once, on a terminal, before load goes to another machine."""
        far = sorted({
            target.origin for plan in plans for target in (*plan.resolved.targets, *plan.resolved.controls)
            if target.reach != "loopback"
        })  # fmt: skip
        if not far or self.yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return
        click.confirm(f"Send this to {', '.join(far)}?", abort=True, err=True, default=False)

    def _alone(self, plan: Prepared) -> int:
        """One test: its report is the result."""
        from streamgauge.errors import TargetError

        try:
            outcome = self._one(plan)
        except TargetError as error:
            return self._unusable(error)
        return self._show(outcome)

    def go_on(self, spec: Spec, folder: Path) -> int:
        """What is left of the run in `folder`, one test alone."""
        from streamgauge.cli.calibration import known_of_this_machine
        from streamgauge.clock import SystemClock
        from streamgauge.errors import Exit, TargetError
        from streamgauge.progress import Progress
        from streamgauge.spec.resolve import resolve
        from streamgauge.suite.execute import resume
        from streamgauge.suite.folder import read_head
        from streamgauge.suite.prepare import prepare
        from streamgauge.suite.resume import left_of, same_plan

        head, clock = read_head(folder), SystemClock()
        resolved = resolve(spec, self.environment, os.environ, head.test, self.overrides)
        plan = prepare(resolved, head.seed, calibration=known_of_this_machine())
        same_plan(plan, head)
        left = left_of(folder, clock)
        if not self.quiet or self.dry_run:
            say(f"{head.id} goes on: {left.words()}", err=not self.dry_run)
        if self.dry_run:
            return Exit.PASS
        self._ask([plan])
        try:
            with Progress(head.test, left.phases or plan.load.phases, clock, quiet=self.quiet) as progress:
                outcome = resume(
                    plan, left, folder, clock=clock, out=self.out, listener=progress,
                    warn=lambda words: say(f"streamgauge: {words}", err=True),
                )  # fmt: skip
        except TargetError as error:
            return self._unusable(error)
        return self._show(outcome)

    def _show(self, outcome: Outcome) -> int:
        """Print the result of one test; the exit code."""
        from streamgauge.cli.screen import show_outcome
        from streamgauge.reports import ReportGenerator

        if self.as_json:
            click.echo(ReportGenerator(outcome.assessment.document).json())
        else:
            show_outcome(outcome)
        return outcome.exit

    def _several(self, items: list[Planned]) -> int:
        """Several tests, their reports, and the index of them."""
        from streamgauge.cli import tell_bug
        from streamgauge.cli.screen import show_outcome
        from streamgauge.clock import SystemClock
        from streamgauge.errors import Exit, TargetError
        from streamgauge.suite.folder import new_id
        from streamgauge.suite.several import run_several

        clock, lenient = SystemClock(), self.overrides.inconclusive == "pass"
        started, began = clock.wall(), clock.now()
        suite = new_id(_utc(started), "suite")
        left = [item for item in items if item.plan is not None]
        refused = Exit.USAGE if not self.every else Exit.PASS if lenient else Exit.INCONCLUSIVE

        def one(item: Planned) -> Outcome:
            assert item.plan is not None
            at = next(i for i, other in enumerate(left) if other is item)
            return self._one(item.plan, suite, left[at:], len(left))

        ended: list[Ended] = []
        for over in run_several(items, one, clock, refused=refused, settling=self._settling, bug=lambda _: tell_bug()):
            ended.append(over)
            if over.outcome is not None:
                self.open += [over.planned.test] if over.outcome.assessment.decision.exit is Exit.INCONCLUSIVE else []
                if not self.as_json:
                    show_outcome(over.outcome)
            if over.why is not None and over.planned.plan is not None:
                say(f"{over.planned.test}: {over.why}", err=True)
        lost = [one.error for one in ended if isinstance(one.error, TargetError)]
        if len(lost) == len(left):
            return self._unusable(lost[0])
        return self._index(ended, suite, started, (clock.now() - began) / 1e9, lenient=lenient)

    def _index(self, ended: list[Ended], suite: str, started: int, seconds: float, *, lenient: bool) -> int:
        """Write the index of several tests and print it; the exit code."""
        from streamgauge.cli.screen import show_suite
        from streamgauge.errors import Exit, StorageError, worst
        from streamgauge.reports import SUITE_FORMS, ReportGenerator, write_suite
        from streamgauge.suite.index import index_of

        index = index_of(
            ended, suite=suite, started=_utc(started), ended_at=_utc(started + round(seconds * 1e9)), seconds=seconds,
            rerun=self._rerun(*(self.tests or [one.planned.test for one in ended])), lenient=lenient,
        )  # fmt: skip
        codes: list[int] = [index.exit]
        files: list[Path] = []
        try:
            files = write_suite(index, self.out)
        except StorageError as error:
            say(f"streamgauge: {error}", err=True)
            codes.append(Exit.UNUSABLE)
        if self.as_json:
            told = [ReportGenerator(one.outcome.assessment.document).json() for one in ended if one.outcome is not None]
            whole = b"".join(SUITE_FORMS["json"](index)).decode()
            click.echo(f'{{"suite": [{", ".join(told)}], "index": {whole}}}')
        else:
            show_suite(index, files)
        return worst(codes)

    def _settling(self, item: Planned, before: dict[str, float | None]) -> None:
        from streamgauge.suite.settle import waits_for

        if not self.quiet:
            say(f"before {item.test}: {waits_for(before)}", err=True)

    def _one(self, plan: Prepared, suite: str | None = None, left: Sequence[Planned] = (), of: int = 1) -> Outcome:
        """Run one plan. suite: the id of the one it belongs to; left, of: this and the tests after it, of how many."""
        from streamgauge.clock import SystemClock
        from streamgauge.progress import Course, Progress
        from streamgauge.suite.execute import execute

        clock, test = SystemClock(), plan.resolved.settings.test
        later = sum(item.plan.estimate.seconds + SETTLE_GUESS_S for item in left[1:] if item.plan is not None)
        course = Course(plan.estimate.phases_s, (of - max(len(left), 1) + 1, of), later)
        with Progress(test, plan.load.phases, clock, course=course, quiet=self.quiet) as progress:
            return execute(
                plan, clock=clock, root=Path(), out=self.out, rerun=self._rerun(test), listener=progress, suite=suite,
                warn=lambda words: say(f"streamgauge: {words}", err=True),
            )  # fmt: skip

    def _rerun(self, *tests: str) -> str:
        """The command that repeats these tests: what was typed, with the tests named and the seed said."""
        if self.rerun is not None:
            return self.rerun
        typed = [a for a in sys.argv[1:] if a not in ("--json", "--dry-run", "-y", "--yes", "-q", "--quiet")]
        kept = [a for i, a in enumerate(typed) if a not in self.tests or (i and typed[i - 1].startswith("--"))]
        if not kept or kept[0] != "run":
            kept = ["run"]
        kept += [word for flag, name in self.overrides.origins.items() for word in (flag, os.environ[name])]
        seed = [] if any(a.startswith("--seed") for a in kept) else ["--seed", str(self.seed)]
        return shlex.join(["streamgauge", "run", *tests, *kept[1:], *seed])

    def _unusable(self, error: TargetError) -> int:
        """Preflight failed before anything was sent."""
        if self.as_json:
            told = {"error": str(error), "target": error.target, "stage": error.stage, "next": error.next}
            say(json.dumps(told, indent=2))
        say(f"streamgauge: {error}\n  next: {error.next}", err=True)
        return error.exit


def _utc(wall_ns: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC).isoformat().replace("+00:00", "Z")
