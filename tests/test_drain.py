"""Waiting and reading, compiled and in plain Python: one contract, the same answers.

Sockets are real, on loopback. The test is the server, so it knows what it sent when.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from real import require
from streamgauge import compiled, drain, sse
from streamgauge.clock import SystemClock
from streamgauge.drain import IN, OUT, READ_SIZE, Drain, Item, Pure
from streamgauge.http1 import Response
from streamgauge.net import SO_TIMESTAMPNS
from streamgauge.sse import SseDecoder, pure_whole_event

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux stamps in the kernel and has the compiled part")
MS = 1_000_000
CLOCKS_NS = MS // 5
EVENT = b'15\r\ndata: {"a": "bcde"}\n\n\r\n'


@pytest.fixture(params=["compiled", "pure"])
def made(request: pytest.FixtureRequest) -> Iterator[Callable[[dict[int, socket.socket]], Drain]]:
    """How to make one."""
    drains: list[Drain] = []

    def make(socks: dict[int, socket.socket]) -> Drain:
        def take(fd: int) -> tuple[bytes, int]:
            data, ancillary, _, _ = socks[fd].recvmsg(65_536, 64)
            stamp = ancillary[0][2] if ancillary else b""
            wall = int.from_bytes(stamp[:8], "little") * 1_000_000_000 + int.from_bytes(stamp[8:], "little")
            return data, wall

        one = Pure(SystemClock(), take) if request.param == "pure" else drain.make(SystemClock(), take)
        drains.append(one)
        return one

    if request.param == "compiled":
        require(compiled.MADE_OF == "compiled", "the compiled part (pip install with a C compiler)")
    yield make
    for one in drains:
        one.close()


def pair() -> tuple[socket.socket, socket.socket]:
    """(ours, theirs): a TCP connection whose arrivals the kernel stamps, as conftest.py sees to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs = listener.accept()[0]
    ours.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, theirs


@contextlib.contextmanager
def looking(
    made: Callable[[dict[int, socket.socket]], Drain],
) -> Iterator[tuple[Drain, socket.socket, socket.socket]]:
    """A drain that reads our end of a connection; both ends."""
    ours, theirs = pair()
    with ours, theirs:
        one = made({ours.fileno(): ours})
        one.register(ours.fileno(), IN)
        yield one, ours, theirs


@LINUX
@pytest.mark.real
def test_a_read_tells_its_bytes_its_stamp_and_since_when_it_can_have_come(
    made: Callable[[dict[int, socket.socket]], Drain],
) -> None:
    with looking(made) as (one, ours, theirs):
        fd = ours.fileno()
        assert one.wait(time.monotonic_ns(), True)[0] == []
        looked = time.monotonic_ns()
        wall = time.time_ns()
        theirs.sendall(b"hello")
        items, woke = one.wait(time.monotonic_ns() + 2000 * MS, True)
        ((told, mask, data, ((end, stamp, look),)),) = items
        assert (told, mask, data, end) == (fd, IN, b"hello", 5)
        assert wall - CLOCKS_NS <= stamp <= time.time_ns()
        assert look <= looked
        assert looked <= woke <= time.monotonic_ns()
        theirs.close()
        assert [item[2] for item in one.wait(time.monotonic_ns() + 2000 * MS, True)[0]] == [b""]


@LINUX
@pytest.mark.real
def test_what_one_read_does_not_hold_and_an_end_behind_it_are_found_though_nothing_more_comes(
    made: Callable[[dict[int, socket.socket]], Drain],
) -> None:
    with looking(made) as (one, ours, theirs):
        sent = os.urandom(READ_SIZE + 5)
        theirs.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * READ_SIZE)
        waiting = memoryview(sent)
        while waiting:  # a window that opens takes a moment
            with contextlib.suppress(BlockingIOError):
                waiting = waiting[theirs.send(waiting) :]
        ours.settimeout(10)
        assert len(ours.recv(len(sent), socket.MSG_PEEK | socket.MSG_WAITALL)) == len(sent)
        ours.setblocking(False)
        theirs.close()
        time.sleep(0.05)
        got: list[object] = []
        until = time.monotonic() + 10
        while (not got or got[-1] != b"") and time.monotonic() < until:
            got += [item[2] for item in one.wait(time.monotonic_ns() + 100 * MS, False)[0]]
        assert got == [sent[:READ_SIZE], sent[READ_SIZE:], b""]


