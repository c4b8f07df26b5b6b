"""What single values in a streamgauge.toml may be: durations, counts, rates, texts; and what all tables share."""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)

from streamgauge.proxies import parse_proxy
from streamgauge.spec.address import check_path, parse_url

SLOTS = {"{prompt}": "x", "{uuid}": "x", "{chat}": "x", "{model}": "x", "{max_tokens}": "1"}
"""What a body may hold, with what stands in for it when the body is checked."""
REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_DURATION = re.compile(r"^(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)$")
LONGEST_S = 366 * 86_400.0
MOST, MOST_STREAMS = 1_000_000_000, 100_000
LEAST_RATE, MOST_RATE = 0.01, 1_000_000
TAG = "="
"""How the name begins that tells which kind of value one is that may be of several: no key begins so."""
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_duration(value: object) -> float:
    """Seconds from a number or a text such as "500ms", "90s", "2m", "1h". ValueError says what is allowed."""
    allowed = 'allowed: seconds, or a text such as "500ms", "90s", "2m", "1h"'
    if isinstance(value, str):
        match = _DURATION.match(value.strip())
        if match is None:
            raise ValueError(f'"{value}" is not a duration; {allowed}')
        value = float(match[1]) * _UNITS[match[2]]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a duration; {allowed}")
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{value:g} is not a duration above 0; {allowed}")
    if value > LONGEST_S:
        raise ValueError(f"{value:g} s is over a year; {allowed}")
    return float(value)


def _zero_or_duration(value: object) -> float:
    return 0.0 if value == 0 and not isinstance(value, bool) else parse_duration(value)


_DURATION_SCHEMA = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^\d+(\.\d+)?\s*(ms|s|m|min|h)$"},
    ]
}
Duration = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema(_DURATION_SCHEMA)]
Pause = Annotated[float, BeforeValidator(_zero_or_duration), WithJsonSchema(_DURATION_SCHEMA)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Pace = Annotated[float, Field(ge=LEAST_RATE, le=MOST_RATE, allow_inf_nan=False)]
Level = Annotated[float, Field(ge=0, le=MOST_RATE, allow_inf_nan=False)]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=MOST)]
Text = Annotated[str, Field(min_length=1)]


def _address(value: str) -> str:
    """What holds a reference is known only once that is filled in: see `resolve`."""
    if not REFERENCE.search(value):
        parse_url(value)
    return value


def _path(value: str) -> str:
    wrong = check_path(REFERENCE.sub("x", value))
    if wrong:
        raise ValueError(wrong)
    return value


def _proxy(value: str) -> str:
    if not REFERENCE.search(value):
        parse_proxy(value)
    return value


AddressText = Annotated[Text, AfterValidator(_address)]
PathText = Annotated[Text, AfterValidator(_path)]
ProxyText = Annotated[Text, AfterValidator(_proxy)]


class Table(BaseModel):
    """What all tables share: frozen, strict, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)
