"""One connection: its socket, what came in, the reply that is going out."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import sys
from dataclasses import dataclass, field

from streamgauge.simulator.respond import Reply
from streamgauge.simulator.wire import Inbox

SIOCOUTQNSD = 0x894B
"""Asks Linux for the bytes that are not sent yet (linux/sockios.h)."""

Stuck = tuple[bytes, int, int, int, str, int]
"""(bytes left, due, before, size, kinds, then) of a send that the client's buffers cut short."""


@dataclass(slots=True, eq=False)
class Conn:
    """A connection, plain or TLS. `greeting`: its handshake is under way."""

    sock: socket.socket
    number: int
    accepted_ns: int
    greeting: bool = False
    inbox: Inbox = field(default_factory=Inbox)
    reply: Reply | None = None
    stuck: Stuck | None = None
    served: int = 0
    idle_since_ns: int | None = None
    gone: bool = False
    held_resets: int = 0
    """How often a reset waited for what is still unsent."""

    def receive(self) -> bytes | None:
        """What there is; b"" when the client closed; None when there is nothing after all. OSError when it broke."""
        try:
            data = self.sock.recv(262_144)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        if not isinstance(self.sock, ssl.SSLSocket):
            return data
        # What TLS has already decrypted wakes no selector: take it now.
        while data and self.sock.pending():
            with contextlib.suppress(ssl.SSLWantReadError):
                data += self.sock.recv(262_144)
        return data

    def send(self, data: bytes) -> int:
        """How much the socket took; 0 when it is full. OSError when the connection is broken."""
        try:
            return self.sock.send(data)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0

    def unsent(self) -> int:
        """Bytes that a send() took and the system still holds back (pacing, a full window); 0 where it does not say."""
        if sys.platform != "linux":
            return 0
        import fcntl  # not everywhere

        return int(struct.unpack("i", fcntl.ioctl(self.sock.fileno(), SIOCOUTQNSD, bytes(4)))[0])

    def say_goodbye(self) -> None:
        """The TLS close notice, as far as it goes without waiting."""
        if isinstance(self.sock, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):
                self.sock.unwrap()
