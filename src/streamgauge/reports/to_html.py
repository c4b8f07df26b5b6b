"""The report as one page that needs nothing else: no network, no script.

Rules: `report.html.j2` says what stands where, `style.css` how it looks, `charts` draws; here only the parts are put
together. Every text is escaped by the template engine (autoescape) after `plain` took control characters out of it,
both for each printed expression, so no text can be forgotten. A Content-Security-Policy in the page forbids what the
page does not need, should all else fail. The page stays under 2 MB: series are bounded however many requests
there were, and so are tables however many targets; what a table leaves out it says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import streamgauge.reports.causes as causes
import streamgauge.reports.charts as charts
import streamgauge.reports.lasting as lasting
import streamgauge.reports.suite_view as suite_view
import streamgauge.reports.view as view
import streamgauge.reports.wording as say
from streamgauge.reports.document import Document
from streamgauge.reports.suite_document import Suite
from streamgauge.reports.svg import NARROW, WIDE, Frame
from streamgauge.series import Ecdf, Gaps, Slow
from streamgauge.wild import html

if TYPE_CHECKING:
    from jinja2 import Environment

_TABLE_POINTS = 20
"""Points of each curve that its data table shows."""
_MOST_ROWS = 400
"""Rows of a picture's data table."""
_MOST_CRITERIA = 400
_MOST_DRAWN = 60
"""Criteria that have a picture of their own: the first ones, which are those that matter most."""
_MOST_NUMBERS = 1_000
"""Rows of the table of all numbers. What is cut off here stands in the JSON, and the page says so."""
_MINI = 168
"""Width in px of a criterion's small picture."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture in both widths, what it shows in words, and its numbers as a table."""

    wide: str
    narrow: str
    caption: str
    headings: Sequence[str] = ()
    numbers: Sequence[Sequence[str]] = ()

    @property
    def rows(self) -> Sequence[Sequence[str]]:
        """What the table shows of its numbers."""
        return self.numbers[:_MOST_ROWS]

    @property
    def more(self) -> int:
        """Rows that the table leaves out."""
        return len(self.numbers) - len(self.rows)


def render(document: Document, samples: object) -> Iterator[bytes]:
    """The page, UTF-8. `samples` are not used: the document holds the series of the pictures."""
    template = _environment().get_template("report.html.j2")
    yield template.render(**_parts(document)).encode("utf-8", "replace")


