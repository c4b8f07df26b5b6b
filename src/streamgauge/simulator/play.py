"""Plays a script: each step becomes what the API says at that point, and that becomes writes.

Strategy: `Player.play` is a lazy generator, so an answer without end costs no memory and an event is put together one
write ahead of its time. The engine asks for the next `Send` when it has done the last one.

Rules: no I/O, no clock. Offsets are ns since the request was complete; the engine adds them to its base. `Story` is
what the log will say about the answer: what it is meant to be, by the outcomes of the product's own list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from streamgauge.simulator.pack import ADMIT, CLOSE, END, HANG, RESET, Packer, Send, joined
from streamgauge.simulator.script import (
    MAX_STEPS,
    Abort,
    Admit,
    AnyStep,
    Comment,
    Drop,
    Fail,
    Finish,
    Headers,
    Lump,
    Meant,
    Merge,
    Ping,
    Raw,
    Reasoning,
    Refuse,
    Reset,
    Split,
    Stall,
    Start,
    Status,
    Step,
    Text,
    Tool,
    Truncate,
    Usage,
    Wait,
    Wire,
)  # fmt: skip
from streamgauge.simulator.voices.api import Api, Counts, Event, Fields, Voice, Whole
from streamgauge.simulator.wire import Bare, Framing, head

SAYS = (Text, Reasoning)
GOOD = {"length": "length_capped", "content_filter": "filtered"} | dict.fromkeys(
    ("other", "unknown", "interrupted"), "truncated"
)


@dataclass(slots=True)
class Story:
    """What an answer is meant to be, filled in as it is played."""

    outcome: str | None = None
    fixed: bool = False
    """A script or fault said the outcome itself."""
    status: int | None = None
    finish: str | None = None
    counts: Counts = field(default_factory=Counts)
    usage_told: bool = False
    said: bool = False
    """Some output has been put together."""
    closes: bool = False
    """The head says `connection: close`."""

    def means(self, outcome: str) -> None:
        """Note the outcome, unless it is fixed."""
        if not self.fixed:
            self.outcome = outcome


def status_outcome(code: int, location: str | None, body: bytes) -> str:
    """What a whole response with this status means to a client that wanted a stream."""
    if code in (401, 403) or (300 <= code < 400 and "login" in (location or "")):
        return "auth_error"
    if code in (429, 529) or (code == 503 and b"overloaded" in body):
        return "rate_limited"
    return "protocol_error" if code < 300 else "http_error"


class Player:
    """One answer being played. `pace` stretches every wait (load)."""

    def __init__(self, api: Api, voice: Voice, story: Story, framing: Framing, fields: Fields, request_id: str) -> None:
        self._api = api
        self._voice = voice
        self._story = story
        self._packer = Packer(framing)
        self._fields = fields
        self._request_id = request_id
        self._usage: Usage | None = None
        self._headed = False
        self._started = False
        self.pace = 1.0

    def play(self, steps: Iterable[AnyStep]) -> Iterator[Send]:
        """Every write of the answer; the last one says END, CLOSE, RESET or HANG."""
        at, finished = 0, False
        pending: list[Send] = []  # the terminal events: they leave together with the end, if that comes at once
        for step in steps:
            if isinstance(step, Wait):
                at += step.ns if self.pace == 1.0 else round(step.ns * self.pace)
                continue
            if pending:
                yield from pending
                pending = []
            if isinstance(step, SAYS):
                if not self._started:
                    yield from self._open(at)
                yield from self._packer.emit(at, self._say(step))
            elif isinstance(step, Finish | Refuse | Fail | Abort):
                yield from self._open(at)
                pending = self._packer.emit(at, self._conclude(step))
                finished = True
            elif isinstance(step, Drop | Reset | Stall | Truncate):
                yield from self._stop(at, step, finished)
                return
            elif isinstance(step, Status):
                yield self._whole_response(at, step)
                return
            else:
                yield from self._other(at, step)
        if not finished:
            yield from self._open(at)
            pending = self._packer.emit(at, self._conclude(Finish()))
        yield from joined([*pending, *self._packer.end(at)])

    def play_whole(self, steps: Iterable[AnyStep]) -> Iterator[Send]:
        """The same answer to a request that wants no stream: one JSON body, when its last part would have been said."""
        at, answer = 0, Whole()
        texts: list[str] = []  # put together once: others wait meanwhile
        thoughts: list[str] = []
        for number, step in enumerate(steps):
            if number > MAX_STEPS:  # an answer without end never becomes a body
                yield from self._stop(at, Stall(), False)
                return
            if isinstance(step, Wait):
                at += round(step.ns * self.pace)
            elif isinstance(step, Text):
                self._say(step)
                texts.append(step.text)
            elif isinstance(step, Reasoning):
                self._say(step)
                thoughts.append(step.text)
            elif isinstance(step, Tool):
                self._story.said = True
                self._story.counts.output += 1
                answer.tools.append((step.name, step.args))
            elif isinstance(step, Refuse):
                texts, answer.finish = [step.text], "content_filter"
            elif isinstance(step, Finish):
                answer.finish = step.reason
            elif isinstance(step, Drop | Reset | Stall):
                yield from self._stop(at, step, False)
                return
            elif isinstance(step, Status | Fail | Truncate | Abort):
                yield self._whole_response(at, step if isinstance(step, Status) else Status(500))
                return
            elif isinstance(step, Usage | Meant | Admit):
                yield from self._other(at, step)
        answer.text, answer.reasoning = "".join(texts), "".join(thoughts)
        self._conclude(Finish(answer.finish))
        body = self._voice.whole(answer)
        fields = dict(self._voice.headers(at)) | dict(self._fields)
        fields |= {"content-type": "application/json", "content-length": str(len(body))}
        self._story.status = 200
        self._story.closes = "close" in fields.get("connection", "")
        yield (at, head(200, fields) + body, "headers body end", END)

    # What the API says...

    def _open(self, at: int) -> list[Send]:
        """The head and the opening events, once, in a write of their own."""
        if self._started:
            return []
        self._started = True
        self._make_head(at)
        return self._packer.write(at, self._voice.start()) or self._packer.flush_head(at)

    def _make_head(self, at: int, extra: Iterable[tuple[str, str | None]] = ()) -> None:
        """Make the response head, once."""
        if self._headed:
            return
        self._headed = True
        self._story.status = 200
        fields: dict[str, str] = dict(self._voice.headers(at)) | dict(self._packer.framing.fields) | dict(self._fields)
        for name, value in extra:
            if value is None:
                fields.pop(name, None)
            else:
                fields[name] = value
        if self._packer.framing.delimited and "transfer-encoding" not in fields:
            self._packer.framing = Bare()
            fields["connection"] = "close"
        self._story.closes = "close" in fields.get("connection", "")
        self._packer.head = head(200, fields)

    def _say(self, step: Text | Reasoning) -> list[Event]:
        """The events of one piece of output; its kind tells how many tokens it is worth."""
        counts = self._story.counts
        if step.text:
            self._story.said = True
            counts.output += step.tokens
        if isinstance(step, Text):
            events = self._voice.text(step.text)
        else:
            counts.reasoning += step.tokens if step.text else 0
            events = self._voice.reasoning(step.text)
        if step.tokens != 1 or not step.text:
            data, kind = events[-1]
            events[-1] = (data, f"{kind}*{step.tokens}" if step.text else "start")
        return events

    def _conclude(self, step: Finish | Refuse | Fail | Abort) -> list[Event]:
        """The events that end the answer, and what that means. No output is `empty`, whatever the reason."""
        story, counts = self._story, self._story.counts
        if self._usage is not None:
            counts.stated, counts.told = True, self._usage.told
            for name in ("input", "output", "reasoning", "cached"):
                fixed: int | None = getattr(self._usage, name)
                if fixed is not None:
                    setattr(counts, name, fixed)
        if isinstance(step, Finish):
            story.finish = step.reason
            events = self._voice.finish(step.reason)
            story.means(GOOD.get(step.reason, "ok") if story.said else "empty")
        elif isinstance(step, Refuse):
            story.finish = "content_filter"
            events = self._voice.refuse(step.text)
            story.means("filtered" if story.said or len(events) > 1 else "empty")
        elif isinstance(step, Fail):
            story.means("rate_limited" if step.overloaded and not story.said else "stream_error")
            events = self._voice.fail(step.message, step.overloaded, story.said)
        else:
            events = self._voice.abort(step.reason)
            story.means("stream_error" if events else "truncated")
        story.usage_told = self._api.tells_usage(counts) and isinstance(step, Finish | Refuse)
        return events

    def _other(self, at: int, step: AnyStep) -> Iterator[Send]:
        """Every step that neither waits, speaks nor ends."""
        packer = self._packer
        if isinstance(step, Headers):
            self._make_head(at, step.fields)
            yield from packer.flush_head(at)
        elif isinstance(step, Start):
            yield from self._open(at)
        elif isinstance(step, Tool):
            yield from self._open(at)
            yield from self._tool(at, step)
        elif isinstance(step, Step | Ping | Comment | Raw):
            self._make_head(at)
            yield from packer.emit(at, self._aside(step))
        elif isinstance(step, Wire):
            yield from packer.release(at)
            yield from packer.flush_head(at)
            yield from packer.bare(at, step.data, "wire")
        elif isinstance(step, Usage):
            self._usage = step
        elif isinstance(step, Merge):
            packer.merge = step.count
        elif isinstance(step, Split):
            packer.split = (step.count, step.gap_ns)
        elif isinstance(step, Lump):
            yield from packer.release(at)
            packer.lump_ns = step.ns
        elif isinstance(step, Meant):
            self._story.outcome, self._story.fixed = step.outcome, True
        elif isinstance(step, Admit):
            yield (at, b"", "", ADMIT)

    def _aside(self, step: Step | Ping | Comment | Raw) -> list[Event]:
        """Events that are no output."""
        if isinstance(step, Step):
            return self._voice.step()
        if isinstance(step, Ping):
            return self._voice.ping()
        if isinstance(step, Raw):
            return [(step.data, "raw")]
        lines = "".join(f": {line}\n" for line in step.text.splitlines() or [""])
        return [(lines.encode() + b"\n", "comment")]

    def _tool(self, at: int, step: Tool) -> Iterator[Send]:
        """A tool call, its arguments cut into pieces of about equal length."""
        size = max(1, -(-len(step.args) // step.pieces))
        pieces = [step.args[i : i + size] for i in range(0, len(step.args), size)]
        self._story.counts.output += len(pieces)
        self._story.said = True
        for i, group in enumerate(self._voice.tool(step.name, pieces, step.output)):
            yield from self._packer.emit(at + i * step.gap_ns, group)

    # Ends that are no terminal event...

    def _stop(self, at: int, step: Drop | Reset | Stall | Truncate, finished: bool) -> Iterator[Send]:
        """Cut, hang or end the message; after the terminal events the outcome stands."""
        if not finished:
            stalled = "stall_timeout" if self._story.said else "first_token_timeout"
            self._story.means({Truncate: "truncated", Stall: stalled}.get(type(step), "dropped"))
        if isinstance(step, Truncate):
            self._make_head(at)
            yield from self._packer.end(at)
            return
        yield from self._packer.release(at)
        then = {Drop: CLOSE, Reset: RESET, Stall: HANG}[type(step)]
        yield from self._packer.bare(at, b"", "", then)

    def _whole_response(self, at: int, step: Status) -> Send:
        """A response that is no stream."""
        given = dict(step.fields)
        self._story.status = step.code
        fields = dict(self._fields)
        if step.body is None:
            body = self._api.problem(step.code, None, None, self._request_id)
            fields |= dict(self._api.problem_fields(self._request_id)) | {"content-type": "application/json"}
        else:
            body = step.body.encode()
            fields["content-type"] = "text/plain; charset=utf-8"
        self._story.means(status_outcome(step.code, given.get("location"), body))
        fields["content-length"] = str(len(body))
        fields |= {k: v for k, v in given.items() if v is not None}
        self._story.closes = "close" in fields.get("connection", "")
        return (at, head(step.code, fields) + body, "headers body end", END)
