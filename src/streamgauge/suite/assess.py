"""A run folder to its report: read the Samples, sum them up, judge them, and put the document together.

Nothing here needs the target, the clock or the spec: the folder holds all of it, so a run can be assessed again by a
newer streamgauge, offline, also when it was killed half-way.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from streamgauge.arrivals import Rate
from streamgauge.columns import MISSING, BoolArray, Columns
from streamgauge.compare import comparisons
from streamgauge.connections import Closings, TakingClosings, connections
from streamgauge.doubt import filled, stood_still, unsure
from streamgauge.errors import Exit
from streamgauge.facts import Facts
from streamgauge.findings import Found, RunFacts, find
from streamgauge.findings.checklist import checklist
from streamgauge.findings.signs import trends
from streamgauge.metrics import METRICS
from streamgauge.plan import Hold
from streamgauge.plan import Phase as Planned
from streamgauge.reports.document import Document, Measurement, Probed, Run
from streamgauge.sample import AuditTick, Closing, Outcome
from streamgauge.series import series
from streamgauge.slices import over_time, spread, starts_late
from streamgauge.suite.baselines import baselines
from streamgauge.suite.contract import Seen, Told
from streamgauge.suite.folder import Head, Story, blocks, read_head, read_story, readings
from streamgauge.suite.probing import probed, unread
from streamgauge.suite.tests import TESTS
from streamgauge.suite.wire import Wire, wire_of
from streamgauge.suite.words import Words
from streamgauge.summary import MetricsCollector, Scope, scope_of, summarise
from streamgauge.verdict import (
    Criterion,
    Decision,
    Word,
    decide,
    doubts_of,
    judge,
    points,
    run_doubts,
    set_up,
    void,
    worth_doubling,
)


@dataclass(frozen=True, slots=True)
class Assessment:
    """A judged run."""

    document: Document
    decision: Decision
    doubling_helps: bool
    """Whether twice the requests could settle what is open."""
    folder: Path
    facts: Facts
    """What every Sample said, in the order in which they were written."""

    inconclusive_passes: bool = False
    """Whether exit 3 becomes 0, by `--inconclusive pass`."""

    @property
    def exit(self) -> Exit:
        """The exit code this run asks for. An invalid or partial run never passes, whatever the policy."""
        open_ = self.decision.exit is Exit.INCONCLUSIVE and not self.document.partial
        return Exit.PASS if open_ and self.inconclusive_passes else self.decision.exit


@dataclass(slots=True)
class _Ticks:
    """What the workers saw of themselves in the judged phases, and over all for what never stops mattering."""

    cpu_sum: float = 0.0
    cpu_max: float | None = None
    n: int = 0
    longest_turn_ns: int | None = None
    sockets: int = 0
    steps: list[tuple[int, int, int]] = dataclasses.field(default_factory=list)
    machine_sum: float = 0.0
    machine_n: int = 0
    still_s: float = 0.0
    """The longest time between two looks of one worker, where it touches a judged phase."""
    _last: dict[Path, int] = dataclasses.field(default_factory=dict)

    @property
    def cpu_mean(self) -> float | None:
        """A worker's mean share of a core."""
        return self.cpu_sum / self.n if self.n else None

    @property
    def machine_mean(self) -> float | None:
        """The machine's mean share in use."""
        return self.machine_sum / self.machine_n if self.machine_n else None

    def add(self, tick: AuditTick, windows: list[tuple[int, int]], file: Path) -> None:
        """Take one in. `windows`: when the judged phases ran; `file`: one a worker and round."""
        before = self._last.get(file, tick.at_ns)
        self._last[file] = tick.at_ns
        if any(before < end and tick.at_ns > start for start, end in windows):
            self.still_s = max(self.still_s, (tick.at_ns - before) / 1e9)
        self.sockets = max(self.sockets, tick.open_sockets)
        self.steps += tick.steps
        if any(start <= tick.at_ns <= end for start, end in windows):
            self.n += 1
            self.cpu_sum += tick.cpu
            self.cpu_max = max(tick.cpu, self.cpu_max or 0.0)
            self.longest_turn_ns = max(tick.longest_turn_ns, self.longest_turn_ns or 0)
            if tick.machine is not None:
                self.machine_n += 1
                self.machine_sum += tick.machine


@dataclass(frozen=True, slots=True)
class Taken:
    """A run as it was read, not yet judged."""

    folder: Path
    head: Head
    story: Story
    columns: Columns
    ticks: _Ticks
    closings: Closings


