"""Which provider, and what the app adds to it: targets beside each other, and beside their controls.

Rules: arms that ran side by side, by the comparisons of the report, which have intervals. A price counts where the spec
gives one, for the tokens that this run used.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from streamgauge.compare import Comparison
from streamgauge.findings.finding import Finding, RunFacts
from streamgauge.sample import GOOD

LEAST_MS, LEAST_SHARE = 50.0, 0.1
ADDS_SHARE = 0.25
CHEAPER = 0.2
AS_FAST = 0.1
LEAST = 20
NEAR_LIMIT = 0.8


def faster_target(run: RunFacts) -> Iterator[Finding]:
    """A target whose p95 is clearly lower, where the slower one misses its limit or costs no less."""
    for c in run.comparisons:
        if c.kind != "targets" or c.stat != "p95" or c.difference is None or c.low is None or c.value_a is None:
            continue
        enough = c.low > 0 and c.difference >= max(LEAST_MS, LEAST_SHARE * c.value_a)
        mine, theirs = price_of(run, c.a), price_of(run, c.b)
        dearer = mine is not None and theirs is not None and theirs <= mine
        if not enough or not (run.failing("ttft_ms", target=c.a) or dearer):
            continue
        cost = "" if mine is None or theirs is None else f"; 1,000 answers cost ${theirs:,.2f} instead of ${mine:,.2f}"
        facts = run.of(c.a)
        slower = facts.good[run.columns.values["ttft_ms"][facts.good] > (c.value_b or 0.0)]
        yield Finding(
            name="faster_target",
            target=c.a,
            words=f"{c.b} is {c.difference:,.0f} ms faster than {c.a} at p95{cost}",
            evidence=facts.basis(
                slower, len(facts.counted), "requests slower than its p95", p95_ms=c.value_a, faster_p95_ms=c.value_b,
                difference_ms=c.difference, low_ms=c.low, high_ms=c.high, usd_per_1000=mine, faster_usd_per_1000=theirs,
            ),
            cause="the provider, its region, or the model's size",
            check="run both again at another hour; compare answers, not only times",
            remedy=f"route to {c.b} where its answers are good enough, with {c.a} to fall back to",
            waits_ms=_between(run, c.a, c.b),
        )  # fmt: skip


def cheaper_target(run: RunFacts) -> Iterator[Finding]:
    """A target that costs less and is about as fast and as reliable."""
    for c in run.comparisons:
        if c.kind != "targets" or c.stat != "p95" or c.value_a is None or c.value_b is None:
            continue
        mine, theirs = price_of(run, c.a), price_of(run, c.b)
        if mine is None or theirs is None or c.low is None or c.high is None:
            continue
        # `a` less `b`, the fastest one: `b` is never slower, `a` is by at most `high`.
        dear, cheap, prices, behind = (
            (c.a, c.b, (mine, theirs), 0.0) if theirs < mine else (c.b, c.a, (theirs, mine), c.high)
        )
        if prices[1] > (1 - CHEAPER) * prices[0] or behind > AS_FAST * min(c.value_a, c.value_b):
            continue
        if _failing(run, cheap) > _failing(run, dear) + 0.005 or run.failing("ttft_ms", "error_rate", target=cheap):
            continue
        facts = run.of(dear)
        yield Finding(
            name="cheaper_target",
            target=dear,
            words=f"{cheap} costs ${prices[1]:,.2f} for 1,000 such answers instead of ${prices[0]:,.2f} and is as fast",
            evidence=facts.basis(
                facts.good, len(facts.counted), "requests", usd_per_1000=prices[0], cheaper_usd_per_1000=prices[1],
                slower_at_most_ms=behind,
            ),
            cause="the price of a token, as the spec gives it",
            check="compare answers: are they as good for your use?",
            remedy=f"route to {cheap} where its answers are good enough",
        )  # fmt: skip


def app_adds(run: RunFacts) -> Iterator[Finding]:
    """A good part of what users wait for is the app's own doing: its control does not have it."""
    for c in run.comparisons:
        if c.kind != "control" or c.stat != "p50" or c.difference is None or c.low is None or not c.value_a:
            continue
        if c.low <= 0 or c.difference < max(LEAST_MS, ADDS_SHARE * c.value_a):
            continue
        facts = run.of(c.a)
        above = facts.good[run.columns.values["ttft_service_ms"][facts.good] > (c.value_b or 0.0)]
        yield Finding(
            name="app_adds",
            target=c.a,
            words=f"{c.a} adds {c.difference:,.0f} ms to the {c.value_b or 0:,.0f} ms that {c.b} takes (medians)",
            evidence=facts.basis(
                above, len(facts.counted), "requests slower than the control's median", app_ms=c.value_a,
                control_ms=c.value_b, adds_ms=c.difference, low_ms=c.low, high_ms=c.high,
            ),
            cause=(
                "what the app does before it calls the model: sessions, queries, moderation, retrieval; or its "
                "own queue"
            ),
            check="Server-Timing for each step (db, auth, llm), or the trace of a slow one",
            remedy="start the call to the model first and the rest beside it; cache what each chat asks again",
            waits_ms=c.difference,
        )  # fmt: skip


def provider_slow(run: RunFacts) -> Iterator[Finding]:
    """The control alone takes nearly all of the time that the target may take."""
    for target, control in run.controls.items():
        limit = run.limit(target)
        if limit is None or not run.failing("ttft_ms", target=target):
            continue
        facts, beside = run.of(target), run.of(control)
        took = beside.values("ttft_service_ms")
        if len(took) < LEAST or float(np.quantile(took, 0.95)) < NEAR_LIMIT * limit:
            continue
        p95 = float(np.quantile(took, 0.95))
        slow = beside.good[run.columns.values["ttft_service_ms"][beside.good] >= NEAR_LIMIT * limit]
        yield Finding(
            name="provider_slow",
            target=target,
            words=(
                f"the provider alone ({control}) has its p95 TTFT at {p95:,.0f} ms; {target} may take "
                f"{limit:,.0f} ms in all"
            ),
            evidence=facts.basis(
                slow, len(beside.counted), "requests of the control", control_p95_ms=p95, limit_ms=limit
            ),
            cause="the provider: its load, its region, the model's size, the length of the prompt",
            check="its status page; the same at another hour, in another region, with a smaller model",
            remedy="a faster model or provider for this use; a shorter prompt; the provider's prompt cache",
            waits_ms=max(p95 - NEAR_LIMIT * limit, 1.0),
        )  # fmt: skip


def price_of(run: RunFacts, target: str) -> float | None:
    """US dollars of 1,000 answers as this run's good ones were; None where a price or a count is missing."""
    price, good = run.prices.get(target), run.of(target).good
    if price is None or not len(good) or run.columns.tokens_from.get(target) != "usage":
        return None
    sent = run.columns.input_tokens[good]
    if (sent < 0).any():
        return None
    return float(sent.mean() * price[0] + run.columns.tokens[good].mean() * price[1]) / 1e3


def _between(run: RunFacts, a: str, b: str) -> float | None:
    """By how much a's median is behind b's."""
    found = next((c for c in run.comparisons if _is(c, a, b, "p50")), None)
    return None if found is None or found.difference is None or found.difference <= 0 else found.difference


def _is(c: Comparison, a: str, b: str, stat: str) -> bool:
    return (c.kind, c.a, c.b, c.stat) == ("targets", a, b, stat)


def _failing(run: RunFacts, target: str) -> float:
    rows = run.of(target).counted
    return float((~run.columns.having(rows, GOOD)).mean()) if len(rows) else 0.0
