"""The csv form, read back by Python's own csv module."""

from __future__ import annotations

import csv
import io
import math
import unicodedata
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from documents import passing
from hostile import HOSTILE, hostile
from made import collected
from one_row import metrics, moves, number
from one_row import row as plain_row
from streamgauge.metrics import METRICS
from streamgauge.reports import ReportGenerator, to_csv
from streamgauge.sample import Outcome, Sample
from streamgauge.wild import csv_cell

HEADER = (
    "id,target,prompt,phase,level,outcome,http_status,due_ns,start_ns,sent_ns,first_byte_ns,first_output_ns,"
    "first_token_ns,last_output_ns,end_ns,slack_us,ttft_ms,ttft_service_ms,ttfr_ms,ttfb_ms,queue_ms,connect_ms,tls_ms,"
    "e2e_ms,longest_gap_ms,tpot_ms,output_rate"
)
"""The contract, written out: columns are only ever added at the end."""

SINCE = st.none() | st.integers(0, 10**13) | st.integers(10**9, 10**9 + 3)
SLACK = st.integers(0, 5 * 10**9)
ANY_SAMPLE = st.builds(
    Sample, id=st.one_of(st.uuids().map(lambda one: one.hex), st.text(max_size=9)), seq=st.just(0),
    target=st.sampled_from(["a", "=b", "ü,x"]), prompt=st.just("short"), phase=st.just("hold"),
    level=st.integers(0, 10**5), slot=st.integers(-1, 9), worker=st.just(0), outcome=st.sampled_from(Outcome),
    http_status=st.none() | st.integers(100, 599), due_ns=st.integers(0, 10**9), end_ns=st.integers(10**9, 10**13),
    **dict.fromkeys(("start_ns", "connect_ns", "tls_ns", "sent_ns", "first_byte_ns", "first_output_ns",
                     "first_reasoning_ns", "first_token_ns", "last_output_ns", "longest_gap_ns"), SINCE),
    **dict.fromkeys(("first_token_slack_ns", "first_output_slack_ns", "last_output_slack_ns", "end_slack_ns",
                     "late_ns"), SLACK),
    output_reads=st.integers(0, 9), streamed_tokens=st.none() | st.integers(0, 10**6),
)  # fmt: skip


def rows(samples: list[Sample]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(ReportGenerator(passing()[0], samples).csv()), strict=True))


def sample(**changed: object) -> Sample:
    usual: dict[str, object] = {
        "id": "ab" * 16, "seq": 0, "target": "chat", "prompt": "short", "phase": "hold", "level": 4, "slot": 0,
        "worker": 0, "outcome": Outcome.OK, "http_status": 200, "due_ns": 1_000_000_000, "start_ns": 1_000_000_000,
        "sent_ns": 1_002_000_000, "first_byte_ns": 1_100_000_000, "first_output_ns": 1_252_500_000,
        "first_token_ns": 1_252_500_000, "last_output_ns": 2_252_500_000, "end_ns": 2_300_000_000,
        "first_token_slack_ns": 1_500, "output_reads": 11, "output_tokens": 11, "streamed_tokens": 11,
    }  # fmt: skip
    return Sample(**{**usual, **changed})  # type: ignore[arg-type]


def test_the_columns_are_the_contract():
    assert ",".join(to_csv.COLUMNS) == HEADER
    assert ReportGenerator(passing()[0], []).csv() == HEADER + "\n"


def test_a_row_says_what_was_measured():
    (row,) = rows([sample()])
    assert row["due_ns"] == "1000000000"
    assert row["slack_us"] == "1.5"
    assert row["ttft_ms"] == "252.5"
    assert row["ttft_service_ms"] == "250.5"
    assert row["ttfb_ms"] == "98"
    assert row["e2e_ms"] == "1300"
    assert row["tpot_ms"] == "100"
    assert row["output_rate"] == "10"


def test_what_was_not_reached_is_empty_and_never_zero():
    (row,) = rows([sample(outcome=Outcome.CONNECT_REFUSED, http_status=None, sent_ns=None, first_byte_ns=None,
                          first_output_ns=None, first_token_ns=None, last_output_ns=None, output_tokens=None,
                          streamed_tokens=None, output_reads=0)])  # fmt: skip
    for name in ("http_status", "sent_ns", "first_token_ns", "slack_us", "ttft_ms", "ttfr_ms", "tls_ms", "output_rate"):
        assert row[name] == "", name
    assert row["queue_ms"] == "0"  # measured, and 0


def test_each_sample_is_one_row_in_the_order_given():
    _, samples = passing()
    assert [row["id"] for row in rows(samples)] == [s.id for s in samples]


def test_rows_are_made_as_samples_come():
    taken = 0

    def many() -> Iterator[Sample]:
        nonlocal taken
        for i in range(1_000_000):
            taken += 1
            yield sample(seq=i)

    chunks = to_csv.render(passing()[0], many())
    next(chunks)
    next(chunks)
    assert taken < 5_000


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_stays_in_its_cell_and_is_no_formula(text: str):
    found = rows(hostile(text)[1])
    assert len(found) == 40
    for row in found:
        assert None not in row  # no cell too many
        assert row["outcome"] in set(Outcome)
        for name in ("id", "target", "prompt", "phase"):
            assert not row[name].startswith(("=", "+", "-", "@", "\t", "\r", "|", "%"))


@given(st.text())
def test_no_text_at_all_breaks_a_cell(text: str):
    cell = csv_cell(text)
    ((before, value, after),) = csv.reader([f"x,{cell},y"], strict=True)
    assert (before, after) == ("x", "y")
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in value)
    assert not value.lstrip(" '\"").startswith(("=", "+", "@")) or value.startswith("'")
    if any(char in cell for char in ";,\t") and len(cell) > 1:
        assert cell.startswith('"')
        assert cell.endswith('"')


def test_a_spreadsheet_with_another_separator_sees_one_cell():
    assert csv_cell("a;=cmd()") == '"a;=cmd()"'


@settings(max_examples=20, deadline=None)
@given(st.lists(ANY_SAMPLE, min_size=1, max_size=10))
def test_any_rows_are_to_the_byte_what_is_written_for_each_sample_alone(samples: list[Sample]):
    assert ReportGenerator(passing()[0], samples).csv() == "\n".join([HEADER, *map(plain_row, samples), ""])
    assert ReportGenerator(passing()[0], collected(samples).columns().facts).csv().splitlines()[1:] == [
        *map(plain_row, samples)
    ]


@settings(max_examples=20, deadline=None)
@given(st.lists(ANY_SAMPLE, min_size=1, max_size=10))
def test_a_formula_gives_for_many_what_it_gives_for_one_and_what_is_written_out_plainly(samples: list[Sample]):
    facts = collected(samples).columns().facts
    for name, metric in METRICS.items():
        if metric.value is None:
            continue
        plain = [metrics(one)[name] for one in samples]
        assert [metric.of(one) for one in samples] == plain, name
        assert [None if math.isnan(x) else x for x in metric.value(facts.fact).tolist()] == plain, name
        if metric.early is not None:
            could = [moves(one)[name] for one in samples]
            assert [None if math.isnan(x) else x for x in metric.early(facts.fact).tolist()] == could, name


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats() | st.floats(-1e4, 1e4) | st.integers(-(10**6), 10**6).map(lambda n: n / 2e6), min_size=1))
def test_numbers_are_written_together_as_each_is_alone(values: list[float]):
    cells = to_csv._number_cells(np.array(values))
    assert [bytes(cell).replace(b"\0", b"").decode() for cell in cells] == [number(value) for value in values]
