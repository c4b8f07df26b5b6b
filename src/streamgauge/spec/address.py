"""Urls, hosts and headers: what may be sent to, and how far away it counts as.

Rules: pure text, nothing is resolved. A host counts as loopback or private only when its text alone says so: a literal
address of such a range, or a name that no public name server answers. Everything else is public, and a public host
that no environment names is treated as production.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from streamgauge.proxies import UNIX

Reach = Literal["loopback", "private", "public"]

LONGEST_SOCKET = 107
"""Bytes of a Unix socket's path: sun_path of unix(7), less its end."""
_TOKEN = re.compile(r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SHARED = ipaddress.ip_network("100.64.0.0/10")  # carrier-grade NAT and cluster networks, RFC 6598
_PRIVATE_SUFFIXES = (".local", ".internal", ".lan", ".home.arpa", ".intranet", ".corp", ".home", ".test")
_OURS = {"content-length", "transfer-encoding", "connection", "te", "upgrade", "expect"}
_PATH_SAFE = "/?&=:@!$'()*+,;%~-._#[]{}|^"


@dataclass(frozen=True, slots=True)
class Url:
    """A url in parts. `path` holds path and query, or is empty where the url has none."""

    scheme: str
    host: str
    port: int
    path: str
    socket: str = ""
    """Path of a Unix socket: what is asked there is plain http, of `localhost`."""

    @property
    def origin(self) -> str:
        """scheme://host[:port], the port left out where it is the scheme's own."""
        if self.socket:
            return f"{UNIX}://{quote(self.socket, safe='')}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = 443 if self.scheme == "https" else 80
        return f"{self.scheme}://{host}" + ("" if self.port == usual else f":{self.port}")


def parse_url(text: str) -> Url:
    """`text` as an http, https or http+unix Url; ValueError says what is wrong and what would be right."""
    if not text:
        raise ValueError('is empty: give one such as "https://api.example.com" (is the variable behind it set?)')
    if _CONTROL.search(text) or " " in text:
        raise ValueError(f"{text!r} holds a space or a control character")
    if "://" not in text:
        if "@" in text.partition("/")[0]:
            raise ValueError("has no scheme; write http://host/path, and send user and password as a header")
        raise ValueError(f'"{text}" has no scheme; write "{_likely_scheme(text)}://{text.lstrip("/")}"')
    try:
        parts = urlsplit(text)
        port = None if parts.scheme == UNIX else parts.port
    except ValueError as error:
        raise ValueError(f'"{text}" is not a url: {error}') from None
    if parts.scheme not in ("http", "https", UNIX):
        raise ValueError(f'"{text}" begins with {parts.scheme}://; only http, https and {UNIX} are spoken')
    if parts.username is not None or parts.password is not None:
        raise ValueError('a url must hold no user and password; send them as a header, authorization = "Basic ${NAME}"')
    host = parts.netloc if parts.scheme == UNIX else parts.hostname
    if not host:
        raise ValueError(f'"{text}" names no host')
    if port == 0:
        raise ValueError(f'"{text}": port 0 cannot be connected to; allowed: 1 to 65535')
    if parts.fragment:
        raise ValueError(f'"{text}": what follows "#" is never sent; leave it out')
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    if path == "/":
        path = ""
    elif path.startswith("?"):
        path = "/" + path
    if parts.scheme == UNIX:
        return Url("http", "localhost", 80, quote(path, safe=_PATH_SAFE), _socket(text, host))
    usual = 443 if parts.scheme == "https" else 80
    return Url(parts.scheme, _host(host), port or usual, quote(path, safe=_PATH_SAFE))


def _socket(text: str, host: str) -> str:
    """The path of a Unix socket, from the place of a url's host."""
    path = unquote(host)
    if not path.startswith("/"):
        form = f'write its whole path with %2F for each "/", as in {UNIX}://%2Frun%2Fapp.sock/v1/chat'
        raise ValueError(f'"{text}" names no Unix socket; {form}')
    if len(os.fsencode(path)) > LONGEST_SOCKET or not path.isprintable():
        raise ValueError(f'"{text}": a socket\'s path has at most {LONGEST_SOCKET} bytes, all printable')
    return path


def _likely_scheme(text: str) -> str:
    host = re.split(r"[/:?]", text.lstrip("/"), maxsplit=1)[0]
    return "https" if host and reach(host) == "public" else "http"


def _host(name: str) -> str:
    """The host as it goes on the wire: IDNA for a name that is not ASCII."""
    if name.isascii():
        if ":" in name or re.fullmatch(r"[a-z0-9._-]+", name):
            return name
        raise ValueError(f'"{name}" is not a host name')
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise ValueError(f'"{name}" is not a host name: {error}') from None


def reach(host: str) -> Reach:
    """How far away `host` counts as, by its text alone."""
    name = host.lower().rstrip(".").strip("[]")
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        if name == "localhost" or name.endswith(".localhost"):
            return "loopback"
        return "private" if "." not in name or name.endswith(_PRIVATE_SUFFIXES) else "public"
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    if address.is_loopback or address.is_unspecified:
        return "loopback"
    shared = isinstance(address, ipaddress.IPv4Address) and address in _SHARED
    return "private" if address.is_private or address.is_link_local or shared else "public"


def check_path(path: str) -> str | None:
    """What is wrong with a path and query, or None."""
    if not path.startswith("/"):
        return f'"{path}" must begin with "/"; a whole url goes into the key url'
    if _CONTROL.search(path) or " " in path:
        return f"{path!r} holds a space or a control character; write a space as %20"
    if "#" in path:
        return f'"{path}": what follows "#" is never sent; leave it out'
    return None


def join(base: Url, path: str) -> str:
    """`path` below the base url's own path, as it goes on the wire."""
    return base.path.partition("?")[0].rstrip("/") + quote(path, safe=_PATH_SAFE)


def check_header(name: str, value: str) -> str | None:
    """What is wrong with a header, or None. The value is never shown: it may be a secret."""
    if not _TOKEN.match(name):
        return f"{name!r} is not a header name; allowed: letters, digits and !#$%&'*+-.^_`|~"
    if name.lower() in _OURS:
        return "streamgauge sets this header itself; leave it out"
    match = _CONTROL.search(value.replace("\t", " "))
    if match:
        return (
            f"the value holds a control character (U+{ord(match[0]):04X} at position {match.start() + 1}); "
            "a header is one line of printable characters"
        )
    if value != value.strip():
        return "the value begins or ends with white space; remove it"
    try:
        value.encode("latin-1")
    except UnicodeEncodeError as error:
        return f"the value holds U+{ord(value[error.start]):04X}, which no HTTP header can carry; percent-encode it"
    return None
