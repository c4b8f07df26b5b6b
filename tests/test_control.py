"""What parent and worker say to each other, and what a worker sees of itself."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made import made
from streamgauge.arrivals import Rate
from streamgauge.audit import Audit
from streamgauge.clock import MS, FakeClock, S, SystemClock
from streamgauge.control import Address, Begin, Brief, Job, Order, Report, Stop, Unpacker, pack
from streamgauge.loop import Loop
from streamgauge.plan import Hold, Lane, Phase
from streamgauge.sample import AuditTick, Outcome
from streamgauge.target import Target, Tls

BRIEF = Brief("app", "hold", Outcome.HTTP_ERROR, 503, None, None, 7, None, 0, "größer \U0001f642", 2**62)
MESSAGES: list[msgspec.Struct] = [
    Begin(3, 2**62),
    Stop(0, "", None),
    Stop(30 * S, "20 times http_error (500) in a row", "app"),
    Address("app", (("127.0.0.1", 80), ("::1", 80))),
    Report(worker=1, at_ns=5, open_streams=2, ended=[BRIEF] * 30, phase_done=0, last_output_ns={"app": 9}, cpu=0.5),
    Report(worker=-1, at_ns=5, open_streams=0, failed="Traceback ..."),
    Job(
        targets=(Target(name="a", scheme="https", host="h", port=1, path="/", dialect="gemini", tls=Tls(ca="x")),),
        prompts={"long": ("x" * 300_000,)}, samples="/x", shard=1, shards=3, seed=-5, secrets=("s",),
        phases=(Phase("hold", (Lane(("a",), ("long",), Hold(4, 9)), Lane(("a",), ("long",), Rate(1.5, 3))), 4, 7),),
    ),
]  # fmt: skip


@given(st.lists(st.sampled_from(MESSAGES), max_size=6), st.lists(st.integers(0, 400_000), max_size=9))
@settings(max_examples=60, deadline=None)
def test_messages_come_out_whole_and_in_order_however_they_are_cut(sent: list[msgspec.Struct], at: list[int]) -> None:
    wire = b"".join(map(pack, sent))
    bounds = [0, *sorted(place for place in at if place < len(wire)), len(wire)]
    unpack = Unpacker()
    found = [body for a, b in pairwise(bounds) for body in unpack.feed(wire[a:b])]
    kinds = [Order if isinstance(one, (Begin, Stop, Address)) else type(one) for one in sent]
    assert [msgspec.msgpack.decode(body, type=kind) for body, kind in zip(found, kinds, strict=True)] == sent  # type: ignore[arg-type]


def test_whoever_takes_one_message_leaves_the_others() -> None:
    unpack = Unpacker()
    first = next(unpack.feed(pack(MESSAGES[0]) + pack(MESSAGES[1])))
    assert msgspec.msgpack.decode(first, type=Order) == MESSAGES[0]
    assert [msgspec.msgpack.decode(body, type=Order) for body in unpack.feed(b"")] == MESSAGES[1:2]
    assert list(unpack.feed(b"\1\0\0")) == []


# What a worker sees of itself.


def test_a_tick_holds_what_happened_since_the_last_one() -> None:
    clock = FakeClock()
    loop = Loop(SystemClock(), lambda _: None)
    audit = Audit(2, clock)
    for _ in range(4):
        audit.start()
    audit.ended(made(text_events=7))
    loop.bytes_in, loop.longest_turn_ns = 900, 4 * MS
    loop.steps.append((1, 2, 3))
    clock.advance(249 * MS)
    assert audit.tick(clock.now(), loop) is None
    clock.advance(1 * MS)
    first = audit.tick(clock.now(), loop)
    assert isinstance(first, AuditTick)
    assert (first.worker, first.at_ns, first.starts) == (2, clock.now(), 4)
    assert (first.text_events, first.bytes_in, first.longest_turn_ns, first.steps) == (7, 900, 4 * MS, [(1, 2, 3)])
    assert first.cpu == audit.cpu >= 0
    assert audit.tick(clock.now(), loop) is None
    loop.bytes_in = 1_000
    clock.advance(S)
    second = audit.tick(clock.now(), loop)
    assert second is not None
    assert (second.starts, second.text_events, second.bytes_in) == (0, 0, 100)
    assert (second.longest_turn_ns, second.steps, audit.text_events) == (0, [], 7)
    clock.advance(49 * MS)
    assert audit.tick(clock.now(), loop, last=True) is None
    clock.advance(1 * MS)
    assert audit.tick(clock.now(), loop, last=True) is not None
    loop.close()


def test_processor_time_is_a_share_of_one_core() -> None:
    clock = SystemClock()
    loop = Loop(clock, lambda _: None)
    audit = Audit(0, clock)
    began = clock.now()
    while clock.now() - began < 260 * MS:
        pass
    tick = audit.tick(clock.now(), loop)
    loop.close()
    assert tick is not None
    assert tick.cpu == pytest.approx(1, abs=1), "busy all the time, as far as this machine let it"
    assert tick.cpu > 0.02
