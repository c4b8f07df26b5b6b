"""What the shell completes: words that are fixed, and names from the spec that is there.

Rules: quick and quiet. The spec is only read as TOML, not checked; where it cannot be read, nothing is offered. Imports
nothing heavy: it runs at every press of the tab key.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from streamgauge.spec.presets import PRESETS, SHIPPED, TESTS

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem

Complete: TypeAlias = "Callable[[click.Context, click.Parameter, str], list[CompletionItem]]"
MOST_BYTES = 10_000_000


def of(words: Callable[[click.Context], Iterable[str]]) -> Complete:
    """A click completer of the words that begin like what was typed."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        given = ctx.params.get(param.name or "")
        taken = given if isinstance(given, tuple) else ()
        return [
            CompletionItem(w) for w in words(ctx) if w.startswith(incomplete) and w not in taken and w.isprintable()
        ]

    return complete


def a_file(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The shell's own completion of file names."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def a_folder(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The shell's own completion of folder names."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="dir")]


def spec_names(ctx: click.Context, section: str) -> list[str]:
    """The names of one section of the spec: of environments, targets or prompts."""
    path = Path(ctx.params.get("config") or "streamgauge.toml")
    try:
        with path.open("rb") as file:
            tree = tomllib.loads(file.read(MOST_BYTES).decode("utf-8-sig")).get(section)
    except (OSError, ValueError, RecursionError):
        return []
    return list(tree) if isinstance(tree, dict) else []


def _dialects(ctx: click.Context) -> Iterable[str]:
    from streamgauge.dialects import DIALECTS

    return DIALECTS


def _runs(ctx: click.Context) -> list[str]:
    found = sorted((path.parent.name for path in Path(".streamgauge/runs").glob("*/run.json")), reverse=True)
    return ["last", *found] if found else []


def _keys(ctx: click.Context) -> Iterator[str]:
    """Every key of the spec with the names that are there, each ready for its value: `targets.claude.model=`."""
    schema = json.loads(files("streamgauge.spec").joinpath("streamgauge.schema.json").read_text("utf-8"))
    for section, names in (
        ("environments", spec_names(ctx, "environments")),
        ("targets", spec_names(ctx, "targets")),
        ("prompts", [*SHIPPED, *(n for n in spec_names(ctx, "prompts") if n not in SHIPPED)]),
        ("tests", TESTS),
    ):
        part = schema["properties"][section]
        kind = part.get("additionalProperties") or schema["$defs"]["Test"]
        for name in names:
            plain = name.replace("-", "").replace("_", "").isalnum() and name.isascii()
            head = f"{section}.{name}" if plain else f"{section}.{json.dumps(name)}"
            yield from (f"{head}.{key}=" for key in _leaves(schema, kind))


def _leaves(schema: dict[str, Any], part: dict[str, Any]) -> Iterator[str]:
    """The keys of a table, those of tables inside it with their path."""
    for key, value in _table(schema, part).items():
        inner = _table(schema, value)
        if inner:
            yield from (f"{key}.{leaf}" for leaf in _leaves(schema, value))
        else:
            yield key


def _table(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """The keys of `part` where it is a table (perhaps one that may be left out), else none."""
    for one in (part, *part.get("anyOf", ())):
        if "$ref" in one:
            one = schema["$defs"][one["$ref"].rpartition("/")[2]]
        if "properties" in one:
            found: dict[str, Any] = one["properties"]
            return found
    return {}


tests = of(lambda ctx: (*TESTS, "all"))
presets = of(lambda ctx: PRESETS)
dialects = of(_dialects)
environments = of(lambda ctx: spec_names(ctx, "environments"))
keys = of(_keys)
runs = of(_runs)
forms = of(lambda ctx: ("md", "json", "csv", "html"))
