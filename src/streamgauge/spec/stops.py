"""The hard stops of a run: the tightest of all hosts it touches, and the flags.

The guard: a public host that no environment names counts as production with GUARD's stops, and flags can only tighten
those.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamgauge.spec.address import parse_url, reach
from streamgauge.spec.load import Spec
from streamgauge.spec.model import Max
from streamgauge.spec.references import Filler
from streamgauge.spec.resolved import Kind, Limit, Limits, ResolvedTarget
from streamgauge.spec.settings import Overrides

GUARD = {"streams": 10, "requests": 3_000, "tokens": 1_000_000}
"""Hard stops for a public host that no environment names."""
USD = 5.0
"""Stop for the cost, everywhere where a price is known and none is given."""
_KINDS: tuple[Kind, ...] = ("local", "staging", "production")


def limits_of(
    spec: Spec, environment: str | None, targets: Iterable[ResolvedTarget], overrides: Overrides, filler: Filler
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


def _named_hosts(spec: Spec, filler: Filler) -> dict[str, list[str]]:
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
