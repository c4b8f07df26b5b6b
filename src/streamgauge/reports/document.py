"""The report as one document: what the JSON file holds and every other form is rendered from.

Rules: nothing is computed here and nothing is lost here. Missing is null. Top-level metrics are those of the judged
phases over the judged targets. `schema` names the version of this shape; its history stands at SCHEMA.
"""

from __future__ import annotations

import msgspec

from streamgauge.compare import Comparison
from streamgauge.connections import Connections
from streamgauge.findings import Finding
from streamgauge.findings.checklist import Look
from streamgauge.findings.signs import Trend
from streamgauge.lives import Lives
from streamgauge.memory import Memory
from streamgauge.series import Series
from streamgauge.strain import Strain
from streamgauge.summary import Distribution, Group, Phase, Rate
from streamgauge.verdict import Judged, Word

SCHEMA = "streamgauge.report/1"


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What `streamgauge check --calibrate` found on the machine that measured; numbers are null where it is stale."""

    at: str
    """UTC, ISO 8601."""
    stale: str | None
    """Why it does not speak for this run: too old, or of another machine or version; null where it does."""
    limit_ms: float
    """The limit of which we may move 5 %."""
    streams: int | None = None
    """Most streams of 50 tok/s at which numbers held; 0: not even at the fewest tried."""
    events_per_s: float | None = None
    open_end: bool = False
    """Whether that was the most that was tried: the machine may be able to do more."""
    floor_ms: dict[str, float] = {}
    """p50, p95, p99 of how far first tokens' stamps lay from the true sends, at the fewest streams tried."""
    error_ms: dict[str, float] = {}
    """The same at the most at which numbers held."""
    others: float | None = None
    """Share of the cores that other programs took meanwhile."""


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """How well we measured: what the generator saw of itself in the judged phases."""

    stamps: str
    """`kernel`, `user` or `mixed`."""
    compiled: bool | None = None
    """Whether the compiled part waited and read, or plain Python alone; null where the run does not tell."""
    valid: bool
    invalid_because: list[str]
    slack_ms: dict[str, float | None]
    """p50, p95, p99, max over first tokens."""
    late_ms: dict[str, float | None]
    """p50, p95, p99, max of starts, through us."""
    merged_events: int
    text_events: int
    starts: int
    missed_starts: int
    worker_cpu_mean: float | None
    worker_cpu_max: float | None
    machine_cpu_mean: float | None = None
    """Share of all the machine's processor time that anyone used; None where the system does not tell."""
    longest_turn_ms: float | None
    workers: int
    clock_steps: int
    flagged_by_clock: int
    client_limits: int
    descriptors_used: int | None
    descriptors_limit: int | None
    planned: dict[str, float | None]
    achieved: dict[str, float | None]
    """The same keys as `planned`: requests, streams, rate_per_s, duration_s where planned."""
    arrivals: str | None = None
    """How requests came due in open loop: `rising from 1 to 100 requests/s over 60 s`; null in closed loop."""
    calibration: Calibration | None = None
    """What this machine could measure before the run; null where it was never calibrated."""
    notes: list[str]
    """What a reader must know: TLS not verified, user stamps, limits overridden, tokens counted from events."""


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the strategy's tables beside what was measured."""

    table: str
    """`criteria`, `baselines` or `providers`."""
    name: str
    target: str
    typical: str | None
    measured: str | None
    verdict: str | None
    note: str | None


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    """One probe of a run: what it read of the server, and how often."""

    name: str
    kind: str
    """`process` or `json`."""
    reads: str
    """Which process or page, in words."""
    readings: int
    failed: int
    instances: list[str]
    """As they told themselves; empty where they did not."""
    gauges: list[str]
    error: str | None
    """Why most of the failed ones failed."""


class Resumed(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was cut off went on (`run --resume`)."""

    at: str
    """UTC, ISO 8601."""
    cut_s: float
    """When it had been cut off, since its start."""
    gap_s: float
    """How long there was no load in between."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Which run this was and how to repeat it."""

    id: str
    version: str
    python: str
    platform: str
    host: str
    cpus: int
    git: str | None
    environment: str | None
    targets: list[dict[str, str | None]]
    """name, url (secrets removed), dialect, model, peer addresses, control."""
    preset: str
    settings: dict[str, object]
    spec_digest: str | None
    seed: int
    started: str
    """UTC, ISO 8601."""
    ended: str | None
    start_ns: int
    end_ns: int | None
    phases: list[Phase]
    judged_phases: list[str]
    stopped_by: str | None
    """Why it ended before its plan was done, or null."""
    rerun: str
    """The command that repeats it."""
    cost_usd: float | None
    tokens: dict[str, int | None]
    """input, output as counted by the server; null where it did not say."""
    folder: str | None
    resumed: list[Resumed] = []
    """Each time it went on after it had been cut off; what was open then was lost and asked again."""
    probes: list[Probed] = []
    """Where the server's memory was read."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One test's report."""

    schema: str = SCHEMA
    test: str
    suite: str | None
    verdict: Word
    severity: str | None
    partial: bool
    headline: str
    """One line: what was found."""
    impact: str | None
    """What it means to users: `1 chat in 22 waits over 1 s`."""
    next_step: str
    """The next command or act."""
    criteria: list[Judged]
    metrics: dict[str, Distribution]
    rates: dict[str, Rate]
    scalars: dict[str, float | None]
    outcomes: dict[str, int]
    groups: list[Group]
    comparisons: list[Comparison]
    baselines: list[Baseline]
    series: Series
    measurement: Measurement
    findings: list[Finding]
    warnings: list[str]
    run: Run
    tokens_from: dict[str, str]
    """For each target: `usage` or `events`."""
    lives: Lives | None = None
    """How long the streams lived, in the test that judges it."""
    memory: Memory | None = None
    """The server's memory, where probes read it for a test that judges it."""
    capacity: Strain | None = None
    """How far it goes and what happens beyond, in the test that tries."""
    connections: list[Connections] = []
    """Of every target, controls included."""
    trends: list[Trend] = []
    """How first tokens, pace and errors of each judged target went while the load stayed the same."""
    checklist: list[Look] = []
    """On a fail, each line of the strategy's root-cause lists that match: found, ruled out, or not looked at."""
    silenced: dict[str, int] = {}
    """Findings that the spec silences, and how many there were of each."""
    set_up: str | None = None
    """The outcome in which every request ended, where that shows the set-up to be wrong and not the service."""