@LINUX
@pytest.mark.real
def test_room_to_send_is_told_whenever_it_is_asked_for_and_what_came_meanwhile_is_read(
    made: Callable[[dict[int, socket.socket]], Drain],
) -> None:
    with looking(made) as (one, ours, theirs):
        fd = ours.fileno()
        for _ in range(3):
            one.modify(fd, IN | OUT)
            ((told, mask, data, _),) = one.wait(time.monotonic_ns() + 2000 * MS, True)[0]
            assert (told, data, bool(mask & OUT)) == (fd, None, True)
            one.modify(fd, IN)
            assert one.wait(time.monotonic_ns() + MS, True)[0] == []
        one.modify(fd, IN | OUT)
        theirs.sendall(b"hello")
        ours.settimeout(10)
        assert ours.recv(1, socket.MSG_PEEK) == b"h"
        ours.setblocking(False)
        ((_, mask, data, _),) = one.wait(time.monotonic_ns() + 2000 * MS, True)[0]
        assert (data, mask & (IN | OUT)) == (b"hello", IN | OUT)


HELD_BACK = """
import socket, sys, time
from streamgauge import drain
from streamgauge.clock import SystemClock
from streamgauge.net import SO_TIMESTAMPNS

socks = {}
for _ in range(2):
    sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.setblocking(False)
    socks[sock.fileno()] = sock

def take(fd):
    data, ((_, _, stamp),), _, _ = socks[fd].recvmsg(65_536, 64)
    return data, int.from_bytes(stamp[:8], "little") * 1_000_000_000 + int.from_bytes(stamp[8:], "little")

one = drain.make(SystemClock(), take)
for fd in socks:
    one.register(fd, drain.IN)
print(sys.stdin.readline() and "asleep", flush=True)
for _, _, data, reads in one.wait(time.monotonic_ns() + 20_000_000_000, True)[0]:
    print(data.decode(), reads[0][2], flush=True)
"""


@LINUX
@pytest.mark.real
@pytest.mark.parametrize("pure", ["", "1"])
def test_what_came_while_its_thread_was_held_back_unseen_is_not_told_as_come_when_it_woke(pure: str) -> None:
    if not pure:
        require(compiled.MADE_OF == "compiled", "the compiled part (pip install with a C compiler)")
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        subprocess.Popen(
            [sys.executable, "-c", HELD_BACK, str(listener.getsockname()[1])],
            env={**os.environ, "STREAMGAUGE_PURE": pure}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as child,
    ):  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        (lumpy, _), (other, _) = listener.accept(), listener.accept()
        with lumpy, other:
            time.sleep(0.1)  # the first socket of a machine that asks for stamps gets them a little later
            child.stdin.write("go\n")
            child.stdin.flush()
            assert child.stdout.readline() == "asleep\n"
            time.sleep(0.1)
            child.send_signal(signal.SIGSTOP)
            lumpy.sendall(b"one")
            sent = time.monotonic_ns()
            other.sendall(b"other")
            time.sleep(0.05)
            lumpy.sendall(b"two")
            child.send_signal(signal.SIGCONT)
            looks = dict(line.split() for line in child.stdout)
        assert child.wait(20) == 0
    assert looks.keys() == {"onetwo", "other"}
    assert int(looks["onetwo"]) < sent
    assert int(looks["other"]) < sent


@LINUX
@pytest.mark.real
def test_a_reset_is_told_by_its_number_and_a_writable_socket_is_not_read(
    made: Callable[[dict[int, socket.socket]], Drain],
) -> None:
    ours, theirs = pair()
    with ours, theirs:
        fd = ours.fileno()
        one = made({fd: ours})
        one.register(fd, OUT)
        theirs.sendall(b"early")
        ((*told, ((_, _, look),)),) = one.wait(time.monotonic_ns() + 2000 * MS, True)[0]
        assert told == [fd, OUT, None]
        assert 0 < look <= time.monotonic_ns()
        one.modify(fd, IN)
        assert one.wait(time.monotonic_ns() + 2000 * MS, True)[0][0][2] == b"early"
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.close()
        assert [item[2] for item in one.wait(time.monotonic_ns() + 2000 * MS, True)[0]] == [104]  # ECONNRESET
        one.unregister(fd)
        assert one.wait(time.monotonic_ns() + 5 * MS, True)[0] == []


