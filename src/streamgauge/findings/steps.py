"""What the server itself says of its steps (Server-Timing), and how it is with the load: where the time goes inside.

Server-Timing is kept of the slowest requests of each target and phase, ten at most: they speak of the slow ones only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import numpy as np

from streamgauge import stats
from streamgauge.columns import IntArray, waited_ns
from streamgauge.findings.finding import Finding, TargetFacts
from streamgauge.sample import Sample

LEAST = 3
LEAST_MS, SHARE = 20.0, 0.2
"""A step is worth a word from so long on, and from this share of the wait."""
DATABASE = re.compile(
    r"\b(db|database|sql|query|queries|postgres\w*|pg|mysql|mongo\w*|redis|prisma|drizzle|dynamo\w*|rds|supabase)\b",
    re.I,
)
MODEL = re.compile(r"\b(llm|model|provider|openai|anthropic|gemini|upstream|inference|ai)\b", re.I)
WHOLE = re.compile(
    r"^(total|app|handler|request|edge|origin|cdn[-_].*|cfl4|cfextpri|gfet4t7|overall|ttfb|server)$", re.I
)
"""Entries that hold the others, or are not of the server's own steps."""
SLOWER, SLOWER_LOW, SLOWER_MS = 1.5, 1.2, 50.0


@dataclass(frozen=True, slots=True)
class Step:
    """The longest step of several slow requests."""

    name: str
    ms: float
    waited_ms: float
    seen: int
    of: int
    ids: list[str]


def server_timing(text: str) -> dict[str, float]:
    """Durations in ms of a Server-Timing header, by the entry's name (and its description, where it has one)."""
    found: dict[str, float] = {}
    for entry in re.findall(r'(?:[^,"]|"(?:\\.|[^"\\])*")+', text):
        name, *fields = [part.strip() for part in re.findall(r'(?:[^;"]|"(?:\\.|[^"\\])*")+', entry)] or [""]
        given = {
            key.strip().lower(): value.strip().strip('"') for key, _, value in (one.partition("=") for one in fields)
        }
        try:
            ms = float(given.get("dur", ""))
        except ValueError:
            continue
        if name and 0 <= ms < 1e7:
            label = f"{name} ({given['desc']})" if given.get("desc") else name
            found[label] = found.get(label, 0.0) + ms
    return found


def timed(facts: TargetFacts) -> list[tuple[Sample, dict[str, float]]]:
    """The kept slow requests of the judged phases that say how long their steps took."""
    judged = facts.run.scope.judged
    own = [one for one in facts.columns.slowest if one.target == facts.target and one.phase in judged]
    found = [(one, server_timing(_header(one))) for one in own]
    return [(sample, steps) for sample, steps in found if steps]


def _header(sample: Sample) -> str:
    return next((value for name, value in sample.headers.items() if name.lower() == "server-timing"), "")


def database_slow(facts: TargetFacts) -> Iterator[Finding]:
    """The server says that its slow requests wait for a database."""
    found = _longest(facts, lambda name: DATABASE.search(name) is not None)
    if found is not None:
        yield _slow(
            facts, "database_slow", found, "queries that are slow, many, or wait for a connection of the pool",
            "the database's slow query log at that time; how full its pool of connections was",
            "an index, fewer queries, a larger pool; start the call to the model before the query's answer is needed",
        )  # fmt: skip


def step_slow(facts: TargetFacts) -> Iterator[Finding]:
    """The server says that its slow requests wait for one step of its own."""
    found = _longest(facts, lambda name: not DATABASE.search(name))
    if found is None:
        return
    model = MODEL.search(found.name) is not None
    yield _slow(
        facts, "step_slow", found, "the provider behind the app" if model else "this step of the app",
        "the provider's status page; a control (the same prompts to it alone)" if model else "the trace of a slow one",
        "a faster model or provider for this use" if model else "shorten it, or let it run beside the model's call",
    )  # fmt: skip


