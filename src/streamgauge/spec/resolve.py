"""A checked spec, an environment and one test to plain values the engine takes: secrets filled in, presets applied.

Rules: what is missing here is told all at once, too. Only targets that the test uses need their secrets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from streamgauge.errors import UsageError
from streamgauge.proxies import Choice, from_environment, parse_proxy, secrets_of_proxy
from streamgauge.secrets import (
    Redactor,
    is_sensitive,
    remember,
    secrets_in_json,
    secrets_in_url,
    secrets_of,
    secrets_of_proxies,
)
from streamgauge.spec.address import Url, check_header, check_path, join, parse_url, reach
from streamgauge.spec.load import Spec, digest
from streamgauge.spec.mistakes import Mistakes, Path, did_you_mean
from streamgauge.spec.places import parse_place
from streamgauge.spec.presets import TESTS
from streamgauge.spec.probes import Probe
from streamgauge.spec.references import Filler
from streamgauge.spec.resolved import Header, Resolved, ResolvedProbe, ResolvedTarget, TlsSettings, UsdPerMtok
from streamgauge.spec.settings import Overrides, judged_by, open_loop_of, probes_of, settings_of
from streamgauge.spec.stops import limits_of
from streamgauge.spec.targets import Target, is_json
from streamgauge.spec.values import REFERENCE


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
    filler = Filler({**spec.dotenv, **{name: value for name, value in environ.items() if value}}, mistakes)
    environment, base = _environment(spec, env_name, test_name, filler, overrides)
    names, control_names = _used(spec, test_name)
    made = {name: _target(spec, name, base, filler) for name in (*names, *control_names)}
    done = {name: target for name, target in made.items() if target is not None}
    kind, guarded, limits = limits_of(spec, environment, done.values(), overrides, filler)
    arrivals = open_loop_of(spec, test_name, overrides, mistakes)
    probes = tuple(_probe(spec, name, base, filler) for name in probes_of(spec, test_name))
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


def _environment(
    spec: Spec, wanted: str | None, test: str, filler: Filler, overrides: Overrides
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


def _url(text: str, at: Path, filler: Filler) -> Url | None:
    try:
        return parse_url(text)
    except ValueError as error:
        filler.mistakes.add(at, Redactor(filler.secrets).text(str(error)))
        return None


def _target(spec: Spec, name: str, base: Url | None, filler: Filler) -> ResolvedTarget | None:
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


def _probe(spec: Spec, name: str, base: Url | None, filler: Filler) -> ResolvedProbe:
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


def _proxy(target: Target | Probe, url: Url | None, at: Path, filler: Filler) -> Choice:
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


def _headers(target: Target | Probe, at: Path, filler: Filler) -> tuple[Header, ...]:
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
