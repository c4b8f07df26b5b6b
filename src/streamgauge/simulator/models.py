"""The simulated models: when the first token comes, how fast the rest follows, how long the answer is.

Strategy: a model is a `Pace`, numbers only; `answer` turns it, a seed and a request into steps. Three models carry the
figures that the performance strategy gives for their providers; `sim-...` names carry their own.

The first token of the three: a log-normal body and, for about 7 requests in 100, a log-normal tail (cold caches, a
queue somewhere). Body and tail are set so that p50 and p95 meet the strategy's typical figures. Its p99 of 900 ms for
gpt-4o-mini comes out near 780: with a wider tail the coefficient of variation of a healthy service would lie so close
to its limit of 50 % that 400 requests could not tell. Of the other two the strategy gives no p99: their tails are as
wide as lets 150 requests show p95 < 1000 ms in more than 99 of 100 runs, which wants under 0.2 % beyond it (measured:
`python -m bench decides`). A long prompt comes later: 4 ms for each 1,000 characters.

Rules: no clock; the only randomness is the `Random` passed in.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from streamgauge.clock import MS
from streamgauge.simulator.script import AnyStep, Finish, Reasoning, Start, Text, Wait

MS_PER_1000_CHARS = 4.0
MOST_PROMPT_MS = 200.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How one model behaves. Times in ms; `gap_sigma` and the others are log-normal shapes; rates per token.

    `spread_ms`: the first token is up to this much later, evenly (`-j`). `gap_spread_ms`: each gap varies evenly by
    plus or minus this much (`-g`). `per_event`: tokens in one event. `failing`: the share of requests that this
    provider loses by the strategy, used only where it is asked for.
    """

    ttft_ms: float
    ttft_sigma: float = 0.0
    tail_ms: float = 0.0
    tail_sigma: float = 0.0
    tail_share: float = 0.0
    gap_ms: float = 20.0
    gap_sigma: float = 0.0
    least_tokens: int = 100
    most_tokens: int = 100
    spread_ms: float = 0.0
    gap_spread_ms: float = 0.0
    reasoning_tokens: int = 0
    per_event: int = 1
    reads_prompt: bool = False
    failing: float = 0.0


MODELS = {
    "gpt-4o-mini": Pace(
        300, 0.13, 635, 0.16, 0.072, gap_ms=20, gap_sigma=0.25, least_tokens=60, most_tokens=180, reads_prompt=True,
        failing=0.001,
    ),
    "claude-3-5-sonnet": Pace(
        405, 0.15, 818, 0.08, 0.065, gap_ms=25, gap_sigma=0.25, least_tokens=80, most_tokens=220, reads_prompt=True,
        failing=0.002,
    ),
    "gemini-2.0-flash": Pace(
        350, 0.14, 750, 0.12, 0.065, gap_ms=1000 / 45, gap_sigma=0.25, least_tokens=60, most_tokens=180, per_event=4,
        reads_prompt=True, failing=0.003,
    ),
}  # fmt: skip
FAMILIES = (("gpt", "gpt-4o-mini"), ("claude", "claude-3-5-sonnet"), ("gemini", "gemini-2.0-flash"))
NAMED = re.compile(r"sim((?:-[tinjgrk]\d{1,6}(?:\.\d{1,6})?)*)")

OPENING = "Answer: "
# Short everyday words: each is about one token in common vocabularies.
TALE = """
the river runs past an old mill and down to the sea where small boats wait for wind while people talk about work
weather bread and time some carry books others count coins nobody is in a hurry today because light stays long over
green hills then evening comes with quiet steps
"""
WORDS = tuple(f"{word} " for word in TALE.split())


def find(name: str) -> Pace | None:
    """The pace of a model name, or None for a `sim-` name that does not read.

    Known names, their dated variants and other members of their families behave as the family; any other name gets
    300 ms and 100 tokens 20 ms apart.
    """
    if name.startswith("sim"):
        found = NAMED.fullmatch(name)
        return None if found is None else _named(found.group(1))
    for start, model in FAMILIES:
        if name.startswith(start):
            return MODELS.get(name, MODELS[model])
    return Pace(300)


