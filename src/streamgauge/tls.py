"""TLS over memory: contexts, the handshake, and sessions that a later connection resumes. No I/O.

A `Layer` takes bytes of the peer and gives bytes for it. Where a proxy itself speaks TLS, the target's layer runs
inside the proxy's: what the outer one opens is what the inner one takes.

Resumption: the session of a target's last connection to an address is offered to the next one (tickets, in TLS 1.3 and
1.2), as browsers and SDKs do; `tls.resume` off makes each handshake a full one. A session is bound to the context it
was made with, so it never crosses trust settings.
"""

from __future__ import annotations

import ssl
from functools import lru_cache

from streamgauge.errors import UsageError
from streamgauge.fault import NetError
from streamgauge.sample import Outcome
from streamgauge.target import Address, Target, Tls

READ_SIZE = 65_536


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


def proxy_tls(tls: Tls) -> Tls:
    """How TLS is spoken with a proxy: by the target's trust settings, without its client certificate and name."""
    return Tls(verify=tls.verify, ca=tls.ca)


class Layer:
    """One TLS session: `shake` until it is up, then `open` what came and `seal` what goes."""

    __slots__ = ("incoming", "outgoing", "tls")

    def __init__(self, context: ssl.SSLContext, name: str, session: ssl.SSLSession | None = None) -> None:
        """NetError (tls_error) where `name` cannot be a server's."""
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name, session=session)
        except ValueError as error:
            raise NetError(Outcome.TLS_ERROR, f"{name!r} cannot be asked for by TLS: {error}") from None

    def shake(self, data: bytes) -> bool:
        """Go on with the handshake; `data` came from the peer. True when done. NetError (tls_error) when it failed."""
        if data:
            self.incoming.write(data)
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLCertVerificationError as error:
            raise NetError(Outcome.TLS_ERROR, f"certificate not accepted: {error.verify_message}") from None
        except ssl.SSLError as error:
            raise NetError(Outcome.TLS_ERROR, f"TLS: {error.reason or error}") from None
        return True

    def said(self) -> bytes:
        """What TLS wants to send."""
        return self.outgoing.read()

    def open(self, data: bytes) -> bytes:
        """The plain bytes in what came. EOFError at the peer's close_notify, ssl.SSLError where it cannot go on."""
        self.incoming.write(data)
        plain = []
        try:
            while piece := self.tls.read(READ_SIZE):
                plain.append(piece)
        except ssl.SSLWantReadError:
            return b"".join(plain)
        except ssl.SSLZeroReturnError:
            pass
        if plain:
            return b"".join(plain)
        raise EOFError

    def seal(self, data: bytes) -> bytes:
        """`data` as it goes on the wire."""
        view = memoryview(data)
        while view:
            view = view[self.tls.write(view) :]
        return self.outgoing.read()

    @property
    def facts(self) -> tuple[str, str]:
        """(protocol, cipher)."""
        cipher = self.tls.cipher()
        return self.tls.version() or "?", cipher[0] if cipher else "?"

    @property
    def resumed(self) -> bool:
        """Whether the handshake took up an earlier session."""
        return bool(self.tls.session_reused)


class Sessions:
    """The last session of each target and address."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, Address], tuple[ssl.SSLContext, ssl.SSLSession]] = {}

    def find(self, target: Target, address: Address, context: ssl.SSLContext) -> ssl.SSLSession | None:
        """What to offer in the next handshake; None where there is none or none is wanted."""
        made_with, session = self._kept.get((target.name, address), (None, None))
        return session if target.tls.resume and made_with is context else None

    def keep(self, target: Target, address: Address, tls: ssl.SSLObject) -> None:
        """Remember a session that can be resumed. In TLS 1.3 its ticket comes after the handshake."""
        session = tls.session if target.tls.resume else None
        if session is not None and (session.has_ticket or tls.version() != "TLSv1.3"):
            self._kept[target.name, address] = tls.context, session