def assess(folder: Path) -> Assessment:
    """Judge the run in `folder`. UsageError where it holds none that can be read."""
    return judged(take(folder))


def take(folder: Path) -> Taken:
    """Read the run in `folder`. UsageError where it holds none that can be read."""
    head = read_head(folder)
    story = _without_controls(head, read_story(folder))
    windows = [(p.start_ns, p.end_ns) for p in story.phases if p.name in head.judged_phases]
    return Taken(folder, head, story, *_read(folder, windows))


def judged(taken: Taken) -> Assessment:
    """Sum up what was read, judge it, and say why."""
    folder, head, story = taken.folder, taken.head, taken.story
    columns, ticks, closings = taken.columns, taken.ticks, taken.closings
    wire = wire_of(columns.facts)
    judged_targets = [str(t["name"]) for t in head.targets if t["name"] not in head.only_controls]
    scope = scope_of(
        columns,
        phases=story.phases,
        judged=head.judged_phases,
        targets=[t for t in judged_targets if t in columns.targets],
        limits=_request_limits(head.criteria),
    )
    summary = summarise(columns, scope)
    measurement = _measurement(head, story, columns, scope, ticks, wire)
    test = TESTS.get(head.test)
    read = readings(folder)
    told = Told() if test is None or test.see is None else test.see(Seen(head, story, columns, scope, read))
    probes = probed(head.probes, read)
    measurement = msgspec.structs.replace(measurement, notes=[*measurement.notes, *unread(probes)])
    doubts = [*measurement.invalid_because, *told.doubts]
    full = _filled(head, ticks)
    criteria = judge(
        head.criteria, columns, scope, confidence=head.confidence, partial=story.partial, invalid_because=doubts,
        slowed_by=full, seed=head.seed,
        given=told.weigh,
    )  # fmt: skip
    absent = stood_still(story.slept_s, ticks.still_s)
    if absent is not None:
        criteria, doubts = void(criteria, absent), [absent, *doubts]
    p95, errors = points(summary)
    wrong = set_up(columns)
    decision = decide(
        criteria, partial=story.partial, invalid_because=doubts, set_up=wrong,
        subject=None if test is None else test.subject, ttft_p95_ms=p95, error_rate=errors,
    )  # fmt: skip
    measurement = _with_doubts(measurement, decision.word, [*doubts, *doubts_of(criteria)])
    found = comparisons(columns, scope, controls=head.controls, seed=head.seed)
    cost = _cost(head, columns)
    facts = RunFacts(
        columns, scope, head.start_ns, closings=closings, readings=read,
        probes={one.name: (one.kind, one.reads) for one in probes}, sections=told.sections, judged=criteria,
        comparisons=found, controls=head.controls, prices=head.prices, steady=_steady(head),
    )  # fmt: skip
    why = Found([], {}) if wrong else find(facts, head.silence)
    words = Words(head, story, criteria, decision, found, columns, wrong)
    document = Document(
        test=head.test, suite=head.suite, verdict=decision.word, severity=decision.severity, partial=story.partial,
        headline=words.headline(), impact=words.impact(scope), next_step=words.next_step(), criteria=criteria,
        metrics=summary.metrics, rates=summary.rates, scalars=summary.scalars, outcomes=summary.outcomes,
        groups=summary.groups, comparisons=found,
        baselines=baselines(
            head.test, summary, {t: _model(head, t) for t in scope.targets},
            growth=next((one.value for one in criteria if one.metric == "memory_growth_mb_per_h"), None),
        ),
        series=series(
            columns, scope, start_ns=head.start_ns, readings=read, all_long=bool(told.sections.get("lives"))
        ),
        measurement=measurement,
        findings=why.findings, silenced=why.silenced, connections=connections(columns, closings),
        trends=[] if wrong else trends(facts),
        checklist=checklist(facts, why) if decision.word == "fail" and not wrong else [],
        warnings=words.warnings(
            summary, scope, estimated=0 if cost is None else int(_broke_off(columns).sum()), full=full,
            unsure=unsure(columns, scope),
        ),
        run=_run(head, story, columns, folder, cost, probes), tokens_from=summary.tokens_from, set_up=wrong,
    )  # fmt: skip
    document = msgspec.structs.replace(document, **told.sections)
    doubling_helps = head.doubles and story.rounds < 2 and not story.partial and worth_doubling(criteria)
    return Assessment(document, decision, doubling_helps, folder, columns.facts, head.inconclusive_passes)


