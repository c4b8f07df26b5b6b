"""One test's settings and criteria: preset, then the spec's table, then the flags.

Rules: an explicit number of requests or a duration replaces both ends of the preset's hold, so that what was asked for
is what happens. An explicit concurrency is the only level: the stress phase is left out. In open loop no level is held,
so there is no stress phase either; without a cap of its own it is what the densest minute of arrivals would need. A
rate that changes and a trace have an end of their own, where no requests and no duration are asked for: a ramp when it
is up, a spike as long after it as it took to come, a trace with its last arrival.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from streamgauge.arrivals import Arrivals, Rate, Spacing, Trace, most_within, ramp, spike
from streamgauge.errors import UsageError
from streamgauge.spec.criteria import Criterion, criterion, default_criteria, expand, speaks_of_the_same
from streamgauge.spec.load import Spec
from streamgauge.spec.mistakes import Mistakes, did_you_mean
from streamgauge.spec.presets import PRESETS, TABLE, Burst, Climb, Inconclusive, Lives, Preset, Settings, Timeouts
from streamgauge.spec.rate import RateCourse
from streamgauge.spec.tests import EnduranceTest, MemoryTest, StressTest, Test
from streamgauge.spec.tests import Timeouts as TimeoutsTable
from streamgauge.spec.trace import read_trace
from streamgauge.spec.values import LEAST_RATE, MOST, MOST_RATE, MOST_STREAMS

S = 1_000_000_000
BETWEEN, SPARE_S = 1.05, 5.0
"""What endurance's hold has beyond its streams' own time: the waits for first tokens between them."""
CAP_S = 60.0
"""An open loop without `concurrency` may have this many seconds' arrivals open at a time (Little's law: a stream that
takes the whole first-token time-out)."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """What flags say. None: not given."""

    preset: str | None = None
    requests: int | None = None
    concurrency: int | None = None
    rate: float | RateCourse | None = None
    arrivals: Spacing | None = None
    trace: str | None = None
    """A file, as a path from here."""
    duration_s: float | None = None
    inconclusive: Inconclusive | None = None
    max_requests: int | None = None
    max_tokens: int | None = None
    """The hard stop of the run, not the length of an answer."""
    max_usd: float | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    """{flag: variable} of those that a variable gave."""

    def place(self, flag: str, value: object) -> str:
        """`--requests 0`, or `STREAMGAUGE_REQUESTS=0` where that gave it."""
        return f"{self.origins[flag]}={value}" if flag in self.origins else f"{flag} {value}"

    def check(self, mistakes: Mistakes) -> None:
        """Note each flag whose value cannot be."""
        if self.preset is not None and self.preset not in PRESETS:
            hint = did_you_mean(self.preset, PRESETS)
            mistakes.add_at(self.place("--preset", self.preset), f"no such preset{hint} Presets: {', '.join(PRESETS)}")
        whole = {
            "--requests": (self.requests, MOST),
            "--concurrency": (self.concurrency, MOST_STREAMS),
            "--max-requests": (self.max_requests, MOST),
            "--max-tokens": (self.max_tokens, MOST),
        }
        for flag, (count, most) in whole.items():
            if count is not None and not 1 <= count <= most:
                mistakes.add_at(self.place(flag, count), f"must be a whole number from 1 to {most:,}")
        if isinstance(self.rate, float | int) and not LEAST_RATE <= self.rate <= MOST_RATE:
            told = f"must be a number from {LEAST_RATE} to {MOST_RATE:,} (a second)"
            mistakes.add_at(self.place("--rate", f"{self.rate:g}"), told)
        if self.rate is not None and self.trace is not None:
            mistakes.add_at(self.place("--trace", self.trace), "give --rate or --trace: a trace has its own times")
        for flag, value in (("--duration", self.duration_s), ("--max-usd", self.max_usd)):
            if value is not None and not (math.isfinite(value) and value > 0):
                mistakes.add_at(self.place(flag, f"{value:g}"), "must be a finite number above 0")


def open_loop_of(spec: Spec, test: str, overrides: Overrides, mistakes: Mistakes) -> Arrivals | None:
    """When requests come due, by flags and spec; None: closed loop. Its cap is 0: `settings_of` knows it.

    A flag for a rate takes the place of the spec's trace, and the other way round.
    """
    table: Test = getattr(spec.model.tests, test) or Test()
    times: tuple[int, ...] | None = None
    if overrides.trace is not None:
        try:
            times = read_trace(Path(overrides.trace), overrides.trace)
        except UsageError as error:
            told = str(error).removeprefix(f"{overrides.trace}: ")
            mistakes.add_at(overrides.place("--trace", overrides.trace), told)
    elif overrides.rate is None:
        times = spec.traces.get(test)
    name = overrides.trace or (table.trace if overrides.rate is None else None)
    rate = overrides.rate if overrides.rate is not None else table.rate
    spacing = overrides.arrivals or table.arrivals
    if name is None and rate is None and spacing is not None:
        told = "spaces the arrivals of a rate, and there is none; add a rate (--rate)"
        if overrides.arrivals is not None:
            mistakes.add_at(overrides.place("--arrivals", spacing), told)
        else:
            mistakes.add(("tests", test, "arrivals"), told)
    if name is not None and overrides.arrivals is not None:
        mistakes.add_at(overrides.place("--arrivals", overrides.arrivals), "a trace has its own times; leave it out")
    if name is not None:
        return None if times is None else Trace(times, 0, Path(name).name)
    return None if rate is None else _rate(rate, spacing or "constant")


def _rate(rate: float | RateCourse, spacing: Spacing) -> Rate:
    """The rate as the engine has it."""
    if not isinstance(rate, RateCourse):
        return Rate(float(rate), 0, spacing)
    if rate.over is not None:
        return ramp(rate.from_ or 0.0, rate.to or 0.0, round(rate.over * S), 0, spacing)
    return spike(
        rate.base or 0.0, rate.peak or 0.0, round((rate.at or 0.0) * S), round((rate.for_ or 0.0) * S), 0, spacing
    )


def settings_of(
    spec: Spec,
    test: str,
    targets: tuple[str, ...],
    overrides: Overrides,
    streams_limit: float | None,
    arrivals: Arrivals | None,
) -> Settings:
    """The settings of `test` over `targets`; `streams_limit` bounds only the cap that an open loop gets by itself."""
    table: Test = getattr(spec.model.tests, test) or Test()
    usual = "standard" if spec.path is not None else "pr"
    preset = TABLE[test, overrides.preset or table.preset or usual]
    requests = overrides.requests or table.requests
    duration = overrides.duration_s or table.duration
    concurrency = overrides.concurrency or table.concurrency
    steady = arrivals is None or (isinstance(arrivals, Rate) and not arrivals.course)
    own_end = requests is not None or duration is not None or not steady
    stress = preset.stress_level if concurrency is None and arrivals is None else None
    if concurrency is None:
        concurrency = preset.concurrency if arrivals is None else _cap(arrivals, streams_limit)
    if isinstance(arrivals, Rate) and arrivals.course and requests is None and duration is None:
        duration = _course_s(arrivals)
    lives = _lives(preset, table)
    if lives is not None and not own_end:
        duration, own_end = lives.stream_s * lives.in_sequence * BETWEEN + SPARE_S, True
    return Settings(
        test=test,
        preset=preset.name,
        targets=targets,
        prompts=table.prompts or preset.prompts,
        requests=requests if own_end else _requests(preset, len(targets)),
        duration_s=duration if own_end else preset.duration_s,
        floor=preset.floor,
        concurrency=concurrency,
        open_loop=None if arrivals is None else msgspec.structs.replace(arrivals, cap=concurrency),
        max_tokens=table.max_tokens or preset.max_tokens,
        unique_prefix=table.unique_prefix,
        think_time_s=table.think_time or 0.0,
        warmup_requests=preset.warmup_requests,
        reference_requests=preset.reference_requests,
        reference_s=preset.reference_s,
        ramp_s=max(2.0, concurrency / 100),
        stress_level=stress,
        stress_requests=preset.stress_requests if stress else None,
        stress_s=preset.stress_s if stress else None,
        double=preset.double and not own_end,
        repeats=_repeats(preset, table, own_end=own_end, open_loop=arrivals is not None),
        timeouts=_timeouts(preset, table.timeouts),
        inconclusive=overrides.inconclusive or table.inconclusive or "report",
        climb=_climb(preset, table, overrides, arrivals),
        burst=_burst(preset, table, concurrency),
        lives=lives,
        allow_production=table.allow_production,
        probes=probes_of(spec, test),
    )


def _climb(preset: Preset, table: Test, overrides: Overrides, arrivals: Arrivals | None) -> Climb | None:
    """What stress climbs. An own top leaves the levels below it as they are; in open loop they are shares of it."""
    usual = preset.climb
    if usual is None:
        return None
    own = table if isinstance(table, StressTest) else StressTest()
    top = overrides.concurrency or table.concurrency
    levels = usual.levels if own.levels is None else tuple(map(float, own.levels))
    asked = min(usual.asked, levels[-1] if top is None else float(top))
    if isinstance(arrivals, Rate):
        levels = tuple(arrivals.highest * level / levels[-1] for level in levels)
        asked = levels[-1] / 2
    elif top is not None:
        levels = (*(level for level in levels if level < top), float(top))
    asked = own.capacity or asked
    return Climb(
        levels=tuple(sorted({*levels, *([asked] if asked <= levels[-1] else [])})),
        asked=asked,
        hold_s=overrides.duration_s or table.duration or usual.hold_s,
        finer=usual.finer if own.finer is None else own.finer,
        spike_s=own.spike or usual.spike_s,
        recovery_s=own.recovery or usual.recovery_s,
    )


def _burst(preset: Preset, table: Test, concurrency: int) -> Burst | None:
    """The burst after memory's hold: as much above the level as the preset has it, where it is not given."""
    usual = preset.burst
    if usual is None:
        return None
    own = table if isinstance(table, MemoryTest) else MemoryTest()
    return Burst(
        level=own.burst or math.ceil(concurrency * usual.level / preset.concurrency),
        seconds=own.burst_duration or usual.seconds,
        idle_s=own.idle or usual.idle_s,
    )


