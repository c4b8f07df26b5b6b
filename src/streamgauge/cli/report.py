"""`streamgauge report`: a run's reports again, from its folder alone."""

from __future__ import annotations

from pathlib import Path

import click

from streamgauge.cli import complete
from streamgauge.cli.place import reports_folder


@click.command(
    epilog="""\b
Examples:
  streamgauge report last
  streamgauge report 20261124T041500Z-ttft-5c1f --out /tmp
  streamgauge report .streamgauge/runs/20261124T041500Z-ttft-5c1f --json
"""
)
@click.argument("run", metavar="RUN", shell_complete=complete.runs)
@click.option(
    "--out",
    metavar="DIR",
    callback=reports_folder,
    shell_complete=complete.a_folder,
    help="Where reports go. Default: where they went.",
)
@click.option(
    "--form",
    "forms",
    multiple=True,
    metavar="FORM",
    shell_complete=complete.forms,
    help="md, json, csv or html; all by default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report's JSON alone; write no files.")
def report(run: str, out: Path | None, forms: tuple[str, ...], as_json: bool) -> int:
    """Make the reports of RUN again: its id, the beginning of it, its folder, or `last`.

    Works offline, also on a run that was killed: what was measured is judged as a partial run. The exit code is the
    run's own.
    """
    from streamgauge.cli.screen import show_outcome
    from streamgauge.errors import UsageError, worst
    from streamgauge.reports import FORMS, ReportGenerator
    from streamgauge.run import Ending
    from streamgauge.suite.assess import assess
    from streamgauge.suite.execute import Outcome, judge_and_write
    from streamgauge.suite.folder import find

    unknown = [form for form in forms if form not in FORMS]
    if unknown:
        raise UsageError(f"--form {unknown[0]}: no such form; there are {', '.join(FORMS)}")
    folder = find(run, Path())
    if as_json:
        assessment = assess(folder)
        click.echo(ReportGenerator(assessment.document).json())
        return assessment.exit
    assessment, files, unwritten = judge_and_write(folder, out, forms or None)
    ending = Ending(assessment.document.run.stopped_by, assessment.document.partial)
    code = worst([assessment.exit, 4] if unwritten else [assessment.exit])
    show_outcome(Outcome(assessment, files, code, ending, unwritten))
    return code
