"""What a proxy on the way tells: which one, by whose word, and whether it lets us pass. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from streamgauge.check.finding import Finding, fail, ms, ok, shown_ms, warn
from streamgauge.check.knock import Knock
from streamgauge.proxies import Proxy
from streamgauge.sample import Outcome
from streamgauge.target import Target

DIRECT = 'proxy = "none" (--proxy none) connects directly, where this machine can'
_NEXT = {
    Outcome.AUTH_ERROR: "the proxy does not let this through: ask who runs it to allow the target's host and port",
    Outcome.UNREACHABLE: "the proxy could not reach the target: check its host and port, or take another proxy",
    Outcome.CONNECT_TIMEOUT: "the proxy waited for the target, or was silent itself: check the target's host and port",
    Outcome.PROTOCOL_ERROR: "no HTTP proxy listens there: check its port, and whether its url begins with https://",
    Outcome.TLS_ERROR: "check whether the proxy's own url begins with http:// or https://, and trust its CA by tls.ca",
    Outcome.DROPPED: "check that this is an HTTP proxy and that it may CONNECT to the target's port",
}


def through(target: Target, proxy: Proxy, connected: Sequence[Knock]) -> Finding:
    """The proxy's line, by what each of its addresses did."""
    by = f"{proxy.shown} ({proxy.source or 'named for this target'})"
    if proxy.authorization is not None:
        by += ", with credentials,"
    facts: dict[str, object] = {
        "proxy": proxy.shown,
        "source": proxy.source or "proxy",
        "credentials": proxy.authorization is not None,
        "tunnel": target.secure,
    }
    refused = [knock for knock in connected if knock.by_proxy and knock.error is not None]
    good = [knock for knock in connected if not knock.by_proxy]
    if not good:
        error = refused[0].error
        assert error is not None
        return fail("proxy", error.words, f"{next_step(proxy, error.outcome, error.words)}; {DIRECT}", **facts)
    took = good[0].proxy_ns or 0
    facts["proxy_ms"] = ms(took)
    if target.secure:
        text = f"{by} opened the way to {target.host}:{target.port} in {shown_ms(took)}"
    else:
        text = f"{by} is asked for {target.origin} itself: an http target's answers pass through its hands"
    if refused:
        assert refused[0].error is not None
        return warn("proxy", f"{text}; but {refused[0].error.words}", "a run takes all its addresses in turn", **facts)
    return ok("proxy", text, **facts)


def next_step(proxy: Proxy, outcome: Outcome, words: str) -> str:
    """What to do about a refusal of the proxy's."""
    if "407" not in words:
        return _NEXT.get(outcome, "see the words above")
    if "asks for" in words and "asks for basic" not in words.lower():
        return "only Basic can be sent: let it offer Basic, or put a local proxy in between that knows the rest"
    if proxy.authorization is None:
        host = proxy.shown.partition("://")[2]
        return f'give it user and password: proxy = "{proxy.scheme}://USER:${{PROXY_PASSWORD}}@{host}"'
    return f"user or password of {proxy.source or 'proxy'} is wrong (special characters are percent-encoded there)"
