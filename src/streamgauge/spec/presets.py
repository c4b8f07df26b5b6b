"""The numbers of each test at each preset, as one table of plain data.

Rules: a preset scales how many requests are sent and how long load is held, never what is asked of the service. Plain
dataclasses and no third-party import, so that the command line can offer the names without loading anything heavy.
`Settings` is a preset after the spec and the flags had their say: what a test runs by.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from streamgauge.arrivals import Arrivals

TESTS = ("ttft", "concurrent", "endurance", "memory", "stress")
"""The tests that exist. A spec may name no other."""
PRESETS = ("smoke", "pr", "standard", "full")
LENGTHS = ("short", "medium", "long")
"""Prompt sets that are shipped, by their length."""
SHIPPED = (*LENGTHS, "endless")
"""All of them; the last asks for answers as long as a model gives."""
PHASES_OF = {
    "ttft": ("hold",),
    "concurrent": ("reference", "ramp", "hold", "stress"),
    "endurance": ("hold",),
    "memory": ("hold", "burst"),
    "stress": ("hold", "stress", "spike", "recovery"),
}
"""Phases a criterion of each test may name; `hold` is the judged one."""
PHASES = tuple(dict.fromkeys(phase for phases in PHASES_OF.values() for phase in phases))

Inconclusive = Literal["report", "pass"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """When a stream is given up, in seconds. None: never."""

    connect_s: float = 10.0
    first_token_s: float = 60.0
    """From `sent` to the first output of any kind."""
    stall_s: float = 60.0
    """Between two outputs."""
    total_s: float | None = None
    """From `sent` to the end."""
    drain_s: float = 30.0
    """What open streams get when the plan is over; then they are cancelled."""


@dataclass(frozen=True, slots=True)
class Burst:
    """What memory does after its hold: more streams for a while, then none."""

    level: int
    seconds: float
    idle_s: float
    """Long enough for a collector to run by itself: some wait until nothing is asked of them."""


@dataclass(frozen=True, slots=True)
class Lives:
    """What endurance wants of each of its streams."""

    stream_s: float
    """How long one answer is to last."""
    in_sequence: int
    """So many one after another."""


@dataclass(frozen=True, slots=True)
class Climb:
    """What stress does: levels one after another, finer steps around the knee, a spike, and recovery after each."""

    levels: tuple[float, ...]
    """Users over all targets, rising; in open loop requests a second."""
    asked: float
    """What must be within the criteria."""
    hold_s: float
    """How long each level is held, once it is reached."""
    finer: int
    """At most so many finer steps."""
    spike_s: float
    recovery_s: float
    """How long recovery is looked at after each overload."""


@dataclass(frozen=True, slots=True)
class Preset:
    """One test at one preset."""

    test: str
    name: str
    requests: int | None
    """Judged requests: for each target in ttft, over all targets in concurrent; None: time alone ends the hold."""
    concurrency: int
    """Streams at a time: for each target in ttft, over all targets in concurrent (the held level)."""
    prompts: tuple[str, ...]
    max_tokens: int
    duration_s: float | None = None
    """The judged hold ends here at the latest."""
    floor: int | None = None
    """Fewer judged requests a target than this can decide no p95 (0.95^59 < 5 %)."""
    warmup_requests: int = 2
    """A target, never judged."""
    reference_requests: int | None = None
    reference_s: float | None = None
    """The reference phase (one stream at a time) ends at the first of the two."""
    stress_level: int | None = None
    stress_requests: int | None = None
    stress_s: float | None = None
    """The stress phase ends at the first of the two."""
    double: bool = False
    """Whether an undecided run is doubled once."""
    burst: Burst | None = None
    lives: Lives | None = None
    climb: Climb | None = None
    repeats: int = 0
    """A target: so many times one prompt, beside as many new ones, to see whether it is cached. Never judged."""
    timeouts: Timeouts = field(default_factory=Timeouts)


def _ttft(name: str, requests: int, *, double: bool) -> Preset:
    return Preset(
        "ttft",
        name,
        requests=requests,
        concurrency=4,
        prompts=LENGTHS,
        max_tokens=32,
        floor=59,
        double=double,
        repeats=12 if double else 0,
        timeouts=Timeouts(total_s=300.0),
    )


def _concurrent(
    name: str, requests: int, duration_s: float, reference: tuple[int, float], stress: tuple[int, float]
) -> Preset:
    return Preset(
        "concurrent",
        name,
        requests=requests,
        duration_s=duration_s,
        concurrency=100,
        prompts=("short", "medium"),
        max_tokens=128,
        reference_requests=reference[0],
        reference_s=reference[1],
        stress_level=200,
        stress_requests=stress[0],
        stress_s=stress[1],
    )


def _endurance(name: str, stream_s: float, in_sequence: int, max_tokens: int = 8_192) -> Preset:
    """More tokens than 8,192 are refused by some providers, whatever the model would say."""
    return Preset(
        "endurance",
        name,
        requests=None,
        concurrency=8,
        prompts=("endless",),
        max_tokens=max_tokens,
        lives=Lives(stream_s, in_sequence),
        warmup_requests=0,
        timeouts=Timeouts(drain_s=5.0),
    )


def _memory(name: str, hold_s: float, burst: Burst) -> Preset:
    return Preset(
        "memory",
        name,
        requests=None,
        duration_s=hold_s,
        concurrency=10,
        prompts=("short", "medium"),
        max_tokens=512,
        burst=burst,
    )


LEVELS = (1.0, 10.0, 25.0, 50.0, 75.0, 100.0, 150.0, 200.0)


def _stress(name: str, hold_s: float, finer: int, spike_s: float, recovery_s: float) -> Preset:
    return Preset(
        "stress",
        name,
        requests=None,
        concurrency=200,
        prompts=("short", "medium"),
        max_tokens=32,
        climb=Climb(LEVELS, 100.0, hold_s, finer, spike_s, recovery_s),
    )


_TABLE = (
    _ttft("smoke", 150, double=False),
    _ttft("pr", 150, double=False),
    _ttft("standard", 400, double=True),
    _ttft("full", 400, double=True),
    #                     judged requests, or s    reference      stress
    _concurrent("smoke", 300, 30.0, (20, 25.0), (300, 10.0)),
    _concurrent("pr", 1_300, 90.0, (20, 30.0), (400, 20.0)),
    _concurrent("standard", 2_000, 600.0, (20, 30.0), (1_000, 60.0)),
    _concurrent("full", 2_000, 600.0, (20, 30.0), (2_000, 120.0)),
    #                    a stream lasts, so many in sequence
    _endurance("smoke", 15.0, 2, max_tokens=1_024),
    _endurance("pr", 120.0, 2),
    _endurance("standard", 900.0, 2),
    _endurance("full", 1_800.0, 3),
    #                 hold           burst, then idle
    _memory("smoke", 25.0, Burst(30, 5.0, 10.0)),
    _memory("pr", 300.0, Burst(50, 20.0, 60.0)),
    _memory("standard", 3_600.0, Burst(50, 60.0, 300.0)),
    _memory("full", 14_400.0, Burst(100, 120.0, 600.0)),
    #                a level's hold, finer steps, spike, recovery
    _stress("smoke", 3.0, 3, 4.0, 4.0),
    _stress("pr", 10.0, 4, 10.0, 15.0),
    _stress("standard", 60.0, 5, 30.0, 60.0),
    _stress("full", 180.0, 6, 60.0, 120.0),
)

TABLE: dict[tuple[str, str], Preset] = {(preset.test, preset.name): preset for preset in _TABLE}
"""(test, preset) -> its numbers."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What one test runs by: its preset, changed by the spec and the flags."""

    test: str
    preset: str
    targets: tuple[str, ...]
    prompts: tuple[str, ...]
    requests: int | None
    """Judged requests for each target, whatever the test; None: `duration_s` alone ends the hold."""
    duration_s: float | None
    floor: int | None
    concurrency: int
    """Streams at a time: for each target in ttft, over all in concurrent. In open loop the cap over all targets."""
    open_loop: Arrivals | None
    """When requests come due, over all targets; None: closed loop."""
    max_tokens: int
    unique_prefix: bool
    """Whether each prompt begins with a line of its own, so that no cache flatters the result."""
    think_time_s: float
    warmup_requests: int
    reference_requests: int | None
    reference_s: float | None
    ramp_s: float
    """The new streams of a level start spread over this time: max(2 s, level / 100 s)."""
    stress_level: int | None
    stress_requests: int | None
    """Over all targets."""
    stress_s: float | None
    double: bool
    repeats: int
    timeouts: Timeouts
    inconclusive: Inconclusive
    """`pass`: exit 3 becomes 0, with a warning."""
    probes: tuple[str, ...] = ()
    """Where the server's memory is read meanwhile."""
    burst: Burst | None = None
    """Of memory."""
    lives: Lives | None = None
    """Of endurance."""
    climb: Climb | None = None
    """Of stress."""
    allow_production: bool = False
    """For the tests that spare production."""