def _named(parts: str) -> Pace:
    """`-t300-i20-n100-j50-g5-r20-k4`: TTFT ms, gap ms, text tokens, TTFT spread, gap spread, reasoning tokens,
    tokens an event."""
    given = {p[0]: float(p[1:]) for p in parts.split("-")[1:]}
    count = int(given.get("n", 100))
    return Pace(
        given.get("t", 300.0),
        gap_ms=given.get("i", 20.0),
        least_tokens=count,
        most_tokens=count,
        spread_ms=given.get("j", 0.0),
        gap_spread_ms=given.get("g", 0.0),
        reasoning_tokens=int(given.get("r", 0)),
        per_event=max(1, int(given.get("k", 1))),
    )


def ttft_ms(pace: Pace, prompt_chars: int, random: Random) -> float:
    """One draw of the time to the first token."""
    middle, sigma = pace.ttft_ms, pace.ttft_sigma
    if pace.tail_share and random.random() < pace.tail_share:
        middle, sigma = pace.tail_ms, pace.tail_sigma
    value = middle * math.exp(random.gauss(0.0, sigma)) if sigma else middle
    if pace.spread_ms:
        value += random.uniform(0.0, pace.spread_ms)
    if pace.reads_prompt:
        value += min(MOST_PROMPT_MS, prompt_chars / 1000 * MS_PER_1000_CHARS)
    return value


def words(random: Random) -> Iterator[str]:
    """Words without end, from a place that the seed picks."""
    return itertools.islice(itertools.cycle(WORDS), random.randrange(len(WORDS)), None)


def length(pace: Pace, random: Random) -> int:
    """One draw of the answer's length in text tokens."""
    return random.randint(pace.least_tokens, pace.most_tokens)


def answer(
    pace: Pace, prompt_chars: int, max_tokens: int | None, random: Random, *, lead_ms: float = 0.0
) -> tuple[Iterator[AnyStep], int]:
    """The steps of one answer, and how many events of output it has.

    `max_tokens` cuts reasoning and text together and makes the finish `length`. `lead_ms`: how long before the first
    output the opening events leave (at most a quarter of the wait).
    """
    first_ms = ttft_ms(pace, prompt_chars, random)
    wanted = pace.reasoning_tokens + length(pace, random)
    allowed = wanted if max_tokens is None else min(wanted, max_tokens)
    thinking = min(pace.reasoning_tokens, allowed)
    speaking = allowed - thinking
    events = -(-thinking // pace.per_event) + -(-speaking // pace.per_event)
    lead_ms = min(lead_ms, first_ms / 4)
    varied = pace.gap_sigma or pace.gap_spread_ms
    even = None if varied else Wait(_gap_ns(pace, pace.per_event, random))

    def steps() -> Iterator[AnyStep]:
        yield Wait(round((first_ms - lead_ms) * MS))
        yield Start()
        yield Wait(round(lead_ms * MS))
        said = 0
        text = words(random)
        for kind, count in ((Reasoning, thinking), (Text, speaking)):
            if kind is Text:
                text = itertools.chain((OPENING,), text)
            for left in range(count, 0, -pace.per_event):
                tokens = min(left, pace.per_event)
                if said:
                    whole = tokens == pace.per_event
                    yield even if even is not None and whole else Wait(_gap_ns(pace, tokens, random))
                yield kind(next(text) if tokens == 1 else "".join(itertools.islice(text, tokens)), tokens)
                said += 1
        yield Finish("stop" if allowed == wanted else "length")

    return steps(), events


def _gap_ns(pace: Pace, tokens: int, random: Random) -> int:
    """The wait before an event of `tokens` tokens: log-normal with the right mean, or even, or fixed."""
    gap = pace.gap_ms * tokens
    if pace.gap_sigma:
        gap *= random.lognormvariate(-pace.gap_sigma * pace.gap_sigma / 2, pace.gap_sigma)
    if pace.gap_spread_ms:
        gap = max(0.0, gap + random.uniform(-pace.gap_spread_ms, pace.gap_spread_ms))
    return round(gap * MS)
