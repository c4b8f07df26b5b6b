"""Mistakes of a spec, gathered and told all at once.

Rules: a mistake knows its place (file and line, flag or variable) and the key; its text says what was found, what is
allowed and the nearest right name. Nobody stops at the first one. A value that may be a secret is never shown.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from streamgauge.errors import UsageError

Path: TypeAlias = tuple[str | int, ...]
"""A key's path in the spec: `("targets", "claude", "headers", "x-a")`; whole numbers index arrays."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The right name that `word` was probably meant to be, or None."""
    folded = {name.lower().replace("-", "_"): name for name in known}
    hits = difflib.get_close_matches(word.lower().replace("-", "_"), folded, n=1, cutoff=0.55)
    return folded[hits[0]] if hits else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` or `.`"""
    hit = nearest(word, known)
    return f'; did you mean "{hit}"?' if hit else "."


def dotted(path: Path) -> str:
    """The path as a person writes it: `tests.ttft.criteria[2].rule`."""
    out = ""
    for part in path:
        if isinstance(part, int):
            out += f"[{part + 1}]"
        else:
            plain = part and all(c.isalnum() or c in "-_" for c in part)
            out += ("." if out else "") + (part if plain else json.dumps(part, ensure_ascii=False))
    return out


@dataclass(frozen=True, slots=True)
class Places:
    """Where each key of a spec came from: a line of its file, a flag or a variable."""

    file: str | None = None
    lines: Mapping[Path, int] = field(default_factory=dict)
    origins: Mapping[Path, str] = field(default_factory=dict)
    """Keys set by `--set` or a STREAMGAUGE_* variable, and which."""
    default: str = "the command line"

    def at(self, path: Path) -> str:
        """The place of `path`, or of the nearest table around it."""
        for end in range(len(path), 0, -1):
            part = path[:end]
            if part in self.origins:
                return self.origins[part]
            if part in self.lines:
                return f"{self.file}:{self.lines[part]}"
            below = next((origin for set_, origin in self.origins.items() if set_[:end] == part), None)
            if below is not None:
                return below
        return self.file or self.default

    def line(self, path: Path) -> int:
        """For sorting: the line of `path` or of the nearest table around it; flags and variables come last."""
        for end in range(len(path), 0, -1):
            part = path[:end]
            if part in self.origins:
                return 1 << 30
            if part in self.lines:
                return self.lines[part]
        return 0


@dataclass(slots=True)
class Mistakes:
    """A list of what is wrong, in the order of the file."""

    places: Places
    found: list[tuple[int, str]] = field(default_factory=list)

    def add(self, path: Path, text: str) -> None:
        """Note that the key at `path` is wrong, and why."""
        key = f"{dotted(path)}: " if path else ""
        self._note(self.places.line(path), f"{self.places.at(path)}: {key}{text}")

    def add_at(self, place: str, text: str) -> None:
        """Note a mistake whose place is no key: another file, a flag."""
        self._note(1 << 30, f"{place}: {text}")

    def _note(self, line: int, text: str) -> None:
        if (line, text) not in self.found:
            self.found.append((line, text))

    def raise_if_any(self) -> None:
        """Raise one UsageError that lists them all."""
        if not self.found:
            return
        texts = [text for _, text in sorted(self.found, key=lambda item: item[0])]
        if len(texts) == 1:
            raise UsageError(texts[0])
        what = self.places.file or self.places.default
        raise UsageError("\n  ".join([f"{what}: {len(texts)} mistakes", *texts]))
