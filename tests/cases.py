"""The corpus of hostile answers: one TOML file each under tests/corpus, with what it is and how it must end.

`[[send]]` is one read: `text` (UTF-8) or `hex`, `times` over; `numbered`: so many copies with %d filled in; `chunk`: a
text as an HTTP chunk; `packed`: as gzip or zlib, `each` member by member, `short` of its last bytes. `close`: the
connection is closed in order, by a `reset`, or left `open`. `[must]`: outcome and facts of the Sample; `error_has` is a
part of its words, `none` lists what must be missing.
"""

from __future__ import annotations

import gzip
import tomllib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "corpus"


@dataclass(frozen=True, slots=True)
class Case:
    """One hostile answer."""

    name: str
    what: str
    dialect: str
    close: str
    reads: list[bytes]
    must: dict[str, Any]


def load(path: Path) -> Case:
    """The case in a file; a key that nobody knows is a mistake."""
    told = tomllib.loads(path.read_text("utf-8"))
    unknown = told.keys() - {"what", "dialect", "close", "send", "must"}
    assert not unknown, f"{path.name}: {unknown}"
    reads = [_bytes(send.pop("hex", ""), **send) for send in told.get("send", [])]
    return Case(path.stem, told["what"], told.get("dialect", "openai-chat"), told["close"], reads, told["must"])


def _bytes(
    digits: str, text: str = "", chunk: str = "", times: int = 1, numbered: int = 0, packed: str = "", each: int = 1,
    short: int = 0,
) -> bytes:  # fmt: skip
    if chunk:
        return b"%x\r\n%b\r\n" % (len(chunk.encode()), chunk.encode())
    if numbered:
        return b"".join((text % number).encode() for number in range(numbered))
    data = (text.encode() + bytes.fromhex(digits)) * times
    if packed:
        data = {"gzip": gzip.compress, "zlib": zlib.compress}[packed](data) * each
    return data[: len(data) - short]


def all_cases() -> list[Case]:
    """Every case, by name."""
    return [load(path) for path in sorted(FOLDER.glob("*.toml"))]
