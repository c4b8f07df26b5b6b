"""What one test runs by, as plain values: what the rest of the house takes from the test file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from streamgauge.proxies import Proxy
from streamgauge.secrets import (
    Redactor,
)
from streamgauge.spec.address import Reach, Url
from streamgauge.spec.criteria import Criterion
from streamgauge.spec.presets import Settings
from streamgauge.spec.prompt_files import PromptSet

Kind = Literal["local", "staging", "production"]


@dataclass(frozen=True, slots=True)
class Header:
    """One header as it is sent. `secret`: it holds a filled-in reference, or its name says so."""

    name: str
    value: str = field(repr=False)
    secret: bool = False


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How TLS is spoken; file names as the process can open them."""

    verify: bool = True
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None
    resume: bool = True


@dataclass(frozen=True, slots=True)
class UsdPerMtok:
    """US dollars a million tokens."""

    input: float
    output: float


@dataclass(frozen=True, slots=True)
class ResolvedTarget:
    """One endpoint, ready to be asked."""

    name: str
    scheme: str
    host: str
    port: int
    path: str = field(repr=False)
    """Path and query; may hold {model}, which the dialect fills in."""
    reach: Reach
    dialect: str
    dialect_options: Mapping[str, bool | int | float | str]
    model: str | None
    headers: tuple[Header, ...]
    body: str | None = field(repr=False)
    """The template with its secrets filled in; {prompt}, {uuid} and {chat} are left."""
    extra: Mapping[str, object]
    system: str | None
    include_usage: bool
    tls: TlsSettings
    usd_per_mtok: UsdPerMtok | None
    rpm: float | None
    control: str | None
    expect: str | None
    """Regular expression to be found in the answer."""
    socket: str = ""
    """Path of the Unix socket it listens on, in place of the network."""
    proxy: Proxy | None = None
    proxy_note: str | None = None
    """Why a proxy that the environment names is or is not used."""

    @property
    def origin(self) -> str:
        """scheme://host[:port], or the Unix socket's url."""
        return Url(self.scheme, self.host, self.port, "", self.socket).origin


@dataclass(frozen=True, slots=True)
class ResolvedProbe:
    """Where the server's memory is read, ready to be asked. `url` is None where it is of a process."""

    name: str
    pid: int | None = None
    port: int | None = None
    command: str | None = None
    url: Url | None = None
    method: str = "GET"
    headers: tuple[Header, ...] = ()
    body: str | None = field(default=None, repr=False)
    places: Mapping[str, tuple[tuple[str, ...], float]] = field(default_factory=dict)
    """Gauge -> (keys, factor)."""
    collect: str | None = None
    timeout_s: float | None = None
    tls: TlsSettings = TlsSettings()
    proxy: Proxy | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """A hard stop and the key (or flag) it comes from."""

    value: float
    key: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Hard stops of the run. None: no stop."""

    streams: Limit | None = None
    requests: Limit | None = None
    tokens: Limit | None = None
    usd: Limit | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """All that one test runs by."""

    environment: str | None
    kind: Kind
    """The most careful kind of all hosts touched."""
    guarded: tuple[str, ...]
    """Public hosts that no environment names: they set the guard's limits."""
    targets: tuple[ResolvedTarget, ...]
    controls: tuple[ResolvedTarget, ...]
    """Targets that only stand in for others: counted in cost, not in the verdict."""
    prompts: Mapping[str, PromptSet]
    limits: Limits
    settings: Settings
    criteria: tuple[Criterion, ...]
    silence: tuple[str, ...]
    """Findings that are not told."""
    digest: str
    secrets: tuple[str, ...] = field(repr=False)
    probes: tuple[ResolvedProbe, ...] = ()

    @property
    def redactor(self) -> Redactor:
        """Hides every secret of this run."""
        return Redactor(self.secrets)
