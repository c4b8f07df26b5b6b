"""Reading what a spec is made of: its TOML, `.env.streamgauge`, flags and variables that set keys.

Rules: precedence is flags over STREAMGAUGE_* variables over the file. A variable reaches a key by its path with double
underscores (STREAMGAUGE_TTFT__REQUESTS, STREAMGAUGE_TARGETS__CLAUDE__MODEL); one without a double underscore is none
of the spec's, unless it begins like one, which is told. Values are TOML values, else plain text.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path as FilePath

from streamgauge.errors import UsageError
from streamgauge.spec.locate import locate
from streamgauge.spec.mistakes import Mistakes, Path, dotted
from streamgauge.spec.presets import TESTS

SECTIONS = ("environments", "targets", "prompts", "probes", "tests", "findings")
DOTENV = ".env.streamgauge"
PREFIX = "STREAMGAUGE_"
MAX_SPEC_BYTES = 10_000_000
_WHERE = re.compile(r"\s*\((?:at line (\d+), column (\d+)|at end of document)\)$")
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def read_text(path: FilePath, what: str, limit: int, shown: str | None = None) -> str:
    """A UTF-8 file of at most `limit` bytes, without its byte order mark. UsageError names file, line and next step."""
    shown = shown or str(path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = b"" if size > limit else file.read(limit + 1)  # never more: it may be a device without an end
    except OSError as error:
        raise UsageError(
            f"{shown}: cannot read {what}: {error.strerror or error}; name a file that is there and that you may read"
        ) from None
    if max(size, len(data)) > limit:
        told = f"{size / 1e6:.1f} MB" if size else f"over {limit / 1e6:g} MB"
        raise UsageError(f"{shown}: {told}; {what} may have at most {limit / 1e6:g} MB. Make it smaller.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{shown}:{line}: byte 0x{data[error.start]:02x} is not UTF-8; save {what} as UTF-8") from None


def read_toml(text: str, shown: str) -> dict[str, object]:
    """The text as TOML; UsageError with file and line where it is none."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UsageError(f"{shown}: nested too deeply to be a spec; write tables as [a.b.c]") from None
    except ValueError as error:  # also of Python itself, for a number of thousands of digits
        message = str(error)
        match = _WHERE.search(message)
        line = int(match[1]) if match and match[1] else max(1, text.rstrip().count("\n") + 1)
        told = _WHERE.sub("", message)
        raise UsageError(f"{shown}:{line}: not TOML: {_plain(told, text, line)}") from None


def _plain(message: str, text: str, line: int) -> str:
    """tomllib's message in plain words; for a key that is there twice, where the first one stands."""
    source = text.splitlines()[line - 1].strip() if line <= len(text.splitlines()) else ""
    shown = re.sub(r"=.*", "= ...", source)[:80]
    twice = message.startswith(("Cannot overwrite", "Cannot declare", "Duplicate inline", "Cannot mutate"))
    if not twice:
        return f"{message} in {shown!r}" if shown else message
    before = locate("\n".join(text.splitlines()[: line - 1]) + "\n")
    wanted = locate_names(source)
    first = [at for path, at in before.items() if wanted and path[-len(wanted) :] == wanted]
    where = f"; it stands first on line {max(first)}" if first else ""
    return f"{shown!r} is there twice{where}. Keep one."


def locate_names(source: str) -> Path:
    """The names on one line of TOML: of its header or its first key."""
    paths = sorted(locate(source + "\n"), key=len)
    plain = [tuple(part for part in path if isinstance(part, str)) for path in paths]
    header = source.startswith("[")
    if not plain:
        return ()
    return max(plain, key=len) if header else plain[0]


