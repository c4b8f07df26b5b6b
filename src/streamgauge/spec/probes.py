"""The shape of [probes.NAME]: where the server's own memory is read."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from streamgauge.spec.address import check_path
from streamgauge.spec.places import check_places
from streamgauge.spec.targets import Tls
from streamgauge.spec.values import (
    AddressText,
    Count,
    Duration,
    PathText,
    ProxyText,
    Table,
    Text,
)


class Probe(Table):
    """Where the server's own memory is read while a test runs: processes of this machine, or a page of JSON."""

    kind: Literal["process", "json"] = Field(
        description="process: a process of this machine with its children. json: a page that tells numbers as JSON.",
        examples=["json"],
    )
    pid: Count | None = Field(default=None, description="process: its id.", examples=[1234])
    port: Annotated[int, Field(ge=1, le=65_535)] | None = Field(
        default=None, description="process: the TCP port it listens on.", examples=[3000]
    )
    command: Text | None = Field(
        default=None,
        description="process: a regular expression (Python) found in its command line.",
        examples=["node .*server\\.js"],
    )
    url: AddressText | None = Field(
        default=None,
        description="json: the page, the same in every environment. May hold ${NAME}.",
        examples=["https://staging.example.com/api/probe"],
    )
    path: PathText | None = Field(
        default=None,
        description="json: its path below the environment's url, instead of url. May hold ${NAME}.",
        examples=["/api/probe"],
    )
    method: Literal["GET", "POST"] = Field(default="GET", description="json: how it is asked.", examples=["POST"])
    body: Text | None = Field(
        default=None, description="json: body of a POST, JSON. ${NAME} as in headers.", examples=['{"detail":true}']
    )
    headers: dict[str, str] = Field(
        default_factory=dict,
        description="json: headers of every request, its token above all. ${NAME} as in a target's headers.",
        examples=[{"authorization": "Bearer ${PROBE_TOKEN}"}],
    )
    paths: dict[str, str] = Field(
        default_factory=dict,
        description='json: gauge -> where its number stands, as in heap_used = "memory.heapUsed", perhaps times a '
        'factor: "mem.rss_mb * 1e6". Usual names are found without; see docs/probes.md. Any other name is a gauge of '
        "your own.",
        examples=[{"heap_used": "memory.heapUsed", "queue": "jobs.waiting"}],
    )
    collect: Text | None = Field(
        default=None,
        description='json: asks the server to collect its garbage before a snapshot: "?name=1" is added to the url, '
        '"/path" is asked first. Tests that time answers never ask.',
        examples=["?collect=1"],
    )
    timeout: Duration | None = Field(
        default=None, description="json: for one reading as a whole. 5 s when not given.", examples=["2s"]
    )
    tls: Tls = Field(default_factory=Tls, description="json: TLS settings.", examples=[{"ca": "certs/ca.pem"}])
    proxy: ProxyText | None = Field(default=None, description="json: HTTP proxy, as a target's.", examples=["none"])

    @field_validator("collect")
    @classmethod
    def _collect(cls, value: str | None) -> str | None:
        if value is None:
            return None
        wrong = check_path(value if value.startswith("/") else "/" + value)
        if wrong or value[0] not in "?/" or len(value) < 2:
            raise ValueError(f'"{value}" is neither a query to add ("?collect=1") nor a path to ask first ("/gc")')
        return value

    @field_validator("command")
    @classmethod
    def _command(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"{value!r} is not a regular expression: {error}") from None
        return value

    @field_validator("paths")
    @classmethod
    def _paths(cls, value: dict[str, str]) -> dict[str, str]:
        check_places(value)
        return value

    @model_validator(mode="after")
    def _of_its_kind(self) -> Probe:
        ways = ("pid", "port", "command")
        others = sorted(self.model_fields_set - {"kind", *ways})
        given = [name for name in ways if getattr(self, name) is not None]
        if self.kind == "process":
            if others:
                raise ValueError(f'{others[0]} goes with kind = "json"; a process probe has one of {", ".join(ways)}')
            if len(given) != 1:
                raise ValueError(f"give one of {', '.join(ways)}" + (f", not {' and '.join(given)}" if given else ""))
            return self
        if given:
            raise ValueError(f'{given[0]} goes with kind = "process"; a json probe has a url or a path')
        if (self.url is None) == (self.path is None):
            raise ValueError("give one of url and path: url is a whole address, path is below the environment's")
        if self.body is not None and self.method == "GET":
            raise ValueError('body goes with method = "POST"')
        return self
