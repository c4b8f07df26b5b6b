"""The engine as the suite drives it, without spec, preflight and reports: a plan in, every Sample out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from streamgauge.arrivals import Rate
from streamgauge.client import target_from_url
from streamgauge.clock import S, SystemClock
from streamgauge.control import Report
from streamgauge.journal import Journal
from streamgauge.load import Load
from streamgauge.net import NetError, addresses_of
from streamgauge.plan import Hold, Lane, Phase
from streamgauge.run import Began, Ending, conduct
from streamgauge.sample import Sample, read_records
from streamgauge.target import Target

MODEL = "sim-t5-i1-n5"
PATIENCE_NS = 60 * S
"""No phase of a test takes longer, whatever goes wrong."""


def target(name: str, url: str, *, model: str = MODEL, dialect: str = "openai-chat", **more: Any) -> Target:
    """A target with the addresses that its name has now, maybe none."""
    made = target_from_url(url, dialect=dialect, name=name, model=model, **more)
    if made.addresses:
        return made
    try:
        return msgspec.structs.replace(made, addresses=addresses_of(made))
    except NetError:
        return made


def lane(name: str, requests: int, load: Hold | Rate | None = None) -> Lane:
    """So many requests to one target, all at once unless `load` says otherwise."""
    return Lane((name,), ("short",), load or Hold(requests), requests)


def phase(name: str, lanes: Iterable[Lane], *, settles: bool = False) -> Phase:
    """A phase that ends when its lanes are done."""
    return Phase(name, tuple(lanes), 1, PATIENCE_NS, settles=settles)


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a plan."""

    samples: list[Sample]
    ending: Ending

    def of(self, name: str, phase: str | None = None) -> list[Sample]:
        """One target's Samples in the order of their Shots."""
        found = [s for s in self.samples if s.target == name and phase in (None, s.phase)]
        return sorted(found, key=lambda s: s.seq)


_round = count()


def run(
    folder: Path,
    targets: Iterable[Target],
    *phases: Phase,
    grace_s: float = 30,
    resolve_every_s: float = 60,
    began: Callable[[str], None] = lambda name: None,
    heard: Callable[[Report], None] = lambda report: None,
) -> Ran:
    """Conduct the plan. `began` hears the name of each phase before its first request is due, `heard` every report."""

    def listen(news: Began | Report) -> None:
        if isinstance(news, Began):
            began(news.phase.name)
        else:
            heard(news)

    load = Load(
        targets=tuple(targets), prompts={"short": ("Say hello.",)}, phases=phases, seed=1, grace_ns=round(grace_s * S)
    )
    journal = Journal(folder)
    number = next(_round)
    try:
        ending = conduct(load, folder, SystemClock(), journal, listen, number=number, resolve_every_s=resolve_every_s)
    finally:
        journal.close()
    records = [record for path in folder.glob(f"samples-{number}-*.sgs") for record in read_records(path)]
    return Ran([record for record in records if isinstance(record, Sample)], ending)
