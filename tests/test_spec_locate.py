"""The line of each key: against tomllib (which keys there are) and against texts built with known lines."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.spec.locate import locate
from streamgauge.spec.mistakes import Path


def paths(value: object, at: Path = ()) -> Iterator[Path]:
    """Every key and array element of a parsed text."""
    if at:
        yield at
    if isinstance(value, dict):
        for key, one in value.items():
            yield from paths(one, (*at, key))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from paths(one, (*at, number))


TEXT = """\
# a comment = "with a key"
top = 1
"quoted.key" = "a # b"   # not a comment before this
a.b . c = 'x'

[one]
x = [1, [2,
  3], # comment ]
  { y = "}", z = [ "," ] },
]
long = \"\"\"
[not.a.table]
k = 1
\"\"\"
raw = '''it's
x = 1'''
when = 1979-05-27 07:32:00
[one.two."three four"]
n = +1_000.5e3

[[many]]
a = 1
[[many]]
a = { b.c = true, d = {} }
[many.sub]
s = ""
[[many.deep]]
q = 1
[[many.deep]]
r = ''
[last]
"""


def test_every_key_that_tomllib_sees_has_a_line() -> None:
    assert set(locate(TEXT)) == set(paths(tomllib.loads(TEXT)))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("quoted.key",), 3),
        (("a", "b", "c"), 4),
        (("one",), 6),
        (("one", "x", 1, 1), 8),
        (("one", "x", 2, "z", 0), 9),
        (("one", "long"), 11),
        (("one", "raw"), 15),
        (("one", "when"), 17),
        (("one", "two", "three four", "n"), 19),
        (("many",), 21),
        (("many", 1, "a", "b", "c"), 24),
        (("many", 1, "sub", "s"), 26),
        (("many", 1, "deep", 1), 29),
        (("last",), 31),
    ],
)
def test_each_key_stands_on_its_line(path: Path, line: int) -> None:
    assert locate(TEXT)[path] == line


def test_windows_line_ends_count_as_one() -> None:
    assert locate("a = 1\r\n[t]\r\nb = 2\r\n")[("t", "b")] == 3


KEYS = st.one_of(st.from_regex(r"\A[A-Za-z0-9_-]{1,6}\Z"), st.text("ab.\"'\\ #=[é", min_size=1, max_size=5))
VALUES = st.recursive(
    st.one_of(st.integers(), st.booleans(), st.text("ab#\"'\\[]{}=,\né\t", max_size=8), st.just(1.5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)


def quoted(text: str) -> str:
    """A TOML basic string."""
    out = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + out.replace("\n", "\\n").replace("\t", "\\t") + '"'


def written(value: object) -> str:
    """A value in TOML on one line, arrays with line breaks."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value) if "\n" not in value else '"""\n' + quoted(value)[1:-1].replace("\\n", "\n") + '"""'
    if isinstance(value, list):
        return "[\n" + "".join(f"  {written(one)}, # [\n" for one in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{quoted(key)} = {written(one)}" for key, one in value.items()) + " }"
    return str(value)


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_toml_is_located_key_by_key(tree: dict[str, dict[str, object]]) -> None:
    lines: list[str] = []
    expected: dict[Path, int] = {}
    for name, table in tree.items():
        lines.append(f"[ {quoted(name)} ] # table")
        expected[(name,)] = len(lines)
        for key, value in table.items():
            expected[(name, key)] = len(lines) + 1
            lines += f"{quoted(key)} = {written(value)}".split("\n")
    text = "\n".join(lines) + "\n"
    parsed = tomllib.loads(text)
    found = locate(text)
    assert set(found) == set(paths(parsed))
    assert {path: found[path] for path in expected} == expected


@given(st.text("a.=[]{}\"'#,\n 1\\", max_size=60))
@settings(max_examples=300, deadline=None)
def test_a_text_that_is_no_toml_is_survived(text: str) -> None:
    found = locate(text)
    assert all(1 <= line <= text.count("\n") + 1 for line in found.values())


def test_of_a_key_that_is_there_twice_the_first_place_is_told() -> None:
    assert locate("a = 1\nb = 2\na = 3\n")[("a",)] == 1
