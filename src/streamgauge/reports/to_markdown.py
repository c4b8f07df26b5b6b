"""The report as markdown, for job summaries, pull requests and people.

Rules: GitHub's flavour, and nothing in it that needs it. Text from outside is escaped so that it stays text: no
markup, no HTML, no link, no mention and no formula comes from a server's error or a target's name. A server's own
words stand in code spans. What only some readers need is folded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import quote

import streamgauge.reports.causes as causes
import streamgauge.reports.lasting as lasting
import streamgauge.reports.suite_view as suite_view
import streamgauge.reports.view as view
import streamgauge.reports.wording as say
from streamgauge.reports.cells import Table
from streamgauge.reports.criteria import CriterionRow, criterion_rows, may_fold
from streamgauge.reports.document import Document
from streamgauge.reports.numbers import number_rows
from streamgauge.reports.quality import calibration_line, quality_line, quality_rows
from streamgauge.reports.suite_document import Suite
from streamgauge.reports.targets import target_table
from streamgauge.wild import markdown as text
from streamgauge.wild import markdown_code as code


def render(document: Document, samples: object) -> Iterator[bytes]:
    """The report, UTF-8. `samples` are not used: the document holds what is told here."""
    document = view.told(document)
    parts = (
        _head(document),
        _targets(document),
        _criteria(document),
        *map(_part, lasting.parts(document)),
        _comparisons(document),
        _not_ok(document),
        _findings(document),
        _checklist(document),
        _connections(document),
        _slowest(document),
        _baselines(document),
        _quality(document),
    )
    yield ("\n\n".join(part for part in parts if part) + "\n").encode("utf-8", "replace")


def _table(columns: str, headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; `columns` has a letter for each, l for text and r for numbers. Cells are already escaped."""
    rule = [":--" if column == "l" else "--:" for column in columns]
    return "\n".join("| " + " | ".join(row) + " |" for row in (headings, rule, *rows))


def _sign(verdict: str | None) -> str:
    return f"{say.SIGNS[verdict].mark} {verdict}" if verdict else "·"


def _head(document: Document) -> str:
    sign, run = say.SIGNS[document.verdict], document.run
    where = f" on {text(run.environment)}" if run.environment else ""
    severity = f", severity {text(document.severity)}" if document.severity else ""
    partial = ", partial run" if document.partial else ""
    found = [f"## {sign.mark} {sign.word}: {text(document.test)}{where}{severity}{partial}"]
    found.append(f"**{text(document.headline)}**")
    if document.impact:
        found.append(text(document.impact))
    found += [text(line) for line in (view.meaning(document), _sentence(view.unjudged(document))) if line]
    if run.stopped_by:
        found.append(f"The run ended before its plan was done: {text(run.stopped_by)}.")
    found += [f"Not valid: {text(why)}" for why in document.measurement.invalid_because]
    found.append(f"Next: {_step(document.next_step)}")
    found.append(" · ".join(f"{label} {text(value)}" for label, value in view.facts(document)))
    if document.warnings:
        found.append("\n".join(f"- {text(warning)}" for warning in document.warnings))
    return "\n\n".join(found)


def _sentence(line: str | None) -> str | None:
    return f"{line}." if line else None


def _targets(document: Document) -> str:
    if document.set_up is not None or view.unjudged(document):
        return ""
    columns, rows = target_table(document)
    lines = []
    for row in rows:
        cells = []
        for key in columns:
            cell = row.cells[key]
            main = f"**{text(cell.text)}**" if cell.verdict == "fail" else text(cell.text)
            cells.append(main + (f"<br><sub>{text(cell.note)}</sub>" if cell.note else ""))
        name = text(row.name) + (f"<br><sub>{text(row.detail)}</sub>" if row.detail else "")
        lines.append([say.SIGNS[row.verdict].mark if row.verdict else "·", name, *cells])
    return "### Targets\n\n" + _table("ll" + "r" * len(columns), ["", "target", *columns.values()], lines)


def _criteria(document: Document) -> str:
    if not document.criteria:
        return ""
    rows = criterion_rows(document)
    folded = [row for row in rows if may_fold(row, document)]
    shown = [row for row in rows if row not in folded]
    parts = ["### Criteria", _criteria_table(shown) if shown else ""]
    if folded:
        met = f"{say.count(len(folded), 'criterion', 'criteria')} met{' besides' if shown else ''}"
        parts.append(_folded(met, _criteria_table(folded)))
    sure = say.percent(document.criteria[0].confidence)
    parts.append(f"<sub>Each of the two bounds holds with {sure} confidence.</sub>")
    return "\n\n".join(part for part in parts if part)


