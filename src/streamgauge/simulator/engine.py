"""The event loop: sockets in, sends out on time, each one noted.

Strategy: one thread, one selector, one heap of due sends. Sockets do not block; Nagle is off. A send's bytes are put
together one send ahead, so that at its due time only send() is left to do, between two looks at the clock. A client
that does not read holds up its own stream only, and the log says for how long.

Rules: dues are absolute: base + offset, so a late send does not shift the next. Between polls at most `BATCH` dues are
served, so that a burst of sends does not keep new requests waiting. `epoll` counts whole milliseconds and rounds up;
the wait is therefore a `select` on epoll's own descriptor, which counts microseconds.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import select
import selectors
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable

from streamgauge.clock import MS, Clock, S
from streamgauge.simulator.conn import Conn
from streamgauge.simulator.memory import Memory, parse
from streamgauge.simulator.options import Options
from streamgauge.simulator.pack import ADMIT, CLOSE, END, HANG, RESET, Send
from streamgauge.simulator.respond import Reply, Responder
from streamgauge.simulator.truth import PART, TruthLog, send_line
from streamgauge.simulator.wire import BadRequest, Request

BATCH = 8
"""Few: what comes in is stamped when it is read, so a request waits for at most so many sends."""
TICK_NS = 100 * MS
PATIENCE = 500
"""Milliseconds that a reset waits at most for a client that does not read."""
LINGER_NONE = struct.pack("ii", 1, 0)


class Engine:
    """The running server. `tick` is called every 100 ms and stops the loop by returning False."""

    def __init__(self, options: Options, clock: Clock, log: TruthLog, tls: ssl.SSLContext | None) -> None:
        self._options = options
        self._clock = clock
        self._now = clock.now
        self._log = log
        self._tls = tls
        script = None if options.memory is None else parse(options.memory)
        self.memory = Memory(script, options.seed, clock.now())
        self._responder = Responder(options, self.memory)
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[int, int, Conn, Reply, Send]] = []
        self._order = 0
        self._conns: dict[int, Conn] = {}
        self._accepted = 0
        self.requests = 0
        self.open = 0
        """Generations at work."""
        self._arrived: list[tuple[Conn, int]] = []
        """Connections that brought something for their next request, and when."""
        self._waiting: deque[tuple[Conn, Reply, int]] = deque()
        self._claims = 0
        """Replies that hold a place, wait for one, or are about to ask."""
        self.on_request: Callable[[], None] = lambda: None
        self._stopped = False

    def __repr__(self) -> str:
        state = f"requests={self.requests}, open={self.open}, waiting={len(self._waiting)}"
        return f"Engine(connections={len(self._conns)}, {state})"

    # The loop...

    def listen(self, listener: socket.socket) -> None:
        """Serve this bound socket."""
        listener.setblocking(False)
        listener.listen(4096)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def watch(self, sock: socket.socket) -> None:
        """Wake up when this socket (of signals) has something."""
        self._selector.register(sock, selectors.EVENT_READ, lambda s: s.recv(4096))

    def run(self, tick: Callable[[int], bool]) -> None:
        """Serve until `tick` says False."""
        next_tick = self._now()
        fileno = getattr(self._selector, "fileno", None)
        waitable = [fileno()] if fileno is not None and hasattr(select, "epoll") else None
        while True:
            now = self._now()
            if now >= next_tick:
                if not tick(now):
                    break
                self._close_idle(now)
                self._log.flush()
                next_tick = now + TICK_NS
            wake = min(next_tick, self._due[0][0]) if self._due else next_tick
            wait_s = max(0, wake - now) / S
            if waitable is None or wait_s == 0:
                self._poll(wait_s)
            elif select.select(waitable, (), (), wait_s)[0]:
                self._poll(0)
            self._serve_due()
        self._shut_down()

    def _poll(self, wait_s: float) -> None:
        """Look after every socket that has something."""
        for key, events in self._selector.select(wait_s):
            if isinstance(key.data, Conn):
                self._ready(key.data, events)
            else:
                key.data(key.fileobj)
        arrived, self._arrived = self._arrived, []
        for conn, now in arrived:
            if not conn.gone and conn.reply is None:
                self._next_request(conn, now)

    def _serve_due(self) -> None:
        """Send what is due, at most BATCH of it."""
        due = self._due
        for _ in range(BATCH):
            if not due or due[0][0] > self._now():
                return
            _at, _order, conn, reply, send = heapq.heappop(due)
            if not reply.over:
                self._play(conn, reply, reply.base_ns + send[0], send)

    def _shut_down(self) -> None:
        """Close everything; what was under way is logged as such."""
        for conn in list(self._conns.values()):
            self._drop(conn, "shutdown")
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()

    # Connections...

    def _accept(self, listener: socket.socket) -> None:
        """Take what waits, up to BATCH."""
        for _ in range(BATCH):
            try:
                sock, _address = listener.accept()
            except OSError as e:
                # Nothing there; gone again; or no descriptor left: then it waits in the backlog.
                if e.errno in (errno.EMFILE, errno.ENFILE):
                    self._close_oldest_idle()
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                try:
                    sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                except OSError:  # gone already
                    sock.close()
                    continue
            self._accepted += 1
            now = self._now()
            conn = Conn(sock, self._accepted, now, greeting=self._tls is not None, idle_since_ns=now)
            self._conns[conn.number] = conn
            self._selector.register(sock, selectors.EVENT_READ, conn)

    def _ready(self, conn: Conn, events: int) -> None:
        """Something happened on a connection."""
        if conn.gone:
            return
        if conn.greeting:
            self._greet(conn)
            return
        if events & selectors.EVENT_WRITE and conn.stuck is not None:
            self._unstick(conn)
        if events & selectors.EVENT_READ and not conn.gone:
            self._read(conn)

    def _greet(self, conn: Conn) -> None:
        """One step of the TLS handshake."""
        assert isinstance(conn.sock, ssl.SSLSocket)
        try:
            conn.sock.do_handshake()
        except ssl.SSLWantReadError:
            self._selector.modify(conn.sock, selectors.EVENT_READ, conn)
        except ssl.SSLWantWriteError:
            self._selector.modify(conn.sock, selectors.EVENT_WRITE, conn)
        except OSError:
            self._drop(conn, "client")
        else:
            conn.greeting = False
            self._selector.modify(conn.sock, selectors.EVENT_READ, conn)
            self._read(conn)

    def _read(self, conn: Conn) -> None:
        """Take what the client sent; a request that it made whole is answered when every socket was read."""
        try:
            data = conn.receive()
        except OSError:
            self._drop(conn, "client")
            return
        if data is None:
            return
        now = self._now()
        if not data:
            self._drop(conn, "client")
            return
        conn.inbox.data += data
        if conn.reply is None:
            self._arrived.append((conn, now))

    def _next_request(self, conn: Conn, now: int) -> None:
        """Begin the answer to the next request, if one is whole."""
        bad: BadRequest | None = None
        try:
            request = conn.inbox.next()
        except BadRequest as e:
            bad, request = e, Request("", "/", "", {"connection": "close"}, b"")
        if request is None:
            if conn.inbox.wants_continue:
                conn.inbox.wants_continue = False
                with contextlib.suppress(OSError):  # a client that is gone is met at the next read
                    conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        self.requests += 1
        conn.served += 1
        wall_s = self._clock.wall() // S
        self.memory.connections = len(self._conns)
        reply = self._responder.answer(request, self.requests, now, wall_s, full=self._full(), bad=bad)
        self._claims += reply.wants_place
        reply.facts |= {
            "conn": conn.number,
            "conn_request": conn.served,
            "tls": self._tls is not None,
            "accepted_ns": conn.accepted_ns,
            "request_complete_ns": now,
            "admitted_ns": now,
        }
        conn.reply = reply
        if reply.facts["dialect"] is not None:
            self.memory.came()
        self.on_request()
        self._advance(conn, reply, now)

    # Sends...

    def _advance(self, conn: Conn, reply: Reply, now: int) -> None:
        """Put the next send into the timetable: where it is due, or behind what is ready now if it is late already, so
        that a stream which has much to make up does not hold up the others."""
        send = next(reply.sends)
        due = reply.base_ns + send[0]
        self._order += 1
        heapq.heappush(self._due, (due if due > now else now, self._order, conn, reply, send))

    def _play(self, conn: Conn, reply: Reply, due: int, send: Send) -> None:
        """Do one send, note it, do what comes after it."""
        _offset, data, kinds, then = send
        if then == ADMIT:
            self._admit(conn, reply, due)
            return
        if not data:
            self._after(conn, reply, then)
            return
        before = self._now()
        try:
            sent = conn.send(data)
        except OSError:
            self._drop(conn, "client")
            return
        after = self._now()
        if sent < len(data):
            conn.stuck = (data[sent:], due, before, len(data), kinds, then)
            self._selector.modify(conn.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, conn)
            return
        self._note(conn, reply, due, before, after, len(data), kinds, then)

    def _note(
        self, conn: Conn, reply: Reply, due: int, before: int, after: int, size: int, kinds: str, then: int
    ) -> None:
        """A send is done: note it, go on."""
        if self._log.on:
            reply.lines.append(send_line(due, before, after, size, kinds))
            if len(reply.lines) >= PART:
                self._log.part(reply.number, reply.lines)
                reply.lines = []
        if then:
            self._after(conn, reply, then)
        else:
            self._advance(conn, reply, after)

    def _unstick(self, conn: Conn) -> None:
        """The client reads again: send the rest."""
        assert conn.stuck is not None
        data, due, before, size, kinds, then = conn.stuck
        try:
            sent = conn.send(data)
        except OSError:
            self._drop(conn, "client")
            return
        if sent < len(data):
            conn.stuck = (data[sent:], due, before, size, kinds, then)
            return
        after = self._now()
        conn.stuck = None
        self._selector.modify(conn.sock, selectors.EVENT_READ, conn)
        assert conn.reply is not None
        conn.reply.blocked_ns += after - before
        self._note(conn, conn.reply, due, before, after, size, kinds, then)

    def _after(self, conn: Conn, reply: Reply, then: int) -> None:
        """What a send says comes after it."""
        if then == HANG:
            return
        if then == RESET:
            if conn.unsent() and conn.held_resets < PATIENCE:  # a reset would throw away what the log has as sent
                conn.held_resets += 1
                self._order += 1
                later = self._now() + MS
                heapq.heappush(self._due, (later, self._order, conn, reply, (later - reply.base_ns, b"", "", RESET)))
                return
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
            self._drop(conn, "reset")
        elif then == CLOSE:
            self._drop(conn, "closed")
        elif then == END:
            closes = reply.closes or reply.story.closes
            self._finish(conn, reply, "complete")
            if closes:
                self._goodbye(conn)
            else:
                conn.idle_since_ns = self._now()
                self._next_request(conn, conn.idle_since_ns)

    def _goodbye(self, conn: Conn) -> None:
        """Close in good order, TLS included."""
        conn.say_goodbye()
        self._drop(conn, "closed")

    def _finish(self, conn: Conn, reply: Reply, ended: str) -> None:
        """The reply is over: log it, free its place."""
        conn.reply = None
        reply.over = True
        now = self._now()
        if reply.holds_place:
            reply.holds_place = False
            self.open -= 1
        self._claims -= reply.wants_place
        if reply.facts["dialect"] is not None:
            self.memory.ended()
        story = reply.story
        counts = story.counts
        told = {"input": counts.input, "output": counts.output, "reasoning": counts.reasoning, "cached": counts.cached}
        self._log.record({
            **reply.facts, "status": story.status, "outcome": None if reply.facts["plan"] == "page" else story.outcome,
            "ended": ended, "end_ns": now, "finish": story.finish, "usage": told if story.usage_told else None,
            "blocked_ns": reply.blocked_ns,
        }, reply.lines)  # fmt: skip
        self._let_in(now)

    def _drop(self, conn: Conn, ended: str) -> None:
        """The connection ends here, for whatever reason."""
        if conn.gone:
            return
        conn.gone = True
        del self._conns[conn.number]
        self._selector.unregister(conn.sock)
        conn.sock.close()
        if conn.reply is not None:
            self._finish(conn, conn.reply, ended)

    def restart(self, now: int) -> None:
        """End as a server that is killed: every connection is reset. The sockets listen on."""
        for conn in list(self._conns.values()):
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
            self._drop(conn, "reset")
        self.memory.restart(now)

    # Capacity...

    def _full(self) -> bool:
        """Whether a further request would find neither place nor queue."""
        capacity, queue = self._options.capacity, self._options.queue
        return capacity is not None and queue is not None and self._claims >= capacity + queue

    def _admit(self, conn: Conn, reply: Reply, due: int) -> None:
        """Give the reply a place now, or let it wait."""
        if self._options.capacity is not None and self.open >= self._options.capacity:
            reply.facts["admitted_ns"] = None
            self._waiting.append((conn, reply, due))
            return
        self._take_place(reply)
        self._advance(conn, reply, due)

    def _take_place(self, reply: Reply) -> None:
        """One more generation at work; the more there are, the slower it is, where the options say so."""
        reply.holds_place = True
        reply.player.pace = 1.0 + self._options.slowdown * self.open
        self.open += 1

    def _let_in(self, now: int) -> None:
        """The first of the queue takes the free place; its schedule moves on by its wait."""
        while self._waiting and (self._options.capacity is None or self.open < self._options.capacity):
            conn, reply, due = self._waiting.popleft()
            if reply.over:
                continue
            reply.base_ns += now - due
            reply.facts["admitted_ns"] = now
            self._take_place(reply)
            self._advance(conn, reply, now)

    # Idle connections...

    def _close_idle(self, now: int) -> None:
        """Close connections idle past the limit."""
        if self._options.idle_s is None:
            return
        limit = now - round(self._options.idle_s * S)
        for conn in [c for c in self._conns.values() if c.idle_since_ns is not None and c.idle_since_ns <= limit]:
            if conn.reply is None:
                self._goodbye(conn)

    def _close_oldest_idle(self) -> None:
        """Out of descriptors: give up one idle connection."""
        idle = [c for c in self._conns.values() if c.reply is None and c.idle_since_ns is not None]
        if idle:
            self._goodbye(min(idle, key=lambda c: c.idle_since_ns or 0))