def _lives(preset: Preset, table: Test) -> Lives | None:
    """How long each of endurance's streams is to live, and how many in sequence."""
    usual = preset.lives
    if usual is None:
        return None
    own = table if isinstance(table, EnduranceTest) else EnduranceTest()
    return Lives(own.stream or usual.stream_s, own.in_sequence or usual.in_sequence)


def _repeats(preset: Preset, table: Test, *, own_end: bool, open_loop: bool) -> int:
    """How often a prompt is sent again: never where every prompt is, or where the load is to be what was asked for."""
    if open_loop or not table.unique_prefix or preset.test != "ttft":
        return 0
    return table.repeats if table.repeats is not None else 0 if own_end else preset.repeats


def probes_of(spec: Spec, test: str) -> tuple[str, ...]:
    """The probes that are read while `test` runs."""
    table: Test | None = getattr(spec.model.tests, test)
    chosen = None if table is None else table.probes
    return tuple(spec.model.probes) if chosen is None else tuple(dict.fromkeys(chosen))


def _course_s(rate: Rate) -> float:
    """How long a rate that changes is followed: a ramp to its end, a spike until as long after it as before it."""
    (first, _), (last, _) = rate.course[0], rate.course[-1]
    return (last if len(rate.course) == 1 else last + first) / S