def _criteria_table(rows: list[CriterionRow]) -> str:
    cells = [
        [
            _sign(row.verdict),
            text(row.requirement),
            text(row.where),
            text(row.value),
            text(row.bounds) or "–",
            row.n,
            row.role,
            text(row.remark),
        ]
        for row in rows
    ]
    return _table("lllrrrll", ["verdict", "criterion", "where", "measured", "bounds", "n", "role", "remark"], cells)


def _comparisons(document: Document) -> str:
    if not document.comparisons:
        return ""
    rows = [
        [
            f"{text(c.a)} against {text(c.b)}{' (control)' if c.kind == 'control' else ''}",
            text(c.sentence),
            text(say.measure_name(c.metric, c.stat)),
            *(text(say.amount(value, c.unit, c.metric)) for value in (c.value_a, c.value_b, c.difference)),
            text(say.interval(c.low, c.high, c.unit, c.metric)) or "–",
        ]
        for c in document.comparisons
    ]
    return "### Side by side\n\n" + _table(
        "lllrrrr", ["compared", "found", "number", "first", "second", "difference", "bounds"], rows
    )


def _part(part: lasting.Part) -> str:
    """A section of the test's own."""
    found = [f"### {text(part.title)}", "\n".join(f"- {text(line)}" for line in part.lines)]
    found += [_cells_table(first, table) for first, table in part.tables]
    found += [_folded(text(summary), _cells_table(first, table)) for summary, first, table in part.folded]
    return "\n\n".join(one for one in found if one)


def _cells_table(first: str, table: Table) -> str:
    rows = []
    for name, detail, cells in table.rows:
        shown = [
            text(cell.text) + (f"<br><sub>{text(cell.note)}</sub>" if cell.note else "") if cell.text else "–"
            for cell in cells
        ]
        rows.append([text(name) + (f"<br><sub>{text(detail)}</sub>" if detail else ""), *shown])
    return _table("l" + "r" * len(table.headings), [first, *map(text, table.headings)], rows)


def _not_ok(document: Document) -> str:
    if not document.series.not_ok:
        return ""
    rows = []
    for bad in document.series.not_ok:
        why = say.explain(bad.outcome)
        status = f", HTTP {bad.http_status}" if bad.http_status else ""
        rows.append(
            [
                f"{bad.count:,}",
                text(say.outcome_name(bad.outcome)),
                text(bad.target),
                (code(bad.answered_by, 80) or "unknown") + status,
                text(f"{why.what} {why.next_step}"),
                code(bad.message, 200) if bad.message else "",
                code(bad.example_id, 64),
            ]
        )
    headings = ["count", "outcome", "target", "answered by", "what it means", "its words", "example trace"]
    return "### What was not ok, and who answered\n\n" + _table("rllllll", headings, rows)


def _findings(document: Document) -> str:
    quiet, drifts = causes.silenced(document), causes.signs(document)
    if not document.findings and quiet is None and not drifts:
        return ""
    found = []
    for finding in document.findings:
        title, parts = view.finding_parts(finding)
        found.append(f"- **{text(title)}**" + "".join(f"<br>{text(label)}: {text(value)}" for label, value in parts))
    found += [f"- {text(sign)} sign, {text(target)}: {text(words)}" for target, sign, words in drifts]
    told = ["### Findings", "\n".join(found), f"{text(quiet)}." if quiet is not None else ""]
    return "\n\n".join(part for part in told if part)


def _checklist(document: Document) -> str:
    parts = []
    for cause, looked in causes.looks(document):
        rows = [[text(causes.state(one)), text(one.line), text(causes.look_words(one))] for one in looked]
        parts.append(
            f"**{text(cause)}**\n\n" + _table("lll", ["", "to look at", "what was seen, or what to add"], rows)
        )
    return "\n\n".join(["### Root causes, line by line", *parts]) if parts else ""


def _connections(document: Document) -> str:
    made = causes.connections(document)
    if not made.rows:
        return ""
    table = _cells(made, "target", "kept alive?")
    ends = causes.ends(document)
    if ends.rows:
        table += "\n\nHow old they were when they ended, and who ended them:\n\n" + _cells(ends, "target", "age")
    return _folded("Connections: new, used again, closed by whom", table)


def _cells(table: Table, first: str, second: str) -> str:
    rows = [[text(name), text(detail), *(text(cell.text) for cell in cells)] for name, detail, cells in table.rows]
    return _table("ll" + "r" * len(table.headings), [first, second, *map(text, table.headings)], rows)


