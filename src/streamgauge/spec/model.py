"""The shape of streamgauge.toml, key by key: the source of the checks, the JSON Schema and docs/spec.md.

The larger tables have modules of their own (`targets`, `tests`, `rate`, `probes`); the rules are theirs as well.

Rules: frozen, strict, no unknown keys. A model knows only what one table can know by itself; what needs two tables
(does the control exist, is the dialect known) is checked in `load`, what needs the environment (secrets) in `resolve`.
Each field carries its description: an undocumented key fails a test.
"""

from __future__ import annotations

from typing import Literal

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from streamgauge.spec.mistakes import did_you_mean
from streamgauge.spec.probes import Probe
from streamgauge.spec.silence import FINDINGS
from streamgauge.spec.targets import Target
from streamgauge.spec.tests import Tests
from streamgauge.spec.values import (
    AddressText,
    Count,
    Positive,
    Table,
    Text,
)


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

    url: AddressText = Field(
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
