"""A request copied from a browser ("Copy as cURL", bash form) as plain parts.

Strategy: the text is split into words as a POSIX shell does, with bash's $'..' quoting, which browsers use for line
breaks, quotes, `!` and letters beyond ASCII. Nothing is run and nothing is read: `$(...)` and `@file` stay text or are
refused. Then the options of curl that say something about the request are taken; others are skipped.

The forms differ: Chrome writes cookies as -b and escapes as \\u0021, Firefox writes --compressed, -X POST and \\x21,
Safari -X 'POST' and --data-binary; all of them put a backslash before [ ] { } in the url, because curl would expand
those.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field

from streamgauge.cli.curl_proxy import CopiedProxy, proxy_of
from streamgauge.errors import UsageError

_ESCAPES = {
    "a": "\a", "b": "\b", "e": "\x1b", "E": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "'": "'", '"': '"', "?": "?",
}  # fmt: skip
_CODE = re.compile(r"x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{1,4})|U([0-9A-Fa-f]{1,8})|([0-7]{1,3})|c(.)", re.S)
_HOW = 'in the browser: Network, right click on the request, Copy, "Copy as cURL (bash)" or "Copy as cURL (POSIX)"'

_TAKES_VALUE = {
    "H": "header", "X": "request", "d": "data", "b": "cookie", "A": "user-agent", "e": "referer", "u": "user",
    "E": "cert", "U": "proxy-user",
    "o": "output", "m": "max-time", "x": "proxy", "F": "form", "T": "upload-file", "w": "write-out", "c": "cookie-jar",
    "D": "dump-header", "r": "range", "K": "config", "Y": "speed-limit", "y": "speed-time", "z": "time-cond",
}  # fmt: skip
_VALUED = frozenset(_TAKES_VALUE.values()) | {
    "url", "data-raw", "data-binary", "data-ascii", "data-urlencode", "json", "cacert", "capath", "key",
    "connect-timeout", "resolve", "connect-to", "retry", "retry-delay", "interface", "ciphers", "tls-max",
    "oauth2-bearer", "aws-sigv4", "noproxy", "cert-type", "key-type", "limit-rate", "proxy1.0", "preproxy",
    "socks4", "socks4a", "socks5", "socks5-hostname", "proxy-header", "proxy-cacert", "proxy-cert", "proxy-key",
    "max-redirs", "form-string", "url-query", "unix-socket", "stderr", "trace", "trace-ascii",
    "dns-servers", "keepalive-time", "http2-prior-knowledge-time",
}  # fmt: skip
_FLAGS = {"k": "insecure", "G": "get", "I": "head"}
_MEASURED = "only a POST with a JSON body, straight or through an HTTP proxy, can be measured"
_REFUSED = {
    "form": "a form with files",
    "form-string": "a form",
    "upload-file": "an upload",
    "data-urlencode": "a body that curl encodes by itself",
    "config": "a curl config file",
    "aws-sigv4": "a signature that is new for each request",
    "unix-socket": "a unix socket",
    **dict.fromkeys(("preproxy", "socks4", "socks4a", "socks5", "socks5-hostname"), "a request through a SOCKS proxy"),
    "get": "a GET request",
    "head": "a HEAD request",
}


@dataclass(frozen=True, slots=True)
class CopiedRequest:
    """What the browser sent. Header names as they were written; repr shows no value."""

    url: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: str = field(default="", repr=False)
    insecure: bool = False
    """-k: the certificate was not checked."""
    files: tuple[tuple[str, str], ...] = ()
    """("ca" | "cert" | "key", file name)."""
    proxy: CopiedProxy | None = None


def parse_curl(text: str) -> CopiedRequest:
    """The request in `text`. UsageError says what it is instead and how to copy it rightly."""
    text = re.sub(r"^\$\s+(?=curl\b)", "", text.removeprefix("\ufeff").strip())
    _refuse_other_forms(text)
    words = split_words(text)
    if not words or words[0].rsplit("/", 1)[-1] not in ("curl", "curl.exe"):
        start = words[0][:20] if words else ""
        raise UsageError(f"--from-curl: the text begins with {start!r}, not with curl; copy it {_HOW}")
    return _request(words[1:])


def _refuse_other_forms(text: str) -> None:
    """The other things that a browser's Copy menu offers, by name."""
    if not text:
        raise UsageError(f"--from-curl: nothing there; copy the request {_HOW}")
    if re.match(r"(?:await\s+)?fetch\(", text):
        raise UsageError(f'--from-curl: this is "Copy as fetch"; copy it {_HOW}')
    if re.match(r"\$session\s*=|Invoke-(?:WebRequest|RestMethod)", text, re.I):
        raise UsageError(f'--from-curl: this is "Copy as PowerShell"; copy it {_HOW}')
    if re.search(r"\^[\"'^]|\^\r?\n", text) and re.match(r"curl(?:\.exe)?\s+(?:\^?\"|--)", text):
        raise UsageError(f'--from-curl: this is "Copy as cURL (cmd)", the Windows form; copy it {_HOW}')


