"""What a check tells: one `Finding` a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from streamgauge.wild import plain

_LONGEST = 4_096
Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One step: how it went, in words, and as values (times in ms, sizes in bytes, null where not known)."""

    level: Level
    what: str
    text: str
    next: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def ok(what: str, text: str, **facts: object) -> Finding:
    """As it should be."""
    return Finding("ok", what, text, None, facts)


def warn(what: str, text: str, next_step: str | None = None, **facts: object) -> Finding:
    """Usable, but the numbers may mean something else than one thinks."""
    return Finding("warn", what, text, next_step, facts)


def fail(what: str, text: str, next_step: str | None = None, **facts: object) -> Finding:
    """A run cannot work like this."""
    return Finding("fail", what, text, next_step, facts)


def clean(finding: Finding, redact: Callable[[str], str]) -> Finding:
    """The finding with `redact` applied to every text in it, and nothing in them that a terminal would obey."""

    def text(value: str) -> str:
        return plain(redact(value), _LONGEST)

    def each(value: object) -> object:
        if isinstance(value, str):
            return text(value)
        if isinstance(value, list | tuple):
            return [each(one) for one in value]
        if isinstance(value, dict):
            return {text(str(key)): each(one) for key, one in value.items()}
        return value

    return replace(
        finding,
        text=text(finding.text),
        next=None if finding.next is None else text(finding.next),
        facts={name: each(value) for name, value in finding.facts.items()},
    )


def ms(ns: int | None) -> float | None:
    """Nanoseconds as ms with two decimals."""
    return None if ns is None else round(ns / 1e6, 2)


def shown_ms(ns: int) -> str:
    """Nanoseconds for a person."""
    value = ns / 1e6
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"
