"""One thread's event loop: many streams, each on its connection; bytes out, stamped bytes in.

Rules: drain, then decode. A turn first takes (stamp, bytes) from every ready socket (`drain` says how, and what is
known of when they came), and only then feeds them to the streams; nothing is parsed, logged or written between two
reads of a turn.

What is due goes before decoding: a turn ends when its time has come or a stream has ended, and what it took and has not
decoded is decoded by the turns that follow, which read nothing before that is done. The stamps were taken; a request
that is due, or a word to the parent, need not wait for thousands of reads, nor for one: answers like to end just when
the next request is due.

Connections are made beside the measured path (`dial`), at the end of a turn.

Timers live in a heap with lazy deletion: a stream's deadline moves with every token, its entry only when it comes up.
"""

from __future__ import annotations

import heapq
import os
from collections import deque
from collections.abc import Callable, Iterator

from streamgauge import drain
from streamgauge.clock import EARLY_NS, Clock, RealtimeMap, S
from streamgauge.dial import Dial
from streamgauge.drain import IN, OUT, READ_SIZE, Reads
from streamgauge.fault import NetError
from streamgauge.net import Connection
from streamgauge.redirect import Elsewhere, redirected
from streamgauge.sample import Closer, Outcome
from streamgauge.stream import Stream
from streamgauge.target import Target
from streamgauge.tls import Sessions

SPARE_TIMERS = 1_000
"""So many timers of closed connections may wait before they are cleared away."""


