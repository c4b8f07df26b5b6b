"""The shipped JSON Schema and docs/spec.md against the model; shipped prompts; prompt files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from streamgauge.dialects import DIALECTS, with_options
from streamgauge.errors import UsageError
from streamgauge.metrics import METRICS
from streamgauge.spec import model as m
from streamgauge.spec import probes, rate, tests
from streamgauge.spec import targets as t
from streamgauge.spec.load import load_spec
from streamgauge.spec.presets import PHASES, PRESETS, TESTS
from streamgauge.spec.prompt_files import MAX_BYTES, paragraphs, read_prompts, shipped
from streamgauge.spec.schema import FILE, schema, text
from streamgauge.spec.values import Table

DOCS = (Path(__file__).parent.parent / "docs" / "spec.md").read_text("utf-8")
TABLES: dict[str, type[BaseModel]] = {
    "environments.NAME": m.Environment,
    "environments.NAME.max": m.Max,
    "targets.NAME": t.Target,
    "targets.NAME.usd_per_mtok": t.UsdPerMtok,
    "targets.NAME.tls": t.Tls,
    "targets.NAME.expect": t.Expect,
    "prompts.NAME": m.Prompts,
    "probes.NAME": probes.Probe,
    "tests.TEST": tests.Test,
    "tests.endurance": tests.EnduranceTest,
    "tests.memory": tests.MemoryTest,
    "findings": m.Findings,
    "tests.stress": tests.StressTest,
    "tests.TEST.rate": rate.RateCourse,
    "tests.TEST.timeouts": tests.Timeouts,
    "a criterion": tests.Criterion,
}

RAMP = {"from": 1, "to": 100, "over": 60}
SPIKE = {"base": 5, "peak": 100, "at": 30, "for": 10}
OF_PROCESS = {"kind": "process"}
PAGE = {"url": "https://h.example/probe"}
OF_A_PAGE = ("kind", "method", "headers", "paths", "collect", "timeout", "tls", "proxy")
PARTNERS: dict[str, dict[str, object]] = {
    "key": {"cert": "c.pem"},
    **dict.fromkeys(("from_", "to", "over"), RAMP),
    **dict.fromkeys(("base", "peak", "at", "for_"), SPIKE),
    **dict.fromkeys((f"probes.NAME.{key}" for key in ("pid", "port", "command")), OF_PROCESS),
    **dict.fromkeys((f"probes.NAME.{key}" for key in OF_A_PAGE), PAGE),
    "probes.NAME.body": {**PAGE, "method": "POST"},
}
"""What a key cannot do without."""


def toml(value: object) -> str:
    """A value as it is written in a spec."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + " }" if value else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str) and '"' in value:
        return f"'{value}'"
    return json.dumps(value)


def kind(schema_part: dict[str, Any]) -> str:
    """A JSON type in words."""
    if "$ref" in schema_part:
        return "table"
    several = schema_part.get("anyOf") or schema_part.get("oneOf")
    if several:
        kinds = [kind(one) for one in several if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema_part:
        return ", ".join(f'"{one}"' for one in schema_part["enum"])
    words = {
        "string": "text",
        "integer": "whole number",
        "number": "number",
        "boolean": "true, false",
        "object": "table",
    }
    return "list" if schema_part["type"] == "array" else words[schema_part["type"]]


def row(table: type[BaseModel], name: str, field: FieldInfo) -> str:
    """The key's row in docs/spec.md."""
    key = field.alias or name
    part = table.model_json_schema(by_alias=True)["properties"][key]
    written = str(table.__annotations__[name])
    types = "duration" if written.startswith(("Duration", "Pause")) else kind(part)
    default = "required" if field.default is PydanticUndefined and field.default_factory is None else ""
    if not default and isinstance(field.default, bool):
        default = toml(field.default)
    example = toml(field.examples[0]) if field.examples else ""
    return f"| `{key}` | {types} | {default or '-'} | `{example}` | {field.description} |"


def rows() -> Iterator[tuple[str, str, str]]:
    for where, table in TABLES.items():
        for name, field in table.model_fields.items():
            if name in table.__annotations__:  # its own: what it has from [tests.TEST] stands there
                yield where, name, row(table, name, field)


@pytest.mark.parametrize(("where", "key", "line"), list(rows()))
def test_every_key_is_documented_with_type_default_and_example(where: str, key: str, line: str) -> None:
    section = DOCS.split(f"### {where}\n")[1].split("\n### ")[0]
    assert line in section.splitlines(), f"docs/spec.md lacks, under {where}:\n{line}"


def test_no_table_is_left_out_of_the_documentation() -> None:
    known = {table.__name__ for table in TABLES.values()} | {"SpecModel", "Tests", "Table"}
    shapes = (*vars(m).items(), *vars(t).items(), *vars(tests).items(), *vars(probes).items(), *vars(rate).items())
    assert {name for name, one in shapes if isinstance(one, type) and issubclass(one, Table)} == known


def test_the_docs_name_each_metric_dialect_test_preset_and_phase() -> None:
    for name in (*METRICS, *DIALECTS, *TESTS, *PRESETS, *PHASES):
        assert f"`{name}`" in DOCS, name


def test_each_key_has_a_description_and_an_example_that_its_own_check_accepts() -> None:
    for where, table in TABLES.items():
        for name, field in table.model_fields.items():
            assert field.description, (where, name)
            assert field.examples, (where, name)
            part = {field.alias or name: field.examples[0]}
            with_required = {
                "url": "https://h.example", "dialect": "ai-sdk", "rule": "drops == 0", "in": 1, "out": 1,
                "kind": "json",
            }  # fmt: skip
            needed = {
                f.alias or n: with_required[f.alias or n] for n, f in table.model_fields.items() if f.is_required()
            }
            table.model_validate({**needed, **PARTNERS.get(f"{where}.{name}", PARTNERS.get(name, {})), **part})


def specs_in_docs() -> list[str]:
    return re.findall(r"```toml\n(.*?)```", DOCS, re.S)


@pytest.mark.parametrize("number", range(len(specs_in_docs())))
def test_each_spec_shown_in_the_docs_loads_and_fits_the_schema(tmp_path: Path, number: int) -> None:
    spec = specs_in_docs()[number]
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "support.txt").write_text("How do I reset my password?\n")
    (tmp_path / "streamgauge.toml").write_text(spec)
    load_spec(tmp_path / "streamgauge.toml", speak=with_options, environ={})
    jsonschema.Draft202012Validator(schema()).validate(tomllib.loads(spec))


