"""The way to a server without a request: its name, each address, TLS. Facts only; `way` says what they mean.

Rules: blocking sockets with time-outs, since nothing here is measured under load; all addresses of a name are tried at
the same time. TLS goes through memory, so that the first bytes of a server that speaks something else can be seen. A
certificate that was not accepted is looked at by two more handshakes: one without checks gives it, one that trusts
exactly this certificate has it read by OpenSSL. Nothing is ever sent over an unchecked session.
"""

from __future__ import annotations

import contextlib
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from streamgauge.clock import Clock, S
from streamgauge.fault import NetError, net_error
from streamgauge.line import Line
from streamgauge.net import addresses_of
from streamgauge.sample import Outcome
from streamgauge.target import Address, Target
from streamgauge.tls import tls_context

MOST_ADDRESSES = 8
_LOOK_S = 2.0
_OBJECT_S = 0.2
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL; the ssl module has no name for it

Trouble = Literal[
    "expired", "not_yet_valid", "self_signed", "unknown_ca", "wrong_name", "not_accepted", "plain_http", "http2_only",
    "old_tls", "client_certificate", "silent", "other",
]  # fmt: skip
"""Why TLS did not come about."""

# X509_V_ERR_* of OpenSSL (openssl-verification-options(1)).
_BY_CODE: dict[int, Trouble] = {
    9: "not_yet_valid", 10: "expired", 18: "self_signed", 19: "unknown_ca", 20: "unknown_ca", 21: "unknown_ca",
    62: "wrong_name", 64: "wrong_name",
}  # fmt: skip
_BY_WORDS: tuple[tuple[str, Trouble], ...] = (
    ("NO_APPLICATION_PROTOCOL", "http2_only"),
    ("ALERT_CERTIFICATE", "client_certificate"),
    ("ALERT_UNKNOWN_CA", "client_certificate"),
    ("ALERT_BAD_CERTIFICATE", "client_certificate"),
    ("WRONG_VERSION_NUMBER", "plain_http"),
    ("RECORD_LAYER_FAILURE", "plain_http"),
    ("PROTOCOL_VERSION", "old_tls"),
    ("UNSUPPORTED_PROTOCOL", "old_tls"),
)
"""What OpenSSL calls an error, and what that means before a session came about."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a server's certificate says of itself."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    """Hosts it is for."""
    not_before_s: int
    not_after_s: int
    """Epoch seconds."""


@dataclass(frozen=True, slots=True)
class Session:
    """A TLS session that came about."""

    version: str
    cipher: str
    ns: int
    certificate: Certificate | None


@dataclass(frozen=True, slots=True)
class Knock:
    """One address tried. Without `error` it can be used."""

    address: Address
    connect_ns: int | None = None
    session: Session | None = None
    error: NetError | None = None
    trouble: Trouble | None = None
    certificate: Certificate | None = None
    """The one that was not accepted."""
    proxy_ns: int | None = None
    """What it took to get past the proxy, once connected to it."""
    by_proxy: bool = False
    """Whether the error is the proxy's."""


@dataclass(frozen=True, slots=True)
class Way:
    """The whole way to a target."""

    addresses: tuple[Address, ...]
    resolve_ns: int
    knocks: tuple[Knock, ...]
    error: NetError | None = None
    """The name does not resolve."""

    @property
    def usable(self) -> tuple[Address, ...]:
        """Addresses that a request can go to; one that was not tried may be."""
        bad = {knock.address for knock in self.knocks if knock.error is not None}
        return () if len(bad) == len(self.knocks) else tuple(one for one in self.addresses if one not in bad)


class _PlainHttp(Exception):
    """An HTTP answer came where TLS was spoken."""


def find_way(target: Target, clock: Clock) -> Way:
    """Resolve the target's name, connect to at most eight of its addresses, speak TLS where its url says so.

    UsageError where the target's own certificate files cannot be used.
    """
    began = clock.now()
    try:
        addresses = addresses_of(target)
    except NetError as error:
        return Way((), clock.now() - began, (), error)
    took = clock.now() - began
    if target.secure or (target.proxy is not None and target.proxy.secure):
        tls_context(target.tls)
    tried = addresses[:MOST_ADDRESSES]
    with ThreadPoolExecutor(len(tried)) as pool:
        knocks = tuple(pool.map(lambda address: _knock(target, address, clock), tried))
    return Way(addresses, took, knocks)


def _knock(target: Target, address: Address, clock: Clock) -> Knock:
    """Connect to one address, and TLS."""
    timeout_s = target.limits.connect_ns / S
    began = clock.now()
    try:
        line = Line(target, address, timeout_s, clock)
    except TimeoutError:
        return Knock(address, error=NetError(Outcome.CONNECT_TIMEOUT, f"no answer within {timeout_s:g} s"))
    except OSError as error:
        return Knock(address, error=net_error(error))
    with line:
        connected = clock.now()
        took = connected - began
        try:
            line.go_through()
        except NetError as error:
            return Knock(address, took, error=error, by_proxy=True)
        through = clock.now()
        past = through - connected if target.proxy is not None else None
        if not target.secure:
            return Knock(address, took, proxy_ns=past)
        try:
            tls, incoming = _handshake(line, tls_context(target.tls), _name(target), clock, timeout_s)
            ns = clock.now() - through
            _objection(line, tls, incoming, max(3 * ns / S, _OBJECT_S))
        except (OSError, ValueError, _PlainHttp) as error:
            trouble, words = _why(error)
            bad = look_at(target, address, clock) if isinstance(error, ssl.SSLCertVerificationError) else None
            return Knock(address, took, None, NetError(Outcome.TLS_ERROR, words), trouble, bad, past)
    cipher = tls.cipher()
    known = tls.getpeercert()
    certificate = _read(known) if known else look_at(target, address, clock)
    return Knock(
        address, took, Session(tls.version() or "?", cipher[0] if cipher else "?", ns, certificate), proxy_ns=past
    )


