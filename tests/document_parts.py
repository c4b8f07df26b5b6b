"""Samples of an imagined run and the numbers over them, for `documents`: by hand, sharing no code with the product.

Distributions are nearest rank over sorted lists, bounds are order statistics by scipy's binomial quantiles.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from scipy.stats import binom  # type: ignore[import-untyped, unused-ignore]

from streamgauge.heat import Heat
from streamgauge.sample import Outcome, Sample
from streamgauge.series import Bin, Ecdf, Gaps, NotOk, Slow, Timeline
from streamgauge.summary import Distribution, Group, Rate
from streamgauge.verdict import Judged, Word

MS = 1_000_000
START = 1_000_000 * MS
GOOD = (Outcome.OK, Outcome.LENGTH_CAPPED, Outcome.FILTERED)
INF = math.inf


@dataclass
class Model:
    """How one target behaves: median TTFT, its spread, tokens a second, and what goes wrong how often."""

    name: str
    median: float
    sigma: float
    rate: float
    model: str
    faults: dict[Outcome, float] = field(default_factory=dict)
    message: str | None = None
    answered_by: str | None = "nginx"
    control: str | None = None
    slow_share: float = 0.0


def samples_of(
    models: list[Model], n: int, seed: int, phases: list[tuple[str, int, int]] | None = None
) -> list[Sample]:
    """n requests a model, interleaved over 3 minutes; phases as (name, level, requests) instead of n where given."""
    rng = random.Random(seed)
    made: list[Sample] = []
    due = START
    for phase, level, size in phases or [("warmup", 4, 2), ("hold", 4, n)]:
        crowd = 1 + max(0, level - 60) / 90 if phases else 1
        for i in range(size):
            for model in models:
                due += int(rng.expovariate(1) * 180_000 / (n * len(models)) * MS)
                made.append(
                    _sample(rng, model, due, len(made), phase, level, ("short", "medium", "long")[i % 3], crowd)
                )
    return made


def _sample(
    rng: random.Random, model: Model, due: int, seq: int, phase: str, level: int, prompt: str, crowd: float
) -> Sample:
    weight = {"short": 0.93, "medium": 1.0, "long": 1.12}[prompt]
    ttft = rng.lognormvariate(math.log(model.median * weight * crowd), model.sigma)
    if rng.random() < model.slow_share:
        ttft *= rng.uniform(1.6, 2.4)
    new = rng.random() < 0.12
    roll, outcome = rng.random(), Outcome.OK
    for fault, share in model.faults.items():
        if roll < share:
            outcome = fault
            break
        roll -= share
    start = due + int(rng.expovariate(1 / 0.2) * MS)
    connect = start + int(rng.uniform(9, 14) * MS) if new else None
    tls = connect + int(rng.uniform(15, 22) * MS) if connect else None
    sent = (tls or start) + int(0.3 * MS)
    refused = outcome in (Outcome.RATE_LIMITED, Outcome.HTTP_ERROR)
    headers = sent + int((18 if refused else ttft * 0.55) * MS)
    token = None if refused or outcome is Outcome.FIRST_TOKEN_TIMEOUT else max(headers + MS, sent + int(ttft * MS))
    tokens = 32 if outcome is Outcome.OK else rng.randint(3, 20)
    last = None if token is None else token + int((tokens - 1) / rng.gauss(model.rate, 2) * 1e9)
    end = headers + MS if refused else (last or sent + 60_000 * MS) + 2 * MS
    return Sample(
        id=f"{rng.getrandbits(128):032x}",
        seq=seq,
        target=model.name,
        prompt=prompt,
        phase=phase,
        level=level,
        slot=seq % max(level, 1),
        worker=0,
        outcome=outcome,
        http_status={Outcome.RATE_LIMITED: 429, Outcome.HTTP_ERROR: 502}.get(outcome, 200),
        due_ns=due,
        start_ns=start,
        connect_ns=connect,
        tls_ns=tls,
        sent_ns=sent,
        first_byte_ns=headers,
        headers_ns=headers,
        first_event_ns=token,
        first_output_ns=token,
        last_output_ns=last,
        first_token_ns=token,
        last_token_ns=last,
        end_ns=end,
        first_token_slack_ns=int(rng.expovariate(1 / 0.3) * MS) if token else 0,
        text_events=tokens if token else 0,
        output_reads=tokens if token else 0,
        longest_gap_ns=int(rng.uniform(25, 60) * MS) if token else None,
        output_tokens=tokens if token else None,
        streamed_tokens=tokens if token else None,
        max_tokens=32,
        finish="stop" if outcome is Outcome.OK else None,
        error=model.message if refused else None,
        answered_by=model.answered_by,
        headers={"x-request-id": f"req_{seq:05d}", "server-timing": f"db;dur={rng.uniform(8, 340):.0f}"},
    )


def _ms(a: int | None, b: int | None) -> float | None:
    return None if a is None or b is None else (b - a) / MS


def _values(samples: list[Sample], metric: str) -> list[float | None]:
    def one(s: Sample) -> float | None:
        if metric == "output_rate":
            if s.first_output_ns is None or s.last_output_ns is None or (s.output_tokens or 0) < 2:
                return None
            return ((s.output_tokens or 0) - 1) / ((s.last_output_ns - s.first_output_ns) / 1e9)
        pair = {
            "ttft_ms": (s.due_ns, s.first_token_ns),
            "ttft_service_ms": (s.sent_ns, s.first_token_ns),
            "ttfb_ms": (s.sent_ns, s.first_byte_ns),
            "queue_ms": (s.due_ns, s.start_ns),
            "connect_ms": (s.start_ns, s.connect_ns),
            "tls_ms": (s.connect_ns, s.tls_ns),
            "e2e_ms": (s.due_ns, s.end_ns),
        }[metric]
        return _ms(*pair)

    return [one(s) for s in samples]


def _rank(ordered: list[float], p: float) -> float | None:
    if not ordered:
        return None
    value = ordered[max(0, math.ceil(p * len(ordered)) - 1)]
    return None if value == INF else value


def distribution(samples: list[Sample], metric: str) -> Distribution:
    values = _values(samples, metric)
    owed = metric in ("ttft_ms", "ttft_service_ms")
    known = [v for v in values if v is not None]
    censored = sum(v is None for v in values) if owed else 0
    ordered = sorted(known) + [INF] * censored
    if not known:
        return Distribution(n=len(ordered), censored=censored, why={"p50": "not_measured"})
    mean = sum(known) / len(known)
    sd = math.sqrt(sum((v - mean) ** 2 for v in known) / max(1, len(known) - 1))
    quantiles: dict[str, Any] = {f"p{int(p * 100)}": _rank(ordered, p) for p in (0.5, 0.9, 0.95, 0.99)}
    why = {key: "censored" for key, value in quantiles.items() if value is None}
    return Distribution(
        n=len(ordered),
        censored=censored,
        min=min(known),
        mean=mean,
        sd=sd,
        cv=sd / mean,
        max=max(known),
        why=why,
        **quantiles,
    )


_METRICS = ("ttft_ms", "ttft_service_ms", "ttfb_ms", "queue_ms", "connect_ms", "tls_ms", "e2e_ms", "output_rate")


def _rate(k: int, n: int) -> Rate:
    from scipy.stats import beta

    low = 0.0 if k == 0 else float(beta.ppf(0.05, k, n - k + 1))
    high = 1.0 if k == n else float(beta.ppf(0.95, k + 1, n - k))
    return Rate(k=k, n=n, value=k / n if n else None, low=low, high=high)


def group(samples: list[Sample], **by: Any) -> Group:
    drops = sum(s.outcome in (Outcome.DROPPED, Outcome.TRUNCATED) for s in samples)
    bad = sum(s.outcome not in GOOD for s in samples)
    return Group(
        **by,
        metrics={m: distribution(samples, m) for m in _METRICS},
        rates={"error_rate": _rate(bad, len(samples)), "drop_rate": _rate(drops, len(samples))},
        scalars={"stalls": 0.0, "requests_per_s": len(samples) / 180.0, "goodput": None},
        outcomes={k.value: v for k, v in Counter(s.outcome for s in samples).items()},
    )


def _one_in(n: int, k: int) -> str:
    return f"{n / k:.1f}" if n / k < 5 else f"{n / k:.0f}"


def quantile_criterion(
    samples: list[Sample],
    p: float,
    limit: float,
    *,
    target: str | None,
    prompt: str | None = None,
    gating: bool = True,
    **more: Any,
) -> Judged:
    """An upper limit on a TTFT quantile with order-statistic bounds at 95 % each."""
    ordered = sorted(INF if v is None else v for v in _values(samples, "ttft_ms"))
    n = len(ordered)
    low_rank, high_rank = int(binom.ppf(0.05, n, p)), int(binom.ppf(0.95, n, p)) + 1
    low = ordered[low_rank - 1] if low_rank >= 1 else None
    high = ordered[high_rank - 1] if high_rank <= n else None
    value = _rank(ordered, p)
    verdict: Word = (
        "fail" if low is not None and low >= limit else "pass" if high is not None and high < limit else "inconclusive"
    )
    why = "censored" if value is None else None
    needs = None
    if verdict == "inconclusive" and why is None:
        needs = max(19, math.ceil(math.log(0.05) / math.log(p)) - n) if high is None else 400
    beyond = sum(v is None or v > limit for v in _values(samples, "ttft_ms"))
    sentence = f"1 chat in {_one_in(n, beyond)} waits over {limit / 1000:g} s: " if beyond else ""
    sentence += f"p{int(p * 100)} is {value or 0:,.0f} ms, "
    if verdict == "inconclusive":
        sentence = f"undecided: {sentence}95 % sure above {low or 0:,.0f} ms; needs about {needs} more requests"
    elif verdict == "fail":
        sentence += f"95 % sure it is above {low or 0:,.0f} ms"
    else:
        sentence += f"95 % sure it is below {high or 0:,.0f} ms"
    if why:
        sentence = f"p{int(p * 100)} not reached: {sum(v == INF for v in ordered)} of {n} gave no token"
    more.setdefault("sentence", sentence)
    return Judged(
        name=f"ttft_ms.p{int(p * 100)} < {limit:g}",
        metric="ttft_ms",
        stat=f"p{int(p * 100)}",
        op="<",
        limit=limit,
        unit="ms",
        target=target,
        prompt=prompt,
        phase=None,
        value=value,
        low=None if low == INF else low,
        high=None if high == INF else high,
        confidence=0.95,
        n=n,
        gating=gating,
        advisory=False,
        verdict=verdict,
        why=why,
        needs=needs,
        **more,
    )


def rate_criterion(samples: list[Sample], limit: float) -> Judged:
    bad = sum(s.outcome not in GOOD for s in samples)
    rate = _rate(bad, len(samples))
    assert rate.low is not None
    assert rate.high is not None
    verdict: Word = "fail" if rate.low >= limit else "pass" if rate.high < limit else "inconclusive"
    return Judged(
        name=f"error_rate < {limit}",
        metric="error_rate",
        stat=None,
        op="<",
        limit=limit,
        unit="",
        target=None,
        prompt=None,
        phase=None,
        value=rate.value,
        low=rate.low,
        high=rate.high,
        confidence=0.95,
        n=len(samples),
        gating=True,
        advisory=False,
        verdict=verdict,
        needs=900 if verdict == "inconclusive" else None,
        sentence=f"{bad} of {len(samples):,} requests fail: the rate is {rate.value:.2%}",
    )


def output_criterion(samples: list[Sample], target: str) -> Judged:
    d = distribution(samples, "output_rate")
    assert d.p50 is not None
    return Judged(
        name="output_rate.p50 > 10",
        metric="output_rate",
        stat="p50",
        op=">",
        limit=10,
        unit="tok/s",
        target=target,
        prompt=None,
        phase=None,
        value=d.p50,
        low=d.p50 - 0.6,
        high=d.p50 + 0.6,
        confidence=0.95,
        n=d.n,
        gating=True,
        advisory=False,
        verdict="pass",
    )


def ecdf(samples: list[Sample], target: str, phase: str | None = None) -> Ecdf:
    values = [v for v in _values(samples, "ttft_ms") if v is not None]
    n, ordered = len(samples), sorted(values)
    step = max(1, len(ordered) // 280)
    picked = sorted({*range(0, len(ordered), step), *range(max(0, len(ordered) - 15), len(ordered))})
    points = [(ordered[i], (i + 1) / n) for i in picked]
    return Ecdf(metric="ttft_ms", target=target, prompt=None, phase=phase, n=n, censored=n - len(values), points=points)


def timeline(samples: list[Sample], target: str | None, bins: int = 60) -> Timeline:
    last = max(s.due_ns for s in samples)
    width = (last - START) / bins + 1
    made = []
    for i in range(bins):
        low, high = START + i * width, START + (i + 1) * width
        here = [s for s in samples if low <= s.due_ns < high]
        known = sorted(v for v in _values(here, "ttft_ms") if v is not None)
        busy = sum(max(0.0, min(high, s.end_ns) - max(low, s.due_ns)) for s in samples) / width
        made.append(
            Bin(
                t_s=i * width / 1e9,
                n=len(here),
                errors=sum(s.outcome not in GOOD for s in here),
                ttft_p50_ms=_rank(known, 0.5),
                ttft_p95_ms=_rank(known, 0.95),
                open_mean=busy,
                tokens_per_s=sum(s.output_tokens or 0 for s in here) / (width / 1e9),
            )
        )
    return Timeline(target=target, bin_s=width / 1e9, bins=made)


def heat(samples: list[Sample], target: str, bins: int = 20) -> Heat:
    """Time in so many equal parts, TTFT in ten a decade; bins in which more than 5 % gave no token have no p95."""
    last = max(s.due_ns for s in samples)
    width = (last - START) / bins + 1
    own = [s for s in samples if s.target == target]
    ttfts = [v for v in _values(samples, "ttft_ms") if v is not None]
    first, end = math.floor(10 * math.log10(min(ttfts))), math.floor(10 * math.log10(max(ttfts))) + 1
    parts: list[list[Sample]] = [[s for s in own if int((s.due_ns - START) / width) == i] for i in range(bins)]
    counts, p95 = [], []
    for part in parts:
        values = _values(part, "ttft_ms")
        rows = Counter(math.floor(10 * math.log10(v)) - first for v in values if v is not None)
        counts.append([rows[row] for row in range(end - first)])
        p95.append(_rank(sorted(INF if v is None else v for v in values), 0.95))
    return Heat(
        target=target,
        bin_s=width / 1e9,
        edges_ms=[10 ** (i / 10) for i in range(first, end + 1)],
        n=[len(part) for part in parts],
        failed=[sum(s.outcome not in GOOD for s in part) for part in parts],
        p95_ms=p95,
        counts=counts,
    )


def slowest(samples: list[Sample], count: int = 10) -> list[Slow]:
    def wait(s: Sample) -> float:
        value = _ms(s.due_ns, s.first_token_ns)
        return value if value is not None else _ms(s.due_ns, s.end_ns) or 0.0

    def from_due(s: Sample, name: str) -> float | None:
        return _ms(s.due_ns, getattr(s, f"{name}_ns"))

    return [
        Slow(
            id=s.id,
            target=s.target,
            prompt=s.prompt,
            phase=s.phase,
            outcome=s.outcome.value,
            t_s=(s.due_ns - START) / 1e9,
            start_ms=from_due(s, "start"),
            connect_ms=from_due(s, "connect"),
            tls_ms=from_due(s, "tls"),
            sent_ms=from_due(s, "sent"),
            headers_ms=from_due(s, "headers"),
            first_output_ms=from_due(s, "first_output"),
            first_token_ms=from_due(s, "first_token"),
            last_output_ms=from_due(s, "last_output"),
            end_ms=from_due(s, "end") or 0.0,
            longest_gap_ms=None if s.longest_gap_ns is None else s.longest_gap_ns / MS,
            request_id=s.headers.get("x-request-id"),
            server_timing=s.headers.get("server-timing"),
            conn_requests=s.seq % 7,
        )
        for s in sorted(samples, key=wait, reverse=True)[:count]
    ]


def gaps(model: Model, n: int, seed: int) -> Gaps:
    rng = random.Random(seed)
    values = sorted(rng.lognormvariate(math.log(1000 / model.rate), 0.35) for _ in range(n * 30))
    values[-3:] = [v * 9 for v in values[-3:]]
    edges = [1.0 * 10 ** (i / 10) for i in range(41)]
    counts = [sum(a <= v < b for v in values) for a, b in pairwise(edges)]
    return Gaps(
        target=model.name,
        n=len(values),
        p50_ms=_rank(values, 0.5),
        p95_ms=_rank(values, 0.95),
        p99_ms=_rank(values, 0.99),
        max_ms=values[-1],
        over_2s=sum(v > 2000 for v in values),
        zero_reads_merged=4,
        histogram=[(a, b, c) for a, b, c in zip(edges, edges[1:], counts, strict=False)],
    )


def not_ok(samples: list[Sample], models: list[Model]) -> list[NotOk]:
    found = []
    for model in models:
        own = [s for s in samples if s.target == model.name]
        for outcome, k in Counter(s.outcome for s in own if s.outcome not in GOOD).most_common():
            example = next(s for s in own if s.outcome is outcome)
            found.append(
                NotOk(
                    outcome=outcome.value,
                    target=model.name,
                    count=k,
                    share=k / len(own),
                    http_status=example.http_status,
                    answered_by=example.answered_by,
                    message=example.error,
                    example_id=example.id,
                )
            )
    return found
