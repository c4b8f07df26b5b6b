"""The engine under load against a simulator of its own: what it measured, what it saw of itself, and the truth."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec

from streamgauge.client import target_from_url
from streamgauge.clock import S, SystemClock
from streamgauge.journal import Journal
from streamgauge.load import Load
from streamgauge.plan import Hold, Lane, Phase
from streamgauge.run import conduct
from streamgauge.sample import AuditTick, Sample
from streamgauge.simulator import Record, start
from streamgauge.suite.folder import records

RAMP_S = 2.0
PROMPT = "Why is the sky blue?"
MODEL = "sim-t300-i20-n50"
"""First token after 300 ms, then one each 20 ms (50 tok/s), 50 of them."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """One run. `held`: its Samples of the judged phase."""

    samples: list[Sample]
    ticks: list[AuditTick]
    truth: list[Record]

    @property
    def held(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.phase == "hold"]


def run(dialect: str, streams: int, requests: int, *, model: str = MODEL, ramp_s: float = RAMP_S) -> Loaded:
    """Hold `streams` (their starts spread over `ramp_s`) until `requests` more were sent, by real worker processes."""
    with start(model=model) as sim, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        url, address = sim.endpoint(dialect, model), (sim.host, sim.port)
        found = conducted(url, address, Path(folder), dialect, streams, requests, ramp_s, model)
        sim.stop()
        samples = [record for record in found if isinstance(record, Sample)]
        ticks = [record for record in found if isinstance(record, AuditTick)]
        return Loaded(samples, ticks, sim.log())


def conducted(
    url: str,
    address: tuple[str, int],
    folder: Path,
    dialect: str,
    streams: int,
    requests: int,
    ramp_s: float,
    model: str,
) -> list[object]:
    """Every record of the run."""
    target = target_from_url(url, dialect=dialect, model=model)
    target = msgspec.structs.replace(target, addresses=(address,))
    ramp = round(ramp_s * S)
    phases = (
        Phase("ramp", (Lane((target.name,), ("own",), Hold(streams, ramp)),), streams, duration_ns=ramp),
        Phase("hold", (Lane((target.name,), ("own",), Hold(streams), requests),), streams),
    )
    clock, journal = SystemClock(), Journal(folder)
    load = Load(targets=(target,), prompts={"own": (PROMPT,)}, phases=phases, seed=1)
    ending = conduct(load, folder, clock, journal, lambda event: None)
    journal.close()
    if ending.partial:
        raise RuntimeError(f"the run did not end as planned: {ending}")
    return list(records(folder))


def processor(ticks: Iterable[AuditTick], from_ns: int, to_ns: int) -> tuple[float, int, int]:
    """(processor s, from, to): of all workers, over the whole ticks inside the span; the times are those of ticks.

    RuntimeError where a worker told of itself less than twice in it: nothing can be said of so short a load.
    """
    by_worker: dict[int, list[AuditTick]] = {}
    for tick in ticks:
        if from_ns <= tick.at_ns <= to_ns:
            by_worker.setdefault(tick.worker, []).append(tick)
    if not by_worker or min(map(len, by_worker.values())) < 2:
        took = (to_ns - from_ns) / S
        raise RuntimeError(f"{took:.2f} s of load are too short to tell processor time of: hold the load longer")
    first = max(own[0].at_ns for own in by_worker.values())
    last = min(own[-1].at_ns for own in by_worker.values())
    cores = 0.0
    for own in by_worker.values():
        used = sum(b.cpu * (b.at_ns - a.at_ns) for a, b in pairwise(own))
        cores += used / (own[-1].at_ns - own[0].at_ns)
    return cores * (last - first) / S, first, last


def text_events(truth: Iterable[Record], from_ns: int, to_ns: int) -> int:
    """Text events that the simulator sent in the span."""
    return sum(
        send.kinds.count("text") for record in truth for send in record.sends if from_ns <= send.before_ns <= to_ns
    )


def compiled(source: Path, folder: Path, *flags: str) -> str | None:
    """A C program, made in `folder`; None where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    made = folder / source.stem
    subprocess.run([compiler, "-O2", "-o", str(made), str(source), *flags], check=True)
    return str(made)
