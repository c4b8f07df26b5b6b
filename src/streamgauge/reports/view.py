"""A document as people read it: what the page, the markdown and the terminal tell alike, beside their tables.

The tables are in `targets`, `criteria`, `numbers` and `quality`, and the same rules hold there: nothing is computed
that the document does not say; numbers become text here, once. Nothing is escaped here: each form escapes for itself,
after `plain`. A value that was never measured reads "n/a".
"""

from __future__ import annotations

import msgspec

import streamgauge.reports.wording as say
from streamgauge.findings import Finding
from streamgauge.reports.document import Baseline, Document
from streamgauge.sample import NOT_JUDGED


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


def beside_strategy(document: Document) -> tuple[list[Baseline], str | None]:
    """The strategy's rows of which something was measured here, and a sentence that names the others."""
    seen = [row for row in document.baselines if row.measured is not None]
    named = {row.name for row in seen}
    others: dict[str, dict[str, None]] = {}
    for row in document.baselines:
        if row.measured is None and row.name not in named:
            others.setdefault((row.note or "").rpartition("; ")[2], {})[row.name] = None
    parts = [", ".join(names) + (f" ({why})" if why else "") for why, names in others.items()]
    told = f"Not measured here: {say.plain('; '.join(parts), 600)}" if parts else None
    return seen, told


def finding_parts(finding: Finding) -> tuple[str, list[tuple[str, str]]]:
    """A finding's title and its other parts as (label, text)."""
    seen = finding.evidence
    values = [say.fact(say.plain(name, 60), value) for name, value in seen.values.items() if value is not None]
    when = "" if seen.from_s is None else f"due {say.seconds(seen.from_s)} to {say.seconds(seen.to_s)} into the run"
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
        parts.append("nothing yet; failed answers, if it goes on")
    if finding.waits_ms:
        parts.append(f"up to {say.milliseconds(finding.waits_ms)} of each request's time")
    return ", ".join(parts)
