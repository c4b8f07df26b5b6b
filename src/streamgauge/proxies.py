"""HTTP proxies by their text: what names one, what exempts a host from it, and the credentials it wants. Pure.

Rules of the environment, as curl, Go and Python have them: `https_proxy` for https targets, `http_proxy` for http ones,
`all_proxy` for both; lower case wins over upper; a proxy without a scheme is http. HTTP_PROXY in upper case counts for
nothing where REQUEST_METHOD is set: in a CGI program a request's `Proxy:` header sets it. This machine itself
(localhost, 127.0.0.0/8, ::1) is never asked through a proxy of the environment, as in Go; a proxy that a spec or a flag
names is used for whatever it names.

Credentials are percent-decoded and sent as Basic (RFC 7617). They are in no text and no repr made here.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes, urlsplit

import msgspec

from streamgauge.secrets import secrets_of

NONE = "none"
"""In place of a proxy's url: connect directly, whatever the environment says."""
UNIX = "http+unix"
"""Scheme of a url whose host is the percent-encoded path of a Unix socket, as requests-unixsocket has it."""
SCHEMES = {"http": 80, "https": 443}
_FORM = 'it wants the form http://host:port or http://user:password@host:port, or "none"'


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy to go through. `authorization` is the value of Proxy-Authorization: a secret."""

    scheme: str
    host: str
    port: int
    authorization: str | None = None
    source: str = ""
    """What named it: a variable, or empty for the spec's own key."""

    def __repr__(self) -> str:
        return f"<Proxy {self.shown}>"

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken with the proxy itself."""
        return self.scheme == "https"

    @property
    def shown(self) -> str:
        """Its url without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def secrets_of_proxy(proxy: Proxy | None) -> tuple[str, ...]:
    """What of a proxy must reach no text: its credentials in every form."""
    if proxy is None or proxy.authorization is None:
        return ()
    return secrets_of("proxy-authorization", proxy.authorization)


@dataclass(frozen=True, slots=True)
class Choice:
    """What the environment says for one target. `why`: what made it so, where a proxy is named there at all."""

    proxy: Proxy | None = None
    why: str | None = None


def parse_proxy(text: str, source: str = "") -> Proxy | None:
    """The proxy that `text` names, None for "none". ValueError says what is wrong and never shows credentials."""
    if text.strip().lower() == NONE:
        return None
    whole = text.strip() if "://" in text else f"http://{text.strip()}"
    if not whole.isascii() or not whole.isprintable() or " " in whole:
        raise ValueError(f"the proxy's url holds a space or a character that must be percent-encoded; {_FORM}")
    scheme = whole.partition("://")[0].lower()
    if scheme not in SCHEMES:
        raise ValueError(f"a proxy that speaks {scheme} cannot be used, only http and https ones; {_FORM}")
    try:
        parts = urlsplit(whole)
        port, host = parts.port, parts.hostname
    except ValueError:  # its text may hold the password
        raise ValueError(f"the proxy's url cannot be read: its port or its host is none; {_FORM}") from None
    if not host:
        raise ValueError(f"the proxy's url names no host; {_FORM}")
    if port == 0 or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"a proxy is scheme, host and port (1 to 65535) alone; {_FORM}")
    return Proxy(
        scheme=scheme,
        host=host,
        port=port or SCHEMES[scheme],
        authorization=None if parts.username is None else _basic(parts.username, parts.password or ""),
        source=source,
    )


def _basic(user: str, password: str) -> str:
    plain = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
    return f"Basic {base64.b64encode(plain).decode()}"


def from_environment(scheme: str, host: str, port: int, environ: Mapping[str, str]) -> Choice:
    """The proxy that the environment names for a target. ValueError names the variable whose value cannot be used."""
    name = _variable(scheme, environ)
    if name is None:
        return Choice()
    if is_this_machine(host):
        return Choice(why=f"{name} is set, but this machine itself is asked directly")
    exempt = _first(environ, "no_proxy", "NO_PROXY")
    rule = exempts(environ[exempt], host, port) if exempt is not None else None
    if rule is not None:
        return Choice(why=f"{name} is set, but {exempt} exempts {host} ({rule})")
    try:
        return Choice(parse_proxy(environ[name], name), name)
    except ValueError as error:
        raise ValueError(f'{name}: {error}; proxy = "none" (--proxy none) leaves the environment\'s out') from None


def _variable(scheme: str, environ: Mapping[str, str]) -> str | None:
    """The variable that names the proxy for urls of `scheme`."""
    upper = f"{scheme}_proxy".upper()
    cgi = upper == "HTTP_PROXY" and environ.get("REQUEST_METHOD")
    return _first(environ, f"{scheme}_proxy", *(() if cgi else (upper,)), "all_proxy", "ALL_PROXY")


def _first(environ: Mapping[str, str], *names: str) -> str | None:
    return next((name for name in names if environ.get(name, "").strip()), None)


def is_this_machine(host: str) -> bool:
    """Whether `host` is this machine by its text alone."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    return address is not None and address.is_loopback


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None


def exempts(rules: str, host: str, port: int) -> str | None:
    """The first rule of a NO_PROXY that exempts host:port.

    A rule is `*`, a name (it and what is below it, with or without a leading dot), an address or a network
    (10.0.0.0/8); each may end in `:port`. Names are compared as text: nothing is resolved.
    """
    name = host.lower().rstrip(".")
    address = _address(name)
    for raw in rules.replace(",", " ").split():
        rule, only = _with_port(raw.lower())
        if only is not None and only != port:
            continue
        if rule == "*":
            return raw
        if address is not None:
            try:
                if address in ipaddress.ip_network(rule.strip("[]"), strict=False):
                    return raw
            except ValueError:
                continue
        elif (suffix := rule.removeprefix("*").strip(".")) and (name == suffix or name.endswith(f".{suffix}")):
            return raw
    return None


def _with_port(rule: str) -> tuple[str, int | None]:
    """(rule, its port or None). An IPv6 address has colons of its own: with a port it stands in brackets."""
    head, colon, tail = rule.rpartition(":")
    if colon and tail.isdigit() and (":" not in head or head.endswith("]")):
        return head, int(tail)
    return rule, None
