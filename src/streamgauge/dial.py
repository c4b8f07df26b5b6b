"""Making a connection: the race of a name's addresses, the way through a proxy, TLS. Bytes and the user clock only.

Strategy: a `Dial` is one request's way to a `Connection`. Its attempts run beside the measured path: the loop calls
`advance` after it has drained and fed its streams. What follows on TCP is written as one generator that is sent what
the peer said, so that it reads in the order in which it happens.

Rules, by RFC 8305: where an address does not answer within 250 ms the next is called beside it, where it refuses at
once; the first to be connected wins, the others are closed. After that there is no second choice: a proxy's refusal or
a bad certificate is the answer. All of it happens within the request's connect time.

The garbage collector rests under load: no exception is kept past its handler, or its frames would keep everything.

`connect` ends when bytes can be sent to the target: behind a proxy that is after the proxy's own TLS and its answer to
CONNECT. `tls` is the handshake with the target alone.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Generator
from functools import partial
from typing import Protocol

from streamgauge.clock import MS
from streamgauge.fault import NetError
from streamgauge.net import READ_SIZE, Connection, check_connected, open_socket
from streamgauge.sample import Outcome
from streamgauge.stream import Stream
from streamgauge.target import AGENT, Address, Target
from streamgauge.tls import Layer, Sessions, proxy_tls, tls_context
from streamgauge.tunnel import Reply, connect_request

ATTEMPT_DELAY_NS = 250 * MS
"""Until the next address is called beside one that does not answer: RFC 8305 5, Connection Attempt Delay."""
BACKLOG_NS = 10 * MS
"""Until a Unix socket whose backlog was full is called again."""
IN, OUT = 1, 4  # EPOLLIN and EPOLLOUT

Steps = Generator[None, bytes, None]
"""What follows on TCP: it is sent what the peer said, b"" at its end."""


class Board(Protocol):
    """What dialling needs of the loop."""

    now: Callable[[], int]
    sessions: Sessions
    looked: int
    """When this turn's events were not there yet."""

    def watch(self, fd: int, ready: Callable[[], None], mask: int = IN) -> None:
        """Call `ready` after a turn in which `fd` was."""

    def rewatch(self, fd: int, mask: int) -> None:
        """Wait for something else on it."""

    def unwatch(self, fd: int) -> None:
        """Forget it."""

    def number(self) -> int:
        """A number for a connection."""

    def wake(self, dial: Dial, at_ns: int) -> None:
        """Call the dial's `ring` at this time."""

    def on_dialled(self, dial: Dial, conn: Connection | None, error: NetError | None) -> None:
        """It is over: a connection, an error, or neither where the stream ended by its own clock."""


class Attempt:
    """One address being called."""

    __slots__ = ("address", "connected", "inner", "looked", "lost", "number", "out", "outer", "sock", "steps")

    def __init__(self, address: Address, number: int, sock: socket.socket) -> None:
        self.address, self.number, self.sock = address, number, sock
        self.connected = False
        self.outer: Layer | None = None
        """TLS with the proxy."""
        self.inner: Layer | None = None
        """TLS with the target."""
        self.out = bytearray()
        self.steps: Steps | None = None
        self.looked = 0
        self.lost = "connection closed"
        """The system's words for why nothing more came."""

    def say(self, data: bytes) -> None:
        """Have `data` sent, through the proxy's TLS where that is up."""
        self.out += data if self.outer is None else self.outer.seal(data)

    def heard(self) -> bytes | None:
        """What the peer said, b"" at its end (`lost`); None where that was nothing that could be read yet."""
        try:
            data = self.sock.recv(READ_SIZE)
            return data if self.outer is None or not data else self.outer.open(data) or None
        except BlockingIOError:
            return None
        except EOFError:
            return b""
        except ssl.SSLError as error:
            self.lost = f"TLS with the proxy: {error.reason or error}"
        except OSError as error:
            self.lost = error.strerror or str(error)
        return b""