def _steady(head: Head) -> bool:
    """Whether the load of the judged phases was to stay the same."""
    lanes = [lane for phase in head.phases if phase.name in head.judged_phases for lane in phase.lanes]
    return all(isinstance(lane.load, Hold) or (isinstance(lane.load, Rate) and not lane.load.course) for lane in lanes)


def _without_controls(head: Head, story: Story) -> Story:
    """A run in which nothing but controls was stopped is whole: they are not judged."""
    only = bool(story.stopped_targets) and set(story.stopped_targets) <= set(head.only_controls)
    whole = only and story.finished and story.stopped_by is None and story.worker_died is None
    return dataclasses.replace(story, partial=False) if whole else story


def _read(folder: Path, windows: list[tuple[int, int]]) -> tuple[Columns, _Ticks, Closings]:
    """Every record once: Samples to columns, ticks summed up, the ends of connections."""
    collector, ticks, ends = MetricsCollector(), _Ticks(), TakingClosings()
    for block in blocks(folder):
        for record in collector.take(block):
            if isinstance(record, AuditTick):
                ticks.add(record, windows, block.path)
            elif isinstance(record, Closing):
                ends.add(record)
    return collector.columns().stepped(ticks.steps), ticks, ends.closings()


def _request_limits(criteria: list[Criterion]) -> dict[str, float]:
    """What one request must keep to count in goodput: the loosest quantile limit asked of each metric of a request."""
    limits: dict[str, float] = {}
    for one in criteria:
        metric = METRICS[one.metric]
        if metric.kind not in ("time", "per_request") or not (one.stat or "").startswith("p") or one.prompt is not None:
            continue
        if metric.name not in limits:
            limits[metric.name] = one.limit
        elif metric.higher_is_better:
            limits[metric.name] = min(limits[metric.name], one.limit)
        else:
            limits[metric.name] = max(limits[metric.name], one.limit)
    return limits


def _measurement(head: Head, story: Story, columns: Columns, scope: Scope, ticks: _Ticks, wire: Wire) -> Measurement:
    rows = scope.rows(columns)
    starts, late = starts_late(columns, rows)
    doubts = run_doubts(columns, scope, starts=starts, missed=late)
    if story.worker_died is not None:
        doubts.append(f"{story.worker_died}: its share of the load went missing")
    seconds = sum(p.end_ns - p.start_ns for p in story.phases if p.name in head.judged_phases) / 1e9
    plan = [p for p in head.phases if p.name in head.judged_phases]
    wanted = sum(p.requests or 0 for p in plan) if all(p.requests is not None for p in plan) else None
    rate = sum(p.rate or 0.0 for p in plan) or None
    level = max((_level(head, p) for p in plan), default=0) or None
    held = scope.targets and scope.windows(head.judged_phases)
    achieved = len(rows)
    control_rows = len(columns.select(targets=head.only_controls or ("",), phases=scope.judged))
    return Measurement(
        stamps=wire.stamps,
        compiled=head.compiled,
        valid=not doubts,
        invalid_because=doubts,
        slack_ms=spread(columns.slack_ms[rows]),
        late_ms=spread(columns.late_ms[rows]),
        merged_events=int(columns.merged[rows].sum()),
        text_events=int(columns.text_events[rows].sum()),
        starts=starts,
        missed_starts=late,
        worker_cpu_mean=ticks.cpu_mean,
        worker_cpu_max=ticks.cpu_max,
        machine_cpu_mean=ticks.machine_mean,
        longest_turn_ms=None if ticks.longest_turn_ns is None else ticks.longest_turn_ns / 1e6,
        workers=head.workers,
        clock_steps=len(ticks.steps),
        flagged_by_clock=int(columns.clock_step[rows].sum()),
        client_limits=int(columns.having(rows, [Outcome.CLIENT_LIMIT]).sum()),
        descriptors_used=ticks.sockets or None,
        descriptors_limit=head.descriptors_limit,
        planned={"requests": _float(wanted), "streams": _float(level), "rate_per_s": rate},
        achieved={
            "requests": float(achieved + control_rows),
            "streams": _held(columns, scope) if held and level else None,
            "rate_per_s": (achieved + control_rows) / seconds if rate and seconds else None,
            "duration_s": seconds or None,
        },
        arrivals=_arrivals(head, plan),
        calibration=head.calibration,
        notes=[*head.notes, *wire.notes()],
    )


