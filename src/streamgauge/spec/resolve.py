"""A checked spec, an environment and one test to plain values the engine takes: secrets filled in, presets applied.

Rules: what is missing here is told all at once, too. A reference that is unset or empty is a mistake that names
variable, key and .env.streamgauge: a CI job without its secrets must not send a request that can only fail. Only
targets that the test uses need their secrets.

The guard: a run takes the tightest hard stops of all hosts it touches. A public host that no environment names counts
as production with GUARD's stops, and flags can only tighten those.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import quote

from streamgauge.errors import UsageError
from streamgauge.proxies import Choice, Proxy, from_environment, parse_proxy, secrets_of_proxy
from streamgauge.secrets import (
    Redactor,
    is_sensitive,
    remember,
    secrets_in_json,
    secrets_in_url,
    secrets_of,
    secrets_of_proxies,
)
from streamgauge.spec.address import Reach, Url, check_header, check_path, join, parse_url, reach
from streamgauge.spec.criteria import Criterion
from streamgauge.spec.load import Spec, digest
from streamgauge.spec.mistakes import Mistakes, Path, did_you_mean
from streamgauge.spec.model import Max, Probe
from streamgauge.spec.places import parse_place
from streamgauge.spec.presets import TESTS, Settings
from streamgauge.spec.probe_flag import is_by_flag
from streamgauge.spec.prompt_files import PromptSet
from streamgauge.spec.settings import Overrides, judged_by, open_loop_of, probes_of, settings_of
from streamgauge.spec.targets import Target, is_json
from streamgauge.spec.values import REFERENCE

Kind = Literal["local", "staging", "production"]
GUARD = {"streams": 10, "requests": 3_000, "tokens": 1_000_000}
"""Hard stops for a public host that no environment names."""
USD = 5.0
"""Stop for the cost, everywhere where a price is known and none is given."""
_KINDS: tuple[Kind, ...] = ("local", "staging", "production")


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

    @property
    def place(self) -> tuple[object, ...]:
        """What is read: the same of two probes, where both read the same."""
        return self.pid, self.port, self.command, self.url, self.method, self.body


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


def resolve(
    spec: Spec,
    env_name: str | None,
    environ: Mapping[str, str],
    test_name: str,
    overrides: Overrides | None = None,
) -> Resolved:
    """What `test_name` runs by in environment `env_name` (None: the only one there is). UsageError lists every mistake.

    `environ` wins over .env.streamgauge; `overrides` are the flags and win over the spec.
    """
    overrides = overrides or Overrides()
    mistakes = Mistakes(spec.places)
    overrides.check(mistakes)
    if test_name not in TESTS:
        raise UsageError(f'no test "{test_name}"{did_you_mean(test_name, TESTS)} Tests: {", ".join(TESTS)}')
    filler = _Filler({**spec.dotenv, **{name: value for name, value in environ.items() if value}}, mistakes)
    environment, base = _environment(spec, env_name, test_name, filler, overrides)
    names, control_names = _used(spec, test_name)
    made = {name: _target(spec, name, environment, base, filler) for name in (*names, *control_names)}
    done = {name: target for name, target in made.items() if target is not None}
    kind, guarded, limits = _limits(spec, environment, done.values(), overrides, filler)
    arrivals = open_loop_of(spec, test_name, overrides, mistakes)
    probes = _once(spec, [_probe(spec, name, base, filler) for name in probes_of(spec, test_name)])
    filler.secrets.update(secrets_of_proxies(environ))
    remember(*filler.secrets)
    mistakes.raise_if_any()
    streams = limits.streams.value if limits.streams else None
    settings = settings_of(spec, test_name, names, overrides, streams, arrivals)
    return Resolved(
        environment=environment,
        kind=kind,
        guarded=guarded,
        targets=tuple(done[name] for name in names),
        controls=tuple(done[name] for name in control_names),
        prompts={name: spec.prompts[name] for name in settings.prompts},
        limits=limits,
        settings=settings,
        criteria=judged_by(spec, settings),
        silence=spec.model.findings.silence,
        digest=digest(spec),
        secrets=tuple(sorted(filler.secrets)),
        probes=probes,
    )


@dataclass(slots=True)
class _Filler:
    """Fills ${NAME} references in and remembers what is secret."""

    variables: Mapping[str, str] = field(repr=False)
    mistakes: Mistakes
    secrets: set[str] = field(default_factory=set, repr=False)

    def fill(self, text: str, at: Path, *, escape: bool = False, encode: bool = False) -> str:
        """`text` with its references filled in; an unset one is noted at `at`.

        `escape`: as they stand inside JSON texts. `encode`: percent-encoded.
        """
        for name in dict.fromkeys(REFERENCE.findall(text)):
            value = self.variables.get(name)
            if not value:
                self.mistakes.add(
                    at,
                    f"${{{name}}} is not set (or empty); export {name}, or put {name}=... into .env.streamgauge "
                    "beside the spec",
                )
                value = "unset"
            elif not value.isprintable() and any("\ud800" <= char <= "\udfff" for char in value):
                self.mistakes.add(at, f"${{{name}}} holds bytes that are not UTF-8; set it anew")
                value = "unset"
            else:
                self.secrets.add(value)
            if escape:
                value = json.dumps(value, ensure_ascii=False)[1:-1]
            text = text.replace(f"${{{name}}}", quote(value, safe="") if encode else value)
        return text

    def knows(self, text: str) -> bool:
        """Whether every reference in `text` is set."""
        return all(self.variables.get(name) for name in REFERENCE.findall(text))


def _environment(
    spec: Spec, wanted: str | None, test: str, filler: _Filler, overrides: Overrides
) -> tuple[str | None, Url | None]:
    """The chosen environment and its url; (None, None) where none is needed."""
    names = list(spec.model.environments)
    if wanted is not None and wanted not in names:
        there = f"Environments: {', '.join(names)}" if names else "The spec has none; add [environments.NAME]"
        filler.mistakes.add_at(
            overrides.place("--env", wanted), f'no environment "{wanted}"{did_you_mean(wanted, names)} {there}'
        )
        return None, None
    used = [spec.model.targets[name] for group in _used(spec, test) for name in group]
    probed = [spec.model.probes[name] for name in probes_of(spec, test)]
    below = any(target.url is None for target in used) or any(probe.path is not None for probe in probed)
    if wanted is None:
        if len(names) != 1 or not below:
            if len(names) > 1 and below:
                filler.mistakes.add(
                    ("environments",), f"there are several; say which: --env {' or --env '.join(names)}"
                )
            return None, None
        wanted = names[0]
    at: Path = ("environments", wanted, "url")
    return wanted, _url(filler.fill(spec.model.environments[wanted].url, at), at, filler)


def _used(spec: Spec, test: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(targets of the test, controls that are no target of it)."""
    targets = spec.model.targets
    all_controls = {target.control for target in targets.values()}
    table = getattr(spec.model.tests, test)
    listed = table.targets if table is not None else None
    names = listed or tuple(name for name in targets if name not in all_controls)
    controls = dict.fromkeys(one for name in names if (one := targets[name].control) is not None and one not in names)
    return names, tuple(controls)


