"""Which line each key of a TOML text stands on.

Strategy: tomllib says what a text means but not where; this walks the same text once and notes the line of every key,
table header and array element. It reads texts that tomllib has accepted; in others it stops at what it cannot read and
returns what it has (the first place of a key that is there twice). It never raises.

Rules: a path is what the parsed dict would be indexed with. A table's line is its header's, or that of the first key
that made it.
"""

from __future__ import annotations

import contextlib
import re
import tomllib

from streamgauge.spec.mistakes import Path

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\r\n]+")
_BLANK = re.compile(r"[ \t]+")
_SPACE = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)+")
_STRINGS = (
    re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}', re.S),
    re.compile(r"'''(?:[^']|'(?!''))*'{3,5}", re.S),
    re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    re.compile(r"'[^'\n]*'"),
)


class _Stop(Exception):
    """The text is not TOML from here on."""


class _Walk:
    """One pass over a text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self.counts: dict[Path, int] = {}
        self._line = 1
        self._counted = 0

    def line(self) -> int:
        """The line of the present position; positions only grow."""
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def note(self, path: Path) -> None:
        line = self.line()
        for end in range(1, len(path) + 1):
            self.lines.setdefault(path[:end], line)

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        if match:
            self.at = match.end()

    def expect(self, mark: str) -> None:
        if not self.text.startswith(mark, self.at):
            raise _Stop
        self.at += len(mark)

    def key(self) -> tuple[str, ...]:
        """A key, perhaps dotted; white space around it is taken too."""
        parts = []
        while True:
            self.skip(_BLANK)
            parts.append(self._one_key())
            self.skip(_BLANK)
            if self.peek() != ".":
                return tuple(parts)
            self.at += 1

    def _one_key(self) -> str:
        for pattern in (_BARE, *_STRINGS[2:]):
            match = pattern.match(self.text, self.at)
            if match:
                self.at = match.end()
                try:
                    return next(iter(tomllib.loads(f"{match[0]} = 0")))
                except tomllib.TOMLDecodeError:
                    raise _Stop from None
        raise _Stop

    def document(self) -> None:
        """The whole text: headers and `key = value` lines."""
        table: Path = ()
        while True:
            self.skip(_SPACE)
            if self.at >= len(self.text):
                return
            table = self.header() if self.peek() == "[" else self.pair(table)

    def header(self) -> Path:
        """`[a.b]` or `[[a.b]]`; returns the path that the lines below it belong to."""
        many = self.text.startswith("[[", self.at)
        start = self.at
        self.at += 2 if many else 1
        path = self.current(self.key())
        end = self.at
        self.at = start
        if many:
            # The array and this element both stand on the header's line; the element number is how many came before.
            array = self._strip_last_index(path)
            number = self.counts.get(array, -1) + 1
            self.counts[array] = number
            path = (*array, number)
        self.note(path)
        self.at = end
        self.expect("]]" if many else "]")
        return path

    def _strip_last_index(self, path: Path) -> Path:
        return path[:-1] if path and isinstance(path[-1], int) else path

    def current(self, names: tuple[str, ...]) -> Path:
        """The path of `names` from the root: below an array of tables it is the last element that is meant."""
        path: Path = ()
        for name in names:
            path = (*path, name)
            if path in self.counts:
                path = (*path, self.counts[path])
        return path

    def pair(self, table: Path) -> Path:
        """`key = value`; returns `table`, to which the next line belongs too."""
        start = self.at
        names = self.key()
        end = self.at
        path = (*table, *names)
        self.at = start
        self.note(path)
        self.at = end
        self.expect("=")
        self.skip(_BLANK)
        self.value(path)
        return table

    def value(self, path: Path) -> None:
        """A value of any kind; notes what is inside arrays and inline tables."""
        mark = self.peek()
        if mark == "[":
            self.array(path)
        elif mark == "{":
            self.inline(path)
        elif mark in ('"', "'"):
            for pattern in _STRINGS:
                match = pattern.match(self.text, self.at)
                if match and not (len(match[0]) == 2 and self.text.startswith(mark * 3, self.at)):
                    self.at = match.end()
                    return
            raise _Stop
        else:
            match = _SCALAR.match(self.text, self.at)
            if match is None:
                raise _Stop
            self.at = match.end()

    def array(self, path: Path) -> None:
        self.expect("[")
        number = 0
        while True:
            self.skip(_SPACE)
            if self.peek() == "]":
                self.at += 1
                return
            self.note((*path, number))
            self.value((*path, number))
            self.skip(_SPACE)
            if self.peek() == ",":
                self.at += 1
            elif self.peek() != "]":
                raise _Stop
            number += 1

    def inline(self, path: Path) -> None:
        self.expect("{")
        while True:
            self.skip(_SPACE)
            if self.peek() == "}":
                self.at += 1
                return
            self.pair(path)
            self.skip(_SPACE)
            if self.peek() == ",":
                self.at += 1
            elif self.peek() != "}":
                raise _Stop


def locate(text: str) -> dict[Path, int]:
    """{path: line, from 1} of every key, table and array element in a TOML text."""
    walk = _Walk(text)
    with contextlib.suppress(_Stop, RecursionError):
        walk.document()
    return walk.lines
