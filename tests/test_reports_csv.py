"""The csv form, read back by Python's own csv module."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents import passing
from hostile import HOSTILE, hostile
from streamgauge.reports import ReportGenerator, to_csv
from streamgauge.sample import Outcome, Sample
from streamgauge.wild import csv_cell

HEADER = (
    "id,target,prompt,phase,level,outcome,http_status,due_ns,start_ns,sent_ns,first_byte_ns,first_output_ns,"
    "first_token_ns,last_output_ns,end_ns,slack_us,ttft_ms,ttft_service_ms,ttfr_ms,ttfb_ms,queue_ms,connect_ms,tls_ms,"
    "e2e_ms,longest_gap_ms,tpot_ms,output_rate"
)
"""The contract, written out: columns are only ever added at the end."""


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
