"""One run under load against the server in C, ours or the C client's, and its figures by the server's own log."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from bench.found import at
from bench.load import conducted, processor
from bench.plain_client import Plain, plain_run
from bench.stamps import fit, slack_holds
from bench.truth_log import Answer, held_open, read_log, serving, written
from streamgauge.sample import AuditTick, Sample, gaps_us

QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Case:
    """How many streams, over how long their starts are spread (0: all at once), and the form of their events."""

    streams: int
    ramp_s: float
    form: str = "same"

    @property
    def words(self) -> str:
        return f"{self.streams} streams, {self.starts}{'' if self.form == 'same' else f', {self.form}'}"

    @property
    def starts(self) -> str:
        return f"over {self.ramp_s:g} s" if self.ramp_s else "at once"


@dataclass(frozen=True, slots=True)
class Run:
    """One client's figures in one run; triples are p50, p95, p99 in ms. None: this client does not tell it."""

    open: float
    tokens_per_s: float
    requests: int
    error: tuple[float, ...]
    picked_up: tuple[float, ...]
    beyond: tuple[float, ...]
    us_an_event: float
    core: float
    late_ms: float
    scheduled: str
    """How the server was: fifo or fair."""
    reads: int = 0
    several: int = 0
    doubled: int = 0
    slacks: int = 0
    slack_missed: int = 0
    itl: tuple[float, float] | None = None
    merged: float | None = None


def our_run(server: str, case: Case, asked: argparse.Namespace) -> Run:
    """The whole engine: worker processes, samples on disk."""
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        folder = Path(made)
        with serving(server, folder / "truth.bin", form=case.form) as (port, scheduled):
            url, address = f"http://127.0.0.1:{port}/v1/chat/completions", ("127.0.0.1", port)
            requests = case.streams * asked.rounds
            found = conducted(
                url, address, folder, "openai-chat", case.streams, requests, case.ramp_s, asked.model
            )  # fmt: skip
        truth = read_log(folder / "truth.bin")
    samples = [record for record in found if isinstance(record, Sample)]
    held = [sample for sample in samples if sample.phase == "hold"]
    pairs = [(sample, truth[sample.id]) for sample in held]
    fits = [fit(sample, answer) for sample, answer in pairs]
    slack = [holds for sample, answer in pairs for holds in slack_holds(sample, answer)]
    begin, end = held[0].due_ns, max(sample.due_ns for sample in held)
    ticks = [record for record in found if isinstance(record, AuditTick)]
    used, since, until = processor(ticks, begin, end)
    events = written(truth.values(), since, until)
    return Run(
        open=held_open(truth.values(), begin, end),
        tokens_per_s=events * 1e9 / (until - since),
        requests=len(held),
        error=_triple([(_first(s) - _sent(s) - a.ttft_ns) / 1e6 for s, a in pairs]),
        picked_up=_triple([(a.request_ns - _sent(s)) / 1e6 for s, a in pairs]),
        beyond=_triple((np.concatenate([one.beyond for one in fits]) / 1e6).tolist()),
        us_an_event=used * 1e6 / events,
        core=used * 1e9 / (until - since),
        late_ms=max(answer.late_ns for answer in truth.values()) / 1e6,
        scheduled=scheduled,
        reads=sum(len(one.beyond) for one in fits),
        several=sum(one.several for one in fits),
        doubled=sum(one.doubled for one in fits),
        slacks=len(slack),
        slack_missed=slack.count(False),
        itl=_itl_ms(pairs),
        merged=sum(s.merged_events for s in held) / sum(s.text_events for s in held),
    )


def c_run(server: str, client: str, case: Case, asked: argparse.Namespace) -> Run:
    """The C client, with the same load."""
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        folder = Path(made)
        with serving(server, folder / "truth.bin", form=case.form) as (port, scheduled):
            requests = case.streams * asked.rounds
            told = plain_run(
                client, port, folder, asked.model, case.streams, requests, case.ramp_s, kernel=asked.kernel
            )  # fmt: skip
        truth = read_log(folder / "truth.bin")
    return _plain(told, truth, scheduled)


def _plain(told: Plain, truth: dict[str, Answer], scheduled: str) -> Run:
    pairs = [(heard, truth[heard.trace]) for heard in told.held]
    span = told.to_ns - told.from_ns
    events = written(truth.values(), told.from_ns, told.to_ns)
    beyond = [max(a.writes[0][0] - h.first_ns, h.first_ns - a.writes[0][1], 0) / 1e6 for h, a in pairs]
    return Run(
        open=held_open(truth.values(), told.from_ns, told.to_ns),
        tokens_per_s=events * 1e9 / span,
        requests=len(pairs),
        error=_triple([(heard.first_ns - heard.sent_ns - answer.ttft_ns) / 1e6 for heard, answer in pairs]),
        picked_up=_triple([(answer.request_ns - heard.sent_ns) / 1e6 for heard, answer in pairs]),
        beyond=_triple(beyond),
        us_an_event=told.cpu_ns / 1e3 / events,
        core=told.cpu_ns / span,
        late_ms=max(answer.late_ns for answer in truth.values()) / 1e6,
        scheduled=scheduled,
    )


def _itl_ms(pairs: list[tuple[Sample, Answer]]) -> tuple[float, float]:
    """Median gap, told and true, over all answers."""
    told = sorted(gap / 1e3 for sample, _ in pairs for gap in gaps_us(sample.gaps))
    true = sorted((b[0] - a[0]) / 1e6 for _, answer in pairs for a, b in pairwise(answer.writes[:-1]))
    return at(told, 0.5), at(true, 0.5)


def _first(sample: Sample) -> int:
    assert sample.first_token_ns is not None
    return sample.first_token_ns


def _sent(sample: Sample) -> int:
    assert sample.sent_ns is not None
    return sample.sent_ns


def _triple(values: list[float]) -> tuple[float, ...]:
    ordered = sorted(values)
    return tuple(at(ordered, share) for share in QUANTILES)