def _url(text: str, at: Path, filler: _Filler) -> Url | None:
    try:
        return parse_url(text)
    except ValueError as error:
        filler.mistakes.add(at, Redactor(filler.secrets).text(str(error)))
        return None


def _target(spec: Spec, name: str, environment: str | None, base: Url | None, filler: _Filler) -> ResolvedTarget | None:
    """One target as plain values; None (and a mistake noted) where it cannot be."""
    target = spec.model.targets[name]
    at: Path = ("targets", name)
    default = spec.default_paths[name]
    if target.url is not None:
        url = _url(filler.fill(target.url, (*at, "url")), (*at, "url"), filler)
        path = (url.path or default) if url else ""
    else:
        url = base
        path = filler.fill(target.path, (*at, "path")) if target.path is not None else default
        wrong = check_path(path)
        if wrong:
            filler.mistakes.add((*at, "path"), Redactor(filler.secrets).text(wrong))
        path = join(base, path) if base else ""
    if "{model}" in path and target.model is None:
        filler.mistakes.add(at, f'dialect {target.dialect} asks at {default}; add model = "..." (--model with --url)')
    headers = _headers(target, at, filler)
    body = target.body
    if body is not None and "{model}" in body and target.model is None:
        filler.mistakes.add(
            (*at, "body"), 'holds {model}, and the target names none; add model = "...", or take it out'
        )
    if body is not None:
        body = filler.fill(body, (*at, "body"), escape=is_json(target.headers))
    filler.secrets.update((*secrets_in_url(path), *secrets_in_json(body or ""), *secrets_in_json(target.extra)))
    tls = _tls(spec, target, at, filler.mistakes)
    proxy = _proxy(target, url, (*at, "proxy"), filler)
    if url is None:
        return None
    price = target.usd_per_mtok
    return ResolvedTarget(
        name=name,
        scheme=url.scheme,
        host=url.host,
        port=url.port,
        path=path,
        reach=reach(url.host),
        dialect=target.dialect,
        dialect_options=target.dialect_options,
        model=target.model,
        headers=headers,
        body=body,
        extra=target.extra,
        system=target.system,
        include_usage=target.include_usage,
        tls=tls,
        usd_per_mtok=UsdPerMtok(price.in_, price.out) if price else None,
        rpm=target.rpm,
        control=target.control,
        expect=_expect(target),
        socket=url.socket,
        proxy=proxy.proxy,
        proxy_note=proxy.why,
    )


