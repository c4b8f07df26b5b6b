"""Decides how one request is answered: which API, which steps, which fault.

Strategy: `Responder.answer` turns a request into a `Reply`, whose `sends` the engine plays. Order of decision: path,
key, JSON, the API's own checks, a script or fault the request asks for, the server's faults, the model. Every refusal
has the shape and status that the API itself gives it.

Rules: no I/O, no clock: the time comes with the request. The same seed and the same order of requests give the same
answers.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from random import Random
from urllib.parse import parse_qs

from streamgauge.errors import UsageError
from streamgauge.simulator import faults, models, script
from streamgauge.simulator.memory import PATH as PROBE
from streamgauge.simulator.memory import Memory
from streamgauge.simulator.options import Options
from streamgauge.simulator.pack import Send
from streamgauge.simulator.play import Player, Story
from streamgauge.simulator.script import AnyStep
from streamgauge.simulator.voices import AI_SDK, ANTHROPIC, APIS, GEMINI, OPENAI_CHAT, Api
from streamgauge.simulator.voices.api import Asked, Fields, Refused, identifier
from streamgauge.simulator.wire import BadRequest, Bare, Request, framing

PATHS = {"/v1/chat/completions": OPENAI_CHAT, "/v1/messages": ANTHROPIC, "/api/chat": AI_SDK}
GEMINI_PATH = re.compile(r"/v1(beta)?/models/[^/:]+:(streamGenerateContent|generateContent)")
TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
LOGIN = "<!doctype html>\n<html><head><title>Sign in</title></head><body><h1>Sign in</h1></body></html>\n"


@dataclass(slots=True)
class Reply:
    """One answer on its way: what the engine needs of it, and what the log will say."""

    sends: Iterator[Send]
    player: Player
    story: Story
    facts: dict[str, object]
    number: int
    closes: bool = False
    wants_place: bool = False
    """It will ask for a place (capacity)."""
    base_ns: int = 0
    """Offsets count from here: the request's end, moved on by the wait for a place."""
    holds_place: bool = False
    lines: list[str] = field(default_factory=list)
    blocked_ns: int = 0
    over: bool = False
    """Ended; what still stands in the timetable for it is void."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a reply is made of."""

    steps: Iterable[AnyStep]
    kind: str
    fault: str | None = None
    script: str | None = None
    stream: bool = True
    closes: bool = False
    wants_place: bool = False


def find_api(path: str) -> Api | None:
    """The API that a path belongs to."""
    if path in PATHS:
        return PATHS[path]
    return GEMINI if GEMINI_PATH.fullmatch(path) else None


