"""`streamgauge run`: the main verb."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamgauge.cli import complete
from streamgauge.cli.options import REPORTS, flag, from_variables, reports_folder, target_options
from streamgauge.cli.say import say

if TYPE_CHECKING:
    from streamgauge.arrivals import Spacing
    from streamgauge.spec.load import Spec
    from streamgauge.spec.model import RateCourse
    from streamgauge.spec.settings import Overrides
    from streamgauge.suite.execute import Outcome
    from streamgauge.suite.prepare import Prepared

EXAMPLES = """\b
Examples:
  streamgauge run                                    what streamgauge.toml lists
  streamgauge run ttft --env staging --preset pr     about 5 minutes, for a pull request
  streamgauge run concurrent --concurrency 50 --duration 2m
  streamgauge run ttft --rate 5 --duration 60s       open loop: 5 requests a second, come what may
  streamgauge run ttft --rate from=1,to=50,over=2m   open loop, rising
  streamgauge run --url http://127.0.0.1:8000/v1/chat/completions --model m --dry-run
  streamgauge run ttft --json > result.json
"""


def _rate(ctx: click.Context, param: click.Parameter, value: str | None) -> float | RateCourse | None:
    if value is None:
        return None
    from pydantic import ValidationError

    from streamgauge.spec.explain import explain
    from streamgauge.spec.model import RateCourse, parse_rate

    try:
        return parse_rate(value)
    except ValidationError as error:
        path, text = explain(error.errors(include_url=False)[0], RateCourse)
        where = f"{'.'.join(map(str, path))}: " if path else ""
        raise click.BadParameter(f"{value}: {where}{text}") from None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    from streamgauge.spec.model import parse_duration

    try:
        return parse_duration(float(value) if value.replace(".", "", 1).isdigit() else value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command(epilog=EXAMPLES)
@click.argument("tests", nargs=-1, metavar="[ttft|concurrent ...]", shell_complete=complete.tests)
@target_options
@flag(
    "--preset",
    metavar="P",
    shell_complete=complete.presets,
    help="smoke, pr, standard or full. Default: pr with --url, else standard.",
)
@flag("--requests", type=int, metavar="N", help="Judged requests for each target.")
@flag("--concurrency", type=int, metavar="N", help="Streams at a time; no stress phase. With --rate: its cap.")
@flag(
    "--rate",
    callback=_rate,
    metavar="R",
    help="Open loop: R requests a second, whatever the service does; from=1,to=100,over=60s is a ramp, "
    "base=5,peak=100,at=30s,for=10s a spike.",
)
@flag(
    "--arrivals",
    type=click.Choice(["constant", "poisson"]),
    help="How the arrivals of a rate are spaced. Default: constant, evenly.",
)
@flag(
    "--trace",
    metavar="FILE",
    shell_complete=complete.a_file,
    help="Open loop: recorded arrivals, a time in seconds or an ISO time stamp a line.",
)
@flag("--duration", callback=_seconds, metavar="T", help="Length of the judged hold: 90s, 2m.")
@flag("--max-requests", type=int, metavar="N", help="Hard stop of the whole run.")
@flag("--max-tokens", type=int, metavar="N", help="Hard stop: input and output tokens of the whole run.")
@flag("--max-usd", type=float, metavar="X", help="Hard stop in US dollars, where prices are known.")
@flag(
    "--out",
    default=REPORTS,
    show_default=True,
    metavar="DIR",
    callback=reports_folder,
    shell_complete=complete.a_folder,
    help="Where reports go.",
)
@flag(
    "--seed", type=click.IntRange(0, 2**53), metavar="N", help="Of prompt order and arrivals. Default: new each time."
)
@flag("--inconclusive", type=click.Choice(["pass", "report"]), help="pass: exit 3 becomes 0, with a warning.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent, cost and be decided; send nothing.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the report's JSON alone on stdout; with --dry-run the plan's."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask before load goes to a host that is not this machine.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
def run(
    tests: tuple[str, ...],
    config: str | None,
    environment: str | None,
    url: str | None,
    dialect: str | None,
    model: str | None,
    headers: tuple[str, ...],
    proxy: str | None,
    probes: tuple[str, ...],
    sets: tuple[str, ...],
    preset: str | None,
    requests: int | None,
    concurrency: int | None,
    rate: float | RateCourse | None,
    arrivals: Spacing | None,
    trace: str | None,
    duration: float | None,
    max_requests: int | None,
    max_tokens: int | None,
    max_usd: float | None,
    out: Path,
    seed: int | None,
    inconclusive: str | None,
    dry_run: bool,
    as_json: bool,
    yes: bool,
    quiet: bool,
) -> int:
    """Run tests against the spec's targets (or --url) and judge them.

    Tests: ttft (time to first token), concurrent (many streams at a time). None named: those of the spec; ttft with
    --url. Before anything is sent it prints where it goes, requests, tokens, cost, duration, and what so many requests
    can decide. With no spec in this folder and no --url it runs against the built-in simulator, and says so.
    """
    from streamgauge.cli.options import read_spec
    from streamgauge.errors import UsageError
    from streamgauge.spec.mistakes import did_you_mean
    from streamgauge.spec.presets import TESTS
    from streamgauge.spec.settings import Overrides

    for name in tests:
        if name not in TESTS:
            raise UsageError(f"no test {name!r}{did_you_mean(name, TESTS)} Tests: {', '.join(TESTS)}")
    spec = read_spec(config, url, dialect, model, headers, sets, proxy, probes=probes)
    overrides = Overrides(
        preset=preset, requests=requests, concurrency=concurrency, rate=rate, arrivals=arrivals,
        trace=trace, duration_s=duration,
        max_requests=max_requests, max_tokens=max_tokens, max_usd=max_usd, origins=from_variables(),
        inconclusive=inconclusive,  # type: ignore[arg-type] # click's Choice keeps it to the two words
    )  # fmt: skip
    seed = int.from_bytes(os.urandom(4), "big") >> 1 if seed is None else seed
    asked = Asked(tests, environment, overrides, out, seed, dry_run=dry_run, as_json=as_json, yes=yes, quiet=quiet)
    if spec is not None:
        return asked.run(spec)
    if probes:
        raise UsageError(f"--probe {probes[0][:60]} wants a target: name one with --url, or write a spec (init)")
    with _simulated(sets, quiet=quiet) as simulated:
        return asked.run(simulated)


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

    def run(self, spec: Spec) -> int:
        """Every test asked for, one after another; the exit code over all."""
        from streamgauge.cli.calibration import known_of_this_machine
        from streamgauge.cli.screen import plan_json, show_plan
        from streamgauge.spec.resolve import resolve
        from streamgauge.suite.prepare import prepare

        tests = self.tests or spec.tests
        # Every plan is made before the first one starts: a mistake in the second test must not cost the first.
        known = known_of_this_machine()
        plans = [
            prepare(resolve(spec, self.environment, os.environ, name, self.overrides), self.seed, calibration=known)
            for name in tests
        ]
        if self.dry_run and self.as_json:
            click.echo(json.dumps({"plan": [plan_json(plan) for plan in plans]}, indent=2))
            return 0
        for plan in plans:
            if not self.quiet or self.dry_run:
                show_plan(plan, to_stdout=self.dry_run)
        if self.dry_run:
            return 0
        self._ask(plans)
        return self._go(plans)

    def _ask(self, plans: list[Prepared]) -> None:
        """Ask once, on a terminal, before load goes to another machine."""
        far = sorted({
            target.origin for plan in plans for target in (*plan.resolved.targets, *plan.resolved.controls)
            if target.reach != "loopback"
        })  # fmt: skip
        if not far or self.yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return
        click.confirm(f"Send this to {', '.join(far)}?", abort=True, err=True, default=False)

    def _go(self, plans: list[Prepared]) -> int:
        from streamgauge.cli.screen import show_outcome
        from streamgauge.errors import TargetError, worst

        outcomes: list[Outcome] = []
        codes: list[int] = []
        for plan in plans:
            try:
                outcome = self._one(plan)
            except TargetError as error:
                if not outcomes:
                    return self._unusable(error)
                say(f"streamgauge: {error}", err=True)
                codes.append(error.exit)
                continue
            outcomes.append(outcome)
            codes.append(outcome.exit)
            if not self.as_json:
                show_outcome(outcome)
            if outcome.ending.signal is not None:
                break
        if self.as_json:
            self._print_json(outcomes, single=len(plans) == 1)
        return worst(codes)

    def _one(self, plan: Prepared) -> Outcome:
        from streamgauge.clock import SystemClock
        from streamgauge.progress import Progress
        from streamgauge.suite.execute import execute

        clock = SystemClock()
        with Progress(plan.resolved.settings.test, plan.load.phases, clock, quiet=self.quiet) as progress:
            return execute(
                plan, clock=clock, root=Path(), out=self.out, rerun=self._rerun(plan), listener=progress,
                warn=lambda words: say(f"streamgauge: {words}", err=True),
            )  # fmt: skip

    def _rerun(self, plan: Prepared) -> str:
        """The command that repeats this test: what was typed, with the test named and the seed said."""
        if self.rerun is not None:
            return self.rerun
        typed = [a for a in sys.argv[1:] if a not in ("--json", "--dry-run", "-y", "--yes", "-q", "--quiet")]
        kept = [a for i, a in enumerate(typed) if a not in self.tests or (i and typed[i - 1].startswith("--"))]
        if not kept or kept[0] != "run":
            kept = ["run"]
        kept += [word for flag, name in self.overrides.origins.items() for word in (flag, os.environ[name])]
        seed = [] if any(a.startswith("--seed") for a in kept) else ["--seed", str(self.seed)]
        return shlex.join(["streamgauge", "run", plan.resolved.settings.test, *kept[1:], *seed])

    def _print_json(self, outcomes: list[Outcome], *, single: bool) -> None:
        from streamgauge.reports import ReportGenerator

        texts = [ReportGenerator(outcome.assessment.document).json() for outcome in outcomes]
        click.echo(texts[0] if single else '{"suite": [' + ", ".join(texts) + "]}")

    def _unusable(self, error: Exception) -> int:
        """Preflight failed before anything was sent."""
        from streamgauge.errors import TargetError

        assert isinstance(error, TargetError)
        if self.as_json:
            told = {"error": str(error), "target": error.target, "stage": error.stage, "next": error.next}
            say(json.dumps(told, indent=2))
        say(f"streamgauge: {error}\n  next: {error.next}", err=True)
        return error.exit


@contextmanager
def _simulated(sets: tuple[str, ...], *, quiet: bool) -> Iterator[Spec]:
    """The simulator as target, without spec and --url; never in CI, where that would be green for nothing."""
    from streamgauge.cli.options import spec_above
    from streamgauge.errors import UsageError
    from streamgauge.suite.demo import simulated_spec

    above = spec_above()
    hint = f"--config {above} takes the one above" if above else "`streamgauge init` writes a spec"
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        raise UsageError(
            "no target: there is no streamgauge.toml here and no --url was given. In CI the simulator is not used. "
            f"Add the spec to the checkout, or --url with its secret; {hint}"
        )
    if not quiet:
        click.echo(
            "no streamgauge.toml and no --url: this runs against the built-in simulator, not against your service\n"
            f"({hint}; streamgauge run --url URL measures an endpoint)",
            err=True,
        )
    with simulated_spec(sets) as spec:
        yield spec
