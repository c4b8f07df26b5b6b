"""Several instances behind one name: is the load spread evenly, and is each as good as the others?

An instance is told by an allow-listed header of the answer (x-instance-id, x-pod-name, x-served-by...), else by the
address that was connected to. Addresses take turns by our own doing: only of instances that tell themselves the spread
is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

import numpy as np

from streamgauge.columns import FloatArray, IntArray
from streamgauge.findings.finding import Finding, TargetFacts
from streamgauge.sample import GOOD

LEAST = 20
"""Requests of an instance from which it is compared."""
ALPHA = 0.001
TIMES = 1.5
"""An instance is slow from so many times the others' median on, busy from so many times its share on."""
LEAST_MS, LEAST_FAILED = 50.0, 5


@dataclass(frozen=True, slots=True)
class Instances:
    """Who answered a target's requests."""

    names: list[str]
    rows: list[IntArray]


def instances(facts: TargetFacts) -> Instances:
    """Those that answered at least 20 of the requests."""
    codes = facts.columns.facts["instance"]
    names = facts.columns.facts.names["instance"]
    counted = facts.counted
    found = [(names[code], counted[codes[counted] == code]) for code in np.unique(codes[counted]).tolist()]
    known = [(name, rows) for name, rows in found if name and len(rows) >= LEAST]
    return Instances([name for name, _ in known], [rows for _, rows in known])


def uneven_instances(facts: TargetFacts) -> Iterator[Finding]:
    """One instance is slower, fails more often, or gets far more than the others."""
    every = instances(facts)
    if len(every.names) < 2:
        return
    told = [words for words in (_slow(facts, every), _failing(facts, every), _busy(facts, every)) if words is not None]
    if not told:
        return
    at, _, waits = told[0]
    others = np.sort(np.concatenate([rows for i, rows in enumerate(every.rows) if i != at]))
    mine = every.rows[at]
    yield Finding(
        name="uneven_instances",
        target=facts.target,
        words="; ".join(words for _, words, _ in told),
        evidence=facts.basis(
            mine, len(facts.counted), "requests", instances=float(len(every.names)),
            median_ms=facts.median("ttft_ms", mine), others_median_ms=facts.median("ttft_ms", others),
            failed=_failed(facts, mine), others_failed=_failed(facts, others),
        ),
        cause="a sick or smaller instance, or a balancer that spreads connections and not open streams",
        check=f"CPU, memory and open connections of {every.names[at]} beside the others",
        remedy="balance by least open requests; take a slow instance out by its health check; start it anew",
        waits_ms=waits,
    )  # fmt: skip


def _slow(facts: TargetFacts, every: Instances) -> tuple[int, str, float] | None:
    """The instance whose first tokens take longest, if that is no chance: Mann-Whitney against all others."""
    from scipy.stats import mannwhitneyu

    values = [facts.values("ttft_ms", rows) for rows in every.rows]
    if any(len(one) < LEAST for one in values):
        return None
    at = int(np.argmax([np.median(one) for one in values]))
    others = np.concatenate([one for i, one in enumerate(values) if i != at])
    mine, theirs = float(np.median(values[at])), float(np.median(others))
    p = float(mannwhitneyu(values[at], others, alternative="greater").pvalue) * len(values)
    if p >= ALPHA or mine < TIMES * theirs or mine - theirs < LEAST_MS:
        return None
    share = len(values[at]) / sum(map(len, values))
    words = (
        f"{every.names[at]} is slower than the {len(values) - 1} others: median TTFT {mine:,.0f} ms, theirs "
        f"{theirs:,.0f} ms"
    )
    return at, words, (mine - theirs) * share


def _failing(facts: TargetFacts, every: Instances) -> tuple[int, str, float] | None:
    """The instance that fails most often, if that is no chance: Fisher's exact test against all others."""
    from scipy.stats import fisher_exact

    failed = np.array([int((~facts.columns.having(rows, GOOD)).sum()) for rows in every.rows])
    sizes = np.array([len(rows) for rows in every.rows])
    at = int(np.argmax(failed / sizes))
    k, n, others, of = failed[at], sizes[at], failed.sum() - failed[at], sizes.sum() - sizes[at]
    if k < LEAST_FAILED or k / n < TIMES * others / of:
        return None
    p = float(fisher_exact([[k, n - k], [others, of - others]], alternative="greater")[1]) * len(sizes)
    return (at, f"{every.names[at]} fails {k:,} of {n:,}, the others {others:,} of {of:,}", 0.0) if p < ALPHA else None


def _busy(facts: TargetFacts, every: Instances) -> tuple[int, str, float] | None:
    """The instance that gets most, if it gets far more than its share; only where instances tell themselves."""
    if any(_is_address(name) for name in every.names):
        return None
    sizes: FloatArray = np.array([len(rows) for rows in every.rows], dtype=np.float64)
    at, even = int(np.argmax(sizes)), float(sizes.mean())
    # Connections are few and carry many requests: the unevenness that so few of them have by chance is none.
    conns = len(np.unique(facts.columns.facts["conn"][np.concatenate(every.rows)]))
    by_chance = even * (1 + 3 / np.sqrt(max(conns / len(sizes), 1.0)))
    if sizes[at] < max(TIMES * even, by_chance):
        return None
    return (
        at,
        (
            f"{every.names[at]} got {sizes[at]:,.0f} of {sizes.sum():,.0f} requests, {sizes[at] / even:.1f} times "
            "its share"
        ),
        0.0,
    )


def _failed(facts: TargetFacts, rows: IntArray) -> float:
    return float((~facts.columns.having(rows, GOOD)).sum())


def _is_address(name: str) -> bool:
    try:
        ip_address(name.partition("%")[0])
    except ValueError:
        return name.startswith("/")
    return True
