"""How browsers quote the words of "Copy as cURL" (after the code of their developer tools), to make copies in tests."""

from __future__ import annotations

import re


def chrome(text: str) -> str:
    """A word as Chrome quotes it: $'..' for control characters, ! and '; those as four hex digits."""
    if not re.search(r"[\0-\x1f\x7f-\x9f!]|'", text):
        return f"'{text}'"
    out = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
    return "$'" + re.sub(r"[\0-\x1f\x7f-\x9f!]", lambda m: f"\\u{ord(m[0]):04x}", out) + "'"


def utf16(char: str) -> list[int]:
    data = char.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]


def firefox(text: str) -> str:
    """A word as Firefox and Safari quote it: $'..' for all that is not printable ASCII, in UTF-16 units."""
    if not re.search(r"[^\x20-\x7e]|'", text):
        return f"'{text}'"
    out = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r").replace("!", "\\x21")

    def code(match: re.Match[str]) -> str:
        return "".join(f"\\x{unit:02x}" if unit < 256 else f"\\u{unit:04x}" for unit in utf16(match[0]))

    return "$'" + re.sub(r"[^\x20-\x7e]", code, out) + "'"
