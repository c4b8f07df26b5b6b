"""What tables of a report are made of, in whichever form they are printed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cell:
    """One entry of a table. `verdict` where a criterion judged exactly this number; `note` is smaller text below it."""

    text: str
    verdict: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Headings after the first column, and rows of (name, detail, a cell for each heading)."""

    headings: list[str]
    rows: list[tuple[str, str, list[Cell]]]
