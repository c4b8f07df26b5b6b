"""The shape of streamgauge.toml, key by key: the source of the checks, the JSON Schema and docs/spec.md.

Rules: frozen, strict, no unknown keys. A model knows only what one table can know by itself; what needs two tables
(does the control exist, is the dialect known) is checked in `load`, what needs the environment (secrets) in `resolve`.
Each field carries its description: an undocumented key fails a test.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from streamgauge.proxies import parse_proxy
from streamgauge.spec.address import check_path, parse_url
from streamgauge.spec.criteria import Severity, parse_rule
from streamgauge.spec.mistakes import did_you_mean
from streamgauge.spec.places import check_places
from streamgauge.spec.presets import Inconclusive
from streamgauge.spec.silence import FINDINGS
from streamgauge.spec.targets import Target, Tls
from streamgauge.spec.values import (
    LEAST_RATE,
    MOST_STREAMS,
    REFERENCE,
    TAG,
    Count,
    Duration,
    Level,
    Pace,
    Pause,
    Positive,
    Table,
    Text,
)

_NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(inf|nan)$")


class Max(Table):
    """Hard stops: a plan above one does not start, a run that reaches one ends as partial."""

    streams: Count | None = Field(default=None, description="Streams open at a time.", examples=[100])
    requests: Count | None = Field(default=None, description="Requests of one run, warm-up included.", examples=[3000])
    tokens: Count | None = Field(default=None, description="Input and output tokens of one run.", examples=[1_000_000])
    usd: Positive | None = Field(
        default=None, description="Cost of one run, where prices are known. 5 when not given.", examples=[5.0]
    )


class Environment(Table):
    """A place the service runs at, and how hard it may be pushed."""

    url: Text = Field(
        description="Scheme, host and perhaps the first part of the path; targets with a path are below it. "
        "May hold ${NAME}.",
        examples=["https://staging.example.com"],
    )
    kind: Literal["local", "staging", "production"] | None = Field(
        default=None,
        description="How careful to be. When not given: local for a loopback or private host, else production.",
        examples=["staging"],
    )
    max: Max = Field(
        default_factory=Max, description="Hard stops of a run here.", examples=[{"streams": 100, "usd": 5}]
    )

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        if not REFERENCE.search(value):
            parse_url(value)
        return value


class Prompts(Table):
    """A named set of prompts, taken in turn. short, medium and long are shipped and need no table."""

    file: Text | None = Field(
        default=None,
        description='Own file beside the spec: .txt (a paragraph each), .jsonl (a text or {"prompt": ...} a line) '
        "or .toml (prompts = [...]).",
        examples=["prompts/support.txt"],
    )
    texts: tuple[Text, ...] | None = Field(
        default=None, strict=False, min_length=1, description="The prompts themselves.", examples=[["What is a token?"]]
    )

    @model_validator(mode="after")
    def _one(self) -> Prompts:
        if (self.file is None) == (self.texts is None):
            raise ValueError("give one of file and texts")
        return self


class Timeouts(Table):
    """When a stream is given up."""

    connect: Duration | None = Field(
        default=None, description="For the TCP and TLS connection. 10 s when not given.", examples=[5]
    )
    first_token: Duration | None = Field(
        default=None, description="From sent to the first output of any kind. 60 s when not given.", examples=["30s"]
    )
    stall: Duration | None = Field(
        default=None, description="Between two outputs. 60 s when not given.", examples=["20s"]
    )
    total: Duration | None = Field(
        default=None, description="From sent to the end. None when not given (ttft: 300 s).", examples=["5m"]
    )
    drain: Duration | None = Field(
        default=None, description="What open streams get at the end of the plan. 30 s when not given.", examples=["10s"]
    )


class Criterion(Table):
    """One thing asked of one number. A plain text is short for {rule = "..."}."""

    rule: Text = Field(
        description='metric.stat op limit, or "default" for those of the test that no other entry replaces.',
        examples=["ttft_ms.p95 < 1000"],
    )
    target: Text | None = Field(
        default=None,
        description="A target, each (one by one) or all (pooled). Per-request numbers: each; rates, counts and "
        "scalars: all.",
        examples=["claude"],
    )
    prompt: Text | None = Field(
        default=None, description="A prompt set, each or all. all when not given.", examples=["short"]
    )
    phase: Literal["reference", "ramp", "hold", "stress", "burst", "spike", "recovery"] | None = Field(
        default=None, description="Another phase than the judged one.", examples=["stress"]
    )
    advisory: bool = Field(default=False, description="Shown, never part of the verdict.", examples=[True])
    severity: Severity | None = Field(
        default=None, description="Severity when it fails, instead of the strategy's thresholds.", examples=["P1"]
    )
    name: Text | None = Field(
        default=None, description="What reports call it, instead of the rule.", examples=["first word"]
    )

    @field_validator("rule")
    @classmethod
    def _rule(cls, value: str) -> str:
        if value.strip() != "default":
            parse_rule(value)
        return value.strip()

    @model_validator(mode="after")
    def _plain_default(self) -> Criterion:
        if self.rule == "default" and self.model_fields_set != {"rule"}:
            raise ValueError('"default" stands for several criteria and takes nothing beside it')
        return self


class RateCourse(Table):
    """A rate that changes: a ramp (from, to, over) or a spike (base, peak, at, for)."""

    from_: Level | None = Field(default=None, alias="from", description="A ramp's first rate.", examples=[1])
    to: Level | None = Field(default=None, description="A ramp's last rate; it stays.", examples=[100])
    over: Duration | None = Field(
        default=None, description="How long a ramp takes from the first to the last.", examples=["60s"]
    )
    base: Level | None = Field(default=None, description="The rate before and after a spike.", examples=[5])
    peak: Level | None = Field(default=None, description="The rate of a spike.", examples=[100])
    at: Duration | None = Field(default=None, description="When a spike begins.", examples=["30s"])
    for_: Duration | None = Field(default=None, alias="for", description="How long a spike lasts.", examples=["10s"])

    @model_validator(mode="after")
    def _one_shape(self) -> RateCourse:
        ramp = {"from": self.from_, "to": self.to, "over": self.over}
        spike = {"base": self.base, "peak": self.peak, "at": self.at, "for": self.for_}
        given = [[key for key, value in shape.items() if value is not None] for shape in (ramp, spike)]
        forms = (
            'a ramp is { from = 1, to = 100, over = "60s" }, a spike { base = 5, peak = 100, at = "30s", for = "10s" }'
        )
        if all(given) or not any(given):
            raise ValueError(f"give a ramp or a spike: {forms}")
        name, shape = ("ramp", ramp) if given[0] else ("spike", spike)
        missing = [key for key, value in shape.items() if value is None]
        if missing:
            raise ValueError(f"this {name} lacks {' and '.join(missing)}; {forms}")
        if self.is_ramp and self.from_ == self.to:
            raise ValueError(f"from and to are both {self.to:g}; for a constant rate write rate = {self.to:g}")
        if not self.is_ramp and (self.peak or 0) <= (self.base or 0):
            raise ValueError(f"peak ({self.peak:g}) is not above base ({self.base:g}); a spike rises: make it higher")
        if max(self.to or 0, self.from_ or 0, self.peak or 0) < LEAST_RATE:
            raise ValueError(f"never reaches {LEAST_RATE:g} a second; make it higher")
        return self

    @property
    def is_ramp(self) -> bool:
        """Whether it is a ramp and no spike."""
        return self.over is not None


def parse_rate(text: str) -> float | RateCourse:
    """A rate as a flag gives it: `50`, or a course as `from=1,to=100,over=60s`. ValueError says what is allowed."""
    try:
        return float(text)
    except ValueError:
        pairs = [part.partition("=") for part in text.strip("{} ").split(",")]
    table: dict[str, object] = {}
    for key, equals, value in pairs:
        if not equals:
            allowed = "a number, from=1,to=100,over=60s (a ramp) or base=5,peak=100,at=30s,for=10s (a spike)"
            raise ValueError(f"{text!r} is no rate; allowed: {allowed}")
        plain = value.strip().strip("\"'")
        table[key.strip()] = float(plain) if _NUMBER.match(plain) else plain
    return RateCourse.model_validate(table)


def _kind_of_rate(value: object) -> str:
    return f"{TAG}table" if isinstance(value, dict | RateCourse) else f"{TAG}number"


def _rule_or_table(value: object) -> object:
    return {"rule": value} if isinstance(value, str) else value


class Probe(Table):
    """Where the server's own memory is read while a test runs: processes of this machine, or a page of JSON."""

    kind: Literal["process", "json"] = Field(
        description="process: a process of this machine with its children. json: a page that tells numbers as JSON.",
        examples=["json"],
    )
    pid: Count | None = Field(default=None, description="process: its id.", examples=[1234])
    port: Annotated[int, Field(ge=1, le=65_535)] | None = Field(
        default=None, description="process: the TCP port it listens on.", examples=[3000]
    )
    command: Text | None = Field(
        default=None,
        description="process: a regular expression (Python) found in its command line.",
        examples=["node .*server\\.js"],
    )
    url: Text | None = Field(
        default=None,
        description="json: the page, the same in every environment. May hold ${NAME}.",
        examples=["https://staging.example.com/api/probe"],
    )
    path: Text | None = Field(
        default=None,
        description="json: its path below the environment's url, instead of url. May hold ${NAME}.",
        examples=["/api/probe"],
    )
    method: Literal["GET", "POST"] = Field(default="GET", description="json: how it is asked.", examples=["POST"])
    body: Text | None = Field(
        default=None, description="json: body of a POST, JSON. ${NAME} as in headers.", examples=['{"detail":true}']
    )
    headers: dict[str, str] = Field(
        default_factory=dict,
        description="json: headers of every request, its token above all. ${NAME} as in a target's headers.",
        examples=[{"authorization": "Bearer ${PROBE_TOKEN}"}],
    )
    paths: dict[str, str] = Field(
        default_factory=dict,
        description='json: gauge -> where its number stands, as in heap_used = "memory.heapUsed", perhaps times a '
        'factor: "mem.rss_mb * 1e6". Usual names are found without; see docs/probes.md. Any other name is a gauge of '
        "your own.",
        examples=[{"heap_used": "memory.heapUsed", "queue": "jobs.waiting"}],
    )
    collect: Text | None = Field(
        default=None,
        description='json: asks the server to collect its garbage before a snapshot: "?name=1" is added to the url, '
        '"/path" is asked first. Tests that time answers never ask.',
        examples=["?collect=1"],
    )
    timeout: Duration | None = Field(
        default=None, description="json: for one reading as a whole. 5 s when not given.", examples=["2s"]
    )
    tls: Tls = Field(default_factory=Tls, description="json: TLS settings.", examples=[{"ca": "certs/ca.pem"}])
    proxy: Text | None = Field(default=None, description="json: HTTP proxy, as a target's.", examples=["none"])

    @field_validator("url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is not None and not REFERENCE.search(value):
            parse_url(value)
        return value

    @field_validator("path")
    @classmethod
    def _path(cls, value: str | None) -> str | None:
        wrong = check_path(REFERENCE.sub("x", value)) if value is not None else None
        if wrong:
            raise ValueError(wrong)
        return value

    @field_validator("collect")
    @classmethod
    def _collect(cls, value: str | None) -> str | None:
        if value is None:
            return None
        wrong = check_path(value if value.startswith("/") else "/" + value)
        if wrong or value[0] not in "?/" or len(value) < 2:
            raise ValueError(f'"{value}" is neither a query to add ("?collect=1") nor a path to ask first ("/gc")')
        return value

    @field_validator("command")
    @classmethod
    def _command(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"{value!r} is not a regular expression: {error}") from None
        return value

    @field_validator("proxy")
    @classmethod
    def _proxy(cls, value: str | None) -> str | None:
        if value is not None and not REFERENCE.search(value):
            parse_proxy(value)
        return value

    @field_validator("paths")
    @classmethod
    def _paths(cls, value: dict[str, str]) -> dict[str, str]:
        check_places(value)
        return value

    @model_validator(mode="after")
    def _of_its_kind(self) -> Probe:
        ways = ("pid", "port", "command")
        others = sorted(self.model_fields_set - {"kind", *ways})
        given = [name for name in ways if getattr(self, name) is not None]
        if self.kind == "process":
            if others:
                raise ValueError(f'{others[0]} goes with kind = "json"; a process probe has one of {", ".join(ways)}')
            if len(given) != 1:
                raise ValueError(f"give one of {', '.join(ways)}" + (f", not {' and '.join(given)}" if given else ""))
            return self
        if given:
            raise ValueError(f'{given[0]} goes with kind = "process"; a json probe has a url or a path')
        if (self.url is None) == (self.path is None):
            raise ValueError("give one of url and path: url is a whole address, path is below the environment's")
        if self.body is not None and self.method == "GET":
            raise ValueError('body goes with method = "POST"')
        return self


class Test(Table):
    """One test. What is left out is the preset's."""

    __test__ = False  # not a test of ours

    preset: Literal["smoke", "pr", "standard", "full"] | None = Field(
        default=None, description="How much is sent. standard when not given (pr with --url).", examples=["full"]
    )
    targets: tuple[Text, ...] | None = Field(
        default=None,
        strict=False,
        min_length=1,
        description="Which targets, in this order. All that are not another's control when not given.",
        examples=[["claude", "gpt"]],
    )
    prompts: tuple[Text, ...] | None = Field(
        default=None, strict=False, min_length=1, description="Which prompt sets.", examples=[["short", "support"]]
    )
    unique_prefix: bool = Field(
        default=True,
        description="Begin each prompt with a short unique line, so that no cache flatters the result.",
        examples=[False],
    )
    requests: Count | None = Field(
        default=None, description="Judged requests for each target, instead of the preset's.", examples=[400]
    )
    repeats: Annotated[int, Field(ge=0, le=1_000)] | None = Field(
        default=None,
        description="ttft: before the judged phase one prompt is sent so many times to each target, beside as many new "
        "ones, to see whether it is cached; not judged. 0: not at all. When not given: 12 at standard and full, "
        "unless requests or duration are given; none in open loop or without unique_prefix.",
        examples=[12],
    )
    concurrency: Annotated[int, Field(ge=1, le=MOST_STREAMS)] | None = Field(
        default=None,
        description="ttft: streams at a time for each target. concurrent: streams held over all targets; the stress "
        "phase is left out. With rate: the most streams open at a time.",
        examples=[50],
    )
    rate: (
        Annotated[
            Annotated[Pace, Tag(f"{TAG}number")] | Annotated[RateCourse, Tag(f"{TAG}table")],
            Discriminator(_kind_of_rate),
        ]
        | None
    ) = Field(
        default=None,
        description="Open loop: arrivals a second over all targets, whatever the service does. A table makes it a ramp "
        "or a spike.",
        examples=[50],
    )
    arrivals: Literal["constant", "poisson"] | None = Field(
        default=None,
        description="How the arrivals of a rate are spaced: evenly, or by chance as those of many users who know "
        "nothing of each other. constant when not given.",
        examples=["poisson"],
    )
    trace: Text | None = Field(
        default=None,
        description="Open loop: recorded arrivals instead of a rate. A file beside the spec: a time in seconds or an "
        "ISO time stamp a line, of a CSV the first column.",
        examples=["arrivals.csv"],
    )
    duration: Duration | None = Field(default=None, description="Length of the judged hold.", examples=["5m"])
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="Longest answer asked for, where the dialect can ask.", examples=[128]
    )
    think_time: Pause | None = Field(
        default=None, description="Pause of a slot between two requests. None when not given.", examples=["2s"]
    )
    timeouts: Timeouts = Field(
        default_factory=Timeouts, description="When a stream is given up.", examples=[{"total": "5m"}]
    )
    criteria: tuple[Annotated[Criterion, BeforeValidator(_rule_or_table)], ...] | None = Field(
        default=None,
        strict=False,
        description="What is judged, instead of the test's own criteria.",
        examples=[["default", "ttft_ms.p99 < 3000"]],
    )
    probes: tuple[Text, ...] | None = Field(
        default=None,
        strict=False,
        description="Which probes are read. All when not given; [] for none.",
        examples=[["web"]],
    )
    inconclusive: Inconclusive | None = Field(
        default=None, description="pass: exit 3 becomes 0, with a warning. report when not given.", examples=["pass"]
    )
    allow_production: bool = Field(
        default=False,
        description="endurance, memory and stress: run also where the environment's kind is production.",
        examples=[True],
    )

    @model_validator(mode="after")
    def _one_load(self) -> Test:
        if self.trace is not None and self.rate is not None:
            raise ValueError("give rate or trace, not both: a trace has its own times")
        if self.trace is not None and self.arrivals is not None:
            raise ValueError("arrivals spaces those of a rate, and a trace has its own times; leave it out")
        return self