def _name(target: Target) -> str:
    return target.tls.server_name or target.host


def _handshake(
    sock: Line, context: ssl.SSLContext, name: str, clock: Clock, timeout_s: float
) -> tuple[ssl.SSLObject, ssl.MemoryBIO]:
    """TLS over `sock`. OSError (ssl.SSLError among them) or _PlainHttp where it does not come about.

    ValueError where `name` cannot be a server's.
    """
    deadline = clock.now() + round(timeout_s * S)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    heard = b""
    while True:
        done = True
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            done = False
        sock.settimeout(max((deadline - clock.now()) / S, 0.01))
        sock.sendall(outgoing.read())
        if done:
            return tls, incoming
        data = sock.recv(65_536)
        if not data:
            raise ConnectionError("connection closed during the TLS handshake")
        heard = (heard + data)[:5]
        if heard == b"HTTP/":
            raise _PlainHttp
        incoming.write(data)


def _objection(sock: Line, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, wait_s: float) -> None:
    """ssl.SSLError where the server refuses after the handshake: TLS 1.3 tells of a missing client certificate then.

    A server that agrees mostly says so at once by sending session tickets; one that sends none costs `wait_s`.
    """
    if tls.version() != "TLSv1.3":
        return
    sock.settimeout(wait_s)
    with contextlib.suppress(TimeoutError, ssl.SSLWantReadError, ssl.SSLZeroReturnError):
        incoming.write(sock.recv(65_536))
        tls.read(1)


def _why(error: Exception) -> tuple[Trouble, str]:
    """A failed handshake as a kind of trouble, and in words."""
    if isinstance(error, _PlainHttp):
        return "plain_http", "the server answered in plain HTTP where TLS was spoken"
    if isinstance(error, ssl.SSLCertVerificationError):
        return _BY_CODE.get(error.verify_code, "not_accepted"), error.verify_message
    if isinstance(error, TimeoutError):
        return "silent", "no answer to the TLS hello in time"
    words = (error.reason if isinstance(error, ssl.SSLError) else getattr(error, "strerror", None)) or str(error)
    return tls_trouble(words), words


def tls_trouble(words: str) -> Trouble:
    """What OpenSSL's word for an error means."""
    return next((trouble for sign, trouble in _BY_WORDS if sign in words), "other")


def speaks_tls(target: Target, address: Address, clock: Clock) -> bool:
    """Whether a server that was asked in plain HTTP answers a TLS hello."""
    try:
        with _through(target, address, clock) as sock:
            _handshake(sock, _trusting(None), _name(target), clock, _LOOK_S)
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except (OSError, ValueError, NetError, _PlainHttp):
        return False
    return True


def speaks_http(target: Target, address: Address, clock: Clock) -> bool:
    """Whether a server that did not answer a TLS hello as TLS answers plain HTTP. Sends OPTIONS *, no secret."""
    try:
        with _through(target, address, clock) as sock:
            sock.settimeout(_LOOK_S)
            sock.sendall(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            heard = b""
            while len(heard) < 5 and (more := sock.recv(65_536)):
                heard += more
            return heard.startswith(b"HTTP/")
    except (OSError, NetError):
        return False


def _through(target: Target, address: Address, clock: Clock) -> Line:
    """A line past the proxy, for a short look. OSError, NetError."""
    line = Line(target, address, _LOOK_S, clock)
    try:
        line.go_through()
    except NetError:
        line.__exit__()
        raise
    return line


def look_at(target: Target, address: Address, clock: Clock) -> Certificate | None:
    """The server's certificate, accepted or not; None where it cannot be had."""
    with contextlib.suppress(OSError, ValueError, NetError, _PlainHttp):
        with _through(target, address, clock) as sock:
            tls, _ = _handshake(sock, _trusting(None), _name(target), clock, _LOOK_S)
            der = tls.getpeercert(binary_form=True)
        if der is None:
            return None
        with _through(target, address, clock) as sock:
            tls, _ = _handshake(sock, _trusting(der), _name(target), clock, _LOOK_S)
            found = tls.getpeercert()
        return _read(found) if found else None
    return None


def _trusting(der: bytes | None) -> ssl.SSLContext:
    """A context for looking only: it trusts everything, or exactly the certificate `der` whatever its dates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.set_alpn_protocols(["http/1.1"])
    if der is None:
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=der)
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    return context


def _read(found: dict[str, Any]) -> Certificate:
    """The ssl module's dict of a certificate."""

    def called(field: str) -> str:
        pairs = dict(pair for group in found.get(field, ()) for pair in group)
        return str(pairs.get("commonName") or pairs.get("organizationName") or "?")

    names = tuple(str(value) for kind, value in found.get("subjectAltName", ()) if kind in ("DNS", "IP Address"))
    return Certificate(
        called("subject"),
        called("issuer"),
        names,
        int(ssl.cert_time_to_seconds(found["notBefore"])),
        int(ssl.cert_time_to_seconds(found["notAfter"])),
    )
