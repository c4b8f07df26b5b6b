"""The times themselves, in tables: by stage of a request, by prompt, by phase, and every distribution there is."""

from __future__ import annotations

from collections.abc import Iterable

import streamgauge.reports.wording as say
from streamgauge.reports.cells import Cell, Table
from streamgauge.reports.document import Document
from streamgauge.reports.targets import of_all_judged, target_groups
from streamgauge.sample import REPEATS
from streamgauge.summary import Distribution, Group

_STAGES = (
    ("queue_ms", "Wait for a slot", "due to start"),
    ("connect_ms", "TCP connect", "new connections only"),
    ("tls_ms", "TLS handshake", "new connections only"),
    ("ttfb_ms", "First byte", "from sent"),
    ("ttfr_ms", "First reasoning", "from due"),
    ("ttft_service_ms", "First token, service", "from sent"),
    ("ttft_ms", "First token, user", "from due"),
    ("e2e_ms", "Whole answer", "from due"),
)


def stages(document: Document) -> Table:
    """The phases of a request that any target has, a column for each target: median, p95 as the note."""
    groups = target_groups(document)
    rows = []
    for metric, name, detail in _STAGES:
        found = [g.metrics.get(metric) for g in groups]
        if any(d is not None and d.p50 is not None for d in found):
            rows.append((name, detail, [_median_cell(d) for d in found]))
    return Table([say.plain(g.target or "all targets", 60) for g in groups], rows)


def by_prompt(document: Document) -> Table:
    """TTFT of each target (rows) at each length of prompt (columns): median, p95 as the note."""
    found = [g for g in document.groups if g.prompt is not None and g.level is None and of_all_judged(document, g)]
    prompts = _in_order(dict.fromkeys(str(g.prompt) for g in found), document.run.settings.get("prompts"))
    rows = []
    for name in dict.fromkeys(g.target for g in found):
        cells = {g.prompt: _median_cell(g.metrics.get("ttft_ms")) for g in found if g.target == name}
        rows.append((say.plain(name or "all targets", 60), "", [cells.get(p, Cell(say.NOTHING)) for p in prompts]))
    return Table([say.plain(p, 40) for p in prompts], rows if len(prompts) > 1 else [])


def _in_order(names: Iterable[str], wanted: object) -> list[str]:
    """`names` in the order of `wanted`, as far as that lists them."""
    order = [str(name) for name in wanted] if isinstance(wanted, list | tuple) else []
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))


def by_phase(document: Document) -> Table:
    """What each phase and level of the load saw, reference and stress included; nothing where there was but one."""
    found = [g for g in document.groups if g.prompt is None and g.phase not in (None, "warmup", REPEATS, "drain")]
    if len({(g.phase, g.level) for g in found}) < 2:
        found = []
    rows = []
    for g in found:
        name = " ".join(str(part) for part in (g.phase, g.level) if part is not None)
        ttft, errors = g.metrics.get("ttft_ms"), g.rates.get("error_rate")
        cells = [Cell(say.NOTHING if ttft is None else f"{ttft.n:,}")]
        cells += [Cell(stat_text(ttft, stat)) for stat in ("p50", "p95", "p99")]
        cells.append(Cell(say.percent(None if errors is None else errors.value)))
        rows.append((say.plain(name, 40), say.plain(g.target or "", 60), cells))
    return Table(["n", "TTFT p50", "p95", "p99", "error rate"], rows)


def stat_text(d: Distribution | None, stat: str) -> str:
    """One stat of a time in ms; `not reached` where the rank falls on requests without a token."""
    value = None if d is None else getattr(d, stat)
    return (
        "not reached" if value is None and d is not None and d.why.get(stat) == "censored" else say.amount(value, "ms")
    )


def _median_cell(d: Distribution | None) -> Cell:
    return Cell(stat_text(d, "p50"), None, "" if d is None or d.n == 0 else f"p95 {stat_text(d, 'p95')}")


def number_rows(document: Document) -> list[tuple[str, list[str]]]:
    """Every distribution of every group, for the folded table: (where, [metric, n, ..., max])."""
    rows = []
    whole = Group(metrics=document.metrics, rates={}, scalars={}, outcomes={})
    for group in [whole, *document.groups]:
        where = say.plain(
            " · ".join(str(p) for p in (group.target, group.prompt, group.phase, group.level) if p is not None)
        )
        for name, d in group.metrics.items():
            values = [say.number(getattr(d, stat)) for stat in ("min", "mean", "sd", "p50", "p90", "p95", "p99", "max")]
            rows.append(
                (where or "all judged", [say.plain(name), f"{d.n:,}", f"{d.censored:,}", *values, say.percent(d.cv)])
            )
    return rows
