"""Text from outside, made safe for the place it is written to: one function for each kind of place.

Outside: bodies and headers of a server, model names, finish reasons, words of the system; and names, prompts and urls
of a spec, which may be somebody else's. Rules: a writer passes every such text through its function here and through
nothing of its own; secrets are out of it before (`secrets`). Each function takes any text, lone surrogates included.

| place | function | what must not come through |
|---|---|---|
| one line of anything | `plain` | controls, line ends, direction marks |
| a terminal, several lines | `screen` | the same, but for line ends |
| CSV | `csv_cell` | a formula, a separator |
| Markdown | `markdown`, `markdown_code` | markup, HTML, links, mentions, table cells |
| HTML | `html` | controls; the template engine escapes the rest |
| JSON | `json_bytes` | controls above ASCII that a terminal obeys |
"""

from __future__ import annotations

import re
import unicodedata

_INVISIBLE = frozenset({"Cc", "Cs", "Co"})
_KEPT_FORMAT = frozenset("\u200d\u200c")  # joiners that shape letters and emoji
_SPOILT = "\ufffd"
_HARMLESS = re.compile(r"[A-Za-z0-9_.:/ -]*")
_FORMULA = re.compile(r"[\s'\"]*[=+\-@|%＝＋－＠]")
_BREAK = "&#8203;"  # zero width, keeps two signs apart that GitHub would join to a link
_JOINED = re.compile(r"@(?=\w)|#(?=\d)|\w:(?=//)|\bwww(?=\.)", re.IGNORECASE)
_MARKUP = re.compile(r"([\\`*\[\]|~$!])|(?<!\w)(_)|(_)(?!\w)")
_UNSEEN = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def plain(text: object, limit: int = 2_048) -> str:
    """`text` on one line, without control characters, direction marks or lone surrogates, at most `limit` characters.

    White space of any kind becomes one space; what was taken out in the middle of a word shows as U+FFFD.
    """
    line = str(text)
    if not (line.isascii() and line.isprintable()):
        line = "".join(map(_visible, line[: limit * 4]))
    return shorten(" ".join(line.split()), limit)


def screen(text: object) -> str:
    """`text` for a terminal: its lines and their indents stay, all else that `plain` takes out goes."""
    whole = str(text)
    if whole.isascii() and whole.replace("\n", "").isprintable():
        return whole
    return "".join("\n" if char == "\n" else _visible(char) for char in whole)


def csv_cell(text: str) -> str:
    """A text that no spreadsheet runs and no separator splits (OWASP, "CSV Injection")."""
    clean = plain(text)
    if _FORMULA.match(clean):
        clean = "'" + clean
    return clean if _HARMLESS.fullmatch(clean) else '"' + clean.replace('"', '""') + '"'


def markdown(text: object, limit: int = 400) -> str:
    """Text that markdown, HTML and GitHub leave alone."""
    clean = re.sub(r"&(?=#?\w+;)", "&amp;", plain(text, limit))
    clean = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", clean)  # any other < begins no tag (CommonMark 6.6)
    clean = _MARKUP.sub(lambda match: "\\" + match[0], clean)
    return _JOINED.sub(lambda match: match[0] + _BREAK, clean)


def markdown_code(text: object, limit: int = 300) -> str:
    """Text in a code span, its fence longer than any run of backticks inside (CommonMark 6.1).

    A pipe is escaped too, as tables need it; in a table GitHub takes the backslash away again.
    """
    clean = plain(text, limit).replace("|", "\\|")
    if not clean:
        return ""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", clean)), default=0))
    pad = " " if clean.startswith("`") or clean.endswith("`") else ""
    return f"{fence}{pad}{clean}{pad}{fence}"


def html(text: str) -> str:
    """Text for a page whose template engine escapes (autoescape): nothing invisible is left to escape."""
    return plain(text)


def json_bytes(data: bytes) -> bytes:
    r"""JSON whose invisible characters are written as \uXXXX: U+009B alone begins a command on some terminals."""
    if data.isascii() and b"\x7f" not in data:
        return data
    return _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", data.decode()).encode()


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, the last of them an ellipsis where something was cut."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _visible(char: str) -> str:
    kind = unicodedata.category(char)
    if char.isspace() or kind == "Zs":
        return " "
    return _SPOILT if kind in _INVISIBLE or (kind == "Cf" and char not in _KEPT_FORMAT) else char