def _arrivals(head: Head, phases: list[Planned]) -> str | None:
    """How the requests to judged targets come due in open loop, in words."""
    return next(
        (
            lane.load.words
            for phase in phases
            for lane in phase.lanes
            if not isinstance(lane.load, Hold) and not set(lane.targets) <= set(head.only_controls)
        ),
        None,
    )


def _filled(head: Head, ticks: _Ticks) -> str | None:
    """That a judged target ran on this machine and we filled it, in words."""
    here = _here(head) - set(head.only_controls)
    ours = None if ticks.cpu_mean is None else ticks.cpu_mean * head.workers / head.cpus
    return filled(ticks.machine_mean, ours, on_this_machine=bool(here))


def _here(head: Head) -> set[str]:
    """The targets that ran on the machine that measured; of a run of before the head told, those on loopback."""
    if head.here is not None:
        return set(head.here)
    return {
        str(t["name"])
        for t in head.targets
        for address in (t.get("addresses") or "").split(", ")
        if address and not address.startswith("/") and ipaddress.ip_address(address.partition("%")[0]).is_loopback
    }


def _level(head: Head, phase: Planned) -> int:
    """Streams of judged targets that a phase wants held; 0 in open loop."""
    return sum(
        lane.load.level
        for lane in phase.lanes
        if isinstance(lane.load, Hold) and not set(lane.targets) <= set(head.only_controls)
    )


def _held(columns: Columns, scope: Scope) -> float | None:
    alongside = columns.select(targets=scope.targets)
    return over_time(columns, alongside, scope.windows(scope.judged), scope.limits)["concurrency_held"]


def _float(value: int | None) -> float | None:
    return None if value is None else float(value)


def _with_doubts(measurement: Measurement, word: Word, doubts: list[str]) -> Measurement:
    return msgspec.structs.replace(measurement, invalid_because=doubts, valid=not doubts and word != "invalid")


def _model(head: Head, target: str) -> str | None:
    return next((t["model"] for t in head.targets if t["name"] == target), None)


def _run(head: Head, story: Story, columns: Columns, folder: Path, cost: float | None, probes: list[Probed]) -> Run:
    end = story.end_ns if story.end_ns is not None else (int(columns.end.max()) if len(columns.end) else None)
    ended = None
    if end is not None:
        ended = (datetime.fromisoformat(head.started) + timedelta(microseconds=(end - head.start_ns) / 1e3)).astimezone(
            UTC
        )
    return Run(
        id=head.id, version=head.version, python=head.python, platform=head.platform, host=head.host, cpus=head.cpus,
        git=head.git, environment=head.environment, targets=head.targets, preset=head.preset, settings=head.settings,
        spec_digest=head.spec_digest, seed=head.seed, started=head.started,
        ended=None if ended is None else ended.isoformat(timespec="seconds").replace("+00:00", "Z"),
        start_ns=head.start_ns, end_ns=end, phases=story.phases, judged_phases=head.judged_phases,
        stopped_by=story.stopped_by, rerun=head.rerun, cost_usd=cost,
        tokens=_tokens(columns), folder=str(folder), probes=probes, resumed=list(story.resumed),
    )  # fmt: skip


def _tokens(columns: Columns) -> dict[str, int | None]:
    """Tokens as the servers counted them; None where any target that answered did not say."""
    told = bool(columns.tokens_from) and all(source == "usage" for source in columns.tokens_from.values())
    return {
        "input": int(columns.input_tokens.clip(min=0).sum()) if told else None,
        "output": int(columns.usage.clip(min=0).sum()) if told else None,
    }


def _cost(head: Head, columns: Columns) -> float | None:
    """What the run cost, all phases and controls included; None where a price or a count is missing.

    An answer that broke off has no usage and still costs: it counts with the target's mean prompt and its own events.
    """
    total = 0.0
    for code, name in enumerate(columns.targets):
        price = head.prices.get(name)
        rows = columns.target == code
        if price is None or columns.tokens_from.get(name) != "usage":
            return None
        sent, counted = columns.input_tokens[rows], columns.input_tokens[rows] >= 0
        prompts = float(sent[counted].sum())
        if counted.any():
            prompts += float(sent[counted].mean()) * int(_broke_off(columns)[rows].sum())
        total += (prompts * price[0] + int(columns.tokens[rows].sum()) * price[1]) / 1e6
    return total if columns.targets else None


def _broke_off(columns: Columns) -> BoolArray:
    """Which requests gave output and no count of it."""
    broke_off: BoolArray = (columns.first_output != MISSING) & (columns.usage < 0)
    return broke_off
