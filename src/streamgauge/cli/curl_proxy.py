"""curl's -x, -U and --noproxy as the spec's key `proxy`.

curl's own rules: a proxy without a scheme is http, without a port it listens on 1080 (https: 443), an empty one is
none; -U wins over the credentials in the url; --noproxy exempts hosts as NO_PROXY does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from streamgauge.errors import UsageError
from streamgauge.proxies import NONE, exempts, parse_proxy


@dataclass(frozen=True, slots=True)
class CopiedProxy:
    """The proxy a copied request went through; `url` is `none` where it must go through none."""

    url: str
    """Without credentials."""
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def text(self, password: str) -> str:
        """As the spec has it, `password` being a reference to the real one."""
        if self.user is None:
            return self.url
        scheme, _, place = self.url.partition("://")
        return f"{scheme}://{quote(self.user, safe='')}{'' if self.password is None else f':{password}'}@{place}"


def proxy_of(proxy: str | None, login: str | None, exempt: str | None, url: str) -> CopiedProxy | None:
    """What -x, -U and --noproxy say for `url`; None where they say nothing. UsageError never shows credentials."""
    if exempt is not None and _exempted(exempt, url):
        return CopiedProxy(NONE)
    if proxy is None:
        return None
    try:
        found = parse_proxy(proxy) if proxy.strip() else None
        if found is None:
            return CopiedProxy(NONE)
        parts = urlsplit(proxy.strip() if "://" in proxy else f"http://{proxy.strip()}")
        user, password = (part and unquote(part, errors="strict") for part in (parts.username, parts.password))
    except UnicodeDecodeError:
        raise UsageError("--from-curl: -x: user or password are no UTF-8; leave them out and add -U") from None
    except ValueError as error:
        raise UsageError(f"--from-curl: -x: {error}") from None
    shown = found.shown if parts.port or found.secure else re.sub(r":\d+$", ":1080", found.shown)
    if login is not None:
        user, colon, rest = login.partition(":")
        password = rest if colon else None
    return CopiedProxy(shown, user, password)


def _exempted(rules: str, url: str) -> bool:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:  # told where the url is read
        return False
    return exempts(rules, parts.hostname or "", port) is not None
