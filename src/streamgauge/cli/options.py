"""Options that several verbs share: which spec, which target, and what `--set` changes.

Rules: a flag of one value can also be given by a variable (`--url` by STREAMGAUGE_URL); the flag wins. A mistake names
the one it came from.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from streamgauge.cli import complete

if TYPE_CHECKING:
    from streamgauge.spec.load import Spec

F = TypeVar("F", bound=Callable[..., Any])

_PATHS = (
    ("/chat/completions", "openai-chat"),
    ("/messages", "anthropic"),
    (":streamgeneratecontent", "gemini"),
    ("/api/chat", "ai-sdk"),
)
_HOSTS = {
    "api.openai.com": "openai-chat",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gemini",
}


def flag(name: str, *more: Any, **settings: Any) -> Callable[[F], F]:
    """A click option that a variable can stand in for: `--max-usd` by STREAMGAUGE_MAX_USD."""
    return click.option(name, *more, envvar=f"STREAMGAUGE_{name[2:].upper().replace('-', '_')}", **settings)


def from_variables() -> dict[str, str]:
    """{flag: variable} of those options of the running command that a variable gave."""
    context = click.get_current_context()
    return {
        option.opts[0]: str(option.envvar)
        for option in context.command.params
        if option.name and context.get_parameter_source(option.name) is click.core.ParameterSource.ENVIRONMENT
    }


def target_options(command: F) -> F:
    """--config --env --url --dialect --model -H --proxy --probe --set."""
    for option in reversed(
        (
            flag(
                "--config", metavar="FILE", shell_complete=complete.a_file,
                help="The spec. Default: streamgauge.toml, if there is one.",
            ),
            flag(
                "--env", "environment", metavar="NAME", shell_complete=complete.environments,
                help="Which of the spec's environments.",
            ),
            flag("--url", metavar="URL", help="The endpoint itself, instead of the spec's targets."),
            flag(
                "--dialect", metavar="D", shell_complete=complete.dialects,
                help="With --url: openai-chat, anthropic, gemini or ai-sdk.",
            ),
            flag("--model", metavar="M", help="With --url: the model to ask for."),
            click.option(
                "-H", "--header", "headers", multiple=True, metavar="'Name: value'",
                help="With --url: a header of every request. ${NAME} is taken from the environment.",
            ),
            flag(
                "--proxy", metavar="URL",
                help="HTTP proxy for every target, or none. Default: what HTTPS_PROXY and the like say.",
            ),
            click.option(
                "--probe", "probes", multiple=True, metavar="P",
                help="Read the server's memory meanwhile: pid:1234, port:3000, cmd:PATTERN or the url of a JSON page.",
            ),
            click.option(
                "--set", "sets", multiple=True, metavar="KEY=VALUE", shell_complete=complete.keys,
                help="Change a key of the spec, as in --set tests.ttft.requests=200.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


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


def likely_dialect(url: str) -> str | None:
    """The dialect that a url's path tells, else its host; None where neither does."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    path = parts.path.lower().rstrip("/")
    told = next((dialect for end, dialect in _PATHS if path.endswith(end)), None)
    return told or _HOSTS.get(parts.hostname or "")


def guess_dialect(url: str, place: str = "--url") -> str:
    """The dialect that the url tells. UsageError where it tells none, or is no url; `place`: where it stood."""
    from streamgauge.dialects import DIALECTS
    from streamgauge.errors import UsageError
    from streamgauge.spec.address import parse_url

    try:
        parse_url(url)
    except ValueError as error:
        raise UsageError(f"{place}: {error}") from None
    told = likely_dialect(url)
    if told is not None:
        return told
    *others, last = DIALECTS
    raise UsageError(f"{place} {url}: the path does not tell the dialect; add --dialect {', '.join(others)} or {last}")


def spec_above() -> str | None:
    """The nearest streamgauge.toml in a folder above this one, as a path from here. It is told, never used unasked."""
    from streamgauge.spec.load import FILE

    here = Path.cwd()
    found = next((folder / FILE for folder in here.parents if (folder / FILE).is_file()), None)
    return None if found is None else os.path.relpath(found, here)


def read_spec(
    config: str | None,
    url: str | None,
    dialect: str | None,
    model: str | None,
    headers: tuple[str, ...],
    sets: tuple[str, ...],
    proxy: str | None = None,
    environ: Mapping[str, str] | None = None,
    probes: tuple[str, ...] = (),
) -> Spec | None:
    """The spec the flags ask for: of a file, or made from --url; None where there is neither."""
    from streamgauge.dialects import with_options
    from streamgauge.errors import UsageError
    from streamgauge.spec.load import find_spec, from_url, load_spec

    environ = os.environ if environ is None else environ
    origins = from_variables()
    path = find_spec(config, Path())
    if url is None:
        given = (("--dialect", dialect), ("--model", model), ("-H", headers))
        lost = [origins.get(name, name) for name, value in given if value]
        if lost:
            raise UsageError(f"{', '.join(lost)} goes with --url; a spec's targets have their own")
        if path is None:
            return None
        every = None if proxy is None else (proxy, origins.get("--proxy", "--proxy"))
        return load_spec(path, speak=with_options, environ=environ, sets=sets, proxy=every, probes=probes)
    named = load_spec(path, speak=with_options, environ=environ) if path is not None else None
    return from_url(
        url,
        dialect=dialect or guess_dialect(url, origins.get("--url", "--url")),
        speak=with_options,
        environ=environ,
        model=model,
        headers=split_headers(headers),
        proxy=proxy,
        sets=sets,
        named=named,
        origins=origins,
        probes=probes,
    )
