"""Numbers out of a JSON answer: where the spec says they stand, else under the names that such pages use.

The usual names are those of Node's process.memoryUsage(), in any spelling (heapUsed, heap_used), at the top or in a
table such as `memory`. A number may also be a text with a unit (`"45.2 MB"`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from streamgauge.probes.contract import Place
from streamgauge.sample import FACTS, GAUGES

_USUAL = {
    **{name: (name.replace("_", ""),) for name in GAUGES if name not in ("restarts", "cpu_s")},
    "uptime": ("uptimes", "uptime", "uptimeseconds"),
    "instance": ("instance", "instanceid"),
    "pid": ("pid",),
    "time": ("timems",),
    "collected": ("collected",),
}  # fmt: skip
"""Gauge or fact -> its name without case and signs."""
_TABLES = ("memory", "memoryusage", "mem", "process", "data")
_SIZE = re.compile(r"\s*([+-]?\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", re.I)
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "ki": 2.0**10, "mi": 2.0**20, "gi": 2.0**30, "ti": 2.0**40}
_USUAL_TIMES = {"time": 1e-3}
_MOST_KEYS = 24
LONGEST_NAME = 200


def find(answer: object, place: Place) -> object:
    """What stands there. KeyError, whose text says what is there instead."""
    here = answer
    for number, key in enumerate(place.keys):
        if isinstance(here, dict) and key in here:
            here = here[key]
        elif isinstance(here, list) and key.isdecimal() and int(key) < len(here):
            here = here[int(key)]
        else:
            before = ".".join(place.keys[:number])
            raise KeyError(f"{place.shown} is not there; {f'{before} has' if before else 'there is'}: {keys_of(here)}")
    return here


def keys_of(value: object) -> str:
    """The keys of a table for a person; never its values, which may be anybody's."""
    if isinstance(value, dict):
        names = [str(key)[:40] + (" {...}" if isinstance(inner, dict) else "") for key, inner in value.items()]
        more = f" and {len(names) - _MOST_KEYS} more" if len(names) > _MOST_KEYS else ""
        return ", ".join(names[:_MOST_KEYS]) + more or "nothing"
    return f"a list of {len(value)}" if isinstance(value, list) else "a single value"


def number(value: object) -> float | None:
    """A finite number, or a text that is one with or without a unit; else None."""
    if isinstance(value, str) and len(value) < 40 and (match := _SIZE.fullmatch(value)):
        return float(match[1]) * _UNITS[(match[2] or "").lower()]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def read(answer: object, places: Mapping[str, Place]) -> tuple[dict[str, object], list[str]]:
    """({gauge or fact: value}, what was asked for and is not there). Gauges are numbers."""
    found: dict[str, object] = {}
    missing = []
    for name, place in places.items():
        try:
            value = find(answer, place)
        except KeyError as error:
            missing.append(f"{name}: {error.args[0]}")
            continue
        made = _made(name, value, place.times)
        if made is None:
            missing.append(f"{name}: {place.shown} is {_kind(value)}, no number")
        else:
            found[name] = made
    for name, value in _usual(answer).items():
        if name not in places and (made := _made(name, value, _USUAL_TIMES.get(name, 1.0))) is not None:
            found[name] = made
    return found, missing


def _made(name: str, value: object, times: float) -> object:
    if name == "instance":
        return str(value)[:LONGEST_NAME] if isinstance(value, str | int) and value != "" else None
    if name == "collected":
        return value if isinstance(value, bool) else None
    plain = number(value)
    return None if plain is None else plain * times


def _kind(value: object) -> str:
    names = {bool: "true or false", str: "a text", dict: "a table", list: "a list", type(None): "null"}
    return names.get(type(value), "a value")


def _usual(answer: object) -> dict[str, object]:
    """What stands under its usual name, at the top or one table below; the top wins."""
    if not isinstance(answer, dict):
        return {}
    tables = [value for key, value in answer.items() if _bare(key) in _TABLES and isinstance(value, dict)]
    plain = {_bare(key): value for table in (*reversed(tables), answer) for key, value in table.items()}
    return {
        name: plain[spelling]
        for name, spellings in _USUAL.items()
        for spelling in reversed(spellings)
        if spelling in plain
    }


def _bare(key: object) -> str:
    return re.sub(r"[^a-z0-9]", "", str(key).lower())


def gauges_in(found: Mapping[str, object]) -> dict[str, float]:
    """The gauges alone."""
    return {name: value for name, value in found.items() if name not in FACTS and isinstance(value, float)}