class Loop:
    """Drives streams over connections: `fire` begins one, `turn` waits and works once, `on_done` gets the ended.

    `on_closed` hears of each connection that ends: the connection, by whom, since when it was idle (None: it was not).
    """

    def __init__(
        self,
        clock: Clock,
        on_done: Callable[[Stream], None],
        on_closed: Callable[[Connection, Closer, int | None], None] | None = None,
    ) -> None:
        self._clock = clock
        self.now = self._now = clock.now
        self._on_done = on_done
        self._on_closed = on_closed
        self._conns: dict[int, Connection] = {}
        self._poller = drain.make(clock, lambda fd: self._conns[fd].take())
        self._map = RealtimeMap(clock)
        self._watched: dict[int, Callable[[], None]] = {}
        self._pool: dict[str, dict[int, Connection]] = {}
        self._fresh: set[str] = set()
        """Streams that have a connection of their own."""
        self._turns: dict[str, int] = {}
        self._dials: set[Dial] = set()
        self.sessions = Sessions()
        self._taken: deque[tuple[Connection, bytes | int, Reads]] = deque()
        """What was read and is not decoded yet, none of it of a connection that was idle then."""
        self._woke = self._taken_at = 0
        self._ended = False
        """A stream has, since the turn began."""
        self._timers: list[tuple[int, int, Connection | Dial]] = []
        self._timer_number = 0
        self.looked = self._now()
        self.open_streams = 0
        self.made = 0
        self.longest_turn_ns = 0
        self.bytes_in = 0
        self.steps: list[tuple[int, int, int]] = []

    def __repr__(self) -> str:
        return f"<Loop {self.open_streams} streams open, {len(self._conns)} connections>"

    @property
    def sockets(self) -> int:
        """Sockets open now, idle ones and those in the making included."""
        return len(self._conns) + len(self._dials)

    @property
    def timers(self) -> int:
        """Timers that wait, those of closed connections included."""
        return len(self._timers)

    def streams(self) -> Iterator[Stream]:
        """The open streams."""
        for conn in self._conns.values():
            if conn.stream is not None:
                yield conn.stream
        for dial in self._dials:
            yield dial.stream

    def connection(self, number: int) -> Connection | None:
        """The connection with this number, if it is still open."""
        return next((conn for conn in self._conns.values() if conn.id == number), None)

    def on_continued(self) -> None:
        """This process was stopped and goes on (SIGCONT)."""
        self._poller.on_continued()

    # What others wait for: the parent's line, connections in the making.

    def watch(self, fd: int, ready: Callable[[], None], mask: int = IN) -> None:
        """Call `ready` at the end of a turn in which `fd` was (readable, unless `mask` says otherwise)."""
        self._watched[fd] = ready
        self._poller.watch(fd, mask)

    def rewatch(self, fd: int, mask: int) -> None:
        """Wait for something else on it."""
        self._poller.modify(fd, mask)

    def unwatch(self, fd: int) -> None:
        """Forget it."""
        del self._watched[fd]
        self._poller.unregister(fd)

    def number(self) -> int:
        """A number for a connection."""
        self.made += 1
        return self.made - 1

    def wake(self, dial: Dial, at_ns: int) -> None:
        """See to it that the dial rings no later than this."""
        if dial.timer == 0 or at_ns < dial.timer:
            dial.timer = at_ns
            self._timer_number += 1
            heapq.heappush(self._timers, (at_ns, self._timer_number, dial))

    # Beginning a request.

    def fire(self, stream: Stream, target: Target, request: bytes, *, fresh: bool = False) -> None:
        """Send `request` for `stream` (already started) on an idle connection or a new one.

        fresh: on a new one, which is closed after it.
        """
        self.open_streams += 1
        if stream.stall_ns < 2 * self._poller.patience:  # an output that waits must be known before the next is overdue
            self._poller.patience = stream.stall_ns // 2
        if fresh:
            self._fresh.add(stream.id)
        stream.via = target.proxy.shown if target.proxy is not None and not target.secure else None
        idle = None if stream.id in self._fresh else self._pool.get(target.name)
        while idle:
            conn = idle.popitem()[1]  # the one that was used last is the warmest
            if conn.good_until is not None and conn.good_until <= self._now():
                self._drop(conn, "asked")
                continue
            if self._spoke(conn):
                self._drop(conn, "server")
                continue
            conn.stream, conn.request = stream, request
            stream.conn, stream.conn_requests, stream.peer = conn.id, conn.carried, conn.address[0]
            self._send(conn)
            return
        self._connect(stream, target, request)

    def _spoke(self, conn: Connection) -> bool:
        """Whether an idle connection was closed or spoke unasked, so that it can carry no other request."""
        return self._poller.held(conn.sock.fileno()) is not None or conn.stale()

    def _connect(self, stream: Stream, target: Target, request: bytes) -> None:
        """A new connection. The addresses take turns."""
        addresses = target.addresses
        if not addresses:
            words = f"{target.host!r}" if target.proxy is None else f"the proxy {target.proxy.shown}: its name"
            self._finish(stream, NetError(Outcome.DNS_ERROR, f"{words} does not resolve"))
            return
        turn = self._turns.get(target.name, 0) % len(addresses)
        self._turns[target.name] = turn + 1
        dial = Dial(self, stream, target, request, addresses[turn:] + addresses[:turn])
        self._dials.add(dial)
        dial.start()

    def on_dialled(self, dial: Dial, conn: Connection | None, error: NetError | None) -> None:
        """A connection was made, or could not be."""
        self._dials.discard(dial)
        dial.timer = 0
        if conn is None:
            self._finish(dial.stream, error)
            return
        fd = conn.sock.fileno()
        self._conns[fd] = conn
        conn.opened_ns = self._now()
        self._poller.register(fd, IN, conn.looked)
        conn.stream, conn.request = dial.stream, dial.request
        self._send(conn)

    def _send(self, conn: Connection) -> None:
        """Put the request on the wire."""
        stream = conn.stream
        assert stream is not None
        stream.on_sending(self._now())
        conn.queue(conn.request)
        conn.carried += 1
        self._push(conn)
        if conn.stream is stream:
            self._arm(conn, stream)

    def _push(self, conn: Connection) -> None:
        """Send what is queued; note `sent` when the last byte went."""
        stream = conn.stream
        assert stream is not None
        try:
            sent = conn.push_last(self._now)
        except OSError as error:
            # What the peer said before it closed may still lie unread: a refusal, a TLS alert. The next turns read it.
            conn.broken = error.strerror or str(error)
            self._poller.modify(conn.sock.fileno(), IN)
            return
        if sent is None:
            conn.blocked = True
            self._poller.modify(conn.sock.fileno(), IN | OUT)
            return
        if stream.sent_ns is None:
            stream.on_sent(sent)
        stream.local_port = conn.local_port
        if conn.blocked:
            conn.blocked = False
            self._poller.modify(conn.sock.fileno(), IN)

    def _arm(self, conn: Connection, stream: Stream) -> None:
        """See to it that a timer comes up no later than the stream's deadline."""
        deadline = stream.deadline
        if deadline is not None and (conn.timer == 0 or deadline < conn.timer):
            conn.timer = deadline
            self._timer_number += 1
            heapq.heappush(self._timers, (deadline, self._timer_number, conn))
            if len(self._timers) > 2 * len(self._conns) + SPARE_TIMERS:
                # A closed connection must not be kept until its deadline.
                self._timers[:] = [timer for timer in self._timers if timer[2].timer == timer[0]]
                heapq.heapify(self._timers)

    # A turn.

    def turn(self, wake_ns: int | None, least_ns: int = 0) -> None:
        """Wait until something is ready, a stream's deadline or `wake_ns` (None: no limit); work through it, until
        then or until a stream has ended, but for `least_ns` in any case: the next turns do the rest.
        """
        fresh = not self._taken
        if fresh:
            self._woke = self._take(wake_ns)
        now = self._now()
        if self._taken and not (fresh and wake_ns is not None and wake_ns <= now and not least_ns):
            self._decode(wake_ns, now + least_ns)
        if self._timers and not self._taken:
            self._ring(self._woke)  # what may have come since then was not looked for
        unseen = self._now() - self._woke
        if unseen > self.longest_turn_ns:
            self.longest_turn_ns = unseen

    def _take(self, wake_ns: int | None) -> int:
        """Wait, and take what came; when it woke for that."""
        timers = self._timers
        if timers and (wake_ns is None or timers[0][0] < wake_ns):
            wake_ns = timers[0][0]
        items, woke = self._poller.wait(wake_ns, bool(self._dials))
        if woke >= self._map.next_look:
            self._look_at_clock()
        writable: list[Connection] = []
        woken: list[tuple[Callable[[], None], int]] = []
        idle: list[tuple[Connection, bytes | int, Reads]] = []
        conns = self._conns
        for fd, mask, data, reads in items:
            conn = conns.get(fd)
            if conn is None:
                if fd in self._watched:
                    woken.append((self._watched[fd], reads[-1][2]))
                continue
            if data is not None:
                (idle if conn.stream is None else self._taken).append((conn, data, reads))
            if mask & OUT or data is None:
                writable.append(conn)
        self._taken_at = self._now()
        for conn in writable:
            self._on_writable(conn)
        for one in idle:  # at once: else a request might be sent where something unasked has come
            self._feed(*one)
        for advance, look in woken:
            self.looked = look
            advance()
        return woke

    def _decode(self, until: int | None, least: int) -> None:
        """Feed what was taken to the streams: to one of them at least, to all unless something else is due."""
        taken = self._taken
        self._ended = False
        while taken:
            self._feed(*taken.popleft())
            now = self._now()
            if now >= least and (self._ended or (until is not None and now >= until)):
                return

    def _feed(self, conn: Connection, data: bytes | int, reads: Reads) -> None:
        """What was read of one connection, to its stream."""
        if self._conns.get(conn.sock.fileno()) is not conn:
            return  # closed by what came before it
        now = self._taken_at
        if not isinstance(data, bytes):
            self._lost(conn, OSError(data, os.strerror(data)))
            return
        if not data:
            self._closed(conn, now)
            return
        self.bytes_in += len(data)
        stamps = self._stamps(reads, now)
        stream = conn.stream
        if stream is not None and not reads[-1][1]:
            stream.kernel_stamps = False
        if conn.secret:
            at = 0
            for (end, _, look), stamp in zip(reads, stamps, strict=True):
                self._on_secret(conn, data[at:end], look, stamp, now)
                at = end
        elif stream is None:
            self._drop(conn, "server")  # unasked bytes on an idle connection
        else:
            stream.on_reads(data, reads, stamps)
            self._after_read(conn, stream)

    def _stamps(self, reads: Reads, now: int) -> list[int]:
        """When the last byte of each read came."""
        offset = self._map.offset
        stamps = [wall + offset for _, wall, _ in reads]
        if not reads[-1][1]:
            stamps[-1] = now
        first, last = stamps[0], stamps[-1]
        if not (reads[0][2] - EARLY_NS <= first <= last <= now and reads[-1][2] - EARLY_NS <= last):
            self._look_at_clock()
            stamps = [self._map.at(wall, look, now) for _, wall, look in reads]
        return stamps

    def _on_secret(self, conn: Connection, data: bytes, look: int, stamp: int, now: int) -> None:
        """One read of a connection that speaks TLS."""
        stream = conn.stream
        try:
            plain = conn.decipher(data)
        except NetError as error:
            if stream is not None and conn.carried == 1 and stream.first_byte is None:
                # In TLS 1.3 a server looks at our certificate when the handshake is over for us.
                self._drop(conn, "server")
                self._finish(stream, NetError(Outcome.TLS_ERROR, error.words))
            else:
                self._lost(conn, OSError(0, error.words))
            return
        if stream is None:
            if plain or conn.ended:
                self._drop(conn, "server")
            return
        if plain:
            stream.on_read(stamp, look, plain, full=len(data) == READ_SIZE)
        if conn.ended and not stream.done:
            self._closed(conn, now)
        else:
            self._after_read(conn, stream)

    def _after_read(self, conn: Connection, stream: Stream) -> None:
        """The stream had what came for it."""
        if stream.done:
            self._retire(conn, stream)
        elif stream.deadline is not None and stream.deadline < conn.timer:
            self._arm(conn, stream)

    def _catch_up(self, conn: Connection) -> None:
        """Decode what was read of a connection and waits."""
        held = self._poller.held(conn.sock.fileno())
        if held is not None:
            _, _, data, reads = held
            assert data is not None
            self._feed(conn, data, reads)

    def _ring(self, now: int) -> None:
        """Timers that are up."""
        timers = self._timers
        while timers and timers[0][0] <= now:
            at, _, conn = heapq.heappop(timers)
            if conn.timer != at:
                continue
            conn.timer = 0
            if isinstance(conn, Dial):
                conn.ring(now)
                continue
            stream = conn.stream
            if stream is None or stream.deadline is None:
                continue
            if stream.deadline <= now:
                self._catch_up(conn)
                if conn.stream is not stream or stream.deadline is None:
                    continue
            if stream.deadline <= now:
                stream.on_timer(now)
            if stream.done:
                self._retire(conn, stream)
            else:
                self._arm(conn, stream)

    def _look_at_clock(self) -> None:
        """Map the kernel's clock anew; a step flags every stream in flight."""
        if self._map.refresh():
            self.steps.append(self._map.steps[-1])
            for stream in self.streams():
                stream.clock_step = True

    # What happens to connections.

    def _on_writable(self, conn: Connection) -> None:
        """Room for more of the request."""
        if conn.stream is not None:
            self._push(conn)

    def _closed(self, conn: Connection, now: int) -> None:
        """The peer closed: in order, unless a send had failed."""
        stream = conn.stream
        by: Closer = "server" if conn.broken is None else "reset"
        if stream is None:
            self._drop(conn, by)
        elif not self._again(conn, stream, by):
            stream.on_close(now, reset=conn.broken)
            self._retire(conn, stream, by)

    def _lost(self, conn: Connection, error: OSError) -> None:
        """The connection broke."""
        stream = conn.stream
        if stream is None:
            self._drop(conn, "reset")
        elif not self._again(conn, stream, "reset"):
            stream.on_close(self._now(), reset=error.strerror or str(error))
            self._retire(conn, stream, "reset")

    def _again(self, conn: Connection, stream: Stream, by: Closer) -> bool:
        """A reused connection that died without a byte of response: once more on a new one."""
        if conn.carried < 2 or stream.first_byte is not None or stream.retried:
            return False
        request, target = conn.request, conn.target
        self._drop(conn, by)
        stream.on_retry(self._now())
        self._connect(stream, target, request)
        return True

    def _retire(self, conn: Connection, stream: Stream, by: Closer | None = None) -> None:
        """The stream ended; its connection goes to the pool or is closed. `by`: it is closed already."""
        request, target = conn.request, conn.target
        conn.stream = None
        conn.request = b""
        if conn.tls is not None and conn.carried == 1:
            self.sessions.keep(target, conn.address, conn.tls)
        # An answer may come before the whole request went out: its rest would stand before the next one.
        if stream.reusable and conn.flushed and not conn.ended and stream.id not in self._fresh:
            seconds = stream.response.idle_s
            conn.good_until = None if seconds is None else self._now() + round(seconds * S)
            conn.since_ns = self._now()
            self._pool.setdefault(target.name, {})[conn.id] = conn
        else:
            asked = stream.response.complete and not stream.response.keep_alive
            self._drop(conn, by or ("server" if conn.ended else "asked" if asked else "us"), busy=True)
        self.open_streams -= 1
        if stream.moved is None or not self._follow(stream, target, request):
            self._over(stream)

    def _over(self, stream: Stream) -> None:
        """Nothing more will be done for the stream."""
        self._fresh.discard(stream.id)
        self._ended = True
        self._on_done(stream)

    def _follow(self, stream: Stream, target: Target, request: bytes) -> bool:
        """Send the request to where the answer points, within the same origin; False where it ends here."""
        assert stream.moved is not None
        try:
            moved = redirected(request, target.origin, stream.moved, stream.redirects)
        except Elsewhere as error:
            stream.on_stay(str(error))
            return False
        stream.on_redirect()
        self.fire(stream, target, moved)
        return True

    def _finish(self, stream: Stream, error: NetError | None) -> None:
        """The stream ended without a usable connection, by `error` or by its own clock."""
        if error is not None:
            stream.fail(self._now(), error.outcome, error.words)
        self.open_streams -= 1
        self._over(stream)

    def _drop(self, conn: Connection, by: Closer = "us", *, busy: bool = False) -> None:
        """Close a connection and forget it. `busy`: a request was on it to its end."""
        fd = conn.sock.fileno()
        if self._on_closed is not None:
            idle_ns = None if busy or conn.stream is not None else conn.since_ns
            self._on_closed(conn, by, idle_ns)
        if fd in self._conns:
            self._poller.unregister(fd)
            del self._conns[fd]
        self._pool.get(conn.target.name, {}).pop(conn.id, None)
        conn.stream = None
        conn.timer = 0
        conn.close()

    def cancel(self, why: str) -> None:
        """End every open stream by the plan."""
        while self._taken:
            self._feed(*self._taken.popleft())
        for conn in list(self._conns.values()):
            self._catch_up(conn)
            stream = conn.stream
            if stream is not None:
                stream.fail(self._now(), Outcome.CANCELLED, why)
                self._retire(conn, stream)
        for dial in list(self._dials):
            dial.close()
            self.on_dialled(dial, None, NetError(Outcome.CANCELLED, why))

    def readdress(self, target: Target) -> None:
        """Nothing is kept of an address that is no longer the target's: its idle connections are closed."""
        known = set(target.addresses)
        for conn in list(self._pool.get(target.name, {}).values()):
            if conn.address not in known:
                self._drop(conn)

    def close(self) -> None:
        """Close every connection."""
        for conn in list(self._conns.values()):
            self._drop(conn)
        for dial in self._dials:
            dial.close()
        self._poller.close()