class Responder:
    """Answers requests by the server's options."""

    def __init__(self, options: Options, memory: Memory) -> None:
        self._options = options
        self._memory = memory
        self._faults = tuple(faults.parse(text) for text in options.faults)

    def answer(
        self,
        request: Request,
        number: int,
        now_ns: int,
        wall_s: int,
        *,
        full: bool = False,
        bad: BadRequest | None = None,
    ) -> Reply:
        """The reply to request `number`. `full`: capacity and queue are used up. `bad`: it is no request at all."""
        random = Random(f"{self._options.seed}/{number}")
        api = find_api(request.path)
        asked = Asked(None, wall_s=wall_s)
        try:
            if bad is not None:
                raise Refused(bad.status, str(bad))
            if api is None or request.method != "POST":
                plan = self._page(request, api, now_ns, wall_s)
            else:
                self._check_key(request, api)
                asked = api.read(request.path, request.query, _json(request.body), wall_s)
                plan = self._plan(request, api, asked, random, full)
        except Refused as e:
            plan = self._refusal(api or OPENAI_CHAT, e, random)
        except RecursionError:
            plan = self._refusal(api or OPENAI_CHAT, Refused(400, "The JSON is nested too deeply."), random)
        story = Story()
        story.counts.input = max(1, asked.prompt_chars // 4)
        story.counts.asked = asked.include_usage
        shape = framing(request, self._options.gzip)
        closes = plan.closes or request.closes or isinstance(shape, Bare)
        common: Fields = [("date", formatdate(wall_s, usegmt=True)), ("server", "streamgauge-simulator")]
        common.append(("connection", "close" if closes else "keep-alive"))
        voice_api = api or OPENAI_CHAT
        voice = voice_api.voice(asked, random, story.counts)
        player = Player(voice_api, voice, story, shape, common, identifier("req_", random))
        sends = player.play(plan.steps) if plan.stream else player.play_whole(plan.steps)
        facts: dict[str, object] = {
            "request": number,
            "trace_id": _trace_id(request),
            "dialect": None if api is None else api.name,
            "model": asked.model,
            "path": request.path,
            "stream": plan.stream,
            "plan": plan.kind,
            "fault": plan.fault,
            "script": plan.script,
            "prompt_chars": asked.prompt_chars,
            "max_tokens": asked.max_tokens,
        }
        return Reply(sends, player, story, facts, number, closes, plan.wants_place, base_ns=now_ns)

    # Refusals and pages...

    def _check_key(self, request: Request, api: Api) -> None:
        """Refused unless the request carries the key, where one is required."""
        wanted = self._options.require_key
        if wanted is None:
            return
        headers = request.headers
        given = {
            headers.get("authorization", "").removeprefix("Bearer ").strip(),
            *(headers.get(name, "") for name in ("x-api-key", "x-goog-api-key", "api-key")),
            *parse_qs(request.query).get("key", ()),
            *(part.partition("=")[2].strip() for part in headers.get("cookie", "").split(";")),
        } - {""}
        if wanted not in given:
            status, text = api.no_key(bool(given))
            raise Refused(status, text)

    def _refusal(self, api: Api, refused: Refused, random: Random) -> _Plan:
        """The API's own error; a redirect where that is what it does."""
        if refused.status == 307:
            step = script.Status(307, (("location", str(refused)),), "")
        else:
            request_id = identifier("req_", random)
            body = api.problem(refused.status, str(refused), refused.kind, request_id).decode()
            fields = (("content-type", "application/json"), *api.problem_fields(request_id))
            step = script.Status(refused.status, fields, body)
        return _Plan((step,), "refused")

    def _page(self, request: Request, api: Api | None, now_ns: int, wall_s: int) -> _Plan:
        """The few pages beside the APIs; Refused for anything else."""
        where = f"{request.method} {request.path}"
        if api is not None:
            raise Refused(405, f"Not allowed to {request.method} on {request.path}. Use POST.")
        if where == "GET /v1/models":
            names = [
                {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "simulator"}
                for name in models.MODELS
            ]
            return _document("application/json", json.dumps({"object": "list", "data": names}))
        if where == "GET /healthz":
            return _document("application/json", '{"status":"ok"}')
        if where == f"GET {PROBE}":
            self._check_key(request, OPENAI_CHAT)
            collect = parse_qs(request.query).get("collect") == ["1"]
            return _document("application/json", self._memory.page(now_ns, wall_s, collect=collect))
        if where == "GET /login":
            return _document("text/html; charset=utf-8", LOGIN)
        if request.path.startswith("/v1beta/"):
            raise Refused(404, f"Requested entity was not found: {where}")
        known = ", ".join(path for a in APIS.values() for path in a.paths)
        raise Refused(404, f"Unknown request URL: {where}. This server speaks {known}.")

    # Answers...

    def _plan(self, request: Request, api: Api, asked: Asked, random: Random, full: bool) -> _Plan:
        """The steps for a request that is in order."""
        if full:
            return _Plan((script.Status(self._options.over, (("retry-after", "1"),)),), "refused")
        query = parse_qs(request.query)
        text = _wish(request, query, "sim-script")
        wish = _wish(request, query, "sim-fault")
        pace = models.find(asked.model or self._options.model)
        if pace is None:
            raise Refused(404, f"The model `{asked.model}` does not exist; sim- names read like sim-t300-i20-n100.")
        try:
            fault = faults.parse(wish, rated=False) if wish is not None else None
            given = None if text is None else script.read(text)
        except UsageError as e:
            raise Refused(400, f"sim: {e}") from None
        if wish is None and text is None:
            failing = self._options.failing(pace)
            fault = faults.pick((*self._faults, *faults.unreliable(failing)), random)
        if given is not None:
            steps: Iterable[AnyStep] = script.spread(given, models.words(random))
            expected = sum(
                isinstance(s, script.OUTPUTS) or (s.count or 0 if isinstance(s, script.Tokens) else 0) for s in given
            )
        else:
            steps, expected = models.answer(pace, asked.prompt_chars, asked.max_tokens, random, lead_ms=api.lead_ms)
        if fault is not None:
            steps = script.spread(faults.rewrite(fault, steps, expected), models.words(random))
        own_opening = given is not None and any(
            isinstance(s, script.Headers | script.Start | script.Status) for s in given
        )
        early = api.early and not own_opening and (fault is None or not fault.before_head)
        opening: tuple[AnyStep, ...] = (script.Start(),) if early else ()
        limited = self._options.capacity is not None or self._options.slowdown > 0
        wants_place = limited and not (fault is not None and fault.at_once)
        if wants_place:
            opening = (*opening, script.Admit())
        kind = "script" if given is not None else "model"
        name = None if fault is None else (fault.name if wish is None else wish)
        stream = asked.stream and not (fault is not None and fault.name == "json")
        closes = fault is not None and fault.name == "close"
        return _Plan(itertools.chain(opening, steps), kind, name, text, stream, closes, wants_place)


def _document(kind: str, body: str) -> _Plan:
    """A page."""
    return _Plan((script.Status(200, (("content-type", kind),), body),), "page")


def _wish(request: Request, query: dict[str, list[str]], name: str) -> str | None:
    """What a request asks of the simulator, by header (UTF-8 as it is) or query."""
    value = request.headers.get("x-" + name)
    if value is not None:
        return value.encode("latin-1").decode("utf-8", "replace")
    return query[name][0] if name in query else None


def _json(body: bytes) -> object:
    """The body as JSON, or Refused."""
    try:
        return json.loads(body)
    except ValueError:
        raise Refused(400, "We could not parse the JSON body of your request.") from None


def _trace_id(request: Request) -> str | None:
    """The trace id of a traceparent header."""
    found = TRACE.fullmatch(request.headers.get("traceparent", ""))
    return None if found is None else found.group(1)
