"""The shape of [tests.NAME]: what is sent, for how long, and what is asked of the numbers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)

from streamgauge.spec.criteria import Severity, parse_rule
from streamgauge.spec.presets import Inconclusive
from streamgauge.spec.rate import AnyRate
from streamgauge.spec.values import (
    MOST_STREAMS,
    Count,
    Duration,
    Pause,
    Table,
    Text,
)


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


def _rule_or_table(value: object) -> object:
    return {"rule": value} if isinstance(value, str) else value


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
    rate: AnyRate | None = Field(
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
