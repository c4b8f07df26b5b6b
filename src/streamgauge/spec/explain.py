"""What pydantic found wrong, in the words of a person who edits a TOML file.

Rules: each text says what was found, what is allowed and the nearest right name. A value below `headers`, `body` or
`extra` may be a secret and is never shown.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from streamgauge.spec.mistakes import Path, did_you_mean
from streamgauge.spec.values import TAG

_SECRET = {"headers", "body", "extra", "url", "path", "proxy"}
_KINDS = {
    "string_type": 'a text in quotes, as in "abc"',
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "tuple_type": "a list, as in [...]",
}
_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}


def unknown_key(key: str, allowed: Iterable[str]) -> str:
    """The text for a key that is not known."""
    names = list(allowed)
    head, _, rest = key.partition("_")
    if head in names and rest:
        return f"unknown key; did you mean {head} = {{ {rest} = ... }}? Allowed: {', '.join(names)}"
    return f"unknown key{did_you_mean(key, names)} Allowed: {', '.join(names)}"


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys of a table as they are written in the file."""
    return [field.alias or name for name, field in model.model_fields.items()]


def shown(value: object) -> str:
    """A value as it stands in TOML, shortened."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = value if len(value) <= 60 else value[:57] + "..."
        return f'the text "{text}"'
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, datetime.date | datetime.time):
        return f"the date or time {value}"
    return f"{value}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def explain(error: ErrorDetails, model: type[BaseModel]) -> tuple[Path, str]:
    """(path below the table, text) of one pydantic error found in a table of `model`."""
    path = tuple(part for part in error["loc"] if not str(part).startswith(TAG))
    kind = error["type"]
    context: Mapping[str, Any] = error.get("ctx", {})
    value = error["input"]
    found = "another kind of value" if _SECRET & set(map(str, path)) else shown(value)
    if kind == "extra_forbidden":
        return path, unknown_key(str(path[-1]), keys_of(_inner(model, path[:-1])))
    if kind == "missing":
        return path[:-1], f'key "{path[-1]}" is missing'
    if kind in _KINDS:
        return path, f"must be {_KINDS[kind]}, not {found}"
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        return path, f"must be {words} {_number(context[bound])}, not {found}"
    texts: dict[str, Callable[[], str]] = {
        "literal_error": lambda: _choice(context["expected"], value, found),
        "finite_number": lambda: f"must be a finite number, not {found}",
        "string_unicode": lambda: "holds bytes that are not UTF-8",
        "string_too_short": lambda: "must not be empty",
        "too_short": lambda: "must not be an empty list; leave the key out for what is usual",
        "value_error": lambda: str(context["error"]),
    }
    return path, texts[kind]() if kind in texts else error["msg"]


def _choice(expected: str, value: object, found: str) -> str:
    """`expected` is pydantic's own list: 'a', 'b' or 'c'."""
    names = [word.strip("' ") for word in expected.replace(" or ", ", ").split(", ")]
    hint = did_you_mean(value, names) if isinstance(value, str) else "."
    return f"must be one of {', '.join(names)}, not {found}{hint}"


def _inner(model: type[BaseModel], path: Path) -> type[BaseModel]:
    """The model of the table at `path` inside `model`."""
    for part in path:
        if isinstance(part, int):
            continue
        for name, field in model.model_fields.items():
            if part in (name, field.alias):
                model = _model_in(field.annotation) or model
    return model


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The model inside an annotation such as `Tls | None` or `tuple[Criterion, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _model_in(part)
        if found is not None:
            return found
    return None