def _requests(preset: Preset, targets: int) -> int | None:
    """The preset's judged requests for each target; None where time alone ends it."""
    if preset.requests is None:
        return None
    return preset.requests if preset.test == "ttft" else math.ceil(preset.requests / max(1, targets))


def _cap(arrivals: Arrivals, streams_limit: float | None) -> int:
    cap = math.ceil(most_within(arrivals, round(CAP_S * S)))
    return max(1, cap if streams_limit is None else min(cap, int(streams_limit)))


def _timeouts(preset: Preset, table: TimeoutsTable) -> Timeouts:
    usual = preset.timeouts
    return Timeouts(
        connect_s=table.connect or usual.connect_s,
        first_token_s=table.first_token or usual.first_token_s,
        stall_s=table.stall or usual.stall_s,
        total_s=table.total or usual.total_s,
        drain_s=table.drain or usual.drain_s,
    )


def judged_by(spec: Spec, settings: Settings) -> tuple[Criterion, ...]:
    """The criteria of one test with their scopes written out: the spec's own, or the test's, or both."""
    defaults = default_criteria(
        settings.test,
        settings.preset,
        prompts=settings.prompts,
        level=settings.concurrency if settings.climb is None else settings.climb.asked,
        open_loop=settings.open_loop is not None,
        probes=bool(settings.probes),
    )
    table: Test | None = getattr(spec.model.tests, settings.test)
    if table is None or table.criteria is None:
        chosen: list[Criterion] = list(defaults)
    else:
        own = {
            number: criterion(
                one.rule,
                target=one.target,
                prompt=one.prompt,
                phase=one.phase,
                advisory=one.advisory,
                severity=one.severity,
                name=one.name,
            )
            for number, one in enumerate(table.criteria)
            if one.rule != "default"
        }
        rest = [one for one in defaults if not any(speaks_of_the_same(one, mine) for mine in own.values())]
        chosen = []
        for number in range(len(table.criteria)):
            chosen += [own[number]] if number in own else rest
    return expand(chosen, targets=settings.targets, prompts=settings.prompts)
