"""Sockets: names to addresses, connections that stamp what they take, TLS over the raw socket.

Rules: nothing here waits. `take` is one recvmsg: bytes and the kernel's arrival stamp of their last byte. TLS is a
MemoryBIO over the raw socket, so the stamp is of the encrypted bytes' arrival, and deciphering comes after all sockets
were drained. An address is (IP, port), or (path, 0) for a Unix socket, for which the kernel keeps no stamps. How a
connection is made (the race of addresses, a proxy, the handshake) is `dial`'s.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import ssl
import struct
import sys
from collections.abc import Callable

from streamgauge.drain import READ_SIZE
from streamgauge.fault import NetError, net_error
from streamgauge.sample import Outcome
from streamgauge.stream import Stream
from streamgauge.target import Address, Target
from streamgauge.tls import Layer, tls_context

__all__ = [
    "READ_SIZE", "Connection", "NetError", "addresses_of", "check_connected", "is_private", "is_this_machine",
    "net_error", "open_socket", "resolve", "tls_context",
]  # fmt: skip

SO_TIMESTAMPNS = 35
"""Not in the socket module; the value is the same on every Linux architecture but sparc and parisc."""
_TIMESPEC = struct.Struct("qq")
_KERNEL_STAMPS = sys.platform == "linux"
_INET = (socket.AF_INET, socket.AF_INET6)


def _no_source(address: Address, family: int) -> bool:
    """Whether this machine has no address of its own to reach `address` from.

    connect() says EADDRNOTAVAIL for that as well as when every port is taken; a datagram socket's ports are others.
    """
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            return probe.connect_ex(address) == errno.EADDRNOTAVAIL
    except OSError:
        return False


def resolve(host: str, port: int) -> tuple[Address, ...]:
    """Every address of `host`, in the system's order. NetError (dns_error) when there is none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise NetError(Outcome.DNS_ERROR, f"{host!r} does not resolve: {words}") from None
    return tuple(dict.fromkeys((str(entry[4][0]), port) for entry in found))


def addresses_of(target: Target) -> tuple[Address, ...]:
    """Where to connect for `target`: its proxy's addresses, its own, or its Unix socket. NetError (dns_error)."""
    if target.socket:
        return ((target.socket, 0),)
    if target.proxy is None:
        return resolve(target.host, target.port)
    try:
        return resolve(target.proxy.host, target.proxy.port)
    except NetError as error:
        raise NetError(error.outcome, f"the proxy {target.proxy.shown}: {error.words}") from None