def _slowest(document: Document) -> str:
    rows = [
        [
            text(slow.target),
            text(slow.prompt),
            text(say.milliseconds(slow.first_token_ms)),
            text(say.milliseconds(slow.end_ms)),
            text(say.outcome_name(slow.outcome)),
            code(slow.id, 64),
            code(slow.request_id or "", 64),
            code(slow.server_timing or "", 120),
        ]
        for slow in document.series.slowest
    ]
    headings = ["target", "prompt", "first token", "end", "outcome", "trace", "request id", "Server-Timing"]
    return _folded("The slowest requests", _table("llrrllll", headings, rows)) if rows else ""


def _baselines(document: Document) -> str:
    seen, others = view.beside_strategy(document)
    rows = [
        [
            text(b.table),
            _sign(b.verdict),
            text(b.name),
            text(b.target),
            text(b.typical or "–"),
            text(b.measured or ""),
            text(b.note or ""),
        ]
        for b in seen
    ]
    headings = ["table", "", "number", "target", "typical", "measured", "note"]
    told = [_table("lllrrrl", headings, rows)] if rows else []
    if others:
        told.append(f"{text(others)}.")
    return "\n\n".join(["### Beside the strategy", *told]) if told else ""


def _quality(document: Document) -> str:
    found = [f"### How well this was measured\n\n{text(quality_line(document))}."]
    known = calibration_line(document)
    if known is not None:
        found.append(f"{text(known)}.")
    if document.measurement.notes:
        found.append("\n".join(f"- {text(note)}" for note in document.measurement.notes))
    rows = [[text(label), text(value)] for label, value in quality_rows(document)]
    found.append(_folded("What the generator saw of itself", _table("ll", ["", "seen"], rows)))
    numbers = [[text(where), *(text(cell) for cell in cells)] for where, cells in number_rows(document)]
    headings = ["where", "metric", "n", "no value", "min", "mean", "sd", "p50", "p90", "p95", "p99", "max", "cv"]
    found.append(_folded("All numbers: mean, spread, extremes", _table("ll" + "r" * 11, headings, numbers)))
    run = document.run
    found.append(f"Run it again: {code(run.rerun, 1_000)}")
    origin = [f"streamgauge {run.version}", f"run {run.id}", f"started {run.started}", document.schema]
    found.append(f"<sub>{' · '.join(text(part) for part in origin)}</sub>")
    return "\n\n".join(found)


def _folded(summary: str, body: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


def render_suite(suite: Suite) -> Iterator[bytes]:
    """The index of several tests, UTF-8; its links are to files beside it."""
    sign = say.SIGNS[suite.verdict]
    where = f" on {text(suite.environment)}" if suite.environment else ""
    severity = f", severity {suite.severity}" if suite.severity else ""
    found = [f"## {sign.mark} {sign.word}: suite{where}{severity}", f"**{text(suite.headline)}**"]
    meaning = suite_view.meaning(suite)
    found += [text(meaning)] if meaning else []
    found.append(f"Next: {_step(suite.next_step)}")
    found.append(" · ".join(f"{label} {text(value)}" for label, value in suite_view.facts(suite)))
    found += ["\n".join(f"- {text(warning)}" for warning in suite.warnings)] if suite.warnings else []
    headings = ["verdict", "test", "found", "severity", "judged requests", "took", "report"]
    lines = [
        [
            _sign(row.verdict) if row.verdict and row.verdict == row.word else text(row.word),
            text(row.test),
            text(row.headline) + (f"<br>{_step(row.next_step)}" if row.next_step else ""),
            row.severity or "–",
            row.requests or "–",
            row.took or "–",
            " ".join(f"[{form}](<{quote(name)}>)" for form, name in row.files) or "none",
        ]
        for row in suite_view.rows(suite)
    ]
    found.append("### Tests\n\n" + _table("llllrrl", headings, lines))
    told = suite_view.escalation(suite)
    if told is not None:
        steps = "\n".join(f"{i}. {text(action)}" for i, action in enumerate(told[2], 1))
        found.append(f"### What to do now\n\n{text(told[0])}. Asked for by {text(told[1])}.\n\n{steps}")
    waits = [f"- before {text(test)}: {text(sentence)}" for test, sentence in suite_view.waits(suite)]
    found += ["### Between the tests\n\n" + "\n".join(waits)] if waits else []
    found.append(f"Run it again: {code(suite.rerun, 1_000)}")
    origin = [f"streamgauge {suite.version}", suite.id, f"started {suite.started}", suite.schema]
    found.append(f"<sub>{' · '.join(text(part) for part in origin)}</sub>")
    yield ("\n\n".join(found) + "\n").encode("utf-8", "replace")


def _step(step: str) -> str:
    return code(step) if step.startswith("streamgauge ") else text(step)
