"""The one redactor, used by every writer: files, logs, reports, messages.

Strategy: two nets. By value: every secret that was resolved, in the forms it may take on its way (as it is, percent-
encoded, JSON- or HTML-escaped, base64 at each alignment). By shape: headers and url parameters whose name says secret,
and tokens that look like one (Bearer, sk-, AIza, JWT, ...), for secrets nobody told us about.

Rules: redact before cutting a text short, or half a secret stays. Where a text must be cut before (a body that is only
kept in part), the cut shows as an ellipsis, and what stands beside an ellipsis is hidden if it may be a piece of a
secret. A value under MIN_LENGTH characters is left alone by value, because "1" or "true" would eat the text around it;
its header is still hidden by name. What is hidden leaves a mark, so that a reader sees that something was there.

The secrets of a command are remembered for the process (`remember`): what it tells where no Redactor is at hand, a bug
of ours for instance, goes through `everything`.
"""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import parse_qsl, quote, quote_plus, unquote

MIN_LENGTH = 6
MARKS = ("[redacted]", "***")
"""The second where a secret is a part of the first."""
CUT = "…"
"""Marks where a text was cut; see Rules."""
_PASSES = 8
_SCHEMES = frozenset({"bearer", "basic", "digest", "negotiate", "apikey"})
_MOST_KNOWN = 4_096
_known: set[str] = set()

SENSITIVE_HEADERS = frozenset(
    {
        "authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api-key", "apikey",
        "x-goog-api-key", "x-auth-token", "x-access-token", "x-amz-security-token", "x-csrf-token", "x-xsrf-token",
        "x-vercel-protection-bypass", "cf-access-client-secret", "ocp-apim-subscription-key", "x-functions-key",
    }
)  # fmt: skip
"""Headers whose value is always hidden."""

_SECRET_ENDS = ("key", "token", "secret", "signature", "password", "passwd", "credential", "credentials")
_SECRET_WORDS = frozenset(
    {"sig", "pwd", "auth", "authorization", "session", "sessionid", "sid", "jwt", "cookie", "csrf", "xsrf"}
)
_HARMLESS = frozenset({"idempotency-key"})

_SHAPES = re.compile(
    r"""
    (?P<bearer>\b(?i:bearer|basic)\s+)(?=[^\s"']*(?:[\d=]|[a-z][A-Z])|[^\s"']{24})[A-Za-z0-9._~+/=-]{8,}
    | \b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}
    | \bAIza[0-9A-Za-z_-]{30,}
    | \beyJ[A-Za-z0-9_-]{8,1024}+(?:\.[A-Za-z0-9_-]*){1,4}
    | \b(?:AKIA|ASIA)[0-9A-Z]{16}\b
    | \bgh[pousr]_[A-Za-z0-9]{20,}
    | \bgithub_pat_[A-Za-z0-9_]{20,}
    | \bxox[abprs]-[A-Za-z0-9-]{10,}
    | \b(?:hf|gsk|npm|glpat)[-_][A-Za-z0-9_-]{20,}
    | \bxai-[A-Za-z0-9]{20,}
    """,
    re.X,
)
_NAMED = re.compile(
    r"(?P<name>[\"']?(?<![\w-])(?:" + "|".join(sorted(map(re.escape, SENSITIVE_HEADERS))) + r")[\"']?\s*:\s*)"
    r"(?P<value>\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'|[^\s\"'][^\r\n]*)",
    re.I,
)
_PARAMETER = re.compile(r"(?P<name>[?&;](?P<key>[A-Za-z0-9_.%\[\]-]+)=)(?P<value>[^&;#\s\"'<>]*)")
_USERINFO = re.compile(r"(?P<scheme>(?<![a-z0-9+.-])[a-z][a-z0-9+.-]*+://)[^/?#\s\"'<>@]++@", re.I)


def cut_short(text: str, most: int) -> str:
    """At most `most` characters of `text`, the cut marked so that a Redactor sees it."""
    return text if len(text) <= most else text[: most - 1] + CUT


def is_sensitive(name: str) -> bool:
    """Whether a header, cookie, parameter or field of this name holds a secret, by the name alone."""
    name = name.lower()
    if name in SENSITIVE_HEADERS:
        return True
    if name in _HARMLESS:
        return False
    words = [word for word in re.split(r"[^a-z0-9]+", name) if word]
    return any(word in _SECRET_WORDS or word.endswith(_SECRET_ENDS) for word in words)


