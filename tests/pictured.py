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
    return replace(document, memory=replace(leaks.memory, series=told), series=series, run=run)
