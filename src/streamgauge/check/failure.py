"""What a bad answer means and what to do next, secrets told by their places. Pure.

Auth: which of the headers that carry secrets were sent, which were sent empty, and which ones that such a target
usually wants were not. Only names are told, never values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import parse_qsl

from streamgauge.check.answer import other_dialect, status
from streamgauge.check.by_proxy import next_step
from streamgauge.check.finding import Finding, fail
from streamgauge.check.knock import tls_trouble
from streamgauge.check.pace import cut
from streamgauge.check.way import GIVE_CERTIFICATE, WANTS_CERTIFICATE, WRONG_CERTIFICATE
from streamgauge.client import Answer
from streamgauge.sample import Outcome
from streamgauge.secrets import is_sensitive
from streamgauge.target import Target
from streamgauge.who import Who

References = Mapping[str, Sequence[str]]
"""Header in lower case -> the variables whose values it holds."""

_NEXT = {
    Outcome.RATE_LIMITED: "wait, or use a key with more quota; set rpm for the run",
    Outcome.HTTP_ERROR: "the words above are the server's own: its log says more",
    Outcome.PROTOCOL_ERROR: "check path and dialect, and that the body asks for a stream",
    Outcome.FIRST_TOKEN_TIMEOUT: "the server took the request and gave nothing: look at its log",
    Outcome.STALL_TIMEOUT: "the stream stood still: look for a time-out between you and the model",
    Outcome.TRUNCATED: "the answer ended without its terminal event: look for a proxy or a crash behind it",
    Outcome.DROPPED: "the connection ended half-way: look for a time-out of a proxy or load balancer",
    Outcome.EMPTY: "the answer held no output: raise max_tokens, or look at the model's own log",
    Outcome.STREAM_ERROR: "the words above are the server's own: its log says more",
}
_BY_STATUS = {
    400: "the body is not what the route takes: set body, or dialect",
    404: "check the path",
    405: "check the path: this one takes no POST",
    413: "the body is too large for the server",
    415: "the body's media type is not what the route takes: set the content-type header",
    422: "the body's shape is not what the route takes: set body",
}
_NO_CERTIFICATE = ("No required SSL certificate was sent", "client certificate required")
_BODIES = (
    (b'0:"', "the AI SDK 4 data stream, which is no dialect here", "stream by AI SDK 5: toUIMessageStreamResponse()"),
    (b"<", "a web page", "check the path; a login page or the app's front end may answer here"),
    (b"{", "one whole JSON answer", "have the body ask for a stream (stream: true), or take the path that streams"),
    (b"[", "one whole JSON answer", "gemini streams events only with ?alt=sse; others want stream: true in the body"),
)
"""How a 200 body begins that is no event stream: what it is, and the next step."""
_MODEL = re.compile(r"(?<![/{\w])model(?!\w)", re.I)
"""A word about the model; not one in a path, as in /models/{model}."""
_USUAL = {
    "openai-chat": ("authorization",),
    "anthropic": ("x-api-key",),
    "gemini": ("x-goog-api-key",),
    "ai-sdk": ("cookie", "x-csrf-token"),
}
"""Headers by which such a target usually knows its callers."""
_GATES = (
    ("location", "cloudflareaccess.com", "Cloudflare Access", "cf-access-client-id and cf-access-client-secret"),
    ("set-cookie", "_vercel_sso_nonce", "Vercel's deployment protection", "x-vercel-protection-bypass"),
)
"""(response header, sign in it, who stands before the app, the headers that let a machine through)."""


def failure_findings(
    target: Target, answer: Answer, who: Who, *, references: References, expects_tls: bool
) -> Iterator[Finding]:
    """The findings of an answer that did not end well; the last is a `fail`."""
    sample = answer.sample
    if expects_tls:
        yield fail("tls", "this port speaks TLS; the url says http", "write https:// in the url", trouble="speaks_tls")
        return
    words = sample.error or "no words"
    if _wants_certificate(words):
        step = WRONG_CERTIFICATE if target.tls.cert else GIVE_CERTIFICATE
        yield fail("tls", WANTS_CERTIFICATE, step, trouble="client_certificate", words=words)
        return
    code = sample.http_status
    facts: dict[str, object] = {"outcome": str(sample.outcome), "words": words}
    if code is not None and code != 200:
        text, told = status(answer, who)
        auth = sample.outcome is Outcome.AUTH_ERROR
        then = (
            None if auth else _redirect(answer) or cut(sample) or _by_status(code, words) or _NEXT.get(sample.outcome)
        )
        if sample.retry_after_s is not None:
            text += f", Retry-After {sample.retry_after_s:g} s"
        facts |= {**told, "location": answer.headers.get("location"), "retry_after_s": sample.retry_after_s}
        yield fail("status", f"{text}: {words}", then, **facts)
        if code == 407 and target.proxy is not None:
            asks = answer.headers.get("proxy-authenticate", "").partition(" ")[0]
            step = next_step(target.proxy, sample.outcome, f"407 asks for {asks}" if asks else "407")
            yield fail("proxy", f"{target.proxy.shown} wants credentials", step, asks=asks or None)
            return
        if auth:
            yield _auth(target, answer, who, references)
        return
    if code is not None:
        text, told = status(answer, who)
        yield Finding("ok", "status", text, None, told)
    other = other_dialect(target, answer)
    if other is not None:
        yield other
        return
    what, remedy = _body(answer)
    text = f"{sample.outcome}: {what}{words}"
    yield fail("answer", text, remedy or cut(sample) or _NEXT.get(sample.outcome, "see the words above"), **facts)


def _wants_certificate(words: str) -> bool:
    """TLS 1.3 tells it only after the request (an alert); nginx by a 400 of its own."""
    return tls_trouble(words) == "client_certificate" or any(sign.lower() in words.lower() for sign in _NO_CERTIFICATE)


def _redirect(answer: Answer) -> str | None:
    location = answer.headers.get("location")
    if location is None:
        return None
    return f"ask for {location.partition('?')[0]} itself: only a 307 or 308 within one origin is followed"


def _by_status(code: int, words: str) -> str | None:
    if code in (400, 404) and _MODEL.search(words):
        return "check model: the server does not take this one"
    return _BY_STATUS.get(code)


def _body(answer: Answer) -> tuple[str, str | None]:
    """(what a body that is no stream looks like, the next step)."""
    if answer.outcome is not Outcome.PROTOCOL_ERROR:
        return "", None
    body = answer.body.lstrip()
    if body.startswith(b"{") and b"}\n{" in body.replace(b"\r", b""):
        return "JSON lines, no events. ", "take the path that speaks this dialect (Ollama: /v1/chat/completions)"
    return next(((f"{what}. ", step) for sign, what, step in _BODIES if body.startswith(sign)), ("", None))


def _auth(target: Target, answer: Answer, who: Who, references: References) -> Finding:
    """Which secrets were sent, and what to do about it."""
    sent = sent_headers(target, references)
    told = ", ".join(f"{name} {state if state == 'yes' else state.upper()}" for name, state in sent.items())
    text = f"sent: {told or 'no header with a secret'}"
    asks = answer.headers.get("www-authenticate", "").split(" ")[0].rstrip(",")
    if asks:
        text += f"; the server asks for {asks}"
    return fail("auth", text, _auth_next(answer, who, sent, references), sent=sent, asks=asks or None)


def _auth_next(answer: Answer, who: Who, sent: dict[str, str], references: References) -> str:
    for header, sign, gate, names in _GATES:
        if sign in answer.headers.get(header, ""):
            return f"{gate} stands before the app: send {names}"
    if who.in_between and not answer.headers.get("location"):
        return f"{who.by} refused it, not the app: let this machine's address or user agent through there"
    empty = [name for name, state in sent.items() if state == "empty"]
    if empty:
        return f"{', '.join(empty)} was sent without a value: give it one, as in ${{NAME}} from .env.streamgauge"
    given = [name for name, state in sent.items() if state == "yes"]
    held = [f"${{{one}}}" for name in given for one in references.get(name, ())]
    refused = f"the value of {', '.join(held or given)} is refused: expired, or of another environment?"
    missing = [name for name, state in sent.items() if state == "no"]
    if missing:
        example = ", ".join(f'{name} = "{_form(name)}"' for name in missing)
        step = f"add what a browser or client sends: headers = {{ {example} }} (with --url: -H 'Name: value')"
        return f"{step}; if it is there, {refused}" if given else step
    return refused


def sent_headers(target: Target, references: References) -> dict[str, str]:
    """{name of a header with a secret, or that such a target usually wants: yes, empty or no}."""
    found: dict[str, str] = {}
    for name, value in target.headers:
        if name.lower() in references or is_sensitive(name):
            found[name.lower()] = "empty" if _blank(value) else "yes"
    for name, value in parse_qsl(target.path.partition("?")[2], keep_blank_values=True):
        if is_sensitive(name):
            found[f"{name} (in the url)"] = "yes" if value else "empty"
    by_token = any("csrf" in name or "xsrf" in name for name in found)
    for name in _USUAL.get(target.dialect, ()) if target.dialect == "ai-sdk" or not found else ():
        if not (by_token and name == "x-csrf-token"):
            found.setdefault(name, "no")
    if "cookie" in found and not by_token:
        found.setdefault("x-csrf-token", "no")
    return found


def _blank(value: str) -> bool:
    """Whether nothing, or a scheme alone, would be sent."""
    return value.strip().lower() in ("", "bearer", "basic", "token")


def _form(name: str) -> str:
    variable = name.removeprefix("x-").replace("-", "_").upper()
    return "Bearer ${API_KEY}" if name == "authorization" else f"${{{variable}}}"