@LINUX
@pytest.mark.real
def test_a_watched_descriptor_is_told_of_and_left_unread(made: Callable[[dict[int, socket.socket]], Drain]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        one = made({})
        one.watch(ours.fileno(), IN)
        theirs.send(b"order")
        assert [item[2] for item in one.wait(time.monotonic_ns() + 2000 * MS, False)[0]] == [None]
        assert ours.recv(9) == b"order"


def test_what_is_not_registered_is_an_error(made: Callable[[dict[int, socket.socket]], Drain]) -> None:
    one = made({})
    for call in (lambda: one.modify(9_999, IN), lambda: one.unregister(9_999), lambda: one.register(9_999, IN)):
        with pytest.raises(OSError, match=r"descriptor|No such"):
            call()


@LINUX
@pytest.mark.real
def test_under_load_events_are_handed_on_together_with_true_stamps_and_an_end_is_not_kept_waiting(
    made: Callable[[dict[int, socket.socket]], Drain],
) -> None:
    pairs = [pair() for _ in range(20)]
    socks = {ours.fileno(): ours for ours, _ in pairs}
    sent: dict[int, list[tuple[int, int]]] = {fd: [] for fd in socks}
    ended: list[int] = []
    together = threading.Event()  # on a machine that holds us up it may take longer than usual

    def send() -> None:
        until = time.monotonic() + 15
        for turn in count(1):
            for ours, theirs in pairs:
                before = time.time_ns()
                theirs.sendall(EVENT)
                sent[ours.fileno()].append((before, time.time_ns()))
                time.sleep(0.0001)
            if turn >= 120 and (together.is_set() or time.monotonic() > until):
                ended.append(time.monotonic_ns())
                pairs[0][1].sendall(b"0\r\n\r\n")
                return

    one = made(socks)
    for fd in socks:
        one.register(fd, IN)
    sender = threading.Thread(target=send)
    sender.start()
    got: dict[int, list[tuple[int, int, int]]] = {fd: [] for fd in socks}
    most = 0
    limit = time.monotonic() + 40
    last = None
    while last is None:
        assert time.monotonic() < limit
        for item in one.wait(time.monotonic_ns() + 100 * MS, False)[0]:
            most = max(most, len(item[3]))
            if most > 2:
                together.set()
            note(item, got)
            if ends(item):
                last = time.monotonic_ns()
    sender.join()
    for item in one.wait(time.monotonic_ns(), True)[0]:
        note(item, got)
    for fd in socks:
        if (item := one.held(fd)) is not None:
            note(item, got)
        assert one.held(fd) is None
    assert most > 2, "several reads of one stream at once"
    assert last - ended[0] < 5_000 * MS
    for fd, reads_of in got.items():
        for events, wall, look in reads_of:
            before, after = sent[fd][events - 1]
            assert before - CLOCKS_NS <= wall <= after + 250 * MS
            assert look < time.monotonic_ns()
        assert reads_of[-1][0] == len(sent[fd])
    for both in pairs:
        for sock in both:
            sock.close()


@pytest.fixture
def busy(made: Callable[[dict[int, socket.socket]], Drain]) -> Iterator[Callable[[socket.socket], Drain]]:
    """How to make one that is under load and reads this socket."""
    pairs = [socket.socketpair() for _ in range(8)]

    def make(ours: socket.socket) -> Drain:
        one = made({ours.fileno(): ours})
        one.register(ours.fileno(), IN)
        for here, there in pairs:
            there.send(b"x")
            one.watch(here.fileno(), IN)
        limit = time.monotonic() + 0.25
        while time.monotonic() < limit:
            one.wait(time.monotonic_ns() + MS, False)
        return one

    yield make
    for both in pairs:
        for sock in both:
            sock.close()


def of(fd: int, one: Drain, since: float, within_s: float) -> list[Item]:
    """What it hands on of `fd` until there is something or that time has passed since then."""
    while time.monotonic() < since + within_s:
        found = [item for item in one.wait(time.monotonic_ns() + MS, False)[0] if item[0] == fd]
        if found:
            return found
    return []


@LINUX
@pytest.mark.real
def test_under_load_a_read_that_ends_an_event_waits_and_what_comes_behind_it_takes_it_along(
    busy: Callable[[socket.socket], Drain],
) -> None:
    ours, theirs = pair()
    with ours, theirs:
        fd, one = ours.fileno(), busy(ours)
        waited, until = [0.0], time.monotonic() + 30
        while max(waited) <= 0.08 and time.monotonic() < until:  # a drain that was held up is not busy for a while
            begin = time.monotonic()
            theirs.sendall(EVENT)
            ((number, mask, data, reads),) = of(fd, one, begin, 5)
            assert (number, mask, data, [end for end, _, _ in reads]) == (fd, IN, EVENT, [len(EVENT)])
            waited.append(time.monotonic() - begin)
        assert max(waited) > 0.08, "half a second, or three quarters of that in company"
        theirs.sendall(EVENT)
        found = [item for _ in range(5) for item in one.wait(time.monotonic_ns() + MS, False)[0] if item[0] == fd]
        theirs.sendall(b"0\r\n\r\n")
        while not found or not ends(found[-1]):
            found += of(fd, one, time.monotonic(), 5)
            assert time.monotonic() < until
        assert b"".join(told(item) for item in found) == EVENT + b"0\r\n\r\n"
        assert sum(len(item[3]) for item in found) == 2, "each read keeps its own end and stamp"
        theirs.sendall(EVENT)
        time.sleep(0.01)
        found = [item for item in one.wait(time.monotonic_ns() + MS, False)[0] if item[0] == fd]
        theirs.close()
        while not found or found[-1][2] != b"":
            found += of(fd, one, time.monotonic(), 5)
            assert time.monotonic() < until
        assert [item[2] for item in found] == [EVENT, b""]


@LINUX
@pytest.mark.real
def test_what_waits_of_a_stream_is_bounded(busy: Callable[[socket.socket], Drain]) -> None:
    ours, theirs = pair()
    with ours, theirs:
        fd, one = ours.fileno(), busy(ours)
        large = b"c350\r\ndata: " + b"x" * 49_992 + b"\n\n\r\n"
        theirs.sendall(large)
        sizes = []
        while sum(sizes) < 2 * len(large):
            ((_, _, data, _),) = of(fd, one, time.monotonic(), 5)
            assert isinstance(data, bytes)
            sizes.append(len(data))
            if sum(sizes) == len(large):
                theirs.sendall(large)
        assert max(sizes) < 2 * 65_536
        one.unregister(fd)
        assert one.held(fd) is None
        assert one.held(-1) is None


def told(item: Item) -> bytes:
    assert isinstance(item[2], bytes)
    return item[2]


def ends(item: Item) -> bool:
    return told(item).endswith(b"0\r\n\r\n")


def note(item: Item, got: dict[int, list[tuple[int, int, int]]]) -> None:
    """Of each read that ended with an event: (how many events of the stream there were, stamp, look)."""
    fd, _, _, reads = item
    data = told(item)
    assert reads[-1][0] == len(data)
    known = got[fd][-1][0] if got[fd] else 0
    for end, wall, look in reads:
        if data[:end].endswith(EVENT):
            got[fd].append((known + data.count(EVENT, 0, end), wall, look))


# The commonest read.

KINDS = st.sampled_from(
    [b"data: ", b"event: x\ndata: ", b"event: \ndata: ", b"event: \xff\ndata: ", b"id: 1\ndata: ", b"data:", b""]
)
ENDS = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\n", b"\r\r", b"\n\r\n", b"\r\n\n", b""])
TEXTS = st.one_of(st.binary(max_size=20), st.sampled_from([b'{"a":1}', b"a\rb", b"a\nb", b"a\n\nb", b"\r", b"[DONE]"]))


@st.composite
def reads(draw: st.DrawFn) -> bytes:
    """A chunk like those of token streams, right or wrong in one way or another."""
    body = draw(KINDS) + draw(TEXTS) + draw(ENDS)
    size = len(body) + draw(st.sampled_from([0, 0, 0, 0, 1, -1]))
    head = draw(st.sampled_from([b"%x", b"%X", b"0%x", b"+%x", b"%x;a=b", b" %x", b"0000000%x"])) % max(size, 0)
    return head + b"\r\n" + body + draw(st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"", b"\r\n0\r\n\r\n"]))


