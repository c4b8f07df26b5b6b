"""`streamgauge init`: a first streamgauge.toml, from a copied request, from flags, or from a few questions.

Rules: nothing is overwritten: where a spec stands, init ends with exit 2 and the next step. Secrets go to
.env.streamgauge (readable by its owner only), which is git-ignored before it is written; the spec holds references.
What was written is read back through the spec's own loader before init says that it is done.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamgauge.cli import complete
from streamgauge.cli.say import say
from streamgauge.secrets import remember

if TYPE_CHECKING:
    from streamgauge.cli.draft import Draft
    from streamgauge.cli.spec_text import Names

IGNORED = (".streamgauge/", ".env.streamgauge", "tests/performance/reports/")
KINDS = ("local", "staging", "production")
_KEYS = {
    "openai-chat": ("authorization", "Bearer ${OPENAI_API_KEY}"),
    "anthropic": ("x-api-key", "${ANTHROPIC_API_KEY}"),
    "gemini": ("x-goog-api-key", "${GEMINI_API_KEY}"),
}
"""How a provider is usually given its key; written where no header is given and the host is public."""
_ORDER = (
    "target",
    "dialect",
    "prompt",
    "new",
    "kept",
    "length",
    "secret",
    "csrf",
    "tls",
    "proxy",
    "dropped",
    "guard",
    "ignored",
)
"""Decisions are printed in this order of their words."""
MAX_CURL_BYTES = 20_000_000


EXAMPLES = """\b
Examples:
  streamgauge init                                   # asks, on a terminal
  streamgauge init --from-curl request.txt           # browser: Network, Copy as cURL (bash)
  pbpaste | streamgauge init --from-curl -
  streamgauge init --url https://api.openai.com --dialect openai-chat --model gpt-4o-mini