def _longest(facts: TargetFacts, wanted: object) -> Step | None:
    """The step that is the longest in most of the slow requests, if it is one of these and long."""
    slow = timed(facts)
    longest: dict[str, list[tuple[Sample, float]]] = {}
    for sample, steps in slow:
        own = {name: ms for name, ms in steps.items() if not WHOLE.match(name.split(" ")[0])}
        if own:
            name = max(own, key=lambda one: own[one])
            longest.setdefault(name, []).append((sample, own[name]))
    assert callable(wanted)
    hits = {name: found for name, found in longest.items() if wanted(name)}
    if not hits:
        return None
    name, found = max(hits.items(), key=lambda one: len(one[1]))
    ms, waited = median(ms for _, ms in found), median(waited_ns(sample) / 1e6 for sample, _ in found)
    if len(found) < LEAST or 2 * len(found) < len(slow) or ms < max(LEAST_MS, SHARE * waited):
        return None
    return Step(name, ms, waited, len(found), len(slow), [sample.id for sample, _ in found])


def _slow(facts: TargetFacts, rule: str, step: Step, cause: str, check: str, remedy: str) -> Finding:
    return Finding(
        name=rule,
        target=facts.target,
        words=(
            f"in {step.seen} of the {step.of} slowest requests the longest step is {step.name}: {step.ms:,.0f} ms of "
            f"{step.waited_ms:,.0f} ms (Server-Timing, medians)"
        ),
        evidence=facts.basis(
            _rows(facts, step.ids), step.of, "slow requests", step_ms=step.ms, waited_ms=step.waited_ms
        ),
        cause=cause, check=check, remedy=remedy,
        waits_ms=step.ms * step.of / max(len(facts.counted), 1),
    )  # fmt: skip


def _rows(facts: TargetFacts, ids: list[str]) -> IntArray:
    known = facts.columns.facts["id"]
    wanted = np.array(ids, dtype=known.dtype) if known.dtype != object else np.array(ids, dtype=object)
    return facts.rows[np.isin(known[facts.rows], wanted)]


def slower_under_load(facts: TargetFacts) -> Iterator[Finding]:
    """First tokens take longer with many streams than with one."""
    found = under_load(facts)
    if found is None:
        return
    alone, many, low = found
    if many / alone < SLOWER or low is None or low < SLOWER_LOW or many - alone < SLOWER_MS:
        return
    slower = facts.good[facts.columns.values["ttft_service_ms"][facts.good] > alone]
    level = int(facts.columns.level[facts.rows].max())
    yield Finding(
        name="slower_under_load",
        target=facts.target,
        words=(
            f"with {level:,} streams the median TTFT is {many / alone:.1f} times that of one alone: {many:,.0f} "
            f"ms, {alone:,.0f} ms"
        ),
        evidence=facts.basis(
            slower, len(facts.counted), "requests slower than one alone", alone_ms=alone, loaded_ms=many,
            times=many / alone, times_low=low,
        ),
        cause="a queue before the model or its provider, a pool that is too small, or CPU and memory that are used up",
        check=(
            "CPU and memory of each instance during the hold (a probe: [probes.NAME]); streamgauge run stress "
            "finds the knee"
        ),
        remedy="more instances, scaled by open streams; enough CPU and memory for each; a limit of streams an instance",
        waits_ms=many - alone,
    )  # fmt: skip


def under_load(facts: TargetFacts) -> tuple[float, float, float | None] | None:
    """(median of the service's TTFT alone, in the judged phases, lower bound of their ratio); None without both."""
    scope = facts.run.scope
    alone = np.sort(facts.values("ttft_service_ms", facts.run.of(facts.target, (scope.reference,)).rows))
    many = np.sort(facts.values("ttft_service_ms"))
    if len(alone) < 10 or len(many) < 30 or scope.reference in scope.judged or alone[0] <= 0:
        return None
    bounds = stats.quantile_ratio_bounds(many, alone, 0.5, np.random.default_rng(0))
    return float(np.median(alone)), float(np.median(many)), bounds.low