def looks_secret(value: str) -> bool:
    """Whether a value has the shape of a known kind of token."""
    return _SHAPES.search(value) is not None


def secrets_of(name: str, value: str) -> tuple[str, ...]:
    """The secrets inside one header: the value, the token behind its scheme, a basic password, each cookie's value."""
    found = [value]
    scheme, _, rest = value.partition(" ")
    if name.lower() in ("authorization", "proxy-authorization") and rest:
        found.append(rest.strip())
        if scheme.lower() == "basic":
            try:
                plain = base64.b64decode(rest.strip(), validate=True).decode()
            except ValueError:
                plain = ""
            found += [plain, plain.partition(":")[2]]
    if name.lower() == "cookie":
        found += [pair.partition("=")[2].strip() for pair in value.split(";")]
    return tuple(dict.fromkeys(one for one in found if len(one) >= MIN_LENGTH))


def secrets_in_url(url: str) -> tuple[str, ...]:
    """The secrets inside a url, or a path with its query: user, password, and parameters whose names say so."""
    head, _, query = url.partition("#")[0].partition("?")
    found = [value for name, value in parse_qsl(query) if is_sensitive(name)]
    found += [value for name, _, value in (pair.partition("=") for pair in query.split("&")) if is_sensitive(name)]
    authority = head.partition("://")[2].partition("/")[0]
    if "@" in authority:
        userinfo = authority.rpartition("@")[0]
        password = userinfo.partition(":")[2]
        found += [userinfo, password, unquote(password)]
    return tuple(dict.fromkeys(one for one in found if len(one) >= MIN_LENGTH and "{" not in one))


def secrets_of_proxies(environ: Mapping[str, str]) -> tuple[str, ...]:
    """User and password in the urls of HTTPS_PROXY and its like."""
    urls = (value for name, value in environ.items() if name.lower().endswith("_proxy"))
    return tuple(secret for url in urls for secret in secrets_in_url(url))


