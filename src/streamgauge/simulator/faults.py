"""Faults: what can go wrong with an answer, each by a name, with the outcome that it should be seen as.

Strategy: a fault rewrites the steps of an answer; whatever it does could have been written as a script. On the command
line it has a rate, `stall=0.02:5s`; a request can ask for one by name, `stall:5s`. At most one fault strikes a request.

Rules: no clock; the only randomness is the `Random` passed in. `FAULTS` is the whole list in one visible dict. A rate
is a share of requests from 0 to 1; durations have a unit (ms, s, m).
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from streamgauge.clock import MS, S
from streamgauge.errors import UsageError
from streamgauge.simulator import script
from streamgauge.simulator.script import AnyStep

MANY = 10_000_000  # tokens no request waits for
NOISE = bytes(range(128, 256)) + b"\x00\xff\xfe{]"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `rate` is None where a request asked for it. `at`: after so many events of output (None: half)."""

    name: str
    rate: float | None = None
    ns: int | None = None
    count: int | None = None
    at: int | None = None
    retry_after: str | None = None

    @property
    def before_head(self) -> bool:
        """It decides about the response head, so that nothing may be sent before it."""
        return self.at_once or self.name in ("slow-headers", "json")

    @property
    def at_once(self) -> bool:
        """The answer does not come from a model, so that it waits for no free place."""
        return self.name in ("login", "mute", "hangup", "html") or self.name not in FAULTS


Steps = Iterable[AnyStep]
Rewrite = Callable[[Steps, Fault, int], Iterator[AnyStep]]
"""(steps, fault, events of output expected) -> steps"""


def _instead(*ending: AnyStep) -> Rewrite:
    """These steps in place of the answer."""
    return lambda steps, fault, expected: iter(ending)


def _status(steps: Steps, fault: Fault, expected: int) -> Iterator[AnyStep]:
    """An HTTP error, at once."""
    code = int(fault.name)
    fields: tuple[tuple[str, str | None], ...] = ()
    if fault.retry_after is not None or code == 429:
        fields = (("retry-after", fault.retry_after or "1"),)
    yield script.Status(code, fields)


def _cut(*ending: AnyStep) -> Rewrite:
    """The answer up to the place where the fault strikes, then `ending`."""

    def rewrite(steps: Steps, fault: Fault, expected: int) -> Iterator[AnyStep]:
        for step, here in _until(steps, fault, expected):
            if here:
                yield from ending
                return
            yield step

    return rewrite


