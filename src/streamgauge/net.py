"""Sockets: names to addresses, connections that stamp what they take, TLS over the raw socket.

Rules: nothing here waits. `take` is one recvmsg: bytes and the kernel's arrival stamp of their last byte. TLS is a
MemoryBIO over the raw socket, so the stamp is of the encrypted bytes' arrival, and deciphering comes after all sockets
were drained. What the system says when it fails is mapped to an outcome here and nowhere else.
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
from functools import lru_cache

from streamgauge.drain import READ_SIZE
from streamgauge.errors import UsageError
from streamgauge.sample import Outcome
from streamgauge.stream import Stream
from streamgauge.target import Target, Tls

SO_TIMESTAMPNS = 35
"""Not in the socket module; the value is the same on every Linux architecture but sparc and parisc."""
_TIMESPEC = struct.Struct("qq")
_KERNEL_STAMPS = sys.platform == "linux"


class NetError(Exception):
    """A connection that could not be made or kept: the outcome it means, and the system's words."""

    def __init__(self, outcome: Outcome, words: str) -> None:
        super().__init__(words)
        self.outcome = outcome
        self.words = words


_OUTCOME = {
    errno.ECONNREFUSED: Outcome.CONNECT_REFUSED,
    errno.ECONNRESET: Outcome.DROPPED,
    errno.ETIMEDOUT: Outcome.CONNECT_TIMEOUT,
    errno.EMFILE: Outcome.CLIENT_LIMIT,
    errno.ENFILE: Outcome.CLIENT_LIMIT,
    errno.EADDRNOTAVAIL: Outcome.CLIENT_LIMIT,
    errno.ENOBUFS: Outcome.CLIENT_LIMIT,
    errno.ENOMEM: Outcome.CLIENT_LIMIT,
}


def net_error(error: OSError) -> NetError:
    """What a failed socket(), connect() or handshake means."""
    outcome = _OUTCOME.get(error.errno or 0, Outcome.UNREACHABLE)
    return NetError(outcome, error.strerror or str(error))


def _no_source(address: tuple[str, int], family: int) -> bool:
    """Whether this machine has no address of its own to reach `address` from.

    connect() says EADDRNOTAVAIL for that as well as when every port is taken; a datagram socket's ports are others.
    """
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            return probe.connect_ex(address) == errno.EADDRNOTAVAIL
    except OSError:
        return False


def resolve(host: str, port: int) -> tuple[tuple[str, int], ...]:
    """Every address of `host`, in the system's order. NetError (dns_error) when there is none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise NetError(Outcome.DNS_ERROR, f"{host!r} does not resolve: {words}") from None
    return tuple(dict.fromkeys((str(entry[4][0]), port) for entry in found))


def is_private(address: str) -> bool:
    """Whether an IP address is loopback, private or link-local: a machine of one's own."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    return ip.is_private or ip.is_loopback or ip.is_link_local


@lru_cache(maxsize=64)
def tls_context(tls: Tls) -> ssl.SSLContext:
    """A client context by the system's trust store or the target's own CA. UsageError names an unusable file."""
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"tls.ca = {tls.ca!r} cannot be used: {error}; it wants a PEM file of certificates") from None
    if tls.cert is not None:
        try:
            context.load_cert_chain(tls.cert, tls.key)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"tls.cert = {tls.cert!r} with tls.key = {tls.key!r} cannot be used: {error}") from None
        context.post_handshake_auth = True  # some servers ask for it only on some paths
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    "localhost".encode("idna")  # the first name loads the codec from files: now, not under load
    return context


