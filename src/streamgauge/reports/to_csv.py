"""One row a request, for spreadsheets and data frames.

Rules: the columns are a contract (names, order): facts first, then each metric that has one value a request, in the
order of the table of metrics. Missing is empty, never 0. Rows are made as Samples come: a million of them need no
memory. A text that a spreadsheet would take for a formula gets an apostrophe in front (OWASP, "CSV Injection"), and
stands in quotes whenever it holds anything but letters, digits and a few harmless signs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from streamgauge.metrics import METRICS
from streamgauge.reports.document import Document
from streamgauge.sample import Sample
from streamgauge.wild import csv_cell

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

_ROWS_A_CHUNK = 1_000


def render(document: Document, samples: Iterable[Sample]) -> Iterator[bytes]:
    """The header, then a row for each Sample, UTF-8, lines ended by one newline."""
    rows = [",".join(COLUMNS)]
    for sample in samples:
        rows.append(_row(sample))
        if len(rows) >= _ROWS_A_CHUNK:
            yield ("\n".join(rows) + "\n").encode()
            rows = []
    if rows:
        yield ("\n".join(rows) + "\n").encode()


def _row(sample: Sample) -> str:
    slack = None if sample.first_token_ns is None else sample.first_token_slack_ns / 1e3
    return ",".join(
        (
            *(csv_cell(getattr(sample, name)) for name in _TEXTS),
            str(sample.level),
            sample.outcome.value,
            _number_cell(sample.http_status),
            *(_number_cell(getattr(sample, name)) for name in _STAMPS),
            _number_cell(slack),
            *(_number_cell(value(sample)) for value in _VALUES.values()),
        )
    )


def _number_cell(value: float | None) -> str:
    """Whole numbers as they are, others with six decimals at most; nothing for what is missing or not finite."""
    if value is None or not math.isfinite(value):
        return ""
    if value == int(value):
        return str(int(value))
    return f"{value:.6f}".rstrip("0").rstrip(".")
