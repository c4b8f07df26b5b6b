"""Recorded arrivals: a file with a time a line to due times in ns after the first.

Rules: of a line only the first column counts (parted by comma, semicolon or tab), so that a log's export will do. A
number is seconds, anything else an ISO 8601 time stamp (without a zone: UTC); a file holds one of the two. Blank lines
and lines that begin with # are passed over, and so is a heading. The order does not matter: logs are written as
requests end.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from pathlib import Path

from streamgauge.errors import UsageError
from streamgauge.spec.read import read_text
from streamgauge.spec.values import LONGEST_S

MAX_BYTES, MOST = 50_000_000, 1_000_000
_PARTED = re.compile(r"[,;\t]")
_ALLOWED = "a line begins with seconds (12.5) or an ISO time stamp (2026-01-31T09:00:00.250Z)"


def read_trace(path: Path, shown: str) -> tuple[int, ...]:
    """The arrivals of a file, in ns after the first, ascending. UsageError names file, line and what is allowed."""
    text = read_text(path, "a trace", MAX_BYTES, shown)
    seconds: list[float] = []
    kind = None
    for number, line in enumerate(text.splitlines(), 1):
        word = _PARTED.split(line, 1)[0].strip().strip('"')
        if not word or word.startswith("#"):
            continue
        found = _time(word)
        if found is None:
            if not seconds and number == 1:
                continue  # a heading
            raise UsageError(f'{shown}:{number}: "{word[:40]}" is no time; {_ALLOWED}')
        at, stamp = found
        if kind is not None and stamp != kind:
            raise UsageError(f"{shown}:{number}: seconds and time stamps are mixed; write one of the two throughout")
        kind = stamp
        seconds.append(at)
        if len(seconds) > MOST:
            raise UsageError(f"{shown}: more than {MOST:,} arrivals; take a part of it")
    if not seconds:
        raise UsageError(f"{shown}: holds no arrival; {_ALLOWED}")
    first = min(seconds)
    if max(seconds) - first > LONGEST_S:
        raise UsageError(f"{shown}: spans over a year: are its numbers seconds? {_ALLOWED}")
    return tuple(sorted(round((at - first) * 1e9) for at in seconds))


def _time(word: str) -> tuple[float, bool] | None:
    """(seconds, whether it was a time stamp), or None for what is no time."""
    try:
        at = float(word)
        return (at, False) if math.isfinite(at) else None
    except ValueError:
        pass
    try:
        stamp = datetime.fromisoformat(word)
    except ValueError:
        return None
    return (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp(), True
