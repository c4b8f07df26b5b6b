"""The report on one screen of a terminal, 100 columns wide.

Rules: the verdict, the targets, what failed or is open, findings, how well it was measured, what to do next; nothing
else. That takes 24 lines at most; the root causes of a fail, a line a list, may go beyond.
Lines are made of (text, style) pieces with style words that rich knows, so that who prints decides about colour; no
escape code is made here and none survives from foreign text. Never print these lines through a markup parser.
"""

from __future__ import annotations

from textwrap import wrap

from rich.cells import cell_len, set_cell_size

import streamgauge.reports.causes as causes
import streamgauge.reports.lasting as lasting
import streamgauge.reports.suite_view as suite_view
import streamgauge.reports.view as view
import streamgauge.reports.wording as say
from streamgauge.reports.cells import Cell
from streamgauge.reports.criteria import criterion_rows
from streamgauge.reports.document import Document
from streamgauge.reports.quality import calibration_line, quality_line
from streamgauge.reports.suite_document import Suite
from streamgauge.reports.targets import target_table

Piece = tuple[str, str]
"""(text, style); style "" is plain."""

_STYLES = {"pass": "green", "fail": "red", "inconclusive": "yellow", "invalid": "magenta"}
_HEADINGS = {"p50": "p50 (ms)"}
_EXPENDABLE = ("stalls", "adds", "rate", "p50", "p99")
_NAME_WIDTH = 24
_MOST_TARGETS, _MOST_OPEN, _MOST_FINDINGS, _MOST_LINES = 12, 8, 3, 3


def render(document: Document, width: int = 100) -> str:
    """The screen as plain text, each line at most `width` columns."""
    return "".join("".join(text for text, _ in line).rstrip() + "\n" for line in lines(document, width))


def lines(document: Document, width: int = 100) -> list[list[Piece]]:
    """The screen as lines of styled pieces."""
    style = _STYLES[document.verdict]
    document = view.told(document)
    made = [_first_line(document, width)]
    made += _wrapped(document.headline, width, "bold")
    if document.set_up is not None:
        made += _wrapped(f"Next: {document.next_step}", width)
    if document.run.stopped_by and document.run.stopped_by not in document.headline:
        made += _wrapped(f"The run ended before its plan was done: {document.run.stopped_by}", width, style)
    for why in document.measurement.invalid_because:
        made += _wrapped(f"Not valid: {why}", width, style)
    if document.impact:
        made += _wrapped(document.impact, width)
    if document.set_up is not None:
        return made + _not_ok(document, width) + _notes(document, width)
    nothing = view.unjudged(document)
    if nothing is None:
        made += _targets(document, width)
        made += _criteria(document, width)
        for part in lasting.parts(document):
            for line in part.lines[:_MOST_LINES]:
                made += _wrapped(f"{line}.", width)
    else:
        made += _wrapped(f"{nothing}.", width, style)
    made += _not_ok(document, width)
    made += _findings(document, width)
    made += _notes(document, width)
    if nothing is None:
        made += _wrapped(quality_line(document) + ".", width, "dim")
        known = calibration_line(document)
        made += _wrapped(f"{known}.", width, "dim") if known is not None else []
    if not document.findings:  # theirs are better leads, and the screen has 24 lines
        made += _slowest(document, width)
    made += _wrapped(f"Next: {document.next_step}", width)
    return made


def _notes(document: Document, width: int) -> list[list[Piece]]:
    """What qualifies the numbers; that the run is partial is said above."""
    notes = [note for note in document.warnings if not note.startswith("partial run: ")]
    return [line for note in notes for line in _wrapped(f"Note: {note}", width, "dim")]


def _findings(document: Document, width: int) -> list[list[Piece]]:
    """What was found, and what to do about it; the evidence stands in the report."""
    made: list[list[Piece]] = []
    for one in document.findings[:_MOST_FINDINGS]:
        whose = f"{say.plain(one.target, 30)}: " if one.target and len(document.run.targets) > 1 else ""
        made += _wrapped(f"Found: {whose}{say.plain(one.words, 240)}. Remedy: {say.plain(one.remedy, 240)}", width)
    if len(document.findings) > _MOST_FINDINGS:
        made.append([(f"  and {len(document.findings) - _MOST_FINDINGS} more findings in the report", "dim")])
    for cause, looked in causes.looks(document):
        made += _wrapped(f"{cause}: {causes.short_looks(looked)}", width, "dim")
    quiet = causes.silenced(document)
    return made + (_wrapped(f"{quiet}.", width, "dim") if quiet is not None else [])


