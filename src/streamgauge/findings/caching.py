"""Caching, seen or not: a small arm of repeated prompts beside as many new ones, never judged (phase `repeats`).

The first of the repeated ones fills a cache and is left out. Mann-Whitney tells whether the others come sooner.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from streamgauge.columns import FloatArray, IntArray
from streamgauge.findings.finding import Finding, TargetFacts
from streamgauge.sample import GOOD, REPEATED, REPEATS

LEAST = 6
ALPHA = 0.01
SOONER, ALIKE = 0.75, 0.9


@dataclass(frozen=True, slots=True)
class Arms:
    """Repeated prompts beside new ones. Times in ms."""

    rows: IntArray
    """The repeated ones."""
    repeated: FloatArray
    new: FloatArray
    from_cache: int
    """Repeated ones whose usage tells tokens from a cache."""
    sooner: bool


def arms(facts: TargetFacts) -> Arms | None:
    """None where the arm did not run, or has too few good answers."""
    columns = facts.columns
    rows = facts.run.of(facts.target, (REPEATS,)).rows
    rows = rows[columns.having(rows, GOOD)]
    names = np.array([name == REPEATED for name in columns.prompts] or [False], dtype=np.bool_)
    again = names[columns.prompt[rows]]
    repeated = columns.in_order_of_due(rows[again])[1:]
    old, new = facts.values("ttft_service_ms", repeated), facts.values("ttft_service_ms", rows[~again])
    if min(len(old), len(new)) < LEAST:
        return None
    from scipy.stats import mannwhitneyu

    p = float(mannwhitneyu(old, new, alternative="less").pvalue)
    sooner = p < ALPHA and float(np.median(old)) <= SOONER * float(np.median(new))
    return Arms(repeated, old, new, int((columns.facts["cached_tokens"][repeated] > 0).sum()), sooner)


def cached(facts: TargetFacts) -> Iterator[Finding]:
    """Repeated prompts are answered sooner, or are told to come from a cache."""
    found = arms(facts)
    if found is None or not (found.sooner or found.from_cache >= LEAST):
        return
    old, new = float(np.median(found.repeated)), float(np.median(found.new))
    kind = (
        f", {found.from_cache} of {len(found.rows)} with tokens from the provider's cache" if found.from_cache else ""
    )
    how = f"come after {old:,.0f} ms, new ones after {new:,.0f} ms" if found.sooner else "are not answered sooner"
    yield Finding(
        name="cached",
        target=facts.target,
        words=f"caching seen: repeated prompts {how}{kind}",
        evidence=facts.basis(
            np.sort(found.rows), len(found.rows), "repeated prompts", repeated_ms=old, new_ms=new,
            from_cache=float(found.from_cache),
        ),
        cause="the provider's prompt cache" if found.from_cache else "a cache of answers in the app or on the way",
        check="send one prompt twice with streamgauge check; look for cached tokens in its usage, or x-cache and age",
        remedy=(
            "nothing to mend: keep what each chat begins with the same, so that it is found there; mind its time "
            "to live"
        ),
    )  # fmt: skip


def not_cached(facts: TargetFacts) -> Iterator[Finding]:
    """First tokens are too slow, and repeated prompts come no sooner."""
    found = arms(facts)
    if found is None or found.sooner or found.from_cache or not facts.run.failing("ttft_ms", target=facts.target):
        return
    old, new = float(np.median(found.repeated)), float(np.median(found.new))
    if old < ALIKE * new:
        return
    yield Finding(
        name="not_cached",
        target=facts.target,
        words=(
            f"no caching seen: a prompt sent {len(found.rows) + 1} times took {old:,.0f} ms each time, new ones "
            f"{new:,.0f} ms"
        ),
        evidence=facts.basis(np.sort(found.rows), len(found.rows), "repeated prompts", repeated_ms=old, new_ms=new),
        cause="neither the app nor the provider keeps what was asked before",
        check="how often do users ask the same? the app's logs tell",
        remedy="cache frequent requests with a time to live; order prompts so that what is the same comes first",
    )  # fmt: skip
