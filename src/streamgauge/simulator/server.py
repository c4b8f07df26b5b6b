"""Runs a simulator: listening sockets, signals, leak, end.

Rules: the process ends by itself on SIGINT, SIGTERM, after `for_s`, and when its parent is gone. What is under way then
is logged as `shutdown`. The ready line leaves when the sockets listen.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from streamgauge.clock import Clock, S, SystemClock
from streamgauge.errors import StorageError, UsageError
from streamgauge.simulator.engine import Engine
from streamgauge.simulator.options import Options
from streamgauge.simulator.truth import TruthLog

MB = 1_000_000


@dataclass(slots=True)
class Leak:
    """Memory that is kept for ever: real pages, each one written to."""

    per_request_bytes: int
    per_hour_bytes: int
    kept: list[bytes] = field(default_factory=list)
    _since_ns: int = 0
    _owed: int = 0

    def request(self) -> None:
        """A request came."""
        if self.per_request_bytes:
            self.kept.append(b"\x01" * self.per_request_bytes)

    def tick(self, now: int) -> None:
        """Time passed; pieces of at least 64 KB, so that the allocator takes them from the system."""
        if not self.per_hour_bytes:
            return
        if self._since_ns == 0:
            self._since_ns = now
        owed = (now - self._since_ns) * self.per_hour_bytes // (3600 * S) - self._owed
        if owed >= 65_536:
            self.kept.append(b"\x01" * owed)
            self._owed += owed


def bind(host: str, port: int) -> list[socket.socket]:
    """Bound sockets: both families for `localhost` and `all` as far as the machine has them, on one port."""
    pairs = {
        "localhost": [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")],
        "all": [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")],
    }.get(host, [(socket.AF_INET6 if ":" in host else socket.AF_INET, host)])
    for _attempt in range(20):
        sockets: list[socket.socket] = []
        taken = port
        try:
            for family, address in pairs:
                sock = _bind_one(family, address, taken, optional=bool(sockets))
                if sock is not None:
                    sockets.append(sock)
                    taken = sock.getsockname()[1]
            return sockets
        except OSError as e:
            for sock in sockets:
                sock.close()
            if port != 0 or not sockets:
                raise UsageError(
                    f"cannot listen on {host} port {port}: {e.strerror or e}. "
                    "Give a free --port (0 picks one) or another --host"
                ) from None
    raise UsageError(f"no port is free on every address of {host}; give one with --port")


def _bind_one(family: socket.AddressFamily, address: str, port: int, *, optional: bool) -> socket.socket | None:
    """One bound socket; None where the machine lacks the family and another one is there."""
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        if optional:
            return None
        raise
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
    except OSError as e:
        sock.close()
        if optional and e.errno != errno.EADDRINUSE:  # with a taken one the caller tries another port
            return None
        raise
    return sock


def tls_context(options: Options) -> ssl.SSLContext | None:
    """The server's TLS, where a certificate is given. HTTP/1.1 is offered by ALPN."""
    if options.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(options.tls_cert, options.tls_key)
    except (OSError, ssl.SSLError) as e:
        raise UsageError(
            f"TLS certificate {options.tls_cert!r} with key {options.tls_key!r} cannot be used: {e}"
        ) from None
    return context


def serve(options: Options, ready: Callable[[int], None], clock: Clock | None = None) -> int:
    """Run until told to stop; the number of requests answered. `ready` gets the port once the server listens.

    Call it in the main thread of a process of its own: it takes the signals and tunes the collector. UsageError for
    options that cannot work, StorageError for a log that cannot be written.
    """
    options.check()
    clock = SystemClock() if clock is None else clock
    _raise_descriptor_limit()
    context = tls_context(options)
    sockets = bind(options.host, options.port)
    try:
        log = TruthLog(options.log)
    except OSError as e:
        raise StorageError(f"truth log {options.log!r} cannot be written: {e.strerror}. Give another --log") from None
    engine = Engine(options, clock, log, context)
    for sock in sockets:
        engine.listen(sock)
    leak = Leak(round(options.leak_mb_per_request * MB), round(options.leak_mb_per_hour * MB))
    engine.on_request = leak.request
    stop = _Stop(options, clock.now())
    with stop.signals(engine):
        ready(sockets[0].getsockname()[1])
        # A large collection would hold up every stream at once: many small ones, and what is here now stays anyway.
        gc.collect()
        gc.freeze()
        gc.set_threshold(5_000, 100, 1_000)

        def tick(now: int) -> bool:
            leak.tick(now)
            if engine.memory.over(now):
                engine.restart(now)
            return not stop.due(now)

        engine.run(tick)
    log.close()
    return engine.requests


class _Stop:
    """Knows when to stop."""

    def __init__(self, options: Options, now: int) -> None:
        self._at_ns = None if options.for_s is None else now + round(options.for_s * S)
        self._parent = options.parent_pid
        self._asked = False

    def due(self, now: int) -> bool:
        """A signal came, the time is over, or the parent is gone."""
        if self._parent is not None and os.getppid() != self._parent:
            return True
        return self._asked or (self._at_ns is not None and now >= self._at_ns)

    @contextlib.contextmanager
    def signals(self, engine: Engine) -> Iterator[None]:
        """SIGINT and SIGTERM ask for the end and wake the loop; the old handlers come back after."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        engine.watch(ours)

        def ask(signum: int, frame: object) -> None:
            self._asked = True

        old = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in old.items():
                signal.signal(number, handler)
            theirs.close()


def _raise_descriptor_limit() -> None:
    """As many descriptors as the system allows: two for a stream are gone quickly."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
