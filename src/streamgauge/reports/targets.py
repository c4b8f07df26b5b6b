"""The targets at first glance: a row each, with the verdict over each one's own criteria."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import streamgauge.reports.wording as say
from streamgauge.compare import Comparison
from streamgauge.metrics import METRICS
from streamgauge.reports.cells import Cell
from streamgauge.reports.document import Document
from streamgauge.sample import GOOD, NOT_JUDGED
from streamgauge.summary import Distribution, Group
from streamgauge.verdict import Judged

TARGET_COLUMNS = {
    "good": "ok / n",
    "p50": "TTFT p50",
    "p95": "p95",
    "p99": "p99",
    "adds": "app adds",
    "rate": "tok/s",
    "stalls": "stalls",
}
_COUNTED = frozenset(name for name, metric in METRICS.items() if metric.kind == "count")
_STAT_OF = {"p50": ("ttft_ms", "p50"), "p95": ("ttft_ms", "p95"), "p99": ("ttft_ms", "p99")}


@dataclass(frozen=True, slots=True)
class TargetRow:
    """One target at first glance; `cells` by the keys of TARGET_COLUMNS."""

    name: str
    detail: str
    verdict: str | None
    cells: dict[str, Cell] = field(default_factory=dict)


def target_groups(document: Document) -> list[Group]:
    """The slices by target alone, in the order the run names them; all in one where there are none."""
    order = {target.get("name"): i for i, target in enumerate(document.run.targets)}
    groups = [g for g in document.groups if g.target is not None and g.prompt is None and of_all_judged(document, g)]
    seen: dict[str, Group] = {}
    for group in groups:
        if group.target not in seen or group.phase is None:
            seen[str(group.target)] = group
    if not seen:
        whole = Group(
            metrics=document.metrics, rates=document.rates, scalars=document.scalars, outcomes=document.outcomes
        )
        return [whole]
    return sorted(seen.values(), key=lambda g: order.get(g.target, len(order)))


def of_all_judged(document: Document, group: Group) -> bool:
    """Whether the group is of the judged phases together, and of no level alone."""
    judged = document.run.judged_phases
    return group.level is None and (group.phase is None or [group.phase] == judged)


def target_table(document: Document) -> tuple[dict[str, str], list[TargetRow]]:
    """Columns (key to heading) and a row a target; a column that says nothing for any target is left out."""
    rows = [_target_row(document, group) for group in target_groups(document)]
    columns = {
        key: heading
        for key, heading in TARGET_COLUMNS.items()
        if key != "adds" or any(row.cells[key].text != say.NOTHING for row in rows)
    }
    return columns, rows


def _target_row(document: Document, group: Group) -> TargetRow:
    name = group.target
    known = next((t for t in document.run.targets if t.get("name") == name), {})
    controls = {t.get("control") for t in document.run.targets}
    detail = say.plain(known.get("model") or "", 60)
    detail = "" if detail == name else detail
    if name is not None and name in controls:
        detail = f"{detail}, control: not judged".lstrip(", ")
    ttft = group.metrics.get("ttft_ms")
    failing = any(_adds_to(c, group) for c in document.criteria if c.metric in ("error_rate", "errors"))
    cells = {"good": _good_cell(group.outcomes, failing)}
    for key, (metric, stat) in _STAT_OF.items():
        judged = _criterion(document, metric, stat, name)
        bounds = (
            "" if judged is None or key == "p50" else say.interval(judged.low, judged.high, "ms").removesuffix(" ms")
        )
        cells[key] = _quantile_cell(ttft, stat, judged, bounds)
    cells["adds"] = _adds_cell(document.comparisons, name)
    rate = group.metrics.get("output_rate")
    cells["rate"] = Cell(
        say.number(None if rate is None else rate.p50, 0), _verdict(_criterion(document, "output_rate", None, name))
    )
    stalls = group.scalars.get("stalls")
    cells["stalls"] = Cell(say.number(stalls, 0))
    return TargetRow(say.plain(name or "all targets", 60), detail, _target_verdict(document, group), cells)


def _good_cell(outcomes: dict[str, int], failing: bool) -> Cell:
    n = sum(k for outcome, k in outcomes.items() if outcome not in NOT_JUDGED)
    good = sum(k for outcome, k in outcomes.items() if outcome in GOOD)
    return Cell(f"{good:,} / {n:,}", "fail" if failing and good < n else None)


def _quantile_cell(ttft: Distribution | None, stat: str, judged: Judged | None, bounds: str) -> Cell:
    value = None if ttft is None else getattr(ttft, stat)
    if value is not None:
        edge = None if judged is None else judged.limit
        text = say.amount(value, "ms") if edge is None else say.beside(value, edge, "ms")
        return Cell(text, _verdict(judged), bounds)
    why = judged.why if judged is not None else None if ttft is None else ttft.why.get(stat)
    return Cell("not reached" if why == "censored" else say.NOTHING, _verdict(judged), bounds)


def _verdict(judged: Judged | None) -> str | None:
    return None if judged is None else judged.verdict


def _criterion(document: Document, metric: str, stat: str | None, target: str | None) -> Judged | None:
    """The criterion on exactly this number over all prompts and judged phases; stat None: any."""
    for c in document.criteria:
        whole = c.target == target and c.prompt is None and (c.phase is None or [c.phase] == document.run.judged_phases)
        if whole and c.metric == metric and stat in (None, c.stat):
            return c
    return None


def _target_verdict(document: Document, group: Group) -> str | None:
    """The verdict over one target's own criteria; those over all targets are its own where it is alone.

    Any fail fails it, also that of all targets together where it has its part in it; else a gating one left open
    leaves it open; with none gating all that are shown count so.
    """
    target = group.target
    controls = {t.get("control") for t in document.run.targets}
    alone = [t.get("name") for t in document.run.targets if t.get("name") not in controls] == [target]
    binding = [c for c in document.criteria if not c.advisory]
    own = [c for c in binding if c.target == target or (alone and c.target is None)]
    if any(c.verdict == "fail" for c in own) or (target not in controls and any(_adds_to(c, group) for c in binding)):
        return "fail"
    counted = [c for c in own if c.gating] or own
    return min((c.verdict for c in counted), key=lambda word: say.RANK[word], default=None)


def _adds_to(c: Judged, group: Group) -> bool:
    """Whether a fail of all targets together, by outcomes, is this one's as well: its own share misses the limit."""
    if c.verdict != "fail" or c.target is not None or c.prompt is not None or not c.op.startswith(("<", "=")):
        return False
    rate = group.rates.get(c.metric)
    own = rate.value if rate is not None else group.scalars.get(c.metric) if c.metric in _COUNTED else None
    return own is not None and (own > c.limit or (own == c.limit and c.op == "<"))


def _adds_cell(comparisons: Iterable[Comparison], name: str | None) -> Cell:
    for c in comparisons:
        if c.kind == "control" and c.a == name and c.metric.startswith("ttft") and c.stat == "p50":
            return Cell(say.amount(c.difference, c.unit), None, say.interval(c.low, c.high, c.unit).removesuffix(" ms"))
    return Cell(say.NOTHING)
