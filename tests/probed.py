"""Run folders of `memory` and `endurance` as a run would leave them: planted readings beside made samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from folders import end, phase, run_folder
from made import MS, START, made
from streamgauge.dialects import with_options
from streamgauge.reports.document import Document
from streamgauge.sample import Outcome, Reading, Sample, SampleWriter
from streamgauge.spec.criteria import default_criteria, expand
from streamgauge.spec.load import from_url
from streamgauge.spec.presets import Settings
from streamgauge.spec.resolve import resolve
from streamgauge.spec.settings import Overrides
from streamgauge.suite.assess import assess
from streamgauge.suite.folder import READINGS
from streamgauge.verdict import Criterion

S = 1_000_000_000
MB = 1e6
Memory = Callable[[float], float]
"""Seconds since the hold began -> bytes."""


@dataclass(frozen=True)
class Plan:
    """When a planted run did what, s."""

    hold: float = 3_600.0
    burst: float = 60.0
    idle: float = 300.0

    @property
    def over(self) -> float:
        return self.hold + self.burst + self.idle


def reading(at_s: float, values: dict[str, float], **facts: Any) -> Reading:
    """One reading; a probe called app, unless told."""
    usual: dict[str, Any] = {"probe": "app", "took_ns": MS}
    return Reading(at_ns=START + round(at_s * S), values=values, **{**usual, **facts})


def readings(memory: Memory, plan: Plan = Plan(), gauge: str = "heap_used", **facts: Any) -> list[Reading]:
    """One each 5 s over the whole plan."""
    return [reading(t, {gauge: float(memory(t))}, **facts) for t in np.arange(0.0, plan.over, 5.0)]


def noisy(level: float = 300 * MB, sd: float = 2 * MB, seed: int = 1) -> Memory:
    """A level with noise of its own at each time."""
    rng = np.random.default_rng(seed)
    return lambda t: level + sd * float(rng.standard_normal())


def growing(rate: float, plan: Plan = Plan(), seed: int = 1) -> Memory:
    """Grows by `rate` bytes an hour while there is load."""
    base = noisy(seed=seed)
    return lambda t: base(t) + rate * min(t, plan.hold) / 3600


def with_burst(memory: Memory, raised: float, kept: float, plan: Plan = Plan()) -> Memory:
    """`raised` bytes more during the burst, of which the share `kept` stays."""

    def held(t: float) -> float:
        if t < plan.hold:
            return memory(t)
        return memory(t) + (raised if t < plan.hold + plan.burst else kept * raised)

    return held


def memory_samples(plan: Plan = Plan(), good: float = 1.0) -> list[Sample]:
    """A request each 20 s of the hold and each 2 s of the burst; the share `good` of them answered."""
    times = [*np.arange(0.0, plan.hold, 20.0), *np.arange(plan.hold, plan.hold + plan.burst, 2.0)]
    return [
        made(n=n, due_ms=1_000 * t, phase="hold" if t < plan.hold else "burst", level=10,
             outcome=Outcome.OK if (n % 100) < 100 * good else Outcome.CONNECT_REFUSED)
        for n, t in enumerate(times)
    ]  # fmt: skip


def criteria(test: str, *, probes: bool = True) -> list[Criterion]:
    """The test's own, all targets and prompts."""
    usual = default_criteria(test, "standard", prompts=("short",), level=10, open_loop=False, probes=probes)
    return [
        Criterion(name=c.name, metric=c.metric, stat=c.stat, op=c.op, limit=c.limit, unit=c.unit, target=c.target,
                  prompt=c.prompt, advisory=c.advisory, gating=c.may_gate and not c.advisory)
        for c in expand(usual, targets=("app",), prompts=("short",))
    ]  # fmt: skip


def folder_of(
    root: Path, test: str, samples: Iterable[Sample], read: Iterable[Reading], journal: Sequence[dict[str, Any]],
    **head: Any,
) -> Path:  # fmt: skip
    """The folder of a run."""
    settings = {"probes": ["app"], "targets": ["app"], "prompts": ["short"], **head.pop("settings", {})}
    usual = {"id": f"20251124T041500Z-{test}-5c1f", "test": test, "preset": "standard", "settings": settings}
    folder = run_folder(root, samples, head.pop("criteria", criteria(test)), journal, **{**usual, **head})
    writer = SampleWriter(folder / READINGS)
    for one in read:
        writer.add(one)
    writer.close()
    return folder


def memory_run(
    root: Path,
    read: Iterable[Reading],
    plan: Plan = Plan(),
    good: float = 1.0,
    journal: Any = None,
    samples: Any = None,
    **head: Any,
) -> Document:
    """The document of a `memory` run over planted readings."""
    journal = journal or [
        {"event": "round", "number": 0}, phase("hold", 0, 10), phase("burst", 1_000 * plan.hold, 50),
        phase("idle", 1_000 * (plan.hold + plan.burst), 0), phase("drain", 1_000 * plan.over, 0),
        end(1_000 * plan.over),
    ]  # fmt: skip
    return assess(folder_of(root, "memory", samples or memory_samples(plan, good), read, journal, **head)).document


def verdicts(document: Document) -> dict[str, str]:
    """metric -> verdict."""
    return {one.metric: one.verdict for one in document.criteria}


def settings_of(test: str, **overrides: Any) -> Settings:
    """What a test runs by, with these flags."""
    spec = from_url("http://127.0.0.1:9", dialect="openai-chat", speak=with_options, environ={})
    return resolve(spec, None, {}, test, Overrides(**overrides)).settings


def shifted(read: Iterable[Reading], **facts: Any) -> list[Reading]:
    """The same readings with other facts."""
    return [msgspec.structs.replace(one, **facts) for one in read]