def _probe(spec: Spec, name: str, base: Url | None, filler: _Filler) -> ResolvedProbe:
    """One probe as plain values; what is wrong is noted."""
    probe, at = spec.model.probes[name], ("probes", name)
    if probe.kind == "process":
        return ResolvedProbe(name, probe.pid, probe.port, probe.command)
    if probe.url is not None:
        url = _url(filler.fill(probe.url, (*at, "url")), (*at, "url"), filler)
    else:
        path = filler.fill(probe.path or "", (*at, "path"))
        wrong = check_path(path)
        if wrong:
            filler.mistakes.add((*at, "path"), Redactor(filler.secrets).text(wrong))
        elif base is None:
            filler.mistakes.add((*at, "path"), "is below an environment's url; say which environment with --env")
        url = replace(base, path=join(base, path)) if base is not None else None
    body = None if probe.body is None else filler.fill(probe.body, (*at, "body"), escape=True)
    filler.secrets.update((*secrets_in_url(url.path if url else ""), *secrets_in_json(body or "")))
    return ResolvedProbe(
        name, url=url, method=probe.method, headers=_headers(probe, at, filler), body=body,
        places={gauge: parse_place(text) for gauge, text in probe.paths.items()}, collect=probe.collect,
        timeout_s=probe.timeout, tls=_tls(spec, probe, at, filler.mistakes),
        proxy=_proxy(probe, url, (*at, "proxy"), filler).proxy,
    )  # fmt: skip


def _once(spec: Spec, probes: list[ResolvedProbe]) -> tuple[ResolvedProbe, ...]:
    """Without those of flags that read what one of the spec reads already, which knows more of it."""
    by_flag = {one.name for one in probes if is_by_flag(spec.places, one.name)}
    known = {one.place for one in probes if one.name not in by_flag}
    return tuple(one for one in probes if one.name not in by_flag or one.place not in known)


def _proxy(target: Target | Probe, url: Url | None, at: Path, filler: _Filler) -> Choice:
    """The target's own proxy, else the environment's. Its credentials are secrets, wherever they stood."""
    choice = Choice()
    try:
        if target.proxy is not None:
            # A password that is a reference is meant as it is: what needs it is percent-encoded here.
            before, at_sign, after = target.proxy.rpartition("@")
            whole = filler.fill(before, at, encode=bool(at_sign)) + at_sign + filler.fill(after, at)
            choice = Choice(parse_proxy(whole))
            if choice.proxy is not None and url is not None and url.socket:
                filler.mistakes.add(at, 'a Unix socket is not reached through a proxy; leave proxy out, or say "none"')
        elif url is not None and not url.socket:
            choice = from_environment(url.scheme, url.host, url.port, filler.variables)
    except ValueError as error:
        filler.mistakes.add(at, Redactor(filler.secrets).text(str(error)))
    filler.secrets.update(secrets_of_proxy(choice.proxy))
    return choice


