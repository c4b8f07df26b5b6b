"""The JSON form against its shipped schema and against the document read back by another reader."""

from __future__ import annotations

import json
import math
from importlib.resources import files

import jsonschema
import msgspec
import pytest
from msgspec.structs import replace

from documents import ALL, passing
from hostile import HOSTILE, hostile
from streamgauge.reports import ReportGenerator, to_json

SHIPPED = (files("streamgauge.reports") / "report.schema.json").read_bytes()
VALIDATOR = jsonschema.Draft202012Validator(json.loads(SHIPPED))


def test_the_shipped_schema_is_current():
    assert to_json.schema_text() == SHIPPED, "write to_json.schema_text() to report.schema.json"


def test_the_shipped_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(json.loads(SHIPPED))


@pytest.mark.parametrize("name", ALL)
def test_every_document_is_valid_and_nothing_of_it_is_lost(name: str):
    document, _ = ALL[name]()
    text = ReportGenerator(document).json()
    read = json.loads(text)
    VALIDATOR.validate(read)
    assert read == json.loads(json.dumps(msgspec.to_builtins(document)))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_valid_too(text: str):
    read = json.loads(ReportGenerator(hostile(text)[0]).json())
    VALIDATOR.validate(read)
    assert read["headline"] == text.replace("\ud83d", "\ufffd")


def keys(line: str) -> set[str]:
    return set(line.split())


def test_the_contract_names_its_keys_in_this_order():
    read = json.loads(ReportGenerator(passing()[0]).json())
    assert list(read)[:6] == ["schema", "test", "suite", "verdict", "severity", "partial"]
    assert keys("criteria metrics rates scalars outcomes groups measurement findings warnings run") <= set(read)
    criterion = keys(
        "name metric stat op limit unit target prompt phase value low high confidence n gating verdict why needs"
    )
    assert criterion <= set(read["criteria"][0])
    assert keys("n censored min mean sd cv p50 p90 p95 p99 max") <= set(read["metrics"]["ttft_ms"])
    assert set(read["rates"]["error_rate"]) == {"k", "n", "value", "low", "high"}


def test_what_json_cannot_hold_is_null():
    document, _ = passing()
    spoilt = replace(document, scalars={"a": math.nan, "b": math.inf, "c": -math.inf, "d": None, "e": 1.5})
    text = ReportGenerator(spoilt).json()
    assert json.loads(text, parse_constant=lambda word: pytest.fail(word))["scalars"] == {
        "a": None, "b": None, "c": None, "d": None, "e": 1.5,
    }  # fmt: skip


def test_it_is_indented_for_people_and_ends_with_a_newline():
    text = ReportGenerator(passing()[0]).json()
    assert text.startswith('{\n  "schema": "streamgauge.report/1",\n  "test": "ttft",')
    assert text.endswith("}\n")


def test_the_schema_refuses_a_report_that_lost_its_verdict_or_is_of_another_version():
    read = json.loads(ReportGenerator(passing()[0]).json())
    for spoilt in ({**read, "verdict": "fine"}, {**read, "schema": "streamgauge.report/2"}, {"schema": read["schema"]}):
        assert not VALIDATOR.is_valid(spoilt)