def render_suite(suite: Suite) -> Iterator[bytes]:
    """The index page of several tests, UTF-8. It has no script and loads nothing; its links are to files beside it."""
    sign = say.SIGNS[suite.verdict]
    page = _environment().get_template("suite.html.j2").render(
        suite=suite, sign=sign, rows=suite_view.rows(suite), facts=suite_view.facts(suite),
        escalation=suite_view.escalation(suite), waits=suite_view.waits(suite),
        meaning=suite_view.meaning(suite),
    )  # fmt: skip
    yield page.encode("utf-8", "replace")


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def finalize(value: Any) -> Any:
        return value if isinstance(value, Markup) or not isinstance(value, str) else html(value)

    environment = Environment(
        loader=PackageLoader("streamgauge.reports", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        say=say,
        view=view,
        causes=causes,
        signs=say.SIGNS,
        style=Markup((files("streamgauge.reports") / "style.css").read_text("utf-8")),
    )
    environment.filters["safe_svg"] = Markup
    return environment


def _parts(document: Document) -> dict[str, Any]:
    document = view.told(document)
    columns, rows = view.target_table(document)
    every = list(zip(view.criterion_rows(document), _against_limits(document), strict=True))
    criteria = every[:_MOST_CRITERIA]
    numbers = view.number_rows(document)
    folded = [row for row in criteria if view.may_fold(row[0], document)]
    return {
        "doc": document,
        "run": document.run,
        "sign": say.SIGNS[document.verdict],
        "facts": view.facts(document),
        "meaning": view.meaning(document),
        "unjudged": view.unjudged(document),
        "columns": columns,
        "targets": [] if document.set_up is not None or view.unjudged(document) else rows,
        "criteria": [row for row in criteria if row not in folded],
        "folded": folded,
        "confidence": say.percent(document.criteria[0].confidence) if document.criteria else "",
        "figures": _figures(document),
        "parts": lasting.parts(document),
        "stages": view.stages(document),
        "by_prompt": view.by_prompt(document),
        "by_phase": view.by_phase(document),
        "steps": [(i + 1, slow, _steps_text(slow)) for i, slow in enumerate(document.series.slowest)],
        "looks": causes.looks(document),
        "drifts": causes.signs(document),
        "silenced": causes.silenced(document),
        "connections": causes.connections(document),
        "ends": causes.ends(document),
        "findings": [view.finding_parts(finding) for finding in document.findings],
        "quality": view.quality_rows(document),
        "quality_line": view.quality_line(document),
        "calibration_line": view.calibration_line(document),
        "more_criteria": len(every[_MOST_CRITERIA:]),
        "numbers": numbers[:_MOST_NUMBERS],
        "more_numbers": len(numbers[_MOST_NUMBERS:]),
    }


def _against_limits(document: Document) -> list[str]:
    """A small picture for each criterion, in the order of its rows; "" where there is nothing to draw."""
    found = []
    for i, c in enumerate(view.ordered(document.criteria)):
        if i >= _MOST_DRAWN:
            found.append("")
            continue
        limit, value = say.amount(c.limit, c.unit, c.metric, c.stat), view.value_text(c)
        title = f"{say.SIGNS[c.verdict].word.lower()}: {value}, limit {limit}"
        found.append(charts.against_limit(Frame(f"limit-{i}", title, "", _MINI), c) or "")
    return found


def _steps_text(slow: Slow) -> str:
    """The steps that took at least 1 ms."""
    steps = charts.steps_of(slow)
    return ", ".join(f"{what} {say.milliseconds(high - low)}" for low, high, what, _ in steps if high - low >= 1)


def _figures(document: Document) -> dict[str, Figure]:
    """Each picture that has something to show."""
    series, limits = document.series, charts.limits_of(document.criteria)
    found = {}
    curves = [line for line in series.ecdf if line.metric == "ttft_ms" and line.prompt is None]
    if any(line.points for line in curves):
        found["ecdf"] = _ecdf(curves, limits)
    if any(line.bins for line in series.timeline):
        found["timeline"] = _timeline(document, limits)
    if series.slowest:
        title = "The slowest requests, step by step"
        text = (
            "Each bar begins when the request was due; one that reaches the right edge goes on beyond it. The table "
            "below has the same steps in figures."
        )
        found["slowest"] = Figure(
            *_both("slowest", title, text, lambda frame: charts.waterfall(frame, series.slowest)), text
        )
    if any(line.histogram for line in series.gaps):
        found["gaps"] = _gaps(series.gaps)
    return found


def _both(name: str, title: str, text: str, draw: Callable[[Frame], str]) -> tuple[str, str]:
    """The wide and the narrow form of one picture."""
    return draw(Frame(name, title, text, WIDE)), draw(Frame(name, title, text, NARROW))


def _more(items: Sequence[object]) -> str:
    most = charts.MOST_LINES
    return f" The first {most} of {len(items)} are drawn." if len(items) > most else ""


def _ecdf(curves: Sequence[Ecdf], limits: Sequence[charts.Limit]) -> Figure:
    title = "Share of requests that had their first token within a given time"
    asked = ", ".join(limit.text for limit in limits)
    text = f"A curve that enters a shaded area misses that limit ({asked})." if limits else ""
    if any(line.censored for line in curves):
        text += " A curve that ends below 100 % is of a target whose other requests never gave a token."
    text = (text + _more(curves)).strip()
    rows = []
    for line in curves:
        step = max(1, -(-len(line.points) // _TABLE_POINTS))
        label = f"{line.target}, {line.phase}" if line.phase else line.target
        rows += [[label, say.milliseconds(x), say.percent(y)] for x, y in line.points[step - 1 :: step]]
    pair = _both("ttft", title, text, lambda frame: charts.ecdf(frame, curves, limits))
    return Figure(*pair, text, ["Target", "First token within", "Share of requests"], rows)


def _timeline(document: Document, limits: Sequence[charts.Limit]) -> Figure:
    run, lines = document.run, document.series.timeline
    title = "TTFT, open streams and failures over the run"
    text = f"Each point stands for {say.seconds(lines[0].bin_s)} of the run; dotted lines mark where a phase begins."
    pair = _both("timeline", title, text, lambda frame: charts.timeline(frame, lines, run.phases, run.start_ns, limits))
    whole = next((line for line in lines if line.target is None), lines[0])
    rows = [
        [
            say.seconds(b.t_s),
            f"{b.n:,}",
            f"{b.errors:,}",
            say.milliseconds(b.ttft_p50_ms),
            say.milliseconds(b.ttft_p95_ms),
            say.number(b.open_mean, 1),
            say.number(b.tokens_per_s, 0),
        ]
        for b in whole.bins
    ]
    return Figure(*pair, text, ["From", "Requests", "Failed", "TTFT p50", "TTFT p95", "Open streams", "tok/s"], rows)


def _gaps(lines: Sequence[Gaps]) -> Figure:
    title = "Pauses between tokens: how many of each length"
    text = "Both axes are logarithmic, so that rare long pauses can be seen." + _more(lines)
    rows = [
        [line.target, f"{say.number(low)} to {say.number(high)} ms", f"{count:,}"]
        for line in lines
        for low, high, count in line.histogram
        if count
    ]
    pair = _both("gaps", title, text, lambda frame: charts.gaps(frame, lines))
    return Figure(*pair, text, ["Target", "Length of the pause", "How many"], rows)
