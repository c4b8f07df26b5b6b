"""Where prompt texts come from: the shipped sets, a file beside the spec, or the spec itself.

Rules: one kind of file each by its ending. A set is never empty, a prompt never blank, a file at most 8 MB:
what is larger is more likely a wrong file than prompts. Line breaks inside a prompt are kept.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from streamgauge.errors import UsageError
from streamgauge.spec.read import read_text

MAX_BYTES = 8_000_000
ENDINGS = (".txt", ".jsonl", ".toml")


@dataclass(frozen=True, slots=True)
class PromptSet:
    """A named set of texts, taken in turn."""

    name: str
    texts: tuple[str, ...]


@cache
def shipped(name: str) -> tuple[str, ...]:
    """The texts of a shipped set: short (20-40 words), medium (150-250), long (800-1,200), endless (asks for much)."""
    text = files("streamgauge.spec").joinpath("prompts", f"{name}.txt").read_text(encoding="utf-8")
    return paragraphs(text)


def paragraphs(text: str) -> tuple[str, ...]:
    """Texts parted by blank lines; where there are lines of `---`, by those (for prompts with paragraphs)."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    ruled = re.search(r"^---[ \t]*$", text, re.M)
    parts = re.split(r"^---[ \t]*$", text, flags=re.M) if ruled else re.split(r"\n[ \t]*\n", text)
    return tuple(part.strip() for part in parts if part.strip())


def read_prompts(path: Path, shown: str) -> tuple[str, ...]:
    """The prompts of one's own file. UsageError names file, line, what is allowed and the next step."""
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise UsageError(f'{shown}: "{ending or "no ending"}" is no kind of prompt file; allowed: {", ".join(ENDINGS)}')
    text = read_text(path, "a prompt file", MAX_BYTES, shown)
    if ending == ".txt":
        found = paragraphs(text)
    elif ending == ".jsonl":
        found = _jsonl(text, shown)
    else:
        found = _toml(text, shown)
    if not found:
        raise UsageError(f"{shown}: holds no prompt; write at least one")
    for number, one in enumerate(found, 1):
        if not one.strip():
            raise UsageError(f"{shown}: prompt {number} is blank; write it or take it out")
        if any(0xD800 <= ord(char) <= 0xDFFF for char in one):
            raise UsageError(f"{shown}: prompt {number} holds half a surrogate pair, which no request can carry")
    return found


def _jsonl(text: str, shown: str) -> tuple[str, ...]:
    out = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{shown}:{number}: not JSON: {error}") from None
        if isinstance(value, dict):
            value = value.get("prompt")
        if not isinstance(value, str):
            raise UsageError(f'{shown}:{number}: a line is a JSON text or an object with a text "prompt"')
        out.append(value)
    return tuple(out)


def _toml(text: str, shown: str) -> tuple[str, ...]:
    try:
        value = tomllib.loads(text).get("prompts")
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{shown}: not TOML: {error}") from None
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise UsageError(f'{shown}: must hold prompts = ["...", "..."], texts only')
    return tuple(value)