@given(reads())
def test_a_read_that_is_one_event_is_what_framing_and_decoder_make_of_it(data: bytes) -> None:
    for whole_event in {pure_whole_event, sse.whole_event}:
        found = whole_event(data)
        if found is None:
            continue
        response, decoder = Response(), SseDecoder()
        response.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        decoder.feed(response.feed(b"f\r\ndata: aaaaaaa\n\n\r\n"))
        assert response.between
        assert decoder.idle
        assert decoder.feed(response.feed(data)) == [found]
        assert response.between
        assert decoder.idle
        assert (decoder.tail, response.ahead, response.complete) == (0, False, False)


@given(st.one_of(reads(), st.binary(max_size=60)))
def test_both_find_the_same_event(data: bytes) -> None:
    assert sse.whole_event(data) == pure_whole_event(data)


@pytest.mark.parametrize(
    ("data", "event"),
    [
        (EVENT, ("message", b'{"a": "bcde"}')),
        (b"14\r\nevent: a.b\ndata: 1\n\n\r\n", ("a.b", b"1")),
        (b"B\r\ndata: 1\r\n\r\n\r\n", ("message", b"1")),
        (b"8\r\ndata: \n\n\r\n", ("message", b"")),
        (EVENT + EVENT, None),
        (EVENT[:-1], None),
        (b"0\r\n\r\n", None),
        (b"", None),
    ],
)
def test_the_commonest_reads_are_found(data: bytes, event: tuple[str, bytes] | None) -> None:
    assert pure_whole_event(data) == sse.whole_event(data) == event


def test_a_switch_takes_the_pure_one_and_the_machine_says_so() -> None:
    code = "from streamgauge import compiled; print(compiled.MADE_OF)"
    own = "compiled" if find_spec("streamgauge._drain") else "pure Python"
    for value, want in (("1", "pure Python"), ("", own), ("0", own)):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "STREAMGAUGE_PURE": value},
            capture_output=True, text=True, timeout=300, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == want