def _until(steps: Steps, fault: Fault, expected: int) -> Iterator[tuple[AnyStep, bool]]:
    """Each step, with True at the first one that comes after `at` outputs (or at the ending, if that is earlier)."""
    at = max(1, expected // 2) if fault.at is None else fault.at
    outputs = 0
    struck = False
    for step in steps:
        spoken = isinstance(step, script.OUTPUTS)
        here = not struck and ((spoken and outputs >= at) or isinstance(step, script.ENDINGS))
        struck = struck or here
        yield step, here
        outputs += spoken
    if not struck:
        yield script.Finish(), True


def _silent(steps: Steps, fault: Fault, expected: int) -> Iterator[AnyStep]:
    """The head and the opening events, then nothing."""
    return iter((script.Headers(), script.Start(), script.Stall()))


def _stall(steps: Steps, fault: Fault, expected: int) -> Iterator[AnyStep]:
    """A pause of the given length, or for ever."""
    if fault.ns is None:
        yield from _cut(script.Stall())(steps, fault, expected)
        return
    for step, here in _until(steps, fault, expected):
        if here:
            yield script.Wait(fault.ns)
        yield step


def _endless(steps: Steps, fault: Fault, expected: int) -> Iterator[AnyStep]:
    """Tokens without end, in place of the ending."""
    yield script.Meant("total_timeout")
    gap = 50 * MS if fault.ns is None else max(MS, fault.ns)
    yield from _cut(script.Tokens(MANY, gap))(steps, Fault("endless", at=MANY), expected)


def _slow_headers(steps: Steps, fault: Fault, expected: int) -> Iterator[AnyStep]:
    """Nothing at all for a while, not even the head."""
    yield script.Wait(3 * S if fault.ns is None else fault.ns)
    yield from steps


def _empty(steps: Steps, fault: Fault, expected: int) -> Iterator[AnyStep]:
    """All but the output."""
    return (step for step in steps if not isinstance(step, script.OUTPUTS))


def _last(step: AnyStep) -> Rewrite:
    """The answer with another ending, after half of it."""
    return _cut(step)


def _html(steps: Steps, fault: Fault, expected: int) -> Iterator[AnyStep]:
    """A web page with status 200."""
    page = "<!doctype html>\n<html><head><title>Sign in</title></head><body><h1>Sign in</h1></body></html>\n"
    yield script.Status(200, (("content-type", "text/html; charset=utf-8"),), page)


def _garbage(steps: Steps, fault: Fault, expected: int) -> Iterator[AnyStep]:
    """The right head, then bytes that mean nothing."""
    yield script.Meant("protocol_error")
    yield script.Headers()
    yield script.Raw(NOISE * 4)
    yield script.Truncate()


def _lump(steps: Steps, fault: Fault, expected: int) -> Iterator[AnyStep]:
    """Bursts, as a proxy that gathers sends them."""
    yield script.Lump(200 * MS if fault.ns is None else fault.ns)
    yield from steps


def _merge(steps: Steps, fault: Fault, expected: int) -> Iterator[AnyStep]:
    """Always so many steps in one write."""
    count = fault.count or 4
    left = 0
    for step in steps:
        if isinstance(step, script.OUTPUTS):
            if not left:
                yield script.Merge(count)
                left = count
            left -= 1
        yield step


def _after(*more: AnyStep) -> Rewrite:
    """The whole answer, its terminal events, and then these steps."""

    def rewrite(steps: Steps, fault: Fault, expected: int) -> Iterator[AnyStep]:
        ended = False
        for step in steps:
            yield step
            ended = ended or isinstance(step, script.ENDINGS)
        if not ended:
            yield script.Finish()
        yield from more

    return rewrite


def _wrong(steps: Steps, fault: Fault, expected: int) -> Iterator[AnyStep]:
    """An answer of the same length and pace that says something else."""
    yield script.Meant("wrong_answer")
    for step in steps:
        yield script.Text("No. ", step.tokens) if isinstance(step, script.Text) else step


def _close(steps: Steps, fault: Fault, expected: int) -> Iterator[AnyStep]:
    """The answer unchanged; the server puts `connection: close` into its head."""
    return iter(steps)


def _json(steps: Steps, fault: Fault, expected: int) -> Iterator[AnyStep]:
    """The answer unchanged; the server sends it as one JSON body."""
    yield script.Meant("protocol_error")
    yield from steps


def _no_usage(steps: Steps, fault: Fault, expected: int) -> Iterator[AnyStep]:
    """The answer without token counts."""
    yield script.Usage(told=False)
    yield from steps


FAULTS: dict[str, tuple[Rewrite, str]] = {
    # name: (rewrite, what it does and the outcome that should be seen)
    "login": (_instead(script.Status(307, (("location", "/login"),), "")), "307 to /login: auth_error"),
    "overload": (_instead(script.Fail(overloaded=True)), "overload told in the stream before any output: rate_limited"),
    "slow-headers": (_slow_headers, "the head comes late (:3s): ok"),
    "silent": (_silent, "head and opening events, then nothing: first_token_timeout"),
    "mute": (_instead(script.Stall()), "nothing at all: first_token_timeout"),
    "stall": (_stall, "a pause amid the answer (:5s), without length for ever: stall_timeout"),
    "endless": (_endless, "tokens that never end (:50ms apart): total_timeout"),
    "drop": (_cut(script.Drop()), "connection closed amid the answer (:at=N outputs): dropped"),
    "reset": (_cut(script.Reset()), "connection reset amid the answer (:at=N): dropped"),
    "hangup": (_instead(script.Drop()), "connection closed before the head: dropped"),
    "truncate": (_cut(script.Truncate()), "message whole, terminal event missing (:at=N): truncated"),
    "error": (_cut(script.Fail()), "an error inside the stream (:at=N): stream_error"),
    "empty": (_empty, "terminal events but no output: empty"),
    "filter": (_last(script.Finish("content_filter")), "stopped by a content filter (:at=N): filtered"),
    "refuse": (_instead(script.Refuse()), "a refusal: filtered"),
    "length": (_last(script.Finish("length")), "cut by a token limit (:at=N): length_capped"),
    "html": (_html, "200 with a web page: protocol_error"),
    "json": (_json, "200 with a JSON body instead of a stream: protocol_error"),
    "garbage": (_garbage, "200, the right head, senseless bytes: protocol_error"),
    "lump": (_lump, "tokens in bursts (:200ms): ok"),
    "merge": (_merge, "so many tokens in each write (:4): ok"),
    "keep-open": (_after(script.Stall()), "terminal events, then the message is never ended: ok, kept open"),
    "wrong": (_wrong, "another answer than the expected one: wrong_answer where a check looks"),
    "close": (_close, "connection: close after the answer: ok"),
    "no-usage": (_no_usage, "no token counts told: ok"),
}
STATUS = re.compile(r"[45]\d\d")
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)")
UNITS = {"ms": MS, "s": S, "m": 60 * S}
EXAMPLE = "--fault drop=0.01 --fault stall=0.02:5s --fault 429=0.1:retry-after=2"


