"""Runs that never happened: a plan carried out in virtual time, its answers drawn from the simulator's own models.

Strategy: the worker's rules for slots, phases and lanes in step, without a worker; the models' own draws of first
token, gaps and length, without a server. Nothing is late, nothing is lost: real runs add a few tenths of a ms.
"""

from __future__ import annotations

import heapq
from array import array
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

from streamgauge.clock import S
from streamgauge.load import Load
from streamgauge.plan import Hold, Lane, Phase, pick
from streamgauge.prompts import prompt_text
from streamgauge.sample import Outcome, Sample
from streamgauge.simulator import models
from streamgauge.simulator.script import Finish, Text, Wait


@dataclass
class Drawn:
    """One run. `phases`: (name, level, start), the drain included."""

    load: Load
    random: Random
    samples: list[Sample] = field(default_factory=list)
    phases: list[tuple[str, int, int]] = field(default_factory=list)
    free_ns: dict[tuple[int, int], int] = field(default_factory=dict)
    """(lane, number) -> when the slot is free; slots live on from phase to phase."""

    @property
    def end_ns(self) -> int:
        return max(sample.end_ns for sample in self.samples)


def drawn(load: Load, random: Random) -> Drawn:
    """The whole plan."""
    run = Drawn(load, random)
    now = S
    for phase in load.phases:
        run.phases.append((phase.name, phase.level, now))
        now = carry_out(run, phase, now)
    run.phases.append(("drain", 0, now))
    return run


def carry_out(run: Drawn, phase: Phase, began: int) -> int:
    """One phase; when it ended."""
    until = None if phase.duration_ns is None else began + phase.duration_ns
    due = [(at, i, number) for i, lane in enumerate(phase.lanes) for at, number in slots(run, lane, i, began)]
    heapq.heapify(due)
    shots = [0] * len(phase.lanes)
    parked: list[tuple[int, int, int]] = []
    first, now = len(run.samples), began

    def over(index: int) -> bool:
        return shots[index] == phase.lanes[index].requests

    def ahead(index: int) -> bool:
        others = [count for other, count in enumerate(shots) if other != index and not over(other)]
        return phase.lockstep is not None and bool(others) and shots[index] - min(others) >= phase.lockstep

    while due and not all(map(over, range(len(shots)))):
        at, index, number = heapq.heappop(due)
        if until is not None and at >= until:
            break
        if over(index):
            continue
        if ahead(index):
            parked.append((at, index, number))
            continue
        now = at
        sample = ask(run, phase, index, number, shots[index], now)
        run.samples.append(sample)
        shots[index] += 1
        run.free_ns[index, number] = sample.end_ns
        heapq.heappush(due, (sample.end_ns + phase.think_ns, index, number))
        for slot in [slot for slot in parked if not ahead(slot[1])]:
            parked.remove(slot)
            heapq.heappush(due, (max(slot[0], now), *slot[1:]))
    end = now if until is None or all(map(over, range(len(shots)))) else until
    return max([end, *(sample.end_ns for sample in run.samples[first:])]) if phase.settles else end


def slots(run: Drawn, lane: Lane, index: int, began: int) -> list[tuple[int, int]]:
    """(when first due, number) of each slot that the phase wants of a lane."""
    assert isinstance(lane.load, Hold)
    level = lane.load.level
    have = sum(1 for at, number in run.free_ns if at == index and number < level)
    return [
        (max(began, run.free_ns.get((index, number), began + lane.load.rises(number, have))), number)
        for number in range(level)
    ]


def ask(run: Drawn, phase: Phase, index: int, number: int, k: int, due: int) -> Sample:
    """One request and its answer."""
    load, seq = run.load, len(run.samples)
    name, prompt = pick(phase.lanes[index], k, load.seed)
    target = next(target for target in load.targets if target.name == name)
    pace = models.find(target.model or "")
    assert pace is not None
    text = prompt_text(load.prompts, prompt, k, unique=str(seq))
    steps, _ = models.answer(pace, len(text), target.max_tokens, run.random)
    at, tokens, finish = due, 0, ""
    stamps: list[int] = []
    for step in steps:
        if isinstance(step, Wait):
            at += step.ns
        elif isinstance(step, Text):
            stamps.append(at)
            tokens += step.tokens
        elif isinstance(step, Finish):
            finish = step.reason
    gaps = array("I", [round((b - a) / 1_000) for a, b in pairwise(stamps)])
    return Sample(
        id=f"{seq:032x}", seq=seq, target=name, prompt=prompt, phase=phase.name, level=phase.level,
        slot=1_000 * index + number, worker=0, outcome=Outcome.LENGTH_CAPPED if finish == "length" else Outcome.OK,
        http_status=200, due_ns=due, start_ns=due, sent_ns=due, first_byte_ns=stamps[0], headers_ns=stamps[0],
        first_event_ns=stamps[0], first_output_ns=stamps[0], first_token_ns=stamps[0], last_token_ns=at,
        last_output_ns=at, end_ns=at, text_events=len(stamps), output_reads=len(stamps), gaps=gaps.tobytes(),
        longest_gap_ns=1_000 * max(gaps, default=0), input_tokens=len(text) // 4, output_tokens=tokens,
        streamed_tokens=tokens, max_tokens=target.max_tokens, finish=finish, conn=seq,
    )  # fmt: skip