def _slowest(document: Document, width: int) -> list[list[Piece]]:
    """The slowest stream's trace, which leads to one's own logs, and how slow it was."""
    if not document.series.slowest:
        return []
    slow = document.series.slowest[0]
    first = slow.first_token_ms
    took = (
        f"no token, {say.outcome_name(slow.outcome)} after {say.milliseconds(slow.end_ms)}"
        if first is None
        else f"first token after {say.milliseconds(first)}"
    )
    whose = f"{say.plain(slow.target, 30)}, " if len(document.run.targets) > 1 else ""
    return _wrapped(f"Slowest stream: {whose}{took}, trace {slow.id}", width, "dim")


def _first_line(document: Document, width: int) -> list[Piece]:
    sign = say.SIGNS[document.verdict]
    facts = dict(view.facts(document))
    kept = ("environment", "commit", "judged", "load", "took")
    words = [document.test, *(facts[key] for key in kept if key in facts)]
    words.append(say.money(document.run.cost_usd))
    head = f"{sign.mark} {sign.word}"
    tail = ("partial  " if document.partial else "") + (f"severity {document.severity}" if document.severity else "")
    room = width - cell_len(head) - cell_len(tail) - 4
    middle = set_cell_size(say.shorten("  ".join(say.plain(word, 40) for word in words), room), room)
    return [(head, f"bold {_STYLES[document.verdict]}"), ("  " + middle + "  ", ""), (tail.rstrip(), "bold")]


def _wrapped(text: str, width: int, style: str = "", indent: str = "  ") -> list[list[Piece]]:
    """Paragraph, second and later lines further in; words wider than the line are cut at it."""
    found = wrap(say.plain(text, 600), width - len(indent) - 2) or [""]
    rows = [(indent if i == 0 else indent + "  ") + line for i, line in enumerate(found)]
    return [[(set_cell_size(row, min(cell_len(row), width)), style)] for row in rows]


def _targets(document: Document, width: int) -> list[list[Piece]]:
    columns, rows = target_table(document)
    shown = rows[:_MOST_TARGETS]
    headings = {key: Cell(_HEADINGS.get(key, heading)) for key, heading in columns.items()}
    wide = min(_NAME_WIDTH, max([6, *(cell_len(row.name) for row in shown)]))
    keys, texts = _fitted(list(columns), [headings, *(row.cells for row in shown)], width - wide - 4)
    made: list[list[Piece]] = [[("    " + set_cell_size("target", wide) + "".join(texts[0]), "dim")]]
    for row, line in zip(shown, texts[1:], strict=True):
        mark = say.SIGNS[row.verdict].mark if row.verdict else "·"
        pieces = [(f"  {mark} ", _STYLES.get(row.verdict or "", "dim"))]
        pieces.append((set_cell_size(row.name, wide), "bold" if row.verdict == "fail" else ""))
        for key, text in zip(keys, line, strict=True):
            pieces.append((text, _STYLES["fail"] if row.cells[key].verdict == "fail" else ""))
        made.append(pieces)
    if len(rows) > len(shown):
        made.append([(f"    and {len(rows) - len(shown)} more in the report", "dim")])
    return made


def _fitted(keys: list[str], rows: list[dict[str, Cell]], room: int) -> tuple[list[str], list[list[str]]]:
    """The columns that fit and their cells, right-aligned: bounds go first, then whole columns, the verdict's last."""
    for noted in (keys, ["p95"], []):
        texts = _aligned(keys, rows, noted)
        if sum(cell_len(text) for text in texts[0]) <= room:
            return keys, texts
    for key in _EXPENDABLE:
        keys = [kept for kept in keys if kept != key]
        texts = _aligned(keys, rows, [])
        if sum(cell_len(text) for text in texts[0]) <= room:
            break
    return keys, texts


