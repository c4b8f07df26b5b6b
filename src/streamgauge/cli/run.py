"""`streamgauge run`: the main verb."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamgauge.cli import complete
from streamgauge.cli.asked import ALL, Asked
from streamgauge.cli.options import flag, from_variables, target_options
from streamgauge.cli.place import REPORTS, reports_folder

if TYPE_CHECKING:
    from streamgauge.spec.load import Spec
    from streamgauge.spec.rate import RateCourse

EXAMPLES = """\b
Examples:
  streamgauge run                                    what streamgauge.toml lists
  streamgauge run all --env staging                  every test, one after another, and an index of them
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
    from streamgauge.spec.rate import RateCourse, parse_rate

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
    from streamgauge.spec.values import parse_duration

    try:
        return parse_duration(float(value) if value.replace(".", "", 1).isdigit() else value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command(epilog=EXAMPLES)
@click.argument(
    "tests", nargs=-1, metavar="[ttft|concurrent|endurance|memory|stress|all ...]", shell_complete=complete.tests
)
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
    "--json",
    "as_json",
    is_flag=True,
    help="Print the report's JSON alone on stdout (of several tests one document with all); with --dry-run the plan's.",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask before load goes to a host that is not this machine.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@click.option(
    "--resume",
    metavar="RUN",
    shell_complete=complete.runs,
    help="Go on with a run that was cut off: its id, the beginning of it, its folder, or last. It keeps its plan.",
)
def run(resume: str | None, **flags: Any) -> int:
    """Run tests against the spec's targets (or --url) and judge them.

    Tests: ttft (time to first token), concurrent (many streams at a time), endurance (streams of many minutes),
    memory (whether the server keeps ever more of it; needs a probe), stress (how many users it carries), or all.
    None named: those of the spec; ttft with --url. Several run one after another, with a wait between until the
    targets answer as before. One that cannot run stops no other, and an index (suite_*.html) says what became
    of each. Before anything is sent it prints where it goes, requests, tokens, cost, duration, and what so many
    requests can decide. With no spec in this folder and no --url it runs against the built-in simulator, and says so.
    """
    from streamgauge.errors import UsageError

    if resume is not None:
        return _go_on(resume, flags)
    asked, spec = _asked_for(flags)
    if spec is not None:
        return asked.run(spec)
    probes = flags["probes"]
    if probes:
        raise UsageError(f"--probe {probes[0][:60]} wants a target: name one with --url, or write a spec (init)")
    with _simulated(flags["sets"], quiet=asked.quiet) as simulated:
        return asked.run(simulated)


def _asked_for(flags: Mapping[str, Any], rerun: str | None = None) -> tuple[Asked, Spec | None]:
    """What the flags ask for, and of which spec; None where there is none. rerun: the command that did, where it is
    not this one."""
    from streamgauge.cli.options import read_spec
    from streamgauge.errors import UsageError
    from streamgauge.spec.mistakes import did_you_mean
    from streamgauge.spec.presets import TESTS
    from streamgauge.spec.settings import Overrides

    known = (*TESTS, ALL)
    for name in flags["tests"]:
        if name not in known:
            raise UsageError(f"no test {name!r}{did_you_mean(name, known)} Tests: {', '.join(known)}")
    of_spec = ("config", "url", "dialect", "model", "headers", "sets", "proxy", "probes")
    spec = read_spec(**{name: flags[name] for name in of_spec})
    of_test = ("preset", "requests", "concurrency", "rate", "arrivals", "trace", "max_requests", "max_tokens",
               "max_usd", "inconclusive")  # fmt: skip
    overrides = Overrides(
        **{name: flags[name] for name in of_test}, duration_s=flags["duration"], origins=from_variables()
    )
    seed = int.from_bytes(os.urandom(4), "big") >> 1 if flags["seed"] is None else flags["seed"]
    how = {name: flags[name] for name in ("dry_run", "as_json", "yes", "quiet")}
    return Asked(flags["tests"], flags["environment"], overrides, flags["out"], seed, rerun=rerun, **how), spec


OF_HOW = ("out", "dry_run", "as_json", "yes", "quiet")
"""What may be said anew of a run that goes on: how it is told, never what it does."""


def _go_on(run_name: str, flags: Mapping[str, Any]) -> int:
    """A run that was cut off, by the command that began it."""
    from streamgauge.errors import UsageError
    from streamgauge.secrets import MARKS
    from streamgauge.suite.folder import find, read_head

    given = click.get_current_context()
    typed = click.core.ParameterSource.COMMANDLINE
    for option in given.command.params:
        name = str(option.name)
        if name not in (*OF_HOW, "resume") and given.get_parameter_source(name) is typed and flags.get(name):
            shown = option.opts[0] if option.opts[0].startswith("-") else " ".join(flags["tests"])
            raise UsageError(f"{shown} is for a new run: --resume goes on by the plan that {run_name} began with")
    folder = find(run_name, Path())
    head = read_head(folder)
    program, *words = shlex.split(head.rerun)
    if program != "streamgauge" or words[:1] != ["run"]:
        raise UsageError(f"{head.id} cannot go on: what it ran against ended with it; start it again: {head.rerun}")
    if any(mark in head.rerun for mark in MARKS):
        raise UsageError(
            f"{head.id} cannot go on: a secret was typed on its command line, and it is kept nowhere; start it again "
            "with -H 'Name: ${VARIABLE}' in its place, in single quotes"
        )
    with run.make_context("run", words[1:]) as began:
        elsewhere = given.get_parameter_source("out") is typed
        how = {name: flags[name] for name in OF_HOW if name != "out" or elsewhere}
        asked, spec = _asked_for({**began.params, **how}, head.rerun)
        if spec is None:
            raise UsageError(f"{head.id} cannot go on: the simulator it ran against ended with it; start it again")
        return asked.go_on(spec, folder)


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