def split_words(text: str) -> list[str]:
    """The words of one shell command. An unclosed quote is a UsageError (the text was cut short)."""
    text = text.replace("\r\n", "\n")
    words: list[str] = []
    word: list[str] | None = None
    at = 0
    while at < len(text):
        char = text[at]
        if char in " \t\n":
            if word is not None:
                words.append(_joined(word))
                word = None
            at += 1
            if char == "\n" and words:
                break  # the command ends with its line
        elif text.startswith("\\\n", at):
            at += 2
        elif char in ";|&<>" and word is None:
            break
        else:
            word = [] if word is None else word
            piece, at = _piece(text, at)
            word.append(piece)
    if word is not None:
        words.append(_joined(word))
    if re.search(r"^\W*curl\s", text[at:]):
        raise UsageError(f"--from-curl: there are several requests; copy only the one that asks the model, {_HOW}")
    return words


def _piece(text: str, at: int) -> tuple[str, int]:
    """One quoted stretch or one plain character from `at`, and where it ends."""
    if text.startswith("$'", at):
        return _ansi_c(text, at + 2)
    char = text[at]
    if char == "'":
        end = text.find("'", at + 1)
        if end < 0:
            raise UsageError("--from-curl: a ' is never closed; the text was cut short, copy it again")
        return text[at + 1 : end], end + 1
    if char == '"':
        return _double_quoted(text, at + 1)
    if char == "\\" and at + 1 < len(text):
        return text[at + 1], at + 2
    return char, at + 1


def _double_quoted(text: str, at: int) -> tuple[str, int]:
    out: list[str] = []
    while at < len(text):
        char = text[at]
        if char == '"':
            return "".join(out), at + 1
        if char == "\\" and text[at + 1 : at + 2] in ('"', "\\", "$", "`", "\n"):
            out.append(text[at + 1].replace("\n", ""))
            at += 2
        else:
            out.append(char)
            at += 1
    raise UsageError('--from-curl: a " is never closed; the text was cut short, copy it again')


def _ansi_c(text: str, at: int) -> tuple[str, int]:
    """Bash's $'..'. A byte from \\xHH is kept as a lone surrogate until the whole word is known (see _joined)."""
    out: list[str] = []
    while at < len(text):
        char = text[at]
        if char == "'":
            return "".join(out), at + 1
        if char != "\\":
            out.append(char)
            at += 1
            continue
        code = _CODE.match(text, at + 1)
        following = text[at + 1 : at + 2]
        if following in _ESCAPES:
            out.append(_ESCAPES[following])
            at += 2
        elif code is not None:
            out.append(_character(code))
            at = code.end()
        else:
            out.append("\\" + following)
            at += 2
    raise UsageError("--from-curl: a $' is never closed; the text was cut short, copy it again")


def _character(code: re.Match[str]) -> str:
    if code[1] or code[4]:
        byte = int(code[1], 16) if code[1] else int(code[4], 8) & 0xFF
        return chr(byte) if byte < 0x80 else f"\0byte{byte:02x}"
    if code[5]:
        return chr(ord(code[5].upper()) ^ 0x40)
    point = int(code[2] or code[3], 16)
    return chr(point) if point <= 0x10FFFF else "\ufffd"


