"""Judges: criteria and Samples to pass, fail, inconclusive or invalid, each with its uncertainty."""

from __future__ import annotations

from typing import Literal

import msgspec

Word = Literal["pass", "fail", "inconclusive", "invalid"]


class Criterion(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of one number. Fixed, with its gating, before the first request."""

    name: str
    metric: str
    stat: str | None
    op: str
    limit: float
    unit: str
    target: str | None = None
    prompt: str | None = None
    phase: str | None = None
    """None: the judged phases."""
    advisory: bool = False
    gating: bool = True
    planned_n: int | None = None


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A criterion with what was seen, as it stands in the report's JSON."""

    name: str
    metric: str
    stat: str | None
    op: str
    limit: float
    unit: str
    target: str | None
    prompt: str | None
    phase: str | None
    value: float | None
    low: float | None
    high: float | None
    confidence: float
    n: int
    gating: bool
    advisory: bool
    verdict: Word
    why: str | None = None
    """For a null value: censored, merged, too_few, no_text, not_measured; else a short reason or None."""
    needs: int | None = None
    """Requests (or more requests) that would settle it; None where it is settled or cannot be told."""
    sentence: str = ""
    """In words a team lead understands: `1 chat in 22 waits over 1 s`."""
