"""The document as JSON, and the JSON Schema that describes it.

Rules: nothing is left out and nothing is added. A number that JSON cannot hold (NaN, infinity) is null. Key order is
that of the structs; dicts are sorted: the same document gives the same bytes. `report.schema.json` is what
`schema_text()` gives; a test holds them equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from streamgauge.reports.document import SCHEMA, Document
from streamgauge.reports.suite_document import SUITE_SCHEMA, Suite
from streamgauge.wild import json_bytes

_encoder = msgspec.json.Encoder(order="deterministic")
_SURROGATE = re.compile("[\ud800-\udfff]")


def render(document: Document, samples: object) -> Iterator[bytes]:
    """The document, indented by two. `samples` are not used: the document holds what the JSON contract names."""
    yield _indented(document)


def render_suite(suite: Suite) -> Iterator[bytes]:
    """The index of several tests, in the same way."""
    yield _indented(suite)


def _indented(document: Document | Suite) -> bytes:
    try:
        compact = _encoder.encode(document)
    except UnicodeEncodeError:  # half of a surrogate pair in a server's own words: no UTF-8 can hold it
        compact = _encoder.encode(_without_surrogates(msgspec.to_builtins(document)))
    return json_bytes(msgspec.json.format(compact, indent=2)) + b"\n"


def _without_surrogates(value: Any) -> Any:
    """The same value with U+FFFD for each lone surrogate."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(item) for item in value]
    return value


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a report of this version."""
    told = "One test's report. Missing values are null, rates are fractions, times end in their unit."
    return _schema(Document, SCHEMA, "Streamgauge report", told)


def suite_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the index of several tests, of this version."""
    told = "Several tests of one command: the verdict over all, a line a test. Missing values are null."
    return _schema(Suite, SUITE_SCHEMA, "Streamgauge suite", told)


def _schema(kind: type, name: str, title: str, told: str) -> dict[str, Any]:
    made = msgspec.json.schema(kind, schema_hook=_any_value)
    definitions = made["$defs"]
    for each, definition in definitions.items():
        definition.setdefault("title", each)
    top = definitions[kind.__name__]
    top["properties"]["schema"] = {"const": name, "description": "The version of this shape."}
    top["required"] = ["schema", *top["required"]]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{name.replace('.', ':').replace('/', ':')}",
        "title": title,
        "description": told,
        **made,
    }


def _any_value(kind: type) -> dict[str, Any]:
    """Settings hold values of any kind."""
    if kind is object:
        return {"description": "A value of any kind."}
    raise NotImplementedError  # how msgspec is told that a type is unknown here; it then says which


def schema_text() -> bytes:
    """The text of `report.schema.json`."""
    return msgspec.json.format(msgspec.json.encode(schema()), indent=2) + b"\n"


def suite_schema_text() -> bytes:
    """The text of `suite.schema.json`."""
    return msgspec.json.format(msgspec.json.encode(suite_schema()), indent=2) + b"\n"