def _expect(target: Target) -> str | None:
    """The content check as one regular expression."""
    if target.expect is None:
        return None
    return target.expect.regex if target.expect.contains is None else re.escape(target.expect.contains)


def _headers(target: Target | Probe, at: Path, filler: _Filler) -> tuple[Header, ...]:
    out = []
    for name, template in target.headers.items():
        value = filler.fill(template, (*at, "headers", name))
        secret = bool(REFERENCE.search(template)) or is_sensitive(name)
        wrong = check_header(name, value)
        if wrong:
            filler.mistakes.add((*at, "headers", name), wrong)
        if secret:
            filler.secrets.update(secrets_of(name, value))
        out.append(Header(name, value, secret))
    return tuple(out)


def _tls(spec: Spec, target: Target | Probe, at: Path, mistakes: Mistakes) -> TlsSettings:
    tls = target.tls
    found: dict[str, str | None] = {}
    for key in ("ca", "cert", "key"):
        name = getattr(tls, key)
        found[key] = str(spec.folder / name) if name is not None else None
        if name is not None and not (spec.folder / name).is_file():
            mistakes.add((*at, "tls", key), f'no file "{name}" beside the spec; name a PEM file')
    return TlsSettings(tls.verify, found["ca"], found["cert"], found["key"], tls.server_name, tls.resume)


def _limits(
    spec: Spec, environment: str | None, targets: Iterable[ResolvedTarget], overrides: Overrides, filler: _Filler
) -> tuple[Kind, tuple[str, ...], Limits]:
    """The run's kind, the unnamed public hosts, and the tightest stops of all hosts touched."""
    named = _named_hosts(spec, filler)
    hosts = {target.host: target.reach for target in targets}
    kinds: set[Kind] = set()
    guarded = []
    stops: list[tuple[str, Limit]] = []
    touched = [environment] if environment else []
    for host, far in hosts.items():
        if host in named:
            touched += [name for name in named[host] if environment not in named[host] or name == environment]
        elif far == "public":
            guarded.append(host)
            kinds.add("production")
            key = f"{host} is public and no environment names it"
            stops += [(what, Limit(value, key)) for what, value in GUARD.items()]
        else:
            kinds.add("local")
    for name in dict.fromkeys(touched):
        given = spec.model.environments[name]
        url = given.url
        usual: Kind = "local"
        if filler.knows(url) and reach(parse_url(filler.fill(url, ())).host) == "public":
            usual = "production"
        kinds.add(given.kind or usual)
        stops += [
            (what, Limit(value, f"environments.{name}.max.{what}"))
            for what in Max.model_fields
            if (value := getattr(given.max, what)) is not None
        ]
    tightest = {what: _tightest(what, stops) for what in Max.model_fields}
    tightest["usd"] = tightest["usd"] or Limit(USD, "the usual stop; set environments.NAME.max.usd or --max-usd")
    for what, flag in (
        ("requests", overrides.max_requests),
        ("tokens", overrides.max_tokens),
        ("usd", overrides.max_usd),
    ):
        if flag is None:
            continue
        stop = tightest[what]
        if what in GUARD and guarded and stop is not None and flag > GUARD[what]:
            filler.mistakes.add_at(
                overrides.place(f"--max-{what}", f"{flag:g}"),
                f"{stop.key}: at most {GUARD[what]:,} {what}. Name it in [environments.NAME] with url, kind and max "
                "to go beyond",
            )
            continue
        tightest[what] = Limit(flag, overrides.origins.get(f"--max-{what}", f"--max-{what}"))
    kind: Kind = max(kinds, key=_KINDS.index, default="local")
    return kind, tuple(guarded), Limits(**tightest)


def _tightest(what: str, stops: Iterable[tuple[str, Limit]]) -> Limit | None:
    return min((limit for name, limit in stops if name == what), key=lambda limit: limit.value, default=None)


def _named_hosts(spec: Spec, filler: _Filler) -> dict[str, list[str]]:
    """{host: the environments that name it}; one whose url has unset references names nothing."""
    found: dict[str, list[str]] = {}
    for name, environment in spec.model.environments.items():
        if filler.knows(environment.url):
            try:
                host = parse_url(filler.fill(environment.url, ())).host
            except ValueError:
                continue
            found.setdefault(host, []).append(name)
    return found