def parse(text: str, *, rated: bool = True) -> Fault:
    """A fault out of `name=rate[:option...]`, or of `name[:option...]` where not `rated`.

    UsageError names the wrong part and what is allowed.
    """
    first, *options = text.split(":")
    name, sign, number = first.partition("=")
    if name not in FAULTS and not STATUS.fullmatch(name):
        near = difflib.get_close_matches(name, FAULTS, n=1)
        meant = f"did you mean {near[0]!r}? There" if near else "there"
        allowed = ", ".join(FAULTS)
        raise UsageError(f"fault {name!r} is unknown; {meant} are {allowed}, and any HTTP status from 400 to 599")
    rate: float | None = None
    if rated:
        rate = _rate(text, number) if sign else 1.0
    elif sign:
        raise UsageError(f"fault {text!r}: a request asks for a fault without a rate, such as {name!r}")
    given: dict[str, object] = {}
    for option in options:
        given |= _option(text, option)
    return Fault(name, rate, **given)  # type: ignore[arg-type]  # _option yields just these fields


def _rate(text: str, number: str) -> float:
    """A share of requests."""
    try:
        rate = float(number)
    except ValueError:
        rate = math.nan
    if not 0 <= rate <= 1:
        raise UsageError(f"fault {text!r}: the rate must be a number from 0 to 1, as in {EXAMPLE}")
    return rate


def _option(text: str, option: str) -> dict[str, object]:
    """One option: a duration, a count, at=N, retry-after=VALUE."""
    key, sign, value = option.partition("=")
    if found := DURATION.fullmatch(option):
        return {"ns": round(float(found.group(1)) * UNITS[found.group(2)])}
    if option.isascii() and option.isdigit():
        return {"count": int(option)}
    if key == "at" and sign and value.isascii() and value.isdigit():
        return {"at": int(value)}
    if key == "retry-after" and value and value.isprintable():
        return {"retry_after": value}
    raise UsageError(
        f"fault {text!r}: option {option!r} is neither a duration (5s, 200ms), a count, at=N nor retry-after=SECONDS"
    )


def rewrite(fault: Fault, steps: Steps, expected: int) -> Iterator[AnyStep]:
    """The steps of an answer that this fault strikes."""
    if fault.name in FAULTS:
        return FAULTS[fault.name][0](steps, fault, expected)
    return _status(steps, fault, expected)


def pick(faults: Sequence[Fault], random: Random) -> Fault | None:
    """At most one of the faults, each with its rate. Rates over 1 in sum leave the later ones less."""
    draw = random.random()
    for fault in faults:
        assert fault.rate is not None
        if draw < fault.rate:
            return fault
        draw -= fault.rate
    return None


def unreliable(failing: float) -> tuple[Fault, ...]:
    """The ways in which a provider loses a share of its requests, in equal parts."""
    return tuple(Fault(name, failing / 4) for name in ("500", "drop", "truncate", "error"))
