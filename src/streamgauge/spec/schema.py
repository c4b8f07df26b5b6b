"""The JSON Schema of streamgauge.toml, for editors: made from the model, shipped as a file, held current by a test.

`python -m streamgauge.spec.schema` writes it again.
"""

from __future__ import annotations

import json
from pathlib import Path

from streamgauge.spec.model import SpecModel

FILE = Path(__file__).with_name("streamgauge.schema.json")


def schema() -> dict[str, object]:
    """The schema as a dict."""
    made = SpecModel.model_json_schema(by_alias=True)
    for name, table in made["$defs"].items():
        if name.endswith("Test"):
            several = table["properties"]["criteria"]["anyOf"][0]
            several["items"] = {"anyOf": [{"type": "string", "minLength": 1}, several["items"]]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "streamgauge.toml"}


def text() -> str:
    """The schema as it stands in the file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