def is_private(address: str) -> bool:
    """Whether an IP address is loopback, private or link-local: a machine of one's own."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    return ip.is_private or ip.is_loopback or ip.is_link_local


def is_this_machine(address: str) -> bool:
    """Whether what is connected to at `address` runs on this machine: a Unix socket, or an address of its own."""
    if address.startswith("/"):
        return True
    ip = ipaddress.ip_address(address.partition("%")[0])
    if ip.is_loopback or ip.is_unspecified:
        return True
    import psutil  # here: not every start of the command line needs it

    own = (one.address for several in psutil.net_if_addrs().values() for one in several if one.family in _INET)
    return any(ip == ipaddress.ip_address(one.partition("%")[0]) for one in own)


def open_socket(address: Address) -> socket.socket:
    """A socket that began to connect. NetError when the system refuses at once; BlockingIOError: ask again soon."""
    host, _ = address
    unix = host.startswith("/")
    family = socket.AF_UNIX if unix else socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise net_error(error) from None
    sock.setblocking(False)
    try:
        if not unix:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if _KERNEL_STAMPS:
                sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        code = sock.connect_ex(host if unix else address)
    except OSError as error:  # an IPv6 zone that is gone, a path that is too long
        sock.close()
        raise net_error(error) from None
    if code in (0, errno.EINPROGRESS):
        return sock
    sock.close()
    if unix and code == errno.EAGAIN:  # its backlog is full, and nothing will tell when it is not
        raise BlockingIOError(code, os.strerror(code))
    if code == errno.EADDRNOTAVAIL and _no_source(address, family):
        raise NetError(Outcome.UNREACHABLE, f"this machine has no address to reach {host} from")
    raise net_error(OSError(code, f"{host}: {os.strerror(code)}" if unix else os.strerror(code)))


def check_connected(sock: socket.socket, address: Address, *, secure: bool) -> None:
    """After the socket became writable: NetError when it is not connected. `secure`: TLS is spoken on it first."""
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code == errno.ECONNRESET and secure:  # accepted, and reset before the handshake could begin
        raise NetError(Outcome.TLS_ERROR, f"{os.strerror(code)} during the TLS handshake")
    if code:
        raise net_error(OSError(code, os.strerror(code)))
    if sock.family != socket.AF_UNIX and sock.getsockname()[:2] == address:
        # Our port was the very port that we called: TCP then connects a socket with itself.
        raise NetError(Outcome.CONNECT_REFUSED, f"nothing listens on port {address[1]}")


class Connection:
    """One socket that can carry requests to a target, plain or TLS, perhaps through a proxy that speaks TLS itself."""

    __slots__ = (
        "_incoming", "_out", "_outer", "_outgoing", "_port", "_tls", "address", "blocked", "broken", "carried",
        "ended", "good_until", "id", "looked", "opened_ns", "request", "since_ns", "sock", "stream", "target", "timer",
    )  # fmt: skip

    def __init__(
        self,
        target: Target,
        address: Address,
        number: int,
        sock: socket.socket,
        tls: Layer | None = None,
        outer: Layer | None = None,
        *,
        looked: int = 0,
        unsent: bytes | bytearray = b"",
    ) -> None:
        """`sock` is connected; `tls` and `outer` (a proxy's own) have shaken hands, with `unsent` still to go.

        `looked`: when nothing lay there to be read.
        """
        self.target = target
        self.address = address
        self.id = number
        self.carried = 0
        self.looked = looked
        self.timer = 0
        self.request = b""
        self.good_until: int | None = None
        """Until when the server keeps it while it is idle, where it said so."""
        self.broken: str | None = None
        """The system's words when a send failed: nothing more can be sent, what came in before can still be read."""
        self.blocked = False
        """Whether there was no room for the rest of the request."""
        self.opened_ns = self.since_ns = looked
        """When it could be used; since when it is as idle or busy as it is."""
        self.ended = False
        """Whether TLS said that nothing more will come; the socket may stay open."""
        self.stream: Stream | None = None
        self.sock = sock
        self._port: int | None = None
        self._out = bytearray(unsent)
        self._outer = outer
        self._tls: ssl.SSLObject | None = None
        if tls is not None:
            self._tls, self._incoming, self._outgoing = tls.tls, tls.incoming, tls.outgoing

    def __repr__(self) -> str:
        host, port = self.address
        return f"<Connection {self.id} to {host}:{port}{' TLS' if self._tls else ''}, carried {self.carried}>"

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS session with the target."""
        return self._tls

    @property
    def secret(self) -> bool:
        """Whether what is read must be deciphered."""
        return self._tls is not None or self._outer is not None

    @property
    def flushed(self) -> bool:
        """Whether all that was queued is on the wire."""
        return not self._out

    def tls_facts(self) -> tuple[str, str] | None:
        """(protocol, cipher) of the TLS session, or None."""
        if self._tls is None:
            return None
        cipher = self._tls.cipher()
        return self._tls.version() or "?", cipher[0] if cipher else "?"

    def take(self) -> tuple[bytes, int]:
        """One read: (bytes, CLOCK_REALTIME ns at which their last byte arrived, 0 where the kernel did not say).

        b"" is the end of the stream. BlockingIOError when there was nothing; other OSErrors are a reset.
        """
        data, ancillary, _, _ = self.sock.recvmsg(READ_SIZE, 64)
        if ancillary:
            seconds, ns = _TIMESPEC.unpack_from(ancillary[0][2])
            return data, seconds * 1_000_000_000 + ns
        return data, 0

    def stale(self) -> bool:
        """Whether an idle connection was closed or spoke unasked: it can carry no other request."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def decipher(self, data: bytes) -> bytes:
        """The plain bytes in what was taken. NetError (dropped) when there are none and TLS cannot go on."""
        if self._outer is not None:
            data = self._peel(data)
        tls = self._tls
        if tls is None:
            return data
        self._incoming.write(data)
        plain = []
        try:
            while piece := tls.read(READ_SIZE):
                plain.append(piece)
            self.ended = True  # close_notify
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            words = f"TLS: {error.reason or error}"
            if not plain:
                raise NetError(Outcome.DROPPED, words) from None
            self.ended, self.broken = True, words
        if self._outgoing.pending:  # TLS itself was asked something
            self._out += self._wrapped(self._outgoing.read())
            with contextlib.suppress(OSError):  # a broken connection shows at the next read
                self.push()
        return plain[0] if len(plain) == 1 else b"".join(plain)

    def _peel(self, data: bytes) -> bytes:
        """What was taken, out of a proxy's own TLS."""
        assert self._outer is not None
        try:
            data = self._outer.open(data)
        except EOFError:
            self.ended = True
            return b""
        except ssl.SSLError as error:
            raise NetError(Outcome.DROPPED, f"TLS with the proxy: {error.reason or error}") from None
        self._out += self._outer.said()
        return data

    def _wrapped(self, data: bytes) -> bytes:
        return data if self._outer is None else self._outer.seal(data)

    def queue(self, data: bytes) -> None:
        """Have `data` sent: enciphered now, on the wire with `push`."""
        if self._tls is not None:
            view = memoryview(data)
            while view:
                view = view[self._tls.write(view) :]
            data = self._outgoing.read()
        self._out += self._wrapped(data)

    def push(self) -> bool:
        """Send what is queued; True when nothing is left. OSError is a reset."""
        out = self._out
        try:
            while out:
                del out[: self.sock.send(out)]
        except BlockingIOError:
            return False
        return True

    def push_last(self, now: Callable[[], int]) -> int | None:
        """Send what is queued: the time just before the send() that took the last byte, None if bytes are left."""
        out = self._out
        before = now()
        try:
            while out:
                before = now()
                del out[: self.sock.send(out)]
        except BlockingIOError:
            return None
        return before

    @property
    def local_port(self) -> int | None:
        """Our end's port; a Unix socket has none."""
        if self._port is None and self.sock.family != socket.AF_UNIX:
            with contextlib.suppress(OSError):
                self._port = int(self.sock.getsockname()[1])
        return self._port

    def close(self) -> None:
        """Close the socket; nothing more is sent (no close_notify: the other side may be gone)."""
        self.sock.close()
        self._tls = self._outer = None
