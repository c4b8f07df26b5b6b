"""What a browser sends along that no chat route needs: two tables.

Rules: a header or cookie stands here only if leaving it out cannot change who we are to the service. Those that pin a
client to one server are here on purpose: with them all load would land on one of many.
"""

from __future__ import annotations

import re

DROPPED_HEADERS = tuple(
    re.compile(pattern)
    for pattern in (
        r"sec-", r"accept-encoding$", r"accept-language$", r"content-length$", r"transfer-encoding$",
        r"connection$", r"keep-alive$", r"proxy-connection$", r"te$", r"trailer$", r"upgrade", r"host$",
        r"user-agent$", r"priority$", r"dnt$", r"pragma$", r"cache-control$", r"expect$", r"if-none-match$",
        r"if-modified-since$", r"range$", r"traceparent$", r"tracestate$", r"baggage$", r"sentry-trace$",
        r"x-amzn-trace-id$", r"x-datadog-", r"newrelic$", r"x-newrelic", r"b3$", r"x-b3-",
        r"uber-trace-id$", r"x-cloud-trace-context$", r"x-posthog-", r"x-vercel-id$", r"referer$",
        r"device-memory$", r"downlink$", r"dpr$", r"ect$", r"rtt$", r"save-data$", r"viewport-width$",
    )
)  # fmt: skip

_PINS = "pins all load on one server"
_ANALYTICS = "analytics"
_CONSENT = "consent banner"
_COOKIES = (
    (_PINS, r"AWSALB(TG)?(CORS)?(-\d+)?$|AWSELB(CORS)?$|ARRAffinity|INGRESSCOOKIE|route$|SERVERID$|BIGipServer"),
    (_PINS, r"GCLB$|lb_"),
    (_ANALYTICS, r"_ga($|_)|_gid$|_gat|_gcl_|__utm|_fb[pc]$|_hj|ajs_|amplitude|AMP_|mp_.*_mixpanel|_clck$|_clsk$"),
    (_ANALYTICS, r"ph_.*_posthog|intercom-|optimizely|_uet(sid|vid)|hubspotutk$|__hs|_pk_|_dd_s$|sentry|_scid"),
    (_ANALYTICS, r"_tt_|_pin_|li_|_rdt_|__stripe_[ms]id$"),
    (_CONSENT, r"Optanon|CookieConsent|cookieyes|euconsent|cc_cookie"),
)
_COOKIE_NOISE = tuple((why, re.compile(pattern, re.I)) for why, pattern in _COOKIES)


def cookie_noise(name: str) -> str | None:
    """Why a cookie of this name is left out, or None."""
    return next((why for why, pattern in _COOKIE_NOISE if pattern.match(name)), None)
