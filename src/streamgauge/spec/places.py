"""Where a number stands in a JSON answer, as a spec writes it: keys with dots, or a JSON pointer, and perhaps a factor.

Its names are checked against those that mean the same everywhere: a typing error would make a gauge of its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from streamgauge.sample import FACTS, GAUGES

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def parse_place(text: str) -> tuple[tuple[str, ...], float]:
    """(keys, factor) of `memory.heapUsed`, `/memory/heapUsed` (RFC 6901) or either with `* 1048576`.

    A key that is a number goes into a list. ValueError says what is allowed.
    """
    way, star, factor = text.partition("*")
    way = way.strip()
    times = 1.0
    if star:
        try:
            times = float(factor)
        except ValueError:
            times = math.nan
        if not math.isfinite(times) or times == 0:
            raise ValueError(f'"{text}": after * stands the number it is multiplied by, as in "memory.heap_mb * 1e6"')
    if way.startswith("/"):
        keys = [part.replace("~1", "/").replace("~0", "~") for part in way[1:].split("/")]
    else:
        keys = re.sub(r"\[(\d+)\]", r".\1", way).split(".")
    if not all(keys):
        raise ValueError(f'"{text}" is no place in JSON; write its keys with dots, as in "memory.heapUsed"')
    return tuple(keys), times


def name_mistake(name: str) -> str | None:
    """What is wrong with the name of a gauge, or None."""
    if not _NAME.fullmatch(name):
        return f'"{name}" is no name of a gauge; allowed: lower case letters, digits and _, a letter first'
    known = {_bare(one): one for one in (*GAUGES, *FACTS)}
    meant = known.get(_bare(name), name)
    return None if meant == name else f'"{name}" would be a gauge of its own; did you mean "{meant}"?'


def _bare(name: str) -> str:
    return name.replace("_", "").rstrip("s")


def check_places(places: Mapping[str, str]) -> None:
    """ValueError for the first that is wrong."""
    for name, text in places.items():
        wrong = name_mistake(name)
        if wrong is not None:
            raise ValueError(wrong)
        parse_place(text)