class Connection:
    """One socket to a target, plain or TLS. States: connecting, (handshaking), ready, closed."""

    __slots__ = (
        "_incoming", "_out", "_outgoing", "_tls", "address", "broken", "carried", "ended", "id", "looked",
        "others", "ready", "request", "sock", "stamped", "stream", "target", "timer",
    )  # fmt: skip

    def __init__(self, target: Target, address: tuple[str, int], number: int) -> None:
        """Begin to connect. NetError when the system refuses at once."""
        self.target = target
        self.address = address
        self.id = number
        self.ready = False
        self.carried = 0
        self.looked = 0
        self.timer = 0
        self.request = b""
        self.others: tuple[tuple[str, int], ...] = ()
        """Addresses that were not tried yet, should this one not answer."""
        self.broken: str | None = None
        """The system's words when a send failed: nothing more can be sent, what came in before can still be read."""
        self.ended = False
        """Whether TLS said that nothing more will come; the socket may stay open."""
        self.stream: Stream | None = None
        self._out = bytearray()
        self._tls: ssl.SSLObject | None = None
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            raise net_error(error) from None
        sock.setblocking(False)
        self.sock = sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stamped = _KERNEL_STAMPS
        if _KERNEL_STAMPS:
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        try:
            code = sock.connect_ex(address)
        except OSError as error:  # an IPv6 zone that is gone
            sock.close()
            raise net_error(error) from None
        if code not in (0, errno.EINPROGRESS):
            sock.close()
            if code == errno.EADDRNOTAVAIL and _no_source(address, family):
                raise NetError(Outcome.UNREACHABLE, f"this machine has no address to reach {address[0]} from")
            raise net_error(OSError(code, os.strerror(code)))

    def __repr__(self) -> str:
        state = "ready" if self.ready else "tls" if self._tls else "connecting"
        return f"<Connection {self.id} to {self.address[0]}:{self.address[1]} {state}, carried {self.carried}>"

    def connected(self) -> bool:
        """After the socket became writable: True when usable, False when TLS is to follow. NetError when it failed."""
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == errno.ECONNRESET and self.target.secure:  # accepted, and reset before the handshake could begin
            raise NetError(Outcome.TLS_ERROR, f"{os.strerror(code)} during the TLS handshake")
        if code:
            raise net_error(OSError(code, os.strerror(code)))
        if self.sock.getsockname()[:2] == self.address:
            # Our port was the very port that we called: TCP then connects a socket with itself.
            raise NetError(Outcome.CONNECT_REFUSED, f"nothing listens on port {self.address[1]}")
        if not self.target.secure:
            self.ready = True
            return True
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = self.target.tls.server_name or self.target.host
        context = tls_context(self.target.tls)
        try:
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        except ValueError as error:
            raise NetError(Outcome.TLS_ERROR, f"{name!r} cannot be asked for by TLS: {error}") from None
        return False

    @property
    def handshaking(self) -> bool:
        """Whether TLS is being negotiated."""
        return self._tls is not None and not self.ready

    def handshake(self, data: bytes) -> bool:
        """Go on with TLS; `data` came from the peer. True when done. NetError (tls_error) when it failed."""
        assert self._tls is not None
        if data:
            self._incoming.write(data)
        try:
            self._tls.do_handshake()
            self.ready = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLCertVerificationError as error:
            raise NetError(Outcome.TLS_ERROR, f"certificate not accepted: {error.verify_message}") from None
        except ssl.SSLError as error:
            raise NetError(Outcome.TLS_ERROR, f"TLS: {error.reason or error}") from None
        self._out += self._outgoing.read()
        return self.ready

    def tls_facts(self) -> tuple[str, str] | None:
        """(protocol, cipher) of the TLS session, or None."""
        if self._tls is None or not self.ready:
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
            self._out += self._outgoing.read()
            with contextlib.suppress(OSError):  # a broken connection shows at the next read
                self.push()
        return plain[0] if len(plain) == 1 else b"".join(plain)

    def queue(self, data: bytes) -> None:
        """Have `data` sent: enciphered now, on the wire with `push`."""
        if self._tls is None:
            self._out += data
            return
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        self._out += self._outgoing.read()

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
        """Our end's port."""
        try:
            return int(self.sock.getsockname()[1])
        except OSError:
            return None

    def close(self) -> None:
        """Close the socket; nothing more is sent (no close_notify: the other side may be gone)."""
        self.sock.close()
        self._tls = None
