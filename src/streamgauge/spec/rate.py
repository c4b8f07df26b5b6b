"""The shape of a rate: a number, or a ramp or spike as a table; and how a flag says it."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import (
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from streamgauge.spec.values import (
    LEAST_RATE,
    TAG,
    Duration,
    Level,
    Pace,
    Table,
)

_NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(inf|nan)$")


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


AnyRate = Annotated[
    Annotated[Pace, Tag(f"{TAG}number")] | Annotated[RateCourse, Tag(f"{TAG}table")],
    Discriminator(_kind_of_rate),
]
"""A number, or a table that says how it changes."""
