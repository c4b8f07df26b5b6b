"""One test's settings and criteria: preset, then the spec's table, then the flags.

Rules: an explicit number of requests or a duration replaces both ends of the preset's hold, so that what was asked for
is what happens. An explicit concurrency is the only level: the stress phase is left out. In open loop no level is held,
so there is no stress phase either; without a cap of its own it is what a minute of arrivals would need.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from streamgauge.spec.criteria import Criterion, criterion, default_criteria, expand, speaks_of_the_same
from streamgauge.spec.load import Spec
from streamgauge.spec.mistakes import Mistakes, did_you_mean
from streamgauge.spec.model import LEAST_RATE, MOST, MOST_RATE, MOST_STREAMS, Test
from streamgauge.spec.model import Timeouts as TimeoutsTable
from streamgauge.spec.presets import PRESETS, TABLE, Inconclusive, Preset, Settings, Timeouts

CAP_S = 60.0
"""An open loop without `concurrency` may have this many seconds' arrivals open at a time (Little's law: a stream that
takes the whole first-token time-out)."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """What flags say. None: not given."""

    preset: str | None = None
    requests: int | None = None
    concurrency: int | None = None
    rate: float | None = None
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
        if self.rate is not None and not LEAST_RATE <= self.rate <= MOST_RATE:
            told = f"must be a number from {LEAST_RATE} to {MOST_RATE:,} (a second)"
            mistakes.add_at(self.place("--rate", f"{self.rate:g}"), told)
        for flag, value in (("--duration", self.duration_s), ("--max-usd", self.max_usd)):
            if value is not None and not (math.isfinite(value) and value > 0):
                mistakes.add_at(self.place(flag, f"{value:g}"), "must be a finite number above 0")


def settings_of(
    spec: Spec, test: str, targets: tuple[str, ...], overrides: Overrides, streams_limit: float | None
) -> Settings:
    """The settings of `test` over `targets`; `streams_limit` bounds only the cap that an open loop gets by itself."""
    table: Test = getattr(spec.model.tests, test) or Test()
    usual = "standard" if spec.path is not None else "pr"
    preset = TABLE[test, overrides.preset or table.preset or usual]
    requests = overrides.requests or table.requests
    duration = overrides.duration_s or table.duration
    concurrency = overrides.concurrency or table.concurrency
    rate = overrides.rate or table.rate
    own_end = requests is not None or duration is not None
    stress = preset.stress_level if concurrency is None and rate is None else None
    if concurrency is None:
        concurrency = preset.concurrency if rate is None else _cap(rate, streams_limit)
    return Settings(
        test=test,
        preset=preset.name,
        targets=targets,
        prompts=table.prompts or preset.prompts,
        requests=requests if own_end else _requests(preset, len(targets)),
        duration_s=duration if own_end else preset.duration_s,
        floor=preset.floor,
        concurrency=concurrency,
        rate=rate,
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
        timeouts=_timeouts(preset, table.timeouts),
        inconclusive=overrides.inconclusive or table.inconclusive or "report",
    )


def _requests(preset: Preset, targets: int) -> int:
    """The preset's judged requests for each target."""
    return preset.requests if preset.test == "ttft" else math.ceil(preset.requests / max(1, targets))


def _cap(rate: float, streams_limit: float | None) -> int:
    cap = math.ceil(rate * CAP_S)
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
        level=settings.concurrency,
        open_loop=settings.rate is not None,
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