def secrets_in_json(value: object) -> tuple[str, ...]:
    """The secrets inside a JSON value, or a text of one: what stands under a key whose name says so."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return ()
    return tuple(dict.fromkeys(one for one in _under_names(value) if len(one) >= MIN_LENGTH and "{" not in one))


def _under_names(value: object, *, secret: bool = False) -> Iterator[str]:
    if isinstance(value, str) and secret:
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _under_names(item, secret=is_sensitive(str(key)))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _under_names(item, secret=secret)


def _forms(secret: str) -> set[str]:
    """The ways in which a secret may be written in a text."""
    raw = secret.encode("utf-8", "surrogatepass")
    forms = {secret, secret.strip(), " ".join(secret.split()), html.escape(secret)}
    forms |= {quote(raw, safe=""), quote(raw), quote_plus(raw)}
    forms |= {re.sub(r"%[0-9A-F]{2}", lambda m: m[0].lower(), form) for form in tuple(forms)}
    forms |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    forms |= {form.replace("/", "\\/") for form in tuple(forms)} | {html.escape(secret, quote=False)}
    forms |= {html.escape(json.dumps(secret)[1:-1]), repr(secret)[1:-1], shlex.quote(secret).strip("'")}
    for shift in range(3):
        # Inside a longer base64 text the secret begins at any of three alignments; only the letters that hold nothing
        # but its own bits are sure.
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            coded = encode(b"\0" * shift + raw).decode().rstrip("=")
            sure = coded[(0, 2, 3)[shift] : (shift + len(raw)) * 8 // 6]
            forms.add(sure)
    return {form for form in forms if len(form) >= MIN_LENGTH}


class Redactor:
    """Hides secrets in whatever is about to be written. `secrets`: every value that was filled in."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms: set[str] = set()
        for secret in secrets:
            if len(secret.strip()) >= MIN_LENGTH:
                forms |= _forms(secret)
        self.mark = next(mark for mark in MARKS if not any(form in mark for form in forms))
        ordered = sorted(forms, key=len, reverse=True)
        self._values = re.compile("|".join(map(re.escape, ordered))) if ordered else None
        self._whole = tuple(ordered)

    def __repr__(self) -> str:
        return f"Redactor(by value: {self._values is not None})"

    def text(self, text: str) -> str:
        """`text` without secrets, nor pieces of them where an ellipsis says that it was cut."""
        if CUT in text and self._whole:
            text = self._without_pieces(text)
        for _ in range(_PASSES):
            # What stands left and right of a mark may come together as a secret again: look until nothing changes.
            done = self._once(text)
            if done == text:
                return done
            text = done
        return text if self._values is None or not self._values.search(text) else self.mark

    def _without_pieces(self, text: str) -> str:
        """What stands between two cuts may lie within a secret, or begin or end within one."""
        parts = text.split(CUT)
        last = len(parts) - 1
        return CUT.join(self._piece(part, begins=i > 0, ends=i < last) for i, part in enumerate(parts))

    def _piece(self, part: str, *, begins: bool, ends: bool) -> str:
        """`part`, cut at its beginning or end. The shortest piece that is hidden has MIN_LENGTH characters."""
        if len(part) < MIN_LENGTH:
            return part
        if begins and ends and any(part in form for form in self._whole):
            return self.mark
        if ends:
            most = max((_overlap(part, form) for form in self._whole), default=0)
            part = part[: len(part) - most] + self.mark if most else part
        if begins:
            most = max((_overlap(form, part) for form in self._whole), default=0)
            part = self.mark + part[most:] if most else part
        return part

    def _once(self, text: str) -> str:
        if self._values is not None:
            text = self._values.sub(self.mark, text)
        text = _SHAPES.sub(lambda m: (m["bearer"] or "") + self.mark, text)
        text = _NAMED.sub(self._named, text)
        text = _PARAMETER.sub(self._parameter, text)
        return _USERINFO.sub(lambda m: f"{m['scheme']}{self.mark}@", text)

    def _named(self, match: re.Match[str]) -> str:
        """`authorization: ...` in a dump of headers or in JSON; `${NAME}` is a reference and stays readable."""
        value = match["value"]
        bare = value.strip("\"'")
        if bare.startswith("${") or bare == self.mark or len(bare) < MIN_LENGTH:
            return match[0]
        edge = value[0] if value[0] in "\"'" else ""
        return f"{match['name']}{edge}{self.mark}{edge}"

    def _parameter(self, match: re.Match[str]) -> str:
        if not match["value"] or match["value"].startswith("${") or not is_sensitive(unquote(match["key"])):
            return match[0]
        return match["name"] + self.mark

    def bytes(self, data: bytes) -> bytes:
        """`data` (UTF-8 or anything like it) without secrets; other bytes stay as they are."""
        return self.text(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

    def headers(self, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Headers with the values of sensitive ones hidden by name and all others by value."""
        return [(name, self.mark if is_sensitive(name) else self.text(value)) for name, value in headers]

    def command(self, text: str) -> str:
        """A shell command, hidden word by word: a secret that stood before a quote takes no quote with it."""
        try:
            return shlex.join(self.text(word) for word in shlex.split(text))
        except ValueError:  # quotes that do not match
            return self.text(text)

    def url(self, url: str) -> str:
        """A url without user, password and secret parameters."""
        return self.text(url)


def _overlap(left: str, right: str) -> int:
    """How many characters at the end of `left` are the beginning of `right`; 0 for fewer than MIN_LENGTH.

    The scheme of a credential ("Bearer ") is no piece of a secret.
    """
    start = right[:MIN_LENGTH]
    at = left.rfind(start)
    most = 0
    while at >= 0:
        piece = left[at:]
        if right.startswith(piece) and piece.strip().lower() not in _SCHEMES:
            most = len(piece)
        elif len(left) - at > len(right):
            break
        at = left.rfind(start, 0, at + len(start) - 1)
    return most


def remember(*secrets: str) -> None:
    """What `everything` is to hide from now on."""
    _known.update(secrets[: max(_MOST_KNOWN - len(_known), 0)])


def forget() -> None:
    """A command begins: what one before it in this process was told is none of its business."""
    _known.clear()


def everything() -> Redactor:
    """A Redactor of every secret that this process was told of."""
    return Redactor(tuple(_known))