def test_the_shipped_schema_is_current() -> None:
    assert FILE.read_text("utf-8") == text(), "run: python -m streamgauge.spec.schema"
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize(
    "wrong",
    [
        {"target": {}},
        {"targets": {"a": {"dialect": "ai-sdk", "urll": "x"}}},
        {"targets": {"a": {"url": "x"}}},
        {"environments": {"a": {"url": "https://x", "kind": "stagin"}}},
        {"tests": {"ttft": {"requests": 0}}},
        {"tests": {"ttft": {"criteria": [5]}}},
        {"tests": {"tfft": {}}},
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(wrong: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema()).validate(wrong)


def test_presets_and_criteria_load_without_pydantic() -> None:
    code = (
        "import sys, streamgauge.spec.presets, streamgauge.spec.criteria, streamgauge.spec.address\n"
        "print([name for name in ('pydantic', 'numpy', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == "[]\n"


# --- prompts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "least", "most"), [("short", 20, 40), ("medium", 150, 250), ("long", 800, 1200)])
def test_shipped_prompts_have_the_length_they_promise_and_end_in_a_question(name: str, least: int, most: int) -> None:
    texts = shipped(name)
    assert len(texts) >= 4
    assert len(set(texts)) == len(texts)
    for one in texts:
        assert least <= len(one.split()) <= most, one[:60]
        assert one.endswith("?")


def test_paragraphs_are_prompts_and_rules_part_longer_ones() -> None:
    assert paragraphs("a\nb\r\n\r\n \nc\n") == ("a\nb", "c")
    assert paragraphs("a\n\nb\n---\nc\n") == ("a\n\nb", "c")


@given(st.lists(st.from_regex(r"\A[a-z][a-z \n]{0,20}[a-z]\Z"), min_size=1, max_size=5))
@settings(deadline=None)
def test_a_jsonl_file_gives_back_each_line(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("p") / "p.jsonl"
    path.write_text("\n".join(json.dumps(one if n % 2 else {"prompt": one}) for n, one in enumerate(texts)) + "\n")
    assert read_prompts(path, "p.jsonl") == tuple(texts)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("p.txt", b"", "p.txt: holds no prompt; write at least one"),
        ("p.txt", b" \n\n", "holds no prompt"),
        ("p.txt", b"ok\n\xff\xfe", "p.txt:2: byte 0xff is not UTF-8"),
        ("p.txt", b"x" * 10_000_000, "10.0 MB; a prompt file may have at most 8 MB"),
        ("p.csv", b"x", '".csv" is no kind of prompt file; allowed: .txt, .jsonl, .toml'),
        ("p", b"x", "no ending"),
        ("p.jsonl", b'"a"\n{"x": 1}\n', "p.jsonl:2: a line is a JSON text or an object"),
        ("p.jsonl", b'"a"\n{\n', "p.jsonl:2: not JSON"),
        ("p.jsonl", b'"a"\n" "\n', "prompt 2 is blank"),
        ("p.jsonl", b'"\\ud800"\n', "half a surrogate pair"),
        ("p.toml", b"prompts = [1]\n", "texts only"),
        ("p.toml", b"prompts = \n", "not TOML"),
    ],
)
def test_a_prompt_file_that_cannot_be_used_says_why(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError) as caught:
        read_prompts(tmp_path / name, name)
    assert words in str(caught.value)


def test_a_prompt_file_of_just_the_size_allowed_is_read(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(b"x" * MAX_BYTES)
    assert len(read_prompts(tmp_path / "p.txt", "p.txt")[0]) == MAX_BYTES