def parse_value(text: str) -> object:
    """A flag's or variable's text as a TOML value, or as the text itself where it is none."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return parsed["value"] if set(parsed) == {"value"} else text


def split_set(text: str) -> tuple[Path, object] | None:
    """`key.path=value` as (path, value), or None where it is not of that form."""
    match = re.match(r"""((?:[^="']|"(?:[^"\\]|\\.)*"|'[^']*')+?)=(.*)$""", text, re.S)
    if match is None:
        return None
    try:
        tree: object = tomllib.loads(f"{match[1].strip()} = 0")
    except (ValueError, RecursionError):
        return None
    path: list[str] = []
    while isinstance(tree, dict):
        name, tree = next(iter(tree.items()))
        path.append(name)
    return with_tests(tuple(path)), parse_value(match[2])


def with_tests(path: Path) -> Path:
    """`ttft.requests` is short for `tests.ttft.requests`."""
    return ("tests", *path) if path and path[0] in TESTS else path


def apply_variables(tree: dict[str, object], environ: Mapping[str, str], mistakes: Mistakes) -> dict[Path, str]:
    """Set what STREAMGAUGE_* variables say in `tree`; returns which keys came from which variable."""
    origins: dict[Path, str] = {}
    for name in sorted(environ):
        if not name.startswith(PREFIX):
            continue
        rest = name[len(PREFIX) :]
        words = rest.lower().split("__")
        if len(words) == 1:
            first = words[0].partition("_")[0]
            if first in (*TESTS, *SECTIONS) and "_" in words[0]:
                hint = PREFIX + rest.replace("_", "__", 1)
                mistakes.add_at(name, f"sets no key; levels are parted by two underscores: {hint}?")
            continue
        if "" in words:
            mistakes.add_at(name, "has an empty level in its key; write it like STREAMGAUGE_TTFT__REQUESTS")
            continue
        path = _match_names(tree, with_tests(tuple(words)))
        _put(tree, path, parse_value(environ[name]), name, mistakes, origins)
    return origins


def apply_sets(tree: dict[str, object], sets: Iterable[str], mistakes: Mistakes) -> dict[Path, str]:
    """Set what `--set key.path=value` flags say in `tree`; returns which keys came from which flag."""
    origins: dict[Path, str] = {}
    for text in sets:
        split = split_set(text)
        if split is None:
            mistakes.add_at(f"--set {text[:60]}", "is not key.path=value; write it like --set ttft.requests=100")
            continue
        path, value = split
        _put(tree, path, value, f"--set {dotted(path)}", mistakes, origins)
    return origins


def _match_names(tree: dict[str, object], path: Path) -> Path:
    """The path with each name as the file spells it: a variable cannot hold `-`, `.` or lower case."""
    out: list[str | int] = []
    node: object = tree
    for part in path:
        keys = list(node) if isinstance(node, dict) else []
        hits = [key for key in keys if re.sub(r"[-. ]", "_", key.lower()) == part]
        out.append(hits[0] if hits else part)
        node = node.get(out[-1]) if isinstance(node, dict) else None
    return tuple(out)


def _put(
    tree: dict[str, object], path: Path, value: object, origin: str, mistakes: Mistakes, origins: dict[Path, str]
) -> None:
    node = tree
    for depth, part in enumerate(path[:-1]):
        child = node.setdefault(str(part), {})
        if not isinstance(child, dict):
            mistakes.add_at(origin, f"{dotted(path[: depth + 1])} is no table, so it has no key {path[depth + 1]!r}")
            return
        node = child
    node[str(path[-1])] = value
    origins[path] = origin


def read_dotenv(path: FilePath, mistakes: Mistakes) -> dict[str, str]:
    """`.env.streamgauge` as {name: value}; empty where there is none. Values never reach a message.

    A line is NAME=value, perhaps behind `export`; `#` begins a comment. 'single' quotes keep everything as it is,
    "double" quotes know \\n, \\r, \\t and \\ before any other character.
    """
    if not path.exists():
        return {}
    try:
        text = read_text(path, "the secrets file", MAX_SPEC_BYTES, path.name)
    except UsageError as error:
        mistakes.found.append((1 << 30, str(error)))
        return {}
    found: dict[str, str] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip().removeprefix("export ").strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        parsed = _dotenv_value(value.strip()) if equals and _NAME.match(name.strip()) else None
        if parsed is None:
            mistakes.add_at(f"{path.name}:{number}", 'is not NAME=value; quote a value with spaces or "#"')
        else:
            found[name.strip()] = parsed
    return found


def _dotenv_value(text: str) -> str | None:
    single = re.match(r"^'([^']*)'\s*(?:#.*)?$", text)
    if single:
        return single[1]
    double = re.match(r'^"((?:[^"\\]|\\.)*)"\s*(?:#.*)?$', text)
    if double:
        return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), double[1])
    if text.startswith(("'", '"')):
        return None
    return re.split(r"\s#", text, maxsplit=1)[0].rstrip()


def dotenv_line(name: str, value: str) -> str:
    """The line of `.env.streamgauge` that `read_dotenv` reads back as `value`."""
    if re.fullmatch(r"[A-Za-z0-9_./+=:@%,~-]*", value):
        return f"{name}={value}"
    if "'" not in value and value.isprintable():
        return f"{name}='{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    for letter, char in _ESCAPES.items():
        escaped = escaped.replace(char, f"\\{letter}")
    return f'{name}="{escaped}"'
