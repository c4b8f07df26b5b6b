"""The report as one page that needs nothing else: no network, no script.

Rules: `report.html.j2` says what stands where, `style.css` how it looks, `figures` what is drawn; here only the parts
are put together. Every text is escaped by the template engine (autoescape) after `plain` took control characters out of
it, both for each printed expression, so no text can be forgotten. A Content-Security-Policy in the page forbids what
the page does not need, should all else fail. The page stays under 2 MB: series are bounded however many requests there
were, and so are tables however many targets; what a table leaves out it says.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import streamgauge.reports.causes as causes
import streamgauge.reports.charts as charts
import streamgauge.reports.lasting as lasting
import streamgauge.reports.suite_view as suite_view
import streamgauge.reports.view as view
import streamgauge.reports.wording as say
from streamgauge.reports.criteria import criterion_rows, may_fold, ordered, value_text
from streamgauge.reports.document import Document
from streamgauge.reports.figures import figures
from streamgauge.reports.numbers import by_phase, by_prompt, number_rows, stages
from streamgauge.reports.quality import calibration_line, quality_line, quality_rows
from streamgauge.reports.suite_document import Suite
from streamgauge.reports.svg import Frame
from streamgauge.reports.targets import target_table
from streamgauge.series import Slow
from streamgauge.wild import html

if TYPE_CHECKING:
    from jinja2 import Environment

_MOST_CRITERIA = 400
_MOST_DRAWN = 60
"""Criteria that have a picture of their own: the first ones, which are those that matter most."""
_MOST_NUMBERS = 1_000
"""Rows of the table of all numbers. What is cut off here stands in the JSON, and the page says so."""
_MINI = 168
"""Width in px of a criterion's small picture."""


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
    columns, rows = target_table(document)
    every = list(zip(criterion_rows(document), _against_limits(document), strict=True))
    criteria = every[:_MOST_CRITERIA]
    numbers = number_rows(document)
    folded = [row for row in criteria if may_fold(row[0], document)]
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
        "figures": figures(document),
        "baselines": view.beside_strategy(document),
        "parts": lasting.parts(document),
        "stages": stages(document),
        "by_prompt": by_prompt(document),
        "by_phase": by_phase(document),
        "steps": [(i + 1, slow, _steps_text(slow)) for i, slow in enumerate(document.series.slowest)],
        "looks": causes.looks(document),
        "drifts": causes.signs(document),
        "silenced": causes.silenced(document),
        "connections": causes.connections(document),
        "ends": causes.ends(document),
        "findings": [view.finding_parts(finding) for finding in document.findings],
        "quality": quality_rows(document),
        "quality_line": quality_line(document),
        "calibration_line": calibration_line(document),
        "more_criteria": len(every[_MOST_CRITERIA:]),
        "numbers": numbers[:_MOST_NUMBERS],
        "more_numbers": len(numbers[_MOST_NUMBERS:]),
    }


def _against_limits(document: Document) -> list[str]:
    """A small picture for each criterion, in the order of its rows; "" where there is nothing to draw."""
    found = []
    for i, c in enumerate(ordered(document.criteria)):
        if i >= _MOST_DRAWN:
            found.append("")
            continue
        limit, value = say.amount(c.limit, c.unit, c.metric, c.stat), value_text(c)
        title = f"{say.SIGNS[c.verdict].word.lower()}: {value}, limit {limit}"
        found.append(charts.against_limit(Frame(f"limit-{i}", title, "", _MINI), c) or "")
    return found


def _steps_text(slow: Slow) -> str:
    """The steps that took at least 1 ms."""
    steps = charts.steps_of(slow)
    return ", ".join(f"{what} {say.milliseconds(high - low)}" for low, high, what, _ in steps if high - low >= 1)
