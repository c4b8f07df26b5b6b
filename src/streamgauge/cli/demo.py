"""`streamgauge demo`: every test against the simulator, in a few minutes, nothing to set up."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamgauge.cli import complete
from streamgauge.cli.place import REPORTS, reports_folder

if TYPE_CHECKING:
    from streamgauge.spec.load import Spec

FAULTS = ("truncate=0.03", "stall=0.02:3s")


@click.command(
    epilog="""\b
Examples:
  streamgauge demo
  streamgauge demo --faulty     the same service with planted faults: what a failure looks like
"""
)
@click.option("--faulty", is_flag=True, help="Plant faults: 3 % of answers cut short, 2 % stalled for 3 s.")
@click.option(
    "--out",
    default=REPORTS,
    show_default=True,
    metavar="DIR",
    callback=reports_folder,
    shell_complete=complete.a_folder,
    help="Where reports go.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
def demo(faulty: bool, out: Path, quiet: bool) -> int:
    """Run every test (preset smoke) against a simulated provider and write their reports and the index of them.

    About five minutes, no key, no cost. Ends 0 when nothing failed; inconclusive is explained. With --faulty it ends
    1, as a gate would.
    """
    from streamgauge.cli.asked import ALL, Asked
    from streamgauge.errors import Exit
    from streamgauge.spec.settings import Overrides
    from streamgauge.suite.demo import simulated_spec

    seed = int.from_bytes(os.urandom(4), "big") >> 1
    if not quiet:
        click.echo(
            "Everything below is simulated on this machine: no key, no cost; dollars are list prices.\n", err=True
        )
    repeat = "streamgauge demo --faulty" if faulty else "streamgauge demo"
    tests = ("ttft",) if faulty else (ALL,)
    asked = Asked(tests, None, Overrides(preset="smoke"), out, seed, yes=True, quiet=quiet, rerun=repeat)
    with simulated_spec(faults=FAULTS if faulty else ()) as spec:
        code = asked.run(spec)
        lengths = [f"{test} is undecided so soon: it needs {_whole_length(spec, test)}" for test in asked.open]
    for told in lengths:
        click.echo(f"{told}; what it says then: docs/examples/")
    click.echo(f"\nThe reports lie in {out}/ (open the .html ones in a browser).")
    if not faulty:
        own = typed(sys.argv[0], os.environ.get("PATH"))
        click.echo(f"What a failure looks like: {own} demo --faulty")
        click.echo(f"Your own service:          {own} init, then {own} check, then {own} run")
    return Exit.PASS if code == Exit.INCONCLUSIVE else code


def typed(started: str, path: str | None) -> str:
    """How this command is typed: by its name where a shell finds it on `path`, else as it was started (`make demo`)."""
    if shutil.which("streamgauge", path=path) is None and Path(started).name == "streamgauge":
        return started
    return "streamgauge"


def _whole_length(spec: Spec, test: str) -> str:
    """How long a test takes at the preset that decides, in words: by the plan's own estimate."""
    from streamgauge.spans import span
    from streamgauge.spec.resolve import resolve
    from streamgauge.spec.settings import Overrides
    from streamgauge.suite.prepare import prepare

    asked = Overrides(preset="standard", max_usd=1e6)  # nothing is sent, and the prices are no prices here
    plan = prepare(resolve(spec, None, os.environ, test, asked), seed=1)
    return f"about {span(plan.estimate.seconds)} (--preset standard)"
