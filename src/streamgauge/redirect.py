"""Redirects: which are followed, and the request that follows. Pure.

Rules: only 307 and 308 are followed, which keep method and body (RFC 9110 15.4.8, 15.4.9), and only within one origin:
the same scheme, host and port. What was sent with the request is meant for that origin alone, and another one is
another service to measure. 301, 302 and 303 turn a POST into a GET, which is no chat. A login is `auth_error` wherever
it lies. At most five in a row; every hop's time is the user's, and so inside TTFT.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, urljoin, urlsplit

MOST = 5
_KEEPS = (307, 308)
_LOGIN = re.compile(r"log-?in|sign-?in|/auth|/sso|oauth|session/new", re.IGNORECASE)
_SAFE = "/?&=:@!$'()*+,;%~-._#[]{}|^"
_PORTS = {"http": 80, "https": 443}


class Elsewhere(Exception):
    """A redirect that is not followed; the text says why and what to do."""


def is_login(location: str) -> bool:
    """Whether a redirect leads to a login, by its text."""
    return _LOGIN.search(location) is not None


def moved_to(status: int, headers: Mapping[str, str]) -> str | None:
    """Where an answer sends its request on to, unchanged; None where it is no such redirect."""
    location = headers.get("location", "").strip()
    return location if status in _KEEPS and location and not is_login(location) else None


def advice(status: int, location: str) -> str:
    """What to do about a redirect that is no such."""
    if status in _KEEPS or is_login(location):
        return ""
    return f"{status} turns a POST into a GET, which is no chat: ask for that address itself, or answer with 307 or 308"


def redirected(request: bytes, origin: str, location: str, followed: int) -> bytes:
    """`request` to where `location` points. `origin` has no path; `followed`: how many were before. Elsewhere."""
    line, _, rest = request.partition(b"\r\n")
    method, target, version = line.decode("latin-1").split(" ")
    whole = target.startswith("http")  # a request to a proxy names the whole url
    if followed >= MOST:
        raise Elsewhere(f"{followed} redirects in a row were followed; look for a loop")
    try:
        found = urlsplit(urljoin(target if whole else origin + target, location))
        same = _place(found.geturl()) == _place(origin) and "@" not in found.netloc
    except ValueError:
        raise Elsewhere("that is no url, so it was not followed") from None
    if not same:
        raise Elsewhere("that is another origin, so it was not followed: ask for that address itself")
    path = quote(found.path or "/", safe=_SAFE) + (f"?{quote(found.query, safe=_SAFE)}" if found.query else "")
    return f"{method} {origin if whole else ''}{path} {version}\r\n".encode("latin-1", "replace") + rest


def _place(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port. ValueError where the port is none."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
