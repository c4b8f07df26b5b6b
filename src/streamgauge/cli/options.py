"""Options that several verbs share: which spec, which target, and what `--set` changes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from streamgauge.spec.load import Spec

F = TypeVar("F", bound=Callable[..., Any])

_PATHS = (
    ("/chat/completions", "openai-chat"),
    ("/messages", "anthropic"),
    (":streamgeneratecontent", "gemini"),
    ("/api/chat", "ai-sdk"),
)


def target_options(command: F) -> F:
    """--config --env --url --dialect --model -H --set."""
    for option in reversed(
        (
            click.option("--config", metavar="FILE", help="The spec. Default: streamgauge.toml, if there is one."),
            click.option("--env", "environment", metavar="NAME", help="Which of the spec's environments."),
            click.option("--url", metavar="URL", help="The endpoint itself, instead of the spec's targets."),
            click.option("--dialect", metavar="D", help="With --url: openai-chat, anthropic, gemini or ai-sdk."),
            click.option("--model", metavar="M", help="With --url: the model to ask for."),
            click.option(
                "-H", "--header", "headers", multiple=True, metavar="'Name: value'",
                help="With --url: a header of every request. ${NAME} is taken from the environment.",
            ),
            click.option(
                "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change a key of the spec, as in "
                "--set tests.ttft.requests=200.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


REPORTS = "tests/performance/reports"


def reports_folder(ctx: click.Context, param: click.Parameter, value: str | None) -> Path | None:
    """--out: a folder, or a place where one can be made. Told before anything is sent."""
    if value is None:
        return None
    if not value:
        raise click.BadParameter("it is empty; name a folder (is the variable behind it set?)")
    path = Path(value)
    there = next((one for one in (path, *path.parents) if os.path.lexists(one)), None)
    if there is not None and not there.is_dir():
        raise click.BadParameter(f"{value}: {there} is a file; name a folder")
    return path


def split_headers(headers: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """`Name: value` pairs; UsageError names one that is none."""
    from streamgauge.errors import UsageError

    pairs = []
    for text in headers:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            # It may be a secret without its name: only its beginning is shown.
            raise UsageError(
                f"-H {text[:4] + '...'!r} is no header, it has no name before a colon; write -H 'Name: value'"
            )
        pairs.append((name.strip(), value.strip()))
    return tuple(pairs)


def guess_dialect(url: str) -> str:
    """The dialect that the url's path tells. UsageError where it tells none, or is no url."""
    from streamgauge.errors import UsageError
    from streamgauge.spec.address import parse_url

    try:
        parse_url(url)
    except ValueError as error:
        raise UsageError(f"--url: {error}") from None
    path = url.partition("?")[0].lower()
    for end, dialect in _PATHS:
        if path.endswith(end):
            return dialect
    raise UsageError(
        f"--url {url}: the path does not tell the dialect; add --dialect openai-chat, anthropic, gemini or ai-sdk"
    )


def read_spec(
    config: str | None,
    url: str | None,
    dialect: str | None,
    model: str | None,
    headers: tuple[str, ...],
    sets: tuple[str, ...],
    environ: Mapping[str, str] | None = None,
) -> Spec | None:
    """The spec the flags ask for: of a file, or made from --url; None where there is neither."""
    from streamgauge.dialects import with_options
    from streamgauge.errors import UsageError
    from streamgauge.spec.load import find_spec, from_url, load_spec

    environ = os.environ if environ is None else environ
    path = find_spec(config, Path())
    if url is None:
        lost = [flag for flag, value in (("--dialect", dialect), ("--model", model), ("-H", headers)) if value]
        if lost:
            raise UsageError(f"{', '.join(lost)} goes with --url; a spec's targets have their own")
        return None if path is None else load_spec(path, speak=with_options, environ=environ, sets=sets)
    named = load_spec(path, speak=with_options, environ=environ) if path is not None else None
    return from_url(
        url,
        dialect=dialect or guess_dialect(url),
        speak=with_options,
        environ=environ,
        model=model,
        headers=split_headers(headers),
        sets=sets,
        named=named,
    )
