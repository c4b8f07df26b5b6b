"""Who answered: the edges and proxies that left a mark in the response's headers, and who wrote the answer itself.

Pure. Only signs that the makers document or that their own error pages carry are used; where there is none, nobody is
named. A `server` header alone is weak: nginx and Envoy put their own name in place of the app's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from streamgauge.secrets import cut_short

_MARKS = (
    ("cf-ray", "", "Cloudflare"),
    ("x-amz-cf-id", "", "CloudFront"),
    ("x-azure-ref", "", "Azure Front Door"),
    ("x-served-by", "cache-", "Fastly"),
    ("x-vercel-id", "", "Vercel"),
    ("fly-request-id", "", "Fly.io"),
    ("x-nf-request-id", "", "Netlify"),
    ("apigw-requestid", "", "API Gateway"),
    ("x-amz-apigw-id", "", "API Gateway"),
    ("x-kong-response-latency", "", "Kong"),
    ("x-kong-proxy-latency", "", "Kong"),
    ("x-envoy-upstream-service-time", "", "Envoy"),
    ("x-litellm-call-id", "", "LiteLLM"),
)
"""(header, how its value begins, who) of those on the way, outermost first."""
_VIA = (
    ("cloudfront", "CloudFront"), ("varnish", "Varnish"), ("vegur", "Heroku"), ("heroku", "Heroku"),
    ("google", "Google load balancer"), ("kong", "Kong"), ("caddy", "Caddy"), ("squid", "Squid"),
)  # fmt: skip
_OWN = (
    ("x-amzn-waf-action", "", "AWS WAF"),
    ("cf-mitigated", "challenge", "Cloudflare's bot challenge"),
    ("x-vercel-mitigated", "", "Vercel's firewall"),
    ("x-vercel-error", "", "Vercel itself"),
    ("server", "awselb", "the AWS load balancer itself"),
    ("server", "cloudfront", "CloudFront itself"),
    ("server", "akamaighost", "Akamai itself"),
)
"""Signs of an answer that somebody on the way gave in the app's place."""
_OWN_PAGES = (
    (b"<center>nginx", "nginx itself"),
    (b"<center>openresty", "nginx itself"),
    (b"No server is available to handle this request", "HAProxy itself"),
    (b"upstream connect error or disconnect/reset before headers", "Envoy itself"),
    (b"no healthy upstream", "Envoy itself"),
)
_BEHIND = (
    ("openai-processing-ms", "", "OpenAI"),
    ("anthropic-organization-id", "", "Anthropic"),
    ("request-id", "req_", "Anthropic"),
    ("apim-request-id", "", "Azure AI"),
    ("x-groq-region", "", "Groq"),
    ("x-vercel-ai-ui-message-stream", "", "the app (AI SDK)"),
    ("x-vercel-ai-data-stream", "", "the app (AI SDK)"),
)
"""Signs of the app or provider behind."""
TELLING = frozenset(name for name, *_ in _MARKS + _OWN + _BEHIND) | {"via", "server", "x-powered-by"}
"""The headers that tell anything here."""


_INSTANCE = ("x-instance-id", "x-instance", "x-pod-name", "x-backend-server", "x-upstream-addr", "x-served-by")
"""Headers by which services and load balancers tell which of several instances answered, the surest first."""


@dataclass(frozen=True, slots=True)
class Who:
    """Names, outermost first, of those on the way, and of the one that answered; None where no header tells."""

    way: tuple[str, ...]
    by: str | None

    @property
    def words(self) -> str:
        """For a person."""
        through = f", through {' > '.join(self.way)}" if self.way else ""
        return f"answered by {self.by}{through}" if self.by else f"no header tells who answered{through}"

    @property
    def chain(self) -> str | None:
        """All names in one short line, outermost first, as a Sample keeps them."""
        return " > ".join(dict.fromkeys([*self.way, *([self.by] if self.by else [])])) or None

    @property
    def in_between(self) -> bool:
        """Whether somebody on the way answered in the app's place."""
        return self.by is not None and any(self.by == who for *_, who in _OWN + _OWN_PAGES)


def who_answered(headers: Mapping[str, str], body: bytes = b"") -> Who:
    """By the response's headers (names in lower case) and, for an error, the beginning of its body."""
    way = [who for name, begin, who in _MARKS if _has(headers, name, begin)]
    via = headers.get("via", "").lower()
    way += [who for sign, who in _VIA if sign in via]
    if via and not way:
        way = [cut_short(headers["via"], 60)]
    return Who(tuple(dict.fromkeys(way)), _by(headers, body))


def instance_of(headers: Mapping[str, str]) -> str | None:
    """Which of several instances answered, where a header tells; a CDN's own node is none."""
    told = (headers.get(name, "") for name in _INSTANCE)
    return next((value for value in told if value and not value.lower().startswith("cache-")), None)


def _by(headers: Mapping[str, str], body: bytes) -> str | None:
    own = [who for name, begin, who in _OWN if _has(headers, name, begin)]
    own += [who for sign, who in _OWN_PAGES if sign in body]
    behind = [who for name, begin, who in _BEHIND if _has(headers, name, begin)]
    if own or behind:
        return (own + behind)[0]
    if powered := headers.get("x-powered-by"):
        return f"the app ({cut_short(powered, 60)})"
    return cut_short(headers.get("server", ""), 60) or None


def _has(headers: Mapping[str, str], name: str, begin: str) -> bool:
    return name in headers and headers[name].lower().startswith(begin)