class MemoryTest(Test):
    """The memory test: what follows its hold besides."""

    burst: Annotated[int, Field(ge=1, le=MOST_STREAMS)] | None = Field(
        default=None,
        description="memory: streams held over all targets during the burst. Five times the level at standard.",
        examples=[50],
    )
    burst_duration: Duration | None = Field(
        default=None, description="memory: length of the burst. 60 s at standard.", examples=["60s"]
    )
    idle: Duration | None = Field(
        default=None,
        description="memory: time without load after the burst, for the server to give back what it took. 5 min at "
        "standard; below 2 min an untidy server is not failed, its collector may not have run yet.",
        examples=["5m"],
    )


class EnduranceTest(Test):
    """The endurance test: how long its streams live."""

    stream: Duration | None = Field(
        default=None, description="endurance: how long one answer is to last. 15 min at standard.", examples=["15m"]
    )
    in_sequence: Annotated[int, Field(ge=1, le=1_000)] | None = Field(
        default=None, description="endurance: so many long answers one after another. 2 at standard.", examples=[2]
    )


class StressTest(Test):
    """The stress test: how far it climbs, and what must be within the criteria."""

    levels: tuple[Annotated[int, Field(ge=1, le=MOST_STREAMS)], ...] | None = Field(
        default=None,
        strict=False,
        min_length=2,
        description="stress: the levels that are held, in users over all targets, rising. 1, 10, 25, 50, 75, 100, 150 "
        "and 200 when not given; concurrency alone changes the top.",
        examples=[[1, 20, 40, 80, 160]],
    )
    capacity: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="stress: users (in open loop requests a second) that must be within the criteria. 100, or the top "
        "where that is less; in open loop half of the top.",
        examples=[100],
    )
    finer: Annotated[int, Field(ge=0, le=20)] | None = Field(
        default=None,
        description="stress: at most so many finer steps around the knee. 3 to 6 by preset.",
        examples=[4],
    )
    spike: Duration | None = Field(
        default=None, description="stress: length of the spike. 30 s at standard.", examples=["30s"]
    )
    recovery: Duration | None = Field(
        default=None,
        description="stress: how long recovery is looked at after each overload. 60 s at standard.",
        examples=["60s"],
    )

    @model_validator(mode="after")
    def _rising(self) -> StressTest:
        """Levels that do not rise are a slip."""
        if self.levels is not None and list(self.levels) != sorted(set(self.levels)):
            raise ValueError("levels must rise, each once, as in [1, 10, 25, 50]")
        return self


