"""What is measured is what happened: random streams through the engine, held against the simulator's own log.

The simulator writes for each request what it sent when, on the same clock, and shares no code with the readers. Per
dialect 300 streams run, many at once; each is matched by its trace id. Outcomes, event counts and token counts are
equal for all. A stamp that claims to be exact lies between the clock just before the true send and just after it; one
with slack says so, and the true arrival lies inside. How narrow these bounds are on a quiet machine is the matter of
`bench/accuracy.py`; here they only have to hold on a busy one.
"""

from __future__ import annotations

import json
import os
import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import pytest

from random_scripts import Script, script
from streamgauge.client import target_from_url
from streamgauge.clock import SystemClock
from streamgauge.dialects.contract import REASONING, TEXT
from streamgauge.loop import Loop
from streamgauge.plan import Shot
from streamgauge.sample import STALL_NS, Sample
from streamgauge.simulator import Record, Sent, Simulator, start
from streamgauge.stream import Limits, Stream, Trace
from streamgauge.target import Target, request_for

pytestmark = pytest.mark.alone

DIALECTS = ("openai-chat", "anthropic", "gemini", "ai-sdk")
STREAMS = 300
AT_ONCE = 100
MS = 1_000_000
SURE: list[Script] = [
    [["text", "a"], ["wait", 2300], ["text", "b"], ["finish"]],
    [["text", "a"], ["finish"], ["stall"]],
    [["text", "a"], ["meant", "protocol_error"], ["wire", "zz\r\n"], ["stall"]],
]
"""Rare among the random ones, and never to be left out."""
LIMITS = Limits(connect_ns=20_000 * MS, first_output_ns=4_000 * MS, stall_ns=4_000 * MS)

OUTPUTS = ("text", "reasoning", "tool")
CLOCKS_NS = MS // 5
"""How far the kernel's clock and ours may be apart in a stamp."""
DELIVERY_NS = 250 * MS
"""Loopback delivers within the send() call, or a little later when the machine is busy."""


@dataclass(frozen=True)
class Case:
    """One stream: what was asked, what we say of it, what the simulator says."""

    script: Script
    stream: Stream
    sample: Sample
    records: list[Record]

    @property
    def truth(self) -> Record:
        """The last time it was sent (a dead idle connection is retried once)."""
        return self.records[-1]

    @property
    def sends(self) -> list[Sent]:
        """The sends that brought output, and how many events of it."""
        return [send for send in self.truth.sends if send.has(*self.output_kinds)]

    @property
    def output_kinds(self) -> tuple[str, ...]:
        # A refusal is text to people: OpenAI streams it in a field of its own. Gemini's has no words.
        return ("text", "reasoning", "tool", "refusal") if self.truth.dialect == "openai-chat" else OUTPUTS

    @property
    def text_kinds(self) -> tuple[str, ...]:
        return ("text", "refusal") if self.truth.dialect == "openai-chat" else ("text",)

    def __repr__(self) -> str:
        return f"{self.sample.outcome} {self.sample.error} for {json.dumps(self.script)}"


def run(sim: Simulator, dialect: str, scripts: list[Script]) -> list[tuple[Script, Stream]]:
    """Each script once, AT_ONCE of them at a time, on one loop with its pool of connections."""
    clock = SystemClock()
    ended: list[Stream] = []
    loop = Loop(clock, ended.append)
    base = target_from_url(sim.endpoint(dialect), dialect=dialect, model="scripted", limits=LIMITS)
    base = msgspec.structs.replace(base, addresses=((sim.host, sim.port),))
    waiting = list(enumerate(scripts))[::-1]
    fired: list[tuple[Script, Stream]] = []
    while len(ended) < len(scripts):
        while waiting and loop.open_streams < AT_ONCE:
            number, steps = waiting.pop()
            fired.append((steps, fire(loop, base, number, steps, clock.now())))
        loop.turn(None)
    loop.close()
    return fired


def fire(loop: Loop, base: Target, number: int, steps: Script, now: int) -> Stream:
    target = msgspec.structs.replace(base, headers=(("X-Sim-Script", json.dumps(steps)),))
    dialect = target.speaks()
    shot = Shot(number, target.name, "scripted", number, "hold", AT_ONCE, 0, now)
    stream = Stream(shot, os.urandom(16).hex(), dialect, LIMITS, keep_text=True, keep_events=True)
    request = request_for(target, dialect, "hello", stream.id, os.urandom(8).hex())
    stream.on_start(now, 0)
    loop.fire(stream, target, request)
    return stream


@pytest.fixture(scope="module", params=DIALECTS)
def cases(request: pytest.FixtureRequest) -> Iterator[list[Case]]:
    rng = random.Random(f"truth {request.param}")
    scripts = [*SURE, *(script(rng, request.param) for _ in range(STREAMS - len(SURE)))]
    with start() as sim:
        fired = run(sim, request.param, scripts)
        sim.log(at_least=STREAMS)
    by_id: dict[str | None, list[Record]] = {}
    for record in sim.log():
        by_id.setdefault(record.trace_id, []).append(record)
    return [Case(steps, stream, stream.sample(), by_id[stream.id]) for steps, stream in fired]