"""


@click.command("init", epilog=EXAMPLES, context_settings={"max_content_width": 110})
@click.option(
    "--from-curl",
    metavar="FILE|-",
    shell_complete=complete.a_file,
    help='A request copied from the browser as "cURL (bash)"; - reads stdin.',
)
@click.option("--url", help="The endpoint.")
@click.option(
    "--dialect", shell_complete=complete.dialects, help="How it speaks: openai-chat, anthropic, gemini or ai-sdk."
)
@click.option("--model", help="The model to ask for.")
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Sent with each request; may be repeated."
)
@click.option("--env", "environment", metavar="NAME", help="What the environment is called.")
@click.option("--kind", type=click.Choice(KINDS), help="How careful to be. [default: production for a public host]")
@click.option("--target", metavar="NAME", help="What the target is called.")
@click.option("--prompt", metavar="TEXT", help="The words you typed, where --from-curl cannot find them.")
@click.option("--config", default="streamgauge.toml", show_default=True, metavar="FILE", help="Where to write.")
def init(
    from_curl: str | None,
    url: str | None,
    dialect: str | None,
    model: str | None,
    headers: tuple[str, ...],
    environment: str | None,
    kind: str | None,
    target: str | None,
    prompt: str | None,
    config: str,
) -> None:
    """Write a commented streamgauge.toml. Asks on a terminal when it is given neither --url nor --from-curl."""
    from streamgauge.cli.draft import draft_from_request
    from streamgauge.cli.spec_text import Names
    from streamgauge.dialects import recognise_request, with_options
    from streamgauge.errors import UsageError

    path = Path(config)
    _refuse_existing(path)
    taken = _present(path.parent)
    if dialect is not None:
        try:
            with_options(dialect, {})
        except UsageError as error:
            raise UsageError(f"--dialect: {error}") from None
    if from_curl is not None:
        from streamgauge.cli.curl import parse_curl

        _refuse_both(url, headers)
        request = parse_curl(_read(from_curl))
        draft = draft_from_request(
            request, recognise=recognise_request, dialect=dialect, model=model, prompt=prompt, taken=taken
        )
    else:
        if url is None:
            url, dialect, model = _ask(dialect, model)
        draft = _from_flags(url, dialect, model, headers, taken)
    remember(*draft.secrets.values())
    names = Names(environment, target, kind)
    _say_guard(draft, names)
    _write(path, draft, names)
    if draft.secrets and from_curl not in (None, "-"):
        draft.say("secret", f"{from_curl} still holds them in the clear; delete it")
    for word, text in sorted(draft.decisions, key=lambda decision: _ORDER.index(decision[0])):
        say(f"{word:<8} {text}")
    say(f"{'wrote':<8} {path}" + (f" and {path.parent / '.env.streamgauge'}" if draft.secrets else ""))
    where = "" if config == "streamgauge.toml" else f" --config {config}"
    say(f"{'next':<8} streamgauge check{where}")


def _refuse_existing(path: Path) -> None:
    from streamgauge.errors import UsageError

    if path.exists() or path.is_symlink():
        raise UsageError(
            f"{path} is there already and is not overwritten; edit it, move it away, or write another with "
            "--config other.toml"
        )
    if not path.parent.is_dir():
        raise UsageError(f"--config {path}: there is no folder {path.parent}; make it first")


def _refuse_both(url: str | None, headers: tuple[str, ...]) -> None:
    from streamgauge.errors import UsageError

    given = [flag for flag, value in (("--url", url), ("-H", headers)) if value]
    if given:
        raise UsageError(f"--from-curl brings its own url and headers; leave {' and '.join(given)} out")


def _read(name: str) -> str:
    """The copied text, from a file or standard input."""
    from streamgauge.errors import UsageError

    try:
        if name == "-":
            data = sys.stdin.buffer.read(MAX_CURL_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(MAX_CURL_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"--from-curl {name}: cannot be read: {error.strerror or error}; name the file that holds the copied text, "
            "or - for standard input"
        ) from None
    if len(data) > MAX_CURL_BYTES:
        raise UsageError(f"--from-curl {name}: over {MAX_CURL_BYTES / 1e6:g} MB; copy a single request")
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"--from-curl {name}: byte {error.start} is not UTF-8; save the text as UTF-8") from None


def _present(folder: Path) -> dict[str, str]:
    """What .env.streamgauge holds already."""
    from streamgauge.spec.mistakes import Mistakes, Places
    from streamgauge.spec.read import DOTENV, read_dotenv

    mistakes = Mistakes(Places(DOTENV))
    found = read_dotenv(folder / DOTENV, mistakes)
    mistakes.raise_if_any()
    return found


def _ask(dialect: str | None, model: str | None) -> tuple[str, str, str | None]:
    """Url, dialect and model from the person at the terminal."""
    from streamgauge.errors import UsageError
    from streamgauge.spec.address import parse_url

    if not sys.stdin.isatty():
        raise UsageError(
            "init has nothing to start from: give --url URL --dialect NAME, or --from-curl FILE (a request copied from "
            "the browser). It asks only on a terminal"
        )

    def checked(text: str) -> str:
        try:
            parse_url(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
        return text

    url = click.prompt("Url of the endpoint that streams", value_proc=checked)
    if dialect is None:
        dialect = _asked_dialect(url)
    if model is None:
        model = click.prompt("Model (empty: none is sent)", default="", show_default=False) or None
    return url, dialect, model


def _asked_dialect(url: str) -> str:
    """How it speaks, from the person at the terminal; what the url tells is the default."""
    from streamgauge.cli.options import likely_dialect
    from streamgauge.dialects import DIALECTS

    answer: str = click.prompt("How it speaks", type=click.Choice([*DIALECTS]), default=likely_dialect(url))
    return answer


def _told_dialect(url: str) -> str:
    """The dialect where --url stands without --dialect: what the url tells; else asked on a terminal, else an error."""
    from streamgauge.cli.options import guess_dialect, likely_dialect
    from streamgauge.spec.address import parse_url

    with suppress(ValueError):
        parse_url(url)
        if likely_dialect(url) is None and sys.stdin.isatty():
            return _asked_dialect(url)
    return guess_dialect(url)


def _from_flags(
    url: str, dialect: str | None, model: str | None, headers: tuple[str, ...], taken: Mapping[str, str]
) -> Draft:
    from streamgauge.cli.draft import Draft, header_template
    from streamgauge.dialects import DIALECTS
    from streamgauge.errors import UsageError
    from streamgauge.spec.address import check_header, parse_url, reach

    try:
        parsed = parse_url(url)
    except ValueError as error:
        raise UsageError(f"--url: {error}") from None
    guessed, dialect = dialect is None, dialect or _told_dialect(url)
    draft = Draft(url, dialect, model, taken=taken)
    path = parsed.path.partition("?")[0] or DIALECTS[dialect].default_path
    asked = path.replace("{model}", model) if model else path
    draft.say("target", f"POST {parsed.origin}{asked}   dialect {dialect}")
    if guessed:
        *others, last = (name for name in DIALECTS if name != dialect)
        draft.say("dialect", f"{dialect}, as the url tells; else --dialect {', '.join(others)} or {last}")
    for text in headers:
        name, colon, value = (part.strip() for part in text.partition(":"))
        wrong = check_header(name, value) if colon else 'is not "Name: value"'
        if wrong:
            raise UsageError(f"-H {name[:40]}: {wrong}")
        draft.headers[name.lower()] = value if "${" in value else header_template(draft, name.lower(), value)
    if not headers and reach(parsed.host) == "public" and dialect in _KEYS:
        name, template = _KEYS[dialect]
        draft.headers[name] = template
        draft.say("secret", f"header {name} = {template}: export the variable, or put it into .env.streamgauge")
    return draft


def _say_guard(draft: Draft, names: Names) -> None:
    from urllib.parse import urlsplit

    from streamgauge.spec.address import reach

    host = urlsplit(draft.url).hostname or ""
    if reach(host) != "public":
        draft.say("guard", f"{host} is {reach(host)}: no hard stops but 5 USD")
        return
    kind = names.kind or "production"
    draft.say(
        "guard",
        f"public host: kind {kind}, at most 10 streams, 3,000 requests, 1 M tokens and 5 USD a run, "
        "until you raise max",
    )


def _write(path: Path, draft: Draft, names: Names) -> None:
    """All files, the git-ignore before the secrets. The spec is checked before anything is left in place."""
    from streamgauge.cli.spec_text import spec_text
    from streamgauge.errors import StorageError

    text = spec_text(draft, names)
    draft_path = path.with_name(f".{path.name}.draft-{os.getpid()}")
    try:
        draft_path.write_text(text, encoding="utf-8")
        _read_back(draft_path, path)  # before anything is left behind
        _ignore(path.parent / ".gitignore", draft)
        _keep_secrets(path.parent / ".env.streamgauge", draft)
        os.link(draft_path, path)  # fails where a file came in between; a rename would overwrite it
    except OSError as error:
        raise StorageError(f"{error.filename or path}: cannot be written: {error.strerror or error}") from None
    finally:
        draft_path.unlink(missing_ok=True)


def _read_back(written: Path, path: Path) -> None:
    """Load what was written; a mistake in it (a name given by a flag) is told with the file's final name."""
    from streamgauge.dialects import with_options
    from streamgauge.errors import UsageError
    from streamgauge.spec.load import load_spec

    try:
        load_spec(written, speak=with_options, environ={})
    except UsageError as error:
        raise UsageError(str(error).replace(str(written), str(path)).replace(written.name, path.name)) from None


def _ignore(path: Path, draft: Draft) -> None:
    """Add what is missing to .gitignore."""
    text = path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""
    present = {line.strip().lstrip("/") for line in text.splitlines()}
    missing = [line for line in IGNORED if line not in present and line.rstrip("/") not in present]
    if not missing:
        return
    start = "" if not text or text.endswith("\n") else "\n"
    with path.open("a", encoding="utf-8", errors="surrogateescape") as out:
        out.write(start + "".join(f"{line}\n" for line in missing))
    draft.say("ignored", f"{', '.join(missing)} added to {path.name}")


def _keep_secrets(path: Path, draft: Draft) -> None:
    """Append new secrets to .env.streamgauge, readable by its owner only."""
    from streamgauge.spec.read import dotenv_line

    new = {name: value for name, value in draft.secrets.items() if name not in draft.taken}
    if not new:
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "r+b") as out:
        os.chmod(path, 0o600)
        whole = out.read()
        start = "" if not whole or whole.endswith(b"\n") else "\n"
        lines = "".join(f"{dotenv_line(name, value)}\n" for name, value in new.items())
        out.write((start + lines).encode("utf-8"))