class Tests(Table):
    """The tests `streamgauge run` runs when it is told none."""

    __test__ = False

    ttft: Test | None = Field(default=None, description="Time to first token.", examples=[{"requests": 400}])
    concurrent: Test | None = Field(
        default=None, description="Streams held at a time.", examples=[{"concurrency": 100}]
    )
    endurance: EnduranceTest | None = Field(
        default=None, description="Streams of many minutes, several in sequence.", examples=[{"stream": "15m"}]
    )
    memory: MemoryTest | None = Field(
        default=None, description="Whether the server's memory grows, by a probe.", examples=[{"duration": "1h"}]
    )
    stress: StressTest | None = Field(
        default=None, description="How far it goes, and what happens beyond.", examples=[{"concurrency": 200}]
    )


class Findings(Table):
    """Which findings reports leave out."""

    silence: tuple[Text, ...] = Field(
        default=(),
        strict=False,
        description="Findings that are not told, by name (docs/findings.md); every report says how many there were.",
        examples=[["far_away"]],
    )

    @field_validator("silence")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in FINDINGS:
                raise ValueError(f'no finding is called "{name}"{did_you_mean(name, FINDINGS)} See docs/findings.md')
        return value


class SpecModel(Table):
    """A streamgauge.toml as a whole."""

    environments: dict[str, Environment] = Field(
        default_factory=dict, description="Where the service runs: [environments.NAME]."
    )
    targets: dict[str, Target] = Field(default_factory=dict, description="What is measured: [targets.NAME].")
    prompts: dict[str, Prompts] = Field(default_factory=dict, description="Prompt sets: [prompts.NAME].")
    probes: dict[str, Probe] = Field(
        default_factory=dict, description="Where the server's memory is read: [probes.NAME]."
    )
    tests: Tests = Field(default_factory=Tests, description="How it is tested: [tests.ttft], [tests.memory], ...")
    findings: Findings = Field(default_factory=Findings, description="What reports tell of findings: [findings].")
