"""A document as people read it: the rows and sentences that the page, the markdown and the terminal share.

Rules: nothing is computed that the document does not say; numbers become text here, once. Nothing is escaped here:
each form escapes for itself, after `plain`. A value that was never measured reads "n/a".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

import streamgauge.reports.wording as say
from streamgauge.compare import Comparison
from streamgauge.findings import Finding
from streamgauge.metrics import METRICS
from streamgauge.reports.document import Document
from streamgauge.sample import GOOD, NOT_JUDGED, REPEATS
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
MOST_CRITERIA = 8
"""So many are shown whole."""
_COUNTED = frozenset(name for name, metric in METRICS.items() if metric.kind == "count")
_STAT_OF = {"p50": ("ttft_ms", "p50"), "p95": ("ttft_ms", "p95"), "p99": ("ttft_ms", "p99")}
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


@dataclass(frozen=True, slots=True)
class Cell:
    """One entry of a table. `verdict` where a criterion judged exactly this number; `note` is smaller text below it."""

    text: str
    verdict: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class TargetRow:
    """One target at first glance; `cells` by the keys of TARGET_COLUMNS."""

    name: str
    detail: str
    verdict: str | None
    cells: dict[str, Cell] = field(default_factory=dict)


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


@dataclass(frozen=True, slots=True)
class Table:
    """Headings after the first column, and rows of (name, detail, a cell for each heading)."""

    headings: list[str]
    rows: list[tuple[str, str, list[Cell]]]


def facts(document: Document) -> list[tuple[str, str]]:
    """What was run: (label, value), for the line under the verdict; only what is known."""
    run = document.run
    length = None if run.end_ns is None else (run.end_ns - run.start_ns) / 1e9
    found = [
        ("environment", run.environment or ""),
        ("commit", run.git or ""),
        ("judged", _judged_of_sent(document)),
        ("load", _load(document)),
        ("took", "" if length is None else say.seconds(length)),
        ("cost", say.money(run.cost_usd).removeprefix("cost ")),
        ("preset", run.preset),
        ("started", run.started.replace("T", " ").replace("Z", " UTC")),
        ("resumed", ", ".join(one.at.replace("T", " ").replace("Z", " UTC") for one in run.resumed)),
    ]
    return [(label, say.plain(value, 120)) for label, value in found if value]


def _load(document: Document) -> str:
    """`held 100 of 100 streams` where that is the test's subject; in open loop the rate achieved."""
    planned, achieved = document.measurement.planned, document.measurement.achieved
    rate, streams = planned.get("rate_per_s"), planned.get("streams")
    kept, held = achieved.get("rate_per_s"), achieved.get("streams")
    if rate is not None and kept is not None:
        way = document.measurement.arrivals or ""
        told = f"{say.number(kept)} of {say.number(rate)} requests/s"
        return told if way in ("", f"{rate:g} requests/s") else f"{way}: {told} on average"
    if document.test == "concurrent" and streams is not None and held is not None:
        return f"held {say.number(held)} of {say.count(int(streams), 'stream')}"
    return ""


def judged_requests(document: Document) -> int:
    """How many requests of the judged phases ended, whatever their outcome."""
    return sum(n for outcome, n in document.outcomes.items() if outcome not in NOT_JUDGED)


def _judged_of_sent(document: Document) -> str:
    """`300 of 724 requests`: warm-up, reference, ramp, burst and controls are sent as well, and not judged."""
    judged, sent = judged_requests(document), sum(one.requests for one in document.connections)
    whole = say.count(max(judged, sent), "request")
    return f"{judged:,} of {whole}" if sent > judged else whole


def told(document: Document) -> Document:
    """The document less what means nothing for people to read, which only the files for programs keep.

    Where the set-up was wrong no number is the service's. Where nothing was judged no criterion has anything to say.
    """
    if document.set_up is not None:
        return msgspec.structs.replace(
            document,
            criteria=[],
            comparisons=[],
            baselines=[],
            metrics={},
            groups=[],
            connections=[],
            trends=[],
            checklist=[],
            silenced={},
            series=msgspec.structs.replace(
                document.series, ecdf=[], timeline=[], slowest=[], gaps=[], heat=[], strips=None, courses=[]
            ),
        )
    if document.criteria and not judged_requests(document):
        return msgspec.structs.replace(document, criteria=[], baselines=[], trends=[], checklist=[])
    return document


def unjudged(document: Document) -> str | None:
    """Why there is nothing to judge, in a line that stands for the criteria; None where there is."""
    if document.set_up is not None or judged_requests(document):
        return None
    return "Nothing was judged: no request of the judged phases had ended"


def meaning(document: Document) -> str | None:
    """What an open or invalid verdict means; None where the verdict speaks for itself."""
    if document.set_up is not None:
        return "Nothing was measured, so this says nothing about the service."
    return say.SIGNS[document.verdict].meaning if document.verdict in ("inconclusive", "invalid") else None


def target_groups(document: Document) -> list[Group]:
    """The slices by target alone, in the order the run names them; all in one where there are none."""
    order = {target.get("name"): i for i, target in enumerate(document.run.targets)}
    groups = [g for g in document.groups if g.target is not None and g.prompt is None and _whole(document, g)]
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