def test_the_streams_hold_every_way_in_which_bytes_and_events_can_part(cases: list[Case]):
    """Counted in the log, that no change of the scripts leaves one out."""
    several = pieces = chunk_end_alone = broken = 0
    for case in cases:
        kinds = [send.kinds for send in case.truth.sends]
        several += any(sum(kind in ("text", "reasoning", "tool") for kind in one) > 1 for one in kinds)
        pieces += any(not first and has_output(second) for first, second in pairwise(kinds))
        chunk_end_alone += any(has_output(first) and not second for first, second in pairwise(kinds))
        broken += case.truth.outcome == "protocol_error" and case.truth.count("wire") and case.sample.text_events > 0
    assert several > 30
    assert pieces > 10
    assert chunk_end_alone > 3
    assert broken > 1


def has_output(kinds: tuple[str, ...]) -> bool:
    return any(kind in OUTPUTS for kind in kinds)


def test_every_stream_ends_as_the_simulator_meant_it(cases: list[Case]):
    wrong = [case for case in cases if case.sample.outcome != case.truth.outcome]
    assert not wrong
    assert [case for case in cases if case.sample.http_status != case.truth.status and case.sample.headers_ns] == []
    assert all(len(case.records) == case.sample.retried + 1 for case in cases)
    assert len({case.sample.outcome for case in cases}) >= 11, "the scripts no longer reach every ending"


def test_every_event_of_text_reasoning_and_tool_calls_is_counted(cases: list[Case]):
    for case in cases:
        sample, truth = case.sample, case.truth
        assert sample.text_events == sum(truth.count(kind) for kind in case.text_kinds), case
        assert sample.reasoning_events == truth.count("reasoning"), case
        assert sample.tool_events == truth.count("tool"), case
        assert sample.unknown_events + sample.malformed_events == truth.count("raw"), case


def test_the_text_is_what_was_said(cases: list[Case]):
    whole = [c for c in cases if c.sample.good and not any(s[0] in ("tool", "refuse") for s in c.script)]
    assert whole
    for case in whole:
        said = "".join(step[1] for step in case.script if step[0] in ("text", "reasoning"))
        assert case.stream.text == said, case


def test_tokens_are_those_that_the_server_told(cases: list[Case]):
    told = 0
    for case in cases:
        sample = case.sample
        found = (sample.input_tokens, sample.output_tokens, sample.reasoning_tokens, sample.cached_tokens)
        expected = usage_on_the_wire(case.truth)
        if expected is not None:
            told += 1
            assert found == expected, case
        elif case.truth.dialect == "gemini":  # every chunk tells the count so far
            so_far = (None, said_so_far(case)) if ["usage", None] in case.script else (said_so_far(case),)
            assert sample.output_tokens in so_far, case
        else:
            assert sample.output_tokens is None, case
    assert told > STREAMS / 10


def usage_on_the_wire(truth: Record) -> tuple[int | None, int | None, int | None, int | None] | None:
    """(input, output, reasoning, cached) as each API tells it, from the log; None where none was told at the end."""
    if truth.usage is None:
        return None
    total, output, reasoning, cached = (truth.usage[k] for k in ("input", "output", "reasoning", "cached"))
    if truth.dialect == "anthropic":  # input_tokens leave out what came from the cache
        return total + cached, output, reasoning or None, cached
    if truth.dialect == "gemini":  # zeros are not sent
        return total, output or None, reasoning or None, cached or None
    return total, output, reasoning, cached


