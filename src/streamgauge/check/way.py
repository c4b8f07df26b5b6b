"""What the way to a server tells: resolve, connect, TLS. Pure: facts of `knock` in, findings out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from streamgauge.check.by_proxy import DIRECT as _DIRECT
from streamgauge.check.by_proxy import through
from streamgauge.check.finding import Finding, fail, ms, ok, shown_ms, warn
from streamgauge.check.knock import Certificate, Knock, Way
from streamgauge.sample import Outcome
from streamgauge.target import Address, Target

SOON_DAYS = 14
_DAY_S = 86_400
WANTS_CERTIFICATE = "the server wants a client certificate"
GIVE_CERTIFICATE = 'set tls = { cert = "client.pem", key = "client.key" }'
WRONG_CERTIFICATE = "the server does not take the client certificate of tls.cert: use one that its CA signed"

_SPELLING = "check the spelling of the host, and whether this machine may resolve it (VPN, /etc/hosts, search domain)"


def way_findings(target: Target, way: Way, wall_s: float) -> Iterator[Finding]:
    """The findings in the order of the way; the last is a `fail` where no address can be used.

    `wall_s` is epoch seconds.
    """
    if target.proxy is None and target.proxy_note is not None:
        yield ok("proxy", f"none: {target.proxy_note}", proxy=None)
    yield _resolve(target, way)
    if way.error is not None:
        return
    connected = [knock for knock in way.knocks if knock.connect_ns is not None]
    yield _connect(target, way, connected)
    if connected and target.proxy is not None:
        yield through(target, target.proxy, connected)
        connected = [knock for knock in connected if not knock.by_proxy]
    if connected and target.secure:
        yield _tls(target, connected, wall_s)


def _resolve(target: Target, way: Way) -> Finding:
    took = shown_ms(way.resolve_ns)
    if way.error is not None:
        return fail(
            "resolve",
            f"{way.error.words} ({took})",
            _SPELLING if target.proxy is None else f"check the proxy's url; {_DIRECT}",
            addresses=[],
            resolve_ms=ms(way.resolve_ns),
        )
    ips = [ip for ip, _ in way.addresses]
    facts = {"addresses": ips, "resolve_ms": ms(way.resolve_ns)}
    if target.socket:
        return ok("resolve", f"{target.socket} is a Unix socket: nothing to resolve", **facts)
    host, whose = (target.host, "") if target.proxy is None else (target.proxy.host, "the proxy ")
    if ips == [host]:
        return ok("resolve", f"{whose}{host} is an address: nothing to resolve", **facts)
    return ok("resolve", f"{whose}{host} is {', '.join(ips)} ({took})", **facts)


_CONNECT_NEXT = {
    Outcome.CONNECT_REFUSED: "nothing listens there: start the service, or check host and port",
    Outcome.CONNECT_TIMEOUT: "packets get lost on the way: check firewall, security group and port",
    Outcome.UNREACHABLE: "no route from here: check VPN, firewall and address",
    Outcome.CLIENT_LIMIT: "this machine is out of descriptors or ports: raise ulimit -n",
}


def _connect(target: Target, way: Way, connected: list[Knock]) -> Finding:
    refused = [knock for knock in way.knocks if knock.connect_ns is None]
    said = "; ".join(f"{show(one.address)}: {one.error.words}" for one in refused if one.error is not None)
    facts: dict[str, object] = {
        "connect_ms": {show(knock.address): ms(knock.connect_ns) for knock in way.knocks},
        "errors": {show(knock.address): knock.error.words for knock in refused if knock.error is not None},
    }
    if not connected:
        step = _CONNECT_NEXT.get(refused[0].error.outcome, "see the words above") if refused[0].error else ""
        if target.socket:
            step = "nothing listens there: start the service, or check the path of its socket"
        if target.proxy is not None:
            said = f"the proxy {target.proxy.shown}: {said}"
            step = f"{step}; {_DIRECT}"
        return fail("connect", said, step, **facts)
    text = ", ".join(
        f"{show(one.address)} in {shown_ms(one.connect_ns)}" for one in connected if one.connect_ns is not None
    )
    if refused:
        local = target.host == "localhost"
        step = "write 127.0.0.1 or [::1] in place of localhost" if local else "take it out of the name's records"
        return warn(
            "connect",
            f"{text}; but {said}",
            f"a run takes all addresses in turn, so requests to that one fail or come late: {step}",
            **facts,
        )
    untried = len(way.addresses) - len(way.knocks)
    return ok("connect", text + (f"; {untried} more not tried" if untried else ""), **facts)


def _tls(target: Target, connected: list[Knock], wall_s: float) -> Finding:
    good = [knock for knock in connected if knock.session is not None]
    bad = [knock for knock in connected if knock.session is None]
    if not good:
        return _refused(target, bad[0], wall_s)
    session = good[0].session
    assert session is not None
    text = f"{session.version} {session.cipher} in {shown_ms(session.ns)}, "
    text += "verified" if target.tls.verify else "NOT verified (tls.verify = false)"
    facts: dict[str, object] = {
        "version": session.version, "cipher": session.cipher, "tls_ms": ms(session.ns), "verified": target.tls.verify,
    }  # fmt: skip
    days: float | None = None
    seen = session.certificate
    if seen is not None:
        days = (seen.not_after_s - wall_s) / _DAY_S
        text += f"; certificate by {seen.issuer} until {_day(seen.not_after_s)}"
        facts |= _told(seen) | {"days_left": round(days, 1)}
    if bad:
        words = bad[0].error.words if bad[0].error is not None else "?"
        step = "a run takes all addresses in turn: repair that one, or take it out of the name's records"
        return warn("tls", f"{text}; but {show(bad[0].address)}: {words}", step, **facts)
    if not target.tls.verify:
        return warn("tls", text, 'fine for a test; tls = { ca = "ca.pem" } keeps the check with an own CA', **facts)
    if days is not None and days < SOON_DAYS:
        return warn("tls", f"{text}, {days:.0f} days from now", "renew it in time", **facts)
    return ok("tls", text, **facts)


def _told(seen: Certificate) -> dict[str, object]:
    return {
        "subject": seen.subject,
        "issuer": seen.issuer,
        "names": list(seen.names),
        "not_before": _day(seen.not_before_s),
        "not_after": _day(seen.not_after_s),
    }


def _refused(target: Target, knock: Knock, wall_s: float) -> Finding:
    """TLS did not come about."""
    assert knock.error is not None
    seen = knock.certificate
    text, step = _words(target, knock, wall_s)
    facts: dict[str, object] = {"trouble": knock.trouble or "other", "words": knock.error.words}
    return fail("tls", text, step, **facts, **(_told(seen) if seen is not None else {}))


def _words(target: Target, knock: Knock, wall_s: float) -> tuple[str, str]:
    """(what is wrong, the next step) of a handshake that failed."""
    assert knock.error is not None
    seen, said = knock.certificate, knock.error.words
    by = f' by "{seen.issuer}"' if seen is not None else ""
    trust = 'trust its CA: tls = { ca = "ca.pem" }; for a test alone, no check: tls = { verify = false }'
    if target.tls.ca is not None:
        trust = "tls.ca does not hold the CA that signed it: put the right one there, intermediates too"
    match knock.trouble:
        case "self_signed":
            return "the certificate is self-signed", trust.replace("its CA", "this certificate")
        case "unknown_ca":
            other = "; or have the server send its intermediate certificate"
            return f"the certificate was signed{by}, an own CA or one that is not known here", trust + other
        case "expired":
            when = "" if seen is None else f" on {_day(seen.not_after_s)}, {_days(wall_s - seen.not_after_s)} ago"
            return f"the certificate{by} expired{when}", "renew it on the server; or is this machine's clock wrong?"
        case "not_yet_valid":
            when = "yet" if seen is None else f"before {_day(seen.not_before_s)}"
            return f"the certificate{by} is not valid {when}", "set this machine's clock right, or wait"
        case "wrong_name":
            names = ", ".join(seen.names[:5]) if seen is not None and seen.names else "other names"
            first = seen.names[0] if seen is not None and seen.names else "NAME"
            step = f'ask a host of the certificate, or say which one is meant: tls = {{ server_name = "{first}" }}'
            return f"the certificate is for {names}, not for {target.tls.server_name or target.host}", step
        case "not_accepted":
            return f"the certificate{by} is not accepted: {said}", f"have it made anew without this fault, or {trust}"
        case "plain_http":
            return "this port speaks plain HTTP, not TLS", "write http:// in the url, or give the port that speaks TLS"
        case "http2_only":
            return "the server refuses HTTP/1.1 over TLS (it may speak HTTP/2 only)", "let it offer http/1.1 by ALPN"
        case "old_tls":
            return f"no common TLS version: {said}", "let the server offer TLS 1.2 or 1.3"
        case "client_certificate":
            return WANTS_CERTIFICATE, WRONG_CERTIFICATE if target.tls.cert else GIVE_CERTIFICATE
        case _:
            step = "check that this port speaks TLS and that no proxy cuts in between"
            if "HANDSHAKE_FAILURE" in said:
                step = f"if the server wants a client certificate: {GIVE_CERTIFICATE}; else its ciphers are not ours"
            return f"TLS did not come about: {said}", step


def _days(seconds: float) -> str:
    days = seconds / _DAY_S
    return f"{days:,.0f} days" if days >= 2 else f"{seconds / 3600:.0f} hours"


def _day(epoch_s: int) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d")


def show(address: Address) -> str:
    """`ip:port`."""
    ip, port = address
    if ip.startswith("/"):
        return ip
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
