"""The criteria as people read them: what was asked, what was seen, how sure that is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import streamgauge.reports.wording as say
from streamgauge.reports.document import Document
from streamgauge.verdict import Judged

MOST_CRITERIA = 8
"""So many are shown whole."""


@dataclass(frozen=True, slots=True)
class CriterionRow:
    """One criterion with what was seen."""

    verdict: str
    requirement: str
    where: str
    value: str
    bounds: str
    n: str
    role: str
    """`gates`, `shown` (its planned n could not decide it) or `advisory`."""
    remark: str


def criterion_rows(document: Document) -> list[CriterionRow]:
    """Every criterion: what failed, then what gates, then the others; in each what is open before what passed."""
    return [_criterion_row(c) for c in ordered(document.criteria)]


def ordered(criteria: Iterable[Judged]) -> list[Judged]:
    """Criteria in the order people read them: see `criterion_rows`."""

    def place(c: Judged) -> tuple[bool, bool, int, bool]:
        return c.verdict not in ("fail", "invalid"), not c.gating, say.RANK[c.verdict], c.advisory

    return sorted(criteria, key=place)


def may_fold(row: CriterionRow, document: Document) -> bool:
    """Whether a long list may hide the row at first glance: it is met, and the verdict does not rest on it."""
    rests = document.verdict == "pass" and row.role == "gates"
    return len(document.criteria) > MOST_CRITERIA and row.verdict == "pass" and not rests


def _criterion_row(c: Judged) -> CriterionRow:
    where = ", ".join(
        part for part in (c.target, c.prompt and f"{c.prompt} prompts", c.phase and f"phase {c.phase}") if part
    )
    return CriterionRow(
        verdict=c.verdict,
        requirement=say.plain(say.requirement(c.metric, c.stat, c.op, c.limit, c.unit), 120),
        where=say.plain(where or "all targets", 90),
        value=value_text(c),
        bounds=say.interval(c.low, c.high, c.unit, c.metric, c.stat),
        n=f"{c.n:,}",
        role="advisory" if c.advisory else "gates" if c.gating else "shown",
        remark=remark(c),
    )


def value_text(c: Judged) -> str:
    """What was measured, told apart from the limit; `not reached` where the rank has no value to give."""
    if c.value is None and c.why == "censored":
        return "not reached"
    return say.beside(c.value, c.limit, c.unit, c.metric, c.stat)


def remark(c: Judged) -> str:
    """What was seen and what would settle it: the judge's sentence, or what can be told without one."""
    if c.sentence:
        return say.plain(c.sentence, 240)
    parts = [_sure(c), say.plain(say.reason(c.why), 240)]
    if c.needs is not None and c.verdict == "inconclusive":
        parts.append(f"needs {say.count(c.needs, 'more request')}")
    return "; ".join(part for part in parts if part)


def _sure(c: Judged) -> str:
    """How sure a settled criterion is: `95 % sure it is above 1,130 ms`; "" where no bound says so."""
    upper = c.op.startswith("<")
    low_decides = (c.verdict == "fail") == upper
    edge = c.low if low_decides else c.high
    if edge is None or c.verdict not in ("pass", "fail"):
        return ""
    side = "above" if low_decides else "below"
    return f"{say.percent(c.confidence)} sure it is {side} {say.amount(edge, c.unit, c.metric, c.stat)}"