def _joined(pieces: list[str]) -> str:
    """The word: surrogate pairs from two \\u joined, bytes from \\x read as UTF-8, or as Latin-1 where they are none.

    Bash makes bytes of \\xHH; a browser that means a letter of Latin-1 by it writes the same.
    """
    text = "".join(pieces)
    if "\0byte" in text:
        text = re.sub(r"(?:\0byte[0-9a-f]{2})+", _bytes, text)
    if any("\ud800" <= char <= "\udfff" for char in text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _bytes(match: re.Match[str]) -> str:
    data = bytes(int(code, 16) for code in re.findall(r"\0byte([0-9a-f]{2})", match[0]))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _options(words: list[str]) -> list[tuple[str, str]]:
    """(long name, value) of each option, `url` for a bare word; flags have an empty value."""
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            if not equals and name in _VALUED:
                value, at = _next(words, at, word)
            found.append((name, value))
        elif word.startswith("-") and len(word) > 1:
            for place, letter in enumerate(word[1:], 1):
                if letter in _TAKES_VALUE:
                    value = word[place + 1 :]
                    if not value:
                        value, at = _next(words, at, f"-{letter}")
                    found.append((_TAKES_VALUE[letter], value))
                    break
                found.append((_FLAGS.get(letter, letter), ""))
        else:
            found.append(("url", word))
    return found


def _next(words: list[str], at: int, option: str) -> tuple[str, int]:
    if at >= len(words):
        raise UsageError(f"--from-curl: {option} has no value; the text was cut short, copy it again")
    return words[at], at + 1


def _request(words: list[str]) -> CopiedRequest:
    """The request that curl would send for these words."""
    urls, headers, bodies, files = [], [], [], []
    method, insecure, is_json = None, False, False
    through: dict[str, str] = {}
    for name, value in _options(words):
        if name in _REFUSED:
            raise UsageError(f"--from-curl: this is {_REFUSED[name]}; {_MEASURED}")
        if name == "url":
            urls.append(re.sub(r"\\([\[\]{}])", r"\1", value))
        elif name == "request":
            method = value.upper()
        elif name == "header":
            headers += _header(value)
        elif name in ("user-agent", "referer", "cookie"):
            headers.append((name, value))
        elif name == "oauth2-bearer":
            headers.append(("authorization", f"Bearer {value}"))
        elif name == "user":
            headers.append(("authorization", "Basic " + base64.b64encode(value.encode()).decode()))
        elif name in ("data", "data-raw", "data-binary", "data-ascii", "json"):
            if value.startswith("@") and name != "data-raw":
                raise UsageError(f"--from-curl: the body is in the file {value[1:]!r}; paste it in place of {value!r}")
            is_json = is_json or name == "json"
            bodies.append(value)
        elif name == "insecure":
            insecure = True
        elif name in ("proxy", "proxy1.0", "proxy-user", "noproxy"):
            through[name.removesuffix("1.0")] = value
        elif name in ("cacert", "cert", "key"):
            files.append((name.removesuffix("cert") or "cert", value))
    if len(urls) != 1:
        raise UsageError(f"--from-curl: {len(urls)} urls in the command; copy one request {_HOW}")
    method = method or ("POST" if bodies else "GET")
    if method != "POST" or not bodies:
        what = f"a {method} request" if method != "POST" else "a POST without a body"
        raise UsageError(f"--from-curl: this is {what}; copy the one that asks the model (a POST with a JSON body)")
    if is_json and not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("content-type", "application/json"))
    body = ("" if is_json else "&").join(bodies)
    proxy = proxy_of(through.get("proxy"), through.get("proxy-user"), through.get("noproxy"), urls[0])
    return CopiedRequest(urls[0], tuple(headers), body, insecure, tuple(files), proxy)


def _header(text: str) -> list[tuple[str, str]]:
    """-H as (name, value): `Name: value`, `Name;` for an empty one; `Name:` takes a header away and is nothing here."""
    name, colon, value = text.partition(":")
    if colon:
        return [(name.strip(), value.strip())] if value.strip() and name.strip() else []
    return [(name.rstrip(";").strip(), "")] if text.rstrip().endswith(";") else []
