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
from streamgauge.wild import json_bytes

_encoder = msgspec.json.Encoder(order="deterministic")
_SURROGATE = re.compile("[\ud800-\udfff]")


def render(document: Document, samples: object) -> Iterator[bytes]:
    """The document, indented by two. `samples` are not used: the document holds what the JSON contract names."""
    try:
        compact = _encoder.encode(document)
    except UnicodeEncodeError:  # half of a surrogate pair in a server's own words: no UTF-8 can hold it
        compact = _encoder.encode(_without_surrogates(msgspec.to_builtins(document)))
    yield json_bytes(msgspec.json.format(compact, indent=2)) + b"\n"


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
    made = msgspec.json.schema(Document, schema_hook=_any_value)
    definitions = made["$defs"]
    for name, definition in definitions.items():
        definition.setdefault("title", name)
    definitions["Document"]["properties"]["schema"] = {"const": SCHEMA, "description": "The version of this shape."}
    definitions["Document"]["required"] = ["schema", *definitions["Document"]["required"]]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{SCHEMA.replace('.', ':').replace('/', ':')}",
        "title": "Streamgauge report",
        "description": "One test's report. Missing values are null, rates are fractions, times end in their unit.",
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