def said_so_far(case: Case) -> int | None:
    """Tokens that a Gemini answer without end had told: text, thoughts, a token for each piece of a tool's input."""
    tools = [step for step in case.script if step[0] == "tool"][: case.truth.count("tool")]
    pieces = 0
    for _, _, args, more in tools:
        length = len(json.dumps(args))
        pieces += -(-length // -(-length // more["pieces"]))
    return (case.truth.text_tokens + case.truth.count("reasoning") + pieces) or None


def test_a_stamp_is_that_of_the_true_send_and_its_slack_holds_the_truth(cases: list[Case]):
    exact = close = 0
    for case in cases:
        for trace, send in arrivals(case):
            assert trace.at_ns >= send.before_ns - CLOCKS_NS, case
            assert trace.at_ns - trace.slack_ns <= send.after_ns + DELIVERY_NS, case
            if trace.slack_ns == 0:
                exact += 1
                close += trace.at_ns <= send.after_ns + MS
    assert exact > 3 * STREAMS
    assert close > 0.95 * exact


def arrivals(case: Case) -> Iterator[tuple[Trace, Sent]]:
    """Each event of text or reasoning with the send that completed it."""
    for bit, kinds in ((TEXT, case.text_kinds), (REASONING, ("reasoning",))):
        events = [trace for trace in case.stream.events or [] if trace.bits & bit]
        sends = [send for send in case.truth.sends for kind in send.kinds if kind in kinds]
        yield from zip(events, sends, strict=True)


def test_the_samples_stamps_are_those_of_its_events(cases: list[Case]):
    for case in cases:
        sample, truth = case.sample, case.truth
        assert sample.sent_ns is not None
        assert sample.due_ns <= sample.sent_ns <= truth.request_complete_ns
        pairs = (
            (sample.first_token_ns, sample.first_token_slack_ns, truth.first(*case.text_kinds)),
            (sample.first_reasoning_ns, sample.first_reasoning_slack_ns, truth.first("reasoning")),
            (sample.first_output_ns, sample.first_output_slack_ns, truth.first(*case.output_kinds)),
            (sample.last_output_ns, sample.last_output_slack_ns, case.sends[-1] if case.sends else None),
            (sample.first_byte_ns, sample.first_byte_slack_ns, truth.sends[0] if truth.sends else None),
        )
        for stamp, slack, send in pairs:
            assert (stamp is None) == (send is None), case
            if stamp is not None and send is not None:
                assert send.before_ns - CLOCKS_NS <= stamp <= send.after_ns + slack + DELIVERY_NS, case


def test_ttft_service_is_the_time_the_server_took(cases: list[Case]):
    compared = close = 0
    for case in cases:
        sample, truth, send = case.sample, case.truth, case.truth.first(*case.text_kinds)
        if send is None or truth.ttft_ns is None or sample.retried:
            continue
        assert sample.first_token_ns is not None
        assert sample.sent_ns is not None
        ttft, slack = sample.first_token_ns - sample.sent_ns, sample.first_token_slack_ns
        # Ours begins before the server has the request, and holds what the machine let the server wait in its send().
        assert ttft >= truth.ttft_ns - CLOCKS_NS, case
        assert ttft - slack <= send.after_ns - sample.sent_ns + DELIVERY_NS, case
        if not slack:
            compared += 1
            close += ttft <= send.after_ns - sample.sent_ns + MS
    assert compared > STREAMS / 10, "enough to tell; how many are exact is the machine's to say"
    assert close > 0.95 * compared


def test_a_gap_is_between_two_texts_with_nothing_else_between(cases: list[Case]):
    gaps = 0
    for case in cases:
        found, gaps_ns = list(array("I", case.sample.gaps)), list(gaps_by_the_log(case))
        assert len(found) == len(gaps_ns), case
        assert all(abs(1_000 * us - ns) <= 500 for us, ns in zip(found, gaps_ns, strict=True)), case
        gaps += len(found)
    assert gaps > STREAMS


def gaps_by_the_log(case: Case) -> Iterator[int]:
    """The log says which texts follow upon another without other output or a boundary; the stamps are the events' own
    (held against the log by another test). Texts of one read have no gap."""
    stamps = iter([trace.at_ns for trace in case.stream.events or [] if trace.bits & TEXT])
    last: int | None = None
    for kind in (kind for send in case.truth.sends for kind in send.kinds):
        if kind in case.text_kinds:
            stamp = next(stamps)
            if last is not None and stamp > last:
                yield stamp - last
            last = stamp
        # Between two texts a block event means that a part ended and another began.
        elif kind in ("reasoning", "tool", "block"):
            last = None


def test_the_longest_gap_and_stalls_are_the_true_ones(cases: list[Case]):
    stalls = 0
    for case in cases:
        if case.sample.outcome == "stall_timeout":
            continue
        gaps = [b.before_ns - a.before_ns for a, b in pairwise(case.sends)]
        longest = case.sample.longest_gap_ns
        if case.sample.output_reads == len(case.sends):
            assert (longest is None) == (not gaps), case
        if longest is not None and case.sample.output_reads == len(case.sends):
            assert longest > max(b.before_ns - a.after_ns for a, b in pairwise(case.sends)) - DELIVERY_NS, case
            assert longest < max(b.after_ns - a.before_ns for a, b in pairwise(case.sends)) + DELIVERY_NS, case
        if all(abs(gap - STALL_NS) > DELIVERY_NS for gap in gaps):
            assert case.sample.stalls == sum(gap > STALL_NS for gap in gaps), case
            stalls += case.sample.stalls
    assert stalls


def test_the_end_is_that_of_the_message_or_of_the_terminal_event_where_the_socket_stays_open(cases: list[Case]):
    for case in cases:
        sample, truth = case.sample, case.truth
        end = truth.first("end") or truth.first("done", "finish", "error")
        if sample.good and end is not None:
            assert end.before_ns - CLOCKS_NS <= sample.end_ns, case
            assert sample.end_ns - sample.end_slack_ns <= end.after_ns + 2 * DELIVERY_NS, case
    kept = [case for case in cases if case.sample.kept_open]
    assert kept
    assert all(case.truth.ended == "client" for case in kept)
