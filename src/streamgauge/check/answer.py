"""What a good answer tells: status, TTFT, events, usage, finish; and another dialect than the one asked for. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

from streamgauge.check.finding import Finding, fail, ms, ok, shown_ms, warn
from streamgauge.client import Answer
from streamgauge.dialects import recognise_event
from streamgauge.dialects.contract import OUTPUT
from streamgauge.target import Target
from streamgauge.who import Who


def status(answer: Answer, who: Who) -> tuple[str, dict[str, object]]:
    """The status and who answered, in words and as values."""
    code = answer.sample.http_status
    assert code is not None
    phrase = f" {HTTPStatus(code).phrase}" if code in set(HTTPStatus) else ""
    return f"{code}{phrase}, {who.words}", {"http_status": code, "answered_by": who.by, "way": list(who.way)}


def answer_findings(answer: Answer, who: Who) -> Iterator[Finding]:
    """The findings of an answer that ended well, or was still going on when its time was over."""
    text, facts = status(answer, who)
    yield ok("status", text, **facts)
    yield _ttft(answer)
    yield _events(answer)
    yield _usage(answer)
    yield _finish(answer)


def _ttft(answer: Answer) -> Finding:
    sample = answer.sample
    ttft = answer.metric("ttft_service_ms")
    facts: dict[str, object] = {
        "ttft_service_ms": ttft,
        "ttfr_ms": answer.metric("ttfr_ms"),
        "ttfb_ms": answer.metric("ttfb_ms"),
        "e2e_ms": answer.metric("e2e_ms"),
        "slack_ms": ms(sample.first_token_slack_ns),
    }
    if ttft is None:
        return warn("ttft", "no visible text came", "raise max_tokens, or judge ttfr_ms for a reasoning model", **facts)
    text = f"{ttft:,.0f} ms"
    if sample.first_token_slack_ns:
        text += f", to within {sample.first_token_slack_ns / 1e6:.1f} ms"
    if sample.first_reasoning_ns is not None and sample.sent_ns is not None:
        text += f"; reasoning from {shown_ms(sample.first_reasoning_ns - sample.sent_ns)} on"
    return ok("ttft", text, **facts)


def _events(answer: Answer) -> Finding:
    sample = answer.sample
    facts: dict[str, object] = {
        "events": len(answer.events),
        "text_events": sample.text_events,
        "reasoning_events": sample.reasoning_events,
        "tool_events": sample.tool_events,
        "unknown_events": sample.unknown_events,
        "malformed_events": sample.malformed_events,
    }
    told = [f"{sample.text_events} with text"]
    told += [f"{n} {kind}" for n, kind in (
        (sample.reasoning_events, "with reasoning"), (sample.tool_events, "with tool calls"),
        (sample.unknown_events, "unknown"), (sample.malformed_events, "not readable"),
    ) if n]  # fmt: skip
    text = f"{len(answer.events)} events, {', '.join(told)}"
    if sample.malformed_events:
        return warn(
            "events", text, "the server sends events that are no JSON of this dialect: look at its log", **facts
        )
    return ok("events", text, **facts)


def _usage(answer: Answer) -> Finding:
    sample = answer.sample
    facts: dict[str, object] = {
        "input_tokens": sample.input_tokens,
        "output_tokens": sample.output_tokens,
        "reasoning_tokens": sample.reasoning_tokens,
        "cached_tokens": sample.cached_tokens,
    }
    if sample.output_tokens is None:
        return warn("usage", "not on the wire: tokens are counted as text events", "rates are events a second", **facts)
    came = "?" if sample.input_tokens is None else f"{sample.input_tokens:,}"
    return ok("usage", f"{came} tokens in, {sample.output_tokens:,} out", **facts)


def _finish(answer: Answer) -> Finding:
    sample = answer.sample
    facts: dict[str, object] = {
        "finish": sample.finish, "outcome": str(sample.outcome), "model": sample.model, "kept_open": sample.kept_open,
    }  # fmt: skip
    text = f"{sample.finish or 'no reason given'} ({sample.outcome})"
    if not sample.good:
        return warn("finish", f"{text}: {sample.error}", "a run has no such limit: bound the answer's length", **facts)
    if sample.kept_open:
        step = "end the response after the last event, or each request holds its connection a second longer"
        return warn("finish", f"{text}, but the server leaves the message open", step, **facts)
    return ok("finish", text, **facts)


def other_dialect(target: Target, answer: Answer) -> Finding | None:
    """A finding where the events are of another dialect than the target's."""
    if any(trace.bits & OUTPUT for trace in answer.events):
        return None
    spoken = (recognise_event(trace.event, trace.data) for trace in answer.events[:50])
    found = next((name for name in spoken if name is not None), None)
    if found is None or found == target.dialect:
        return None
    step = f'set dialect = "{found}" for this target (--dialect {found})'
    return fail("dialect", f"this is {found}, not {target.dialect}", step, spoken=found, asked=target.dialect)
