"""The shape of [targets.NAME]: where a target is, what is sent to it, and what a good answer holds."""

from __future__ import annotations

import json
import re

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from streamgauge.spec.address import check_header
from streamgauge.spec.values import (
    REFERENCE,
    SLOTS,
    AddressText,
    Pace,
    PathText,
    Price,
    ProxyText,
    Table,
    Text,
)


class UsdPerMtok(Table):
    """Prices in US dollars a million tokens."""

    in_: Price = Field(alias="in", description="Of a million input tokens.", examples=[3.0])
    out: Price = Field(description="Of a million output tokens.", examples=[15.0])


class Tls(Table):
    """How the server's certificate is checked, and which one we show."""

    verify: bool = Field(
        default=True, description="false: any certificate will do (every report says so).", examples=[False]
    )
    ca: Text | None = Field(
        default=None, description="PEM file of authorities trusted instead of the system's.", examples=["certs/ca.pem"]
    )
    cert: Text | None = Field(
        default=None, description="PEM file of our client certificate.", examples=["certs/me.pem"]
    )
    key: Text | None = Field(
        default=None, description="PEM file of its private key, where cert does not hold it.", examples=["certs/me.key"]
    )
    server_name: Text | None = Field(
        default=None, description="Name sent and checked instead of the url's host.", examples=["api.example.com"]
    )
    resume: bool = Field(
        default=True,
        description="Let a new connection take up the TLS session of an earlier one, as browsers and SDKs do; false: "
        "every handshake is a full one.",
        examples=[False],
    )

    @model_validator(mode="after")
    def _pairs(self) -> Tls:
        if self.key is not None and self.cert is None:
            raise ValueError("key is given without cert; name the certificate that belongs to it")
        if self.ca is not None and not self.verify:
            raise ValueError("ca has no effect with verify = false; leave one of them out")
        return self


class Expect(Table):
    """What a good answer must hold; else its outcome is wrong_answer."""

    contains: Text | None = Field(default=None, description="Text the whole answer must contain.", examples=["Paris"])
    regex: Text | None = Field(
        default=None, description="Regular expression (Python) to be found in the answer.", examples=["(?i)paris"]
    )

    @model_validator(mode="after")
    def _one(self) -> Expect:
        if (self.contains is None) == (self.regex is None):
            raise ValueError("give one of contains and regex")
        return self

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"{value!r} is not a regular expression: {error}") from None
        return value


class Target(Table):
    """One endpoint with one model: what is measured."""

    url: AddressText | None = Field(
        default=None,
        description="Whole url of the endpoint, the same in every environment. Without a path the dialect's is added. "
        "May hold ${NAME}.",
        examples=["https://api.openai.com/v1/chat/completions"],
    )
    path: PathText | None = Field(
        default=None,
        description="Path below the environment's url, instead of url. May hold ${NAME}.",
        examples=["/api/chat"],
    )
    dialect: Text = Field(
        description="How the endpoint speaks: openai-chat, anthropic, gemini or ai-sdk.", examples=["ai-sdk"]
    )
    dialect_options: dict[str, bool | int | float | str] = Field(
        default_factory=dict, description="Settings of the dialect itself; see its page.", examples=[{}]
    )
    model: Text | None = Field(
        default=None, description="Model asked for, where the dialect sends one.", examples=["gpt-4o-mini"]
    )
    headers: dict[str, str] = Field(
        default_factory=dict,
        description="Headers of every request. ${NAME} is taken from the environment or .env.streamgauge and is "
        "treated as a secret.",
        examples=[{"authorization": "Bearer ${OPENAI_API_KEY}"}],
    )
    body: Text | None = Field(
        default=None,
        description="Request body in place of the dialect's own. {prompt}, {uuid} and {chat} are filled in anew for "
        "each request, {model} and {max_tokens} (a number, without quotes) from the spec; ${NAME} as in headers.",
        examples=['{"id":"{chat}","messages":[{"role":"user","content":"{prompt}"}]}'],
    )
    extra: dict[str, object] = Field(
        default_factory=dict, description="Fields merged into the dialect's own body.", examples=[{"temperature": 0}]
    )
    system: Text | None = Field(
        default=None, description="System prompt, where the dialect has one.", examples=["Be brief."]
    )
    include_usage: bool = Field(
        default=True,
        description="Ask for token counts in the stream, where the dialect must be asked.",
        examples=[False],
    )
    usd_per_mtok: UsdPerMtok | None = Field(
        default=None,
        description="Prices, for the estimate and the usd stop. Without them the cost is unknown.",
        examples=[{"in": 3, "out": 15}],
    )
    rpm: Pace | None = Field(
        default=None,
        description="At most so many requests a minute are started to it: your quota. A rate above it does not start.",
        examples=[400],
    )
    control: Text | None = Field(
        default=None,
        description="Another target that takes the same prompts by a shorter way; it gives what this one adds.",
        examples=["anthropic-direct"],
    )
    tls: Tls = Field(default_factory=Tls, description="TLS settings.", examples=[{"ca": "certs/ca.pem"}])
    proxy: ProxyText | None = Field(
        default=None,
        description='HTTP proxy to go through: its url, user and password percent-encoded; "none": connect directly. '
        "When not given: HTTPS_PROXY, HTTP_PROXY and ALL_PROXY, heeding NO_PROXY. May hold ${NAME}.",
        examples=["http://me:${PROXY_PASSWORD}@proxy.example.com:3128"],
    )
    expect: Expect | None = Field(
        default=None,
        description="Content check; an answer that fails it is wrong_answer.",
        examples=[{"contains": "Paris"}],
    )

    @field_validator("body")
    @classmethod
    def _body(cls, value: str | None) -> str | None:
        if value is not None and "{prompt}" not in value:
            raise ValueError("holds no {prompt}: every request would send the same text; put {prompt} where it belongs")
        return value

    @model_validator(mode="after")
    def _together(self) -> Target:
        if self.url is not None and self.path is not None:
            raise ValueError("give url or path, not both: url is a whole address, path is below the environment's")
        if self.body is not None:
            lost = [name for name in ("extra", "system") if getattr(self, name)]
            if lost:
                raise ValueError(
                    f"body replaces the whole request, so {' and '.join(lost)} would be lost; put it into body"
                )
        return self


def is_json(headers: dict[str, str]) -> bool:
    """Whether a body with these headers is JSON (the dialects' own content type when none is given)."""
    kinds = [value for name, value in headers.items() if name.lower() == "content-type"]
    return not kinds or "json" in kinds[-1].lower()


def body_mistake(body: str, headers: dict[str, str]) -> str | None:
    """What is wrong with a body that is to be JSON, or None."""
    if not is_json(headers):
        return None
    filled = REFERENCE.sub("x", body)
    for slot, value in SLOTS.items():
        filled = filled.replace(slot, value)
    try:
        json.loads(filled)
    except ValueError as error:
        return f"not JSON once its slots are filled: {error}"
    return None


def header_mistakes(headers: dict[str, str]) -> dict[str, str]:
    """What is wrong with each header before its references are filled: {name: text}."""
    wrong: dict[str, str] = {}
    seen: set[str] = set()
    for name, value in headers.items():
        text = check_header(name, REFERENCE.sub("x", value))
        if text is None and name.lower() in seen:
            text = "is there twice (case does not count in header names); keep one"
        seen.add(name.lower())
        if text:
            wrong[name] = text
    return wrong