class Dial:
    """One request's way to a connection. `start` it; the board hears how it ended."""

    __slots__ = (
        "_acted", "_board", "_error", "_left", "_next_at", "_open", "over", "request", "stream", "target", "timer",
    )  # fmt: skip

    def __init__(
        self, board: Board, stream: Stream, target: Target, request: bytes, addresses: tuple[Address, ...]
    ) -> None:
        self.stream, self.target, self.request = stream, target, request
        self.timer = 0
        """When `ring` is called next; kept by the loop."""
        self.over = False
        self._board = board
        self._left = list(addresses)
        self._open: list[Attempt] = []
        self._next_at: int | None = None
        self._error: NetError | None = None
        self._acted = 0
        """When we last did something about it: what comes before `looked` or this is no lateness of ours."""

    def __repr__(self) -> str:
        return f"<Dial for {self.target.name}: {len(self._open)} under way, {len(self._left)} left>"

    def start(self) -> None:
        """Call the first address."""
        self._call()

    def ring(self, now: int) -> None:
        """The request's time is up, or the next address is due."""
        deadline = self.stream.deadline
        if deadline is not None and deadline <= now:
            self.stream.on_timer(now)
            self._end(None, None)
        elif self._next_at is not None and self._next_at <= now:
            self._call()
        else:
            self._wake()

    def close(self) -> None:
        """Give it up."""
        self.over = True
        for attempt in self._open:
            self._board.unwatch(attempt.sock.fileno())
            attempt.sock.close()
        self._open.clear()

    # Calling addresses.

    def _call(self) -> None:
        """Call the next address; of those that refuse at once, the one after."""
        board = self._board
        self._next_at = None
        while self._left and self._next_at is None:
            address = self._left.pop(0)
            try:
                sock = open_socket(address)
            except BlockingIOError:
                self._left.insert(0, address)
                self._next_at = board.now() + BACKLOG_NS
                break
            except NetError as error:
                self._error = self._by_proxy(error).bare()
            else:
                self._begin(Attempt(address, board.number(), sock))
                break
            if not _may_go_on(self._error):
                self._end(None, self._error)
                return
        if self._open or self._next_at is not None:
            self._wake()
        else:
            self._end(None, self._error)

    def _begin(self, attempt: Attempt) -> None:
        self._open.append(attempt)
        self._on_stream(attempt)
        self._acted = self._board.now()
        self._board.watch(attempt.sock.fileno(), partial(self.advance, attempt), OUT)
        if self._left:
            self._next_at = self._board.now() + ATTEMPT_DELAY_NS

    def _on_stream(self, attempt: Attempt) -> None:
        stream = self.stream
        stream.conn, stream.conn_requests, stream.peer = attempt.number, 0, attempt.address[0]

    def _wake(self) -> None:
        times = [at for at in (self.stream.deadline, self._next_at) if at is not None]
        if times:
            self._board.wake(self, min(times))

    def _give_up(self, attempt: Attempt, error: NetError) -> None:
        """One address did not come about: the next one now, where that may help; the others go on."""
        self._open.remove(attempt)
        with contextlib.suppress(OSError):
            attempt.sock.send(attempt.out)  # an alert of TLS: why we leave
        self._board.unwatch(attempt.sock.fileno())
        attempt.sock.close()
        self._error = error
        if attempt.connected or not _may_go_on(error):
            self._end(None, error)
        elif self._left:
            self._call()
        elif not self._open:
            self._end(None, error)

    # What follows on a socket.

    def advance(self, attempt: Attempt) -> None:
        """Something happened on its socket."""
        if self.over or attempt not in self._open:
            return
        now = self._board.now()
        self.stream.late_ns += max(now - max(self._board.looked, self._acted), 0)
        self._acted = now
        try:
            if attempt.steps is None:
                self._connected(attempt)
            else:
                self._go_on(attempt)
            return
        except NetError as error:
            failed = error.bare()
        self._give_up(attempt, failed)

    def _connected(self, attempt: Attempt) -> None:
        """TCP is up: this address has won."""
        proxy = self.target.proxy
        try:
            check_connected(attempt.sock, attempt.address, secure=self.target.secure and proxy is None)
        except NetError as error:
            raise self._by_proxy(error) from None
        attempt.connected = True
        attempt.looked = self._board.now()
        self._left.clear()
        self._next_at = None
        for other in [one for one in self._open if one is not attempt]:
            self._open.remove(other)
            self._board.unwatch(other.sock.fileno())
            other.sock.close()
        self._on_stream(attempt)
        attempt.steps = self._set_up(attempt)
        self._step(attempt, None)

    def _go_on(self, attempt: Attempt) -> None:
        if attempt.out:
            self._push(attempt)
        before = self._board.now()
        data = attempt.heard()
        attempt.looked = before
        if data is not None:
            self._step(attempt, data)

    def _step(self, attempt: Attempt, data: bytes | None) -> None:
        """Let the generator go on with what the peer said (None: begin); when it returns, the connection is ready."""
        steps = attempt.steps
        assert steps is not None
        try:
            next(steps) if data is None else steps.send(data)
        except StopIteration:
            pass
        else:
            self._push(attempt)
            return
        self._open.remove(attempt)
        self._board.unwatch(attempt.sock.fileno())
        conn = Connection(
            self.target, attempt.address, attempt.number, attempt.sock, attempt.inner, attempt.outer,
            looked=attempt.looked, unsent=attempt.out,
        )  # fmt: skip
        self._end(conn, None)

    def _push(self, attempt: Attempt) -> None:
        """Send what is waiting; where there is no room, go on when there is."""
        try:
            while attempt.out:
                del attempt.out[: attempt.sock.send(attempt.out)]
        except BlockingIOError:
            self._board.rewatch(attempt.sock.fileno(), IN | OUT)
            return
        except OSError:  # what the peer said before it closed may still lie unread: it says why
            attempt.out.clear()
        self._board.rewatch(attempt.sock.fileno(), IN)

    def _set_up(self, attempt: Attempt) -> Steps:
        """From a connected socket to one that carries requests."""
        target, stream, now = self.target, self.stream, self._board.now
        proxy = target.proxy
        rest = b""
        if proxy is not None and proxy.secure:
            stream.awaits = f"TLS session with the proxy {proxy.shown}"
            layer = Layer(tls_context(proxy_tls(target.tls)), proxy.host)
            try:
                yield from _shake(attempt, layer)
            except NetError as error:
                raise self._by_proxy(error) from None
            attempt.outer = layer
        if proxy is not None and target.secure:
            reply = Reply(proxy, target.host, target.port)
            stream.awaits = reply.awaited
            attempt.say(connect_request(proxy, target.host, target.port, AGENT))
            rest = yield from _opened(attempt, reply)
        stream.on_connected(now())
        if target.secure:
            context = tls_context(target.tls)
            session = self._board.sessions.find(target, attempt.address, context)
            layer = Layer(context, target.tls.server_name or target.host, session)
            yield from _shake(attempt, layer, rest)
            attempt.inner = layer
            stream.on_secured(now(), resumed=layer.resumed)

    def _by_proxy(self, error: NetError) -> NetError:
        """`error`, which is the proxy's where there is one."""
        proxy = self.target.proxy
        return error if proxy is None else NetError(error.outcome, f"the proxy {proxy.shown}: {error.words}")

    def _end(self, conn: Connection | None, error: NetError | None) -> None:
        self.close()
        self._board.on_dialled(self, conn, error)


def _may_go_on(error: NetError) -> bool:
    """Whether another address may do better."""
    return error.outcome in (Outcome.CONNECT_REFUSED, Outcome.UNREACHABLE, Outcome.CONNECT_TIMEOUT)


def _listen(attempt: Attempt, lost: Callable[[str], NetError]) -> Generator[None, bytes, bytes]:
    """What the peer says next. `lost` makes an error of the words of its leaving."""
    data = yield
    if not data:
        raise lost(attempt.lost)
    return data


def _shake(attempt: Attempt, layer: Layer, data: bytes = b"") -> Steps:
    """A TLS handshake; `data` came from the peer already."""

    def lost(words: str) -> NetError:
        return NetError(Outcome.TLS_ERROR, f"{words} during the TLS handshake")

    while True:
        try:
            done = layer.shake(data)
        finally:
            attempt.say(layer.said())  # an alert, too
        if done:
            return
        data = yield from _listen(attempt, lost)


def _opened(attempt: Attempt, reply: Reply) -> Generator[None, bytes, bytes]:
    """The proxy's answer to CONNECT; what came behind it."""
    while True:
        rest = reply.feed((yield from _listen(attempt, reply.lost)))
        if rest is not None:
            return rest
