"""What exists is documented, and what is documented exists."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import click
import pytest

from streamgauge.cli import VERBS, cli
from streamgauge.dialects import DIALECTS
from streamgauge.metrics import METRICS
from streamgauge.sample import Outcome

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])


def whole() -> str:
    return "\n".join(page.read_text("utf-8") for page in PAGES)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_explained(name: str) -> None:
    assert f"`{name}`" in (DOCS / "metrics.md").read_text("utf-8")


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_is_explained(outcome: Outcome) -> None:
    assert f"`{outcome}`" in (DOCS / "metrics.md").read_text("utf-8")


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_has_its_section(name: str) -> None:
    assert name in (DOCS / "dialects.md").read_text("utf-8")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_appears_with_an_example(verb: str) -> None:
    assert f"streamgauge {verb}" in whole()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_between_pages_is_dead(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text("utf-8")):
        if "examples" in page.parts:
            continue  # a report: its text comes from a run
        assert (page.parent / link).exists(), f"{page.name} links to {link}"


def named_tests() -> list[str]:
    """`file` or `file::function` of every test that a page speaks of."""
    return sorted(set(re.findall(r"\btest_\w+\.py(?:::\w+)?", whole())))


@pytest.mark.parametrize("name", named_tests())
def test_the_tests_that_pages_name_exist(name: str) -> None:
    file, _, function = name.partition("::")
    text = (ROOT / "tests" / file).read_text("utf-8")
    assert not function or f"\ndef {function}(" in text


def test_each_mistake_names_the_function_that_shows_it_cannot_happen() -> None:
    rows = re.findall(r"^\| (?!mistake|---)(.+) \| .+ \| (.+) \|$", (DOCS / "mistakes.md").read_text("utf-8"), re.M)
    assert len(rows) > 30
    for mistake, shown_by in rows:
        assert re.fullmatch(r"`test_\w+\.py::test_\w+`(, `test_\w+\.py::test_\w+`)*", shown_by), mistake


FAULTS = (
    "leak of 40 MB/h", "400 MB/h", "leak per request", "sawtooth", "cache that fills and stops", "never given back",
    "idle time-out of 60 s", "idle time-out at a real nginx and HAProxy", "total time-out", "death at 100 connections",
    "queue of 64", "slow collapse", "rate limit of 50/s", "memory limit with restart, real", "pace that slows",
    "lumps by buffering", "listener leak in Node", "list that only grows in Python",
)  # fmt: skip
"""What was planted, in the words of its row."""


def test_each_planted_fault_has_a_row_with_the_functions_that_show_what_was_said_of_it() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in (DOCS / "faults.md").read_text("utf-8").splitlines()
        if line.startswith("| ") and not re.match(r"\| (fault|server) \|", line)
    ]
    for row in rows:
        assert re.fullmatch(r"`test_\w+\.py::test_\w+`(, `test_\w+\.py::test_\w+`)*( .*)?", row[-1]), row
    planted = [row[0] for row in rows]
    assert [fault for fault in FAULTS if not any(fault in one for one in planted)] == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_flag_is_documented_and_no_other(verb: str) -> None:
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    flags = [
        f"| {', '.join(f'`{way}`' for way in option.opts)} | {option.help} |"
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden
    ]
    section = re.split(r"^## ", (DOCS / "commands.md").read_text("utf-8"), flags=re.M)
    (mine,) = [part for part in section if part.startswith(f"{verb}\n")]
    assert re.findall(r"^\| `.*$", mine, re.M) == flags


def spec_keys() -> list[tuple[str, str]]:
    """(table, key) of everything a spec may hold."""
    from streamgauge.spec import model, probes, targets, tests

    tables = (
        model.Environment, model.Max, targets.Target, targets.UsdPerMtok, targets.Tls, targets.Expect, model.Prompts,
        probes.Probe, tests.Test, tests.Timeouts, tests.Criterion,
    )  # fmt: skip
    return [(table.__name__, field.alias or name) for table in tables for name, field in table.model_fields.items()]


@pytest.mark.parametrize(("table", "key"), spec_keys())
def test_every_spec_key_is_documented(table: str, key: str) -> None:
    assert f"| `{key}` |" in (DOCS / "spec.md").read_text("utf-8"), f"{key} of {table}"


def report_fields() -> list[str]:
    """Every field of the report's JSON and of the index of several tests, by their schemas."""
    shapes = [files("streamgauge.reports").joinpath(f"{name}.schema.json") for name in ("report", "suite")]
    tables = [table for shape in shapes for table in json.loads(shape.read_text("utf-8"))["$defs"].values()]
    return sorted({name for table in tables for name in table.get("properties", {})})


@pytest.mark.parametrize("field", report_fields())
def test_every_field_of_the_report_is_explained(field: str) -> None:
    assert f"`{field}`" in (DOCS / "json.md").read_text("utf-8")