def _aligned(keys: list[str], rows: list[dict[str, Cell]], noted: list[str]) -> list[list[str]]:
    texts = [[_cell_text(row[key], key in noted) for key in keys] for row in rows]
    sizes = [max(cell_len(row[i]) for row in texts) for i in range(len(keys))]
    return [[" " * (size + 2 - cell_len(text)) + text for text, size in zip(row, sizes, strict=True)] for row in texts]


def _cell_text(cell: Cell, noted: bool) -> str:
    text = cell.text.removesuffix(" ms").replace(" / ", "/")
    return f"{text} [{cell.note.replace(' to ', '-')}]" if noted and cell.note else text


def _criteria(document: Document, width: int) -> list[list[Piece]]:
    made: list[list[Piece]] = []
    found = criterion_rows(document)
    unsettled = [row for row in found if row.verdict != "pass"]
    # Where the run is decided, what so few requests could not decide and what holds nothing back is only counted.
    binding = [row for row in unsettled if row.role == "gates" or row.verdict in ("fail", "invalid")]
    told = binding if document.verdict in ("pass", "fail") else unsettled
    for row in told[:_MOST_OPEN]:
        role = "" if row.role == "gates" else f" ({row.role})"
        text = f"{say.SIGNS[row.verdict].mark} {row.requirement}, {row.where}{role}: {row.remark or row.value}"
        made += _wrapped(text, width, _STYLES[row.verdict])
    if len(told) > _MOST_OPEN:
        made.append([(f"  and {len(told) - _MOST_OPEN} more in the report", "dim")])
    if len(told) < len(unsettled):
        open_ones = say.count(len(unsettled) - len(told), "criterion", "criteria")
        mark = say.SIGNS["inconclusive"].mark
        made += _wrapped(f"{mark} {open_ones} shown, open; the report says what settles each", width, "dim")
    passed = len(found) - len(unsettled)
    if passed:
        made.append(
            [
                (
                    f"  {say.SIGNS['pass'].mark} {passed} of {say.count(len(found), 'criterion', 'criteria')} met",
                    _STYLES["pass"],
                )
            ]
        )
    return made


def _not_ok(document: Document, width: int) -> list[list[Piece]]:
    bad = document.series.not_ok
    if not bad:
        return []
    parts = [
        f"{one.count:,} {say.outcome_name(one.outcome)} ({say.plain(one.target, 30)}"
        + (f", answered by {say.plain(one.answered_by, 30)})" if one.answered_by else ")")
        for one in bad[:6]
    ]
    more = f", and {len(bad) - 6} other kinds" if len(bad) > 6 else ""
    return _wrapped("Not ok: " + ", ".join(parts) + more, width)


def suite_lines(suite: Suite, width: int = 100) -> list[list[Piece]]:
    """What became of several tests: the verdict, a line or two for each, what the strategy asks for, what to do."""
    sign, style = say.SIGNS[suite.verdict], _STYLES[suite.verdict]
    facts = dict(suite_view.facts(suite))
    words = ["suite", *(facts[key] for key in ("environment", "tests", "took") if key in facts)]
    severity = f"severity {suite.severity}" if suite.severity else ""
    middle = say.shorten("  ".join([*words, say.money(suite.cost_usd)]), width - len(sign.word) - len(severity) - 6)
    made: list[list[Piece]] = [
        [(f"{sign.mark} {sign.word}", f"bold {style}"), (f"  {middle}  ", ""), (severity, "bold")]
    ]
    made += _wrapped(suite.headline, width, "bold")
    for row in suite_view.rows(suite):
        mark = say.SIGNS[row.verdict].mark if row.verdict else "·"
        told = f"{mark} {row.test}: {row.word}{f', {row.severity}' if row.severity else ''}: {row.headline}"
        made += _wrapped(told, width, _STYLES.get(row.verdict or "", "dim"))
        if row.verdict is None:
            made += _wrapped(f"to run it: {row.next_step}", width, "dim", indent="      ")
    asked = suite_view.escalation(suite)
    if asked is not None:
        made += _wrapped(f"{asked[0]}. {'; '.join(asked[2])}", width)
    for warning in suite.warnings:
        made += _wrapped(f"Note: {warning}", width, "dim")
    made += _wrapped(f"Next: {suite.next_step}", width)
    return made
