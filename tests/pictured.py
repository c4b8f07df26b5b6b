"""Documents with the pictures of long and hard runs."""

from __future__ import annotations

import random
from pathlib import Path

from msgspec.structs import replace

from documents import passing
from made import MS, START, collected, made
from probed import MB, growing, memory_run, readings, with_burst
from streamgauge.reports.document import Document
from streamgauge.sample import Outcome, Sample
from streamgauge.strain import Fit, Rung, Strain
from streamgauge.strips import strips
from streamgauge.summary import Phase


def stream(n: int, at_s: float, age_s: float, outcome: Outcome = Outcome.OK, **facts: object) -> Sample:
    """One long stream."""
    return made(200, n=n, due_ms=at_s * 1_000, end_ms=age_s * 1_000, outcome=outcome, **facts)  # type: ignore[arg-type]


def leaking(root: Path) -> Document:
    """`memory` over a leak of 300 MB/h, an hour long, from a run folder."""
    return memory_run(root, readings(with_burst(growing(300 * MB), 80 * MB, 0.2)))


def long_streams() -> Document:
    """Eight streams in turn in each of 120 slots, a 60 s time-out for some; nothing else is drawn."""
    rng = random.Random(8)
    samples = []
    for n in range(960):
        dead = rng.random() < 0.1
        age = 60.0 + rng.random() / 50 if dead else rng.uniform(80, 100)
        samples.append(stream(n, 110.0 * (n // 120), age, Outcome.DROPPED if dead else Outcome.OK, slot=n % 120))
    document = passing()[0]
    lives = strips(collected(samples).columns(), ["app"], start_ns=START)
    series = replace(document.series, ecdf=[], timeline=[], slowest=[], gaps=[], heat=[], strips=lives)
    return replace(document, series=series, criteria=[])


LEVELS = (1.0, 10.0, 25.0, 50.0, 75.0, 100.0, 150.0, 200.0)
P95 = (400.0, 410.0, 430.0, 480.0, 1_300.0, 2_600.0, 4_100.0, None)
ERRORS = (0.0, 0.0, 0.0, 0.0, 0.0, 0.01, 0.2, 0.7)
DEGRADES = ("linear", "linear", "linear", "linear", "queueing", "queueing", "shedding", "collapse")


def rung(i: int) -> Rung:
    """One level of a service that serves 70 a second."""
    served = min(LEVELS[i], 70.0) * (1 - ERRORS[i])
    return Rung(
        level=LEVELS[i], start_ns=0, seconds=60.0, held=LEVELS[i], in_flight=LEVELS[i], n=600,
        errors=int(600 * ERRORS[i]), error_rate=ERRORS[i], ttft_p50_ms=200.0, ttft_p95_ms=P95[i], served_per_s=served,
        goodput_per_s=served / 2, tokens_per_s=900.0, phase=DEGRADES[i], within=i < 4,
    )  # fmt: skip


def strain(**changed: object) -> Strain:
    """A climb from 1 to 200 users with its knee at 66."""
    usual: dict[str, object] = {
        "unit": "users", "asked": 100.0, "value": 66.0, "low": 58.0, "high": 73.0, "confidence": 0.95,
        "at_least": False, "tested": 50.0, "limited_by": "ttft_ms.p95 < 1000", "drift": 0.08,
        "levels": [rung(i) for i in range(8)], "spike": None, "recoveries": [], "crashes": [],
        "fits": [
            Fit(name="ttft_ms.p95 < 1000", metric="ttft_ms", limit=1_000.0, levels=list(LEVELS), fitted=list(P95),
                crosses_at=66.0),
            Fit(name="error_rate < 0.05", metric="error_rate", limit=0.05, levels=list(LEVELS), fitted=list(ERRORS),
                crosses_at=110.0),
        ],
        "graceful": False, "errors_manageable": False, "failures_fast": True, "survivors_served": True, "words": [],
    }  # fmt: skip
    return Strain(**{**usual, **changed})  # type: ignore[arg-type]


def everything(leaks: Document) -> Document:
    """All of these pictures, each as large as it gets, over short and long phases."""
    document = long_streams()
    heat, course = passing()[0].series.heat[0], leaks.series.courses[0]
    rows = len(heat.edges_ms) - 1
    wild = replace(
        heat, bin_s=40.0, n=[99] * 96, failed=[3] * 96, p95_ms=[300.0, None] * 48,
        counts=[[(i * i + 7 * j) % 11 for j in range(rows)] for i in range(96)],
    )  # fmt: skip
    series = replace(
        document.series,
        heat=[replace(wild, target=f"a-target-with-a-long-name-{k}") for k in range(4)],
        courses=[
            replace(course, instance=f"pod-{k}", gaps_s=[(600.0, 900.0)], restarts_s=[1_800.0], limit_mb=700.0)
            for k in range(40)
        ],
    )
    when = (("warmup", 0, 0, 4), ("ramp", 10, 4, 20), ("hold", 10, 20, 3_600), ("burst", 50, 3_600, 3_660))
    phases = [
        Phase(name=name, level=level, start_ns=START + at * 1_000 * MS, end_ns=START + to * 1_000 * MS)
        for name, level, at, to in (*when, ("idle", 0, 3_660, 3_960))
    ]
    run = replace(document.run, start_ns=START, phases=phases)
    assert leaks.memory is not None
    told = [replace(leaks.memory.series[0], instance=f"pod-{k}") for k in (3, 0)]
    memory = replace(leaks.memory, series=told)
    return replace(document, memory=memory, capacity=strain(spike=rung(5)), series=series, run=run)