def _whole(document: Document, group: Group) -> bool:
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
    leaves it open; with none gating it is open.
    """
    target = group.target
    controls = {t.get("control") for t in document.run.targets}
    alone = [t.get("name") for t in document.run.targets if t.get("name") not in controls] == [target]
    binding = [c for c in document.criteria if not c.advisory]
    own = [c for c in binding if c.target == target or (alone and c.target is None)]
    if any(c.verdict == "fail" for c in own) or (target not in controls and any(_adds_to(c, group) for c in binding)):
        return "fail"
    gating = [c.verdict for c in own if c.gating]
    return min(gating, key=lambda word: say.RANK[word], default="inconclusive" if own else None)


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
    found = [g for g in document.groups if g.prompt is not None and g.level is None and _whole(document, g)]
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


_READ_BY: dict[bool | None, str] = {True: ", read by the compiled part", False: ", read by plain Python", None: ""}


def quality_line(document: Document) -> str:
    """How well we measured, in one line."""
    m = document.measurement
    clock = {"kernel": "kernel clock", "user": "user clock", "mixed": "kernel and user clock"}.get(m.stamps, m.stamps)
    slack, late = m.slack_ms.get("p95"), m.late_ms.get("p95")
    parts = []
    if slack is not None:
        parts.append(f"first tokens timed to within {say.milliseconds(max(slack, 0.1))}")
    if late is not None:
        parts.append("no late sends" if late < 1 and not m.missed_starts else f"sends late by {say.milliseconds(late)}")
    if m.missed_starts:
        parts.append(f"{say.count(m.missed_starts, 'start')} missed")
    line = ", ".join([*parts, say.plain(clock, 40)])
    return line[0].upper() + line[1:]


def calibration_line(document: Document) -> str | None:
    """What this machine can measure at all, in one line; None where it was never calibrated."""
    found = document.measurement.calibration
    return None if found is None else say.plain(say.calibrated(found), 400)


def quality_rows(document: Document) -> list[tuple[str, str]]:
    """What the generator saw of itself, as (label, value)."""
    m = document.measurement

    def spread(values: dict[str, float | None]) -> str:
        return ", ".join(f"{key} {say.milliseconds(value)}" for key, value in values.items())

    rows = [
        ("Clock of the stamps", f"{m.stamps}{_READ_BY[m.compiled]}"),
        ("First token known to within", spread(m.slack_ms)),
        ("Starts late through us", spread(m.late_ms)),
        ("Starts missed through us", f"{m.missed_starts:,} of {m.starts:,}"),
        ("Text events merged by us", f"{m.merged_events:,} of {m.text_events:,}"),
        (
            "Workers",
            f"{m.workers:,}, CPU {say.percent(m.worker_cpu_mean)} mean, {say.percent(m.worker_cpu_max)} at most",
        ),
        ("Processors of this machine in use", say.percent(m.machine_cpu_mean)),
        ("Longest turn of a worker", say.milliseconds(m.longest_turn_ms)),
        ("Clock steps", f"{m.clock_steps:,}, {say.count(m.flagged_by_clock, 'request')} flagged"),
        ("Requests lost to limits of this machine", f"{m.client_limits:,}"),
        ("Descriptors", f"{say.number(m.descriptors_used)} of {say.number(m.descriptors_limit)}"),
    ]
    if m.arrivals is not None:
        rows.append(("Arrivals", m.arrivals))
    for key, wanted in m.planned.items():
        if wanted is None:
            continue
        rows.append(
            (
                f"{key.replace('_', ' ')}: achieved of planned",
                f"{say.number(m.achieved.get(key))} of {say.number(wanted)}",
            )
        )
    return [(say.plain(a, 80), say.plain(b, 200)) for a, b in rows]


def outcome_counts(document: Document) -> list[tuple[str, int]]:
    """The outcomes that occurred and were not good, most frequent first."""
    bad = [(name, n) for name, n in document.outcomes.items() if n and name not in GOOD]
    return sorted(bad, key=lambda item: -item[1])


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


def finding_parts(finding: Finding) -> tuple[str, list[tuple[str, str]]]:
    """A finding's title and its other parts as (label, text)."""
    seen = finding.evidence
    values = [
        f"{say.plain(name, 60).replace('_', ' ')} {say.number(value)}"
        for name, value in seen.values.items()
        if value is not None
    ]
    when = "" if seen.from_s is None else f"due {say.number(seen.from_s)} to {say.number(seen.to_s)} s into the run"
    ids = f"traces {', '.join(say.plain(one, 40) for one in seen.samples)}" if seen.samples else ""
    counted = f"{seen.k:,} of {seen.n:,} {say.plain(seen.of, 40)}"
    parts = [
        ("target", finding.target or ""),
        ("costs", costs(finding)),
        ("evidence", "; ".join(part for part in (counted, *values, when, ids) if part)),
        ("likely cause", finding.cause),
        ("how to check", finding.check),
        ("remedy", finding.remedy),
    ]
    return say.plain(finding.words, 240), [(label, say.plain(text, 600)) for label, text in parts if text]


def costs(finding: Finding) -> str:
    """What it costs, or would: the order of findings."""
    parts = []
    if finding.lost:
        parts.append(f"{say.percent(finding.lost)} of the answers")
    if finding.later:
        parts.append("nothing yet; answers, if it goes on")
    if finding.waits_ms:
        parts.append(f"up to {say.milliseconds(finding.waits_ms)} of each request's time")
    return ", ".join(parts)
