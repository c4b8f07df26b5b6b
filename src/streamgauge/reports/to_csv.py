"""One row a request, for spreadsheets and data frames.

Rules: the columns are a contract (names, order): facts first, then each metric that has one value a request, in the
order of the table of metrics. Missing is empty, never 0. Rows are made as Samples come: a million of them need no
memory. A text that a spreadsheet would take for a formula gets an apostrophe in front (OWASP, "CSV Injection"), and
stands in quotes whenever it holds anything but letters, digits and a few harmless signs.

How: some thousand rows are one matrix of bytes, a row a request, each column of cells as wide as its widest. Where a
cell is shorter stands NUL, which no cell can hold; without the NULs the matrix is the text.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from streamgauge.facts import MISSING, OUTCOMES, UNTOLD, Facts, FloatArray, blocks_of
from streamgauge.metrics import METRICS
from streamgauge.sample import Sample
from streamgauge.wild import csv_cell

Cells = npt.NDArray[np.uint8]
"""A column of cells: a row each, NUL where nothing stands."""

_TEXTS = ("id", "target", "prompt", "phase")
_STAMPS = (
    "due_ns",
    "start_ns",
    "sent_ns",
    "first_byte_ns",
    "first_output_ns",
    "first_token_ns",
    "last_output_ns",
    "end_ns",
)
_VALUES = {metric.name: metric.value for metric in METRICS.values() if metric.value is not None}

COLUMNS = (*_TEXTS, "level", "outcome", "http_status", *_STAMPS, "slack_us", *_VALUES)
"""`slack_us`: the width of what is known of first_token's arrival: it lies in (first_token - slack, first_token]."""

_ROWS_A_CHUNK = 2_000
_DIGITS = 10_000
"""Numbers are written four digits at a time."""
_LARGE = 1e9
"""From here on a float has no exact millionths."""


def render(document: object, samples: Facts | Iterable[Sample]) -> Iterator[bytes]:
    """The header, then a row for each Sample, UTF-8, lines ended by one newline. `document` is not used."""
    yield (",".join(COLUMNS) + "\n").encode()
    for block in blocks_of(samples, _ROWS_A_CHUNK):
        yield _rows(block)


def _rows(facts: Facts) -> bytes:
    slack = facts["first_token_slack_ns"] / 1e3
    slack[facts["first_token_ns"] == MISSING] = np.nan
    columns = (
        _id_cells(facts),
        *(_text_cells(facts.names[name])[facts[name]] for name in _TEXTS[1:]),
        _whole_cells(facts["level"]),
        _text_cells(OUTCOMES)[facts["outcome"]],
        _whole_cells(facts["http_status"], UNTOLD),
        *(_whole_cells(facts[name], MISSING) for name in _STAMPS),
        _number_cells(slack),
        *(_number_cells(value(facts.fact)) for value in _VALUES.values()),
    )
    comma = np.full((len(facts), 1), ord(","), dtype=np.uint8)
    parts = [part for cells in columns for part in (cells, comma)]
    parts[-1] = np.full_like(comma, ord("\n"))
    return np.concatenate(parts, axis=1).tobytes().translate(None, b"\0")


def _id_cells(facts: Facts) -> Cells:
    ids = facts["id"]
    if ids.dtype.kind != "S":  # some are no trace ids
        ids = np.array([csv_cell(one).encode() for one in facts.ids()])
    return _as_cells(ids)


@lru_cache(maxsize=8)
def _text_cells(texts: tuple[str, ...]) -> Cells:
    return _as_cells(np.array([csv_cell(text).encode() for text in texts]))


def _as_cells(texts: npt.NDArray[np.bytes_]) -> Cells:
    return texts.view(np.uint8).reshape(len(texts), -1)


def number_cell(value: float) -> str:
    """Whole numbers as they are, others with six decimals at most; nothing for what is missing or not finite."""
    if not math.isfinite(value):
        return ""
    if value == int(value):
        return str(int(value))
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _number_cells(values: FloatArray) -> Cells:
    """`number_cell` of each value, by whole millionths."""
    missing = ~np.isfinite(values)
    large = ~missing & (np.abs(values) >= _LARGE)
    millionths = np.where(missing | large, 0.0, values) * 1e6
    rounded = np.rint(millionths)
    # The product is off by its last digit at most. Where that could have made it round the wrong way, and for -0, which
    # keeps its sign, the value itself is asked.
    unsure = large | (np.abs(millionths - rounded) + np.abs(millionths) * 2.0**-52 >= 0.5)
    unsure |= (rounded == 0) & (millionths < 0)
    if unsure.any():
        return _as_cells(np.array([number_cell(value).encode() for value in values.tolist()]))
    whole, decimals = np.divmod(np.abs(rounded).astype(np.int64), 1_000_000)
    first, last = np.divmod(decimals * 100, _DIGITS)
    point = np.where(decimals > 0, ord("."), 0).astype(np.uint8)
    fraction = _words()[np.stack((first + np.where(last > 0, _FULL, _TRAILING), last + _TRAILING), axis=1)]
    cells = np.concatenate((_sign(rounded), _digits(whole), point[:, None], fraction.view(np.uint8)), axis=1)
    cells[missing] = 0
    return cells


def _whole_cells(values: npt.NDArray[np.integer], absent: int | None = None) -> Cells:
    """Whole numbers; nothing for `absent`."""
    missing = np.zeros(len(values), dtype=np.bool_) if absent is None else values == absent
    known = np.where(missing, 0, values).astype(np.int64)
    cells = np.concatenate((_sign(known), _digits(np.abs(known))), axis=1)
    cells[missing] = 0
    return cells


def _sign(values: npt.NDArray[Any]) -> Cells:
    return np.where(values < 0, ord("-"), 0).astype(np.uint8)[:, None]


def _digits(numbers: npt.NDArray[np.int64]) -> Cells:
    """Numbers from 0 in decimal, right-aligned."""
    rest, low = np.divmod(numbers, _DIGITS)
    words = [low + np.where(rest > 0, _FULL, _LOWEST)]
    while rest.any():
        rest, low = np.divmod(rest, _DIGITS)
        words.append(low + np.where(rest > 0, _FULL, _LEADING))
    cells: Cells = _words()[np.stack(words[::-1], axis=1)].view(np.uint8)
    return cells


_FULL, _LEADING, _LOWEST, _TRAILING = (form * _DIGITS for form in range(4))
"""Where the forms of four digits begin in `_words`: all of them; no zeros before; one zero at least; none after."""


@cache
def _words() -> npt.NDArray[np.uint32]:
    """Four digits in each form as one word of four bytes, NUL for what is left out."""
    full = [f"{number:04d}" for number in range(_DIGITS)]
    forms = (
        full,
        [digits.lstrip("0").rjust(4, "\0") for digits in full],
        [(digits.lstrip("0") or "0").rjust(4, "\0") for digits in full],
        [digits.rstrip("0").ljust(4, "\0") for digits in full],
    )
    return np.frombuffer("".join(itertools.chain(*forms)).encode(), dtype=np.uint32)
