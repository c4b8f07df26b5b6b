"""A resolved spec to a run that may start: engine values, the plan, its estimate, and the manners that hold it back.

Rules: nothing is sent here. A plan above a hard stop does not start (exit 2, naming key and value). Preflight resolves,
connects and speaks TLS, and sends no request (exit 4).
"""

from __future__ import annotations

import select
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from streamgauge.clock import Clock, S
from streamgauge.errors import TargetError, UsageError
from streamgauge.net import Connection, NetError, resolve
from streamgauge.plan import Phase, Rate
from streamgauge.run import Limits as RunLimits
from streamgauge.run import Load, workers_for
from streamgauge.sample import Outcome
from streamgauge.spec.presets import Settings
from streamgauge.spec.resolve import Resolved, ResolvedTarget
from streamgauge.stream import Limits
from streamgauge.suite import concurrent, ttft
from streamgauge.target import Target, Tls
from streamgauge.verdict import Criterion, gates

Shape = Callable[[Settings, tuple[str, ...], tuple[str, ...]], tuple[Phase, ...]]
TESTS: dict[str, Shape] = {"ttft": ttft.phases, "concurrent": concurrent.phases}
"""Each test's plan. A test is its file and its line here."""

GUESSED_TOKENS = 300
"""Output tokens of one answer where the dialect has no max_tokens and none was seen."""
GUESSED_TTFT_S, GUESSED_TOKENS_PER_S = 0.5, 40.0
CHARS_PER_TOKEN = 4.0
DESCRIPTORS_SPARE = 64


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a plan would send. `usd` None: some price is unknown."""

    requests: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    seconds: float
    streams: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that may start."""

    resolved: Resolved
    load: Load
    criteria: tuple[Criterion, ...]
    confidence: float
    estimate: Estimate
    notes: tuple[str, ...]


def prepare(resolved: Resolved, seed: int) -> Prepared:
    """Everything but the network: UsageError where the plan is above a hard stop or cannot be."""
    settings = resolved.settings
    names = tuple(t.name for t in resolved.targets)
    controls = tuple(t.name for t in resolved.controls)
    phases = TESTS[settings.test](settings, names, controls)
    targets = tuple(
        [_target(t, settings, control=False) for t in resolved.targets]
        + [_target(t, settings, control=True) for t in resolved.controls]
    )
    estimate = _estimate(resolved, targets, phases)
    _hold_back(resolved, estimate)
    price = {
        t.name: (t.usd_per_mtok.input, t.usd_per_mtok.output)
        for t in (*resolved.targets, *resolved.controls)
        if t.usd_per_mtok is not None
    }
    stops = resolved.limits
    load = Load(
        targets=targets,
        prompts={name: tuple(found.texts) for name, found in resolved.prompts.items()},
        phases=phases,
        seed=seed,
        limits=RunLimits(
            requests=None if stops.requests is None else int(stops.requests.value),
            tokens=None if stops.tokens is None else int(stops.tokens.value),
            usd=None if stops.usd is None else stops.usd.value,
            usd_per_mtok=price,
        ),
        secrets=resolved.secrets,
        grace_ns=round(settings.timeouts.drain_s * S),
    )
    confidence = 0.975 if settings.double else 0.95
    return Prepared(
        resolved=resolved,
        load=load,
        criteria=tuple(_criteria(resolved, targets, phases, confidence)),
        confidence=confidence,
        estimate=estimate,
        notes=tuple(_notes(resolved)),
    )


def _target(found: ResolvedTarget, settings: Settings, *, control: bool) -> Target:
    """The engine's view of a target."""
    times = settings.timeouts

    def ns(seconds: float | None) -> int | None:
        return None if seconds is None else round(seconds * S)

    return Target(
        name=found.name,
        scheme=found.scheme,
        host=found.host,
        port=found.port,
        path=found.path,
        dialect=found.dialect,
        options=dict(found.dialect_options),
        model=found.model,
        headers=tuple((h.name, h.value) for h in found.headers),
        body=found.body,
        extra=dict(found.extra),
        system=found.system,
        max_tokens=settings.max_tokens,
        include_usage=found.include_usage,
        unique=settings.unique_prefix,
        tls=msgspec.convert({k: getattr(found.tls, k) for k in ("verify", "ca", "cert", "key", "server_name")}, Tls),
        expect=found.expect,
        limits=Limits(
            connect_ns=round(times.connect_s * S),
            first_output_ns=round(times.first_token_s * S),
            stall_ns=round(times.stall_s * S),
            total_ns=ns(times.total_s),
        ),
        control=control,
    )


def _tokens_out(targets: tuple[Target, ...]) -> dict[str, int]:
    """Output tokens of one answer of each target, at most; guessed where the dialect sets no limit."""
    return {t.name: t.max_tokens if t.max_tokens and t.speaks().has_max_tokens else GUESSED_TOKENS for t in targets}


def _sends(phase: Phase, out: Mapping[str, int]) -> tuple[dict[str, float], float]:
    """What a phase will send to each target, and how long it will last, before anything is known of the service."""
    sent: dict[str, float] = {}
    longest = 0.0
    for lane in phase.lanes:
        each = max(GUESSED_TTFT_S + out[name] / GUESSED_TOKENS_PER_S for name in lane.targets)
        open_loop = isinstance(lane.load, Rate)
        pace = lane.load.per_s if isinstance(lane.load, Rate) else lane.load.most / each
        limit = None if phase.duration_ns is None else phase.duration_ns / S
        n = float(lane.requests) if lane.requests is not None else pace * (limit or 0.0)
        if limit is not None:
            n = min(n, pace * limit + (0 if open_loop else lane.load.most))
        longest = max(longest, n / pace if pace else 0.0)
        for name in lane.targets:
            sent[name] = sent.get(name, 0.0) + n / len(lane.targets)
    return sent, longest


def _estimate(resolved: Resolved, targets: tuple[Target, ...], phases: tuple[Phase, ...]) -> Estimate:
    """Requests, tokens, money and time, before anything is known of the service."""
    out = _tokens_out(targets)
    texts = [text for found in resolved.prompts.values() for text in found.texts]
    per_prompt = sum(len(text) for text in texts) / max(len(texts), 1) / CHARS_PER_TOKEN + 20
    sent: dict[str, float] = {}
    seconds = max(GUESSED_TTFT_S + tokens / GUESSED_TOKENS_PER_S for tokens in out.values())
    for phase in phases:
        by_target, longest = _sends(phase, out)
        seconds += longest
        for name, n in by_target.items():
            sent[name] = sent.get(name, 0.0) + n
    prices = {t.name: t.usd_per_mtok for t in (*resolved.targets, *resolved.controls)}
    usd: float | None = 0.0
    for name, n in sent.items():
        price = prices[name]
        usd = (
            None
            if usd is None or price is None
            else usd + n * (per_prompt * price.input + out[name] * price.output) / 1e6
        )
    return Estimate(
        requests=round(sum(sent.values())),
        input_tokens=round(sum(sent.values()) * per_prompt),
        output_tokens=round(sum(n * out[name] for name, n in sent.items())),
        usd=usd,
        seconds=seconds,
        streams=max(phase.streams for phase in phases),
    )


def _hold_back(resolved: Resolved, estimate: Estimate) -> None:
    """Refuse a plan above a hard stop, all of them named at once."""
    stops = resolved.limits
    wrong = []
    for what, planned, stop in (
        ("streams", float(estimate.streams), stops.streams),
        ("requests", float(estimate.requests), stops.requests),
        ("tokens", float(estimate.input_tokens + estimate.output_tokens), stops.tokens),
        ("usd", estimate.usd, stops.usd),
    ):
        if stop is not None and planned is not None and planned > stop.value:
            shown = f"{planned:,.2f}" if what == "usd" else f"{planned:,.0f}"
            wrong.append(f"  the plan wants {shown} {what}; the hard stop is {stop.value:,g} ({stop.key})")
    if wrong:
        raise UsageError(
            "this plan does not start:\n" + "\n".join(wrong) + "\n"
            "  ask for less (--requests, --concurrency, --preset smoke), or raise the stop in [environments.NAME.max]"
        )


def _criteria(
    resolved: Resolved, targets: tuple[Target, ...], phases: tuple[Phase, ...], confidence: float
) -> list[Criterion]:
    """The criteria with their planned n and whether they gate: fixed before the first request."""
    sends = {phase.name: _sends(phase, _tokens_out(targets))[0] for phase in phases}
    made = []
    for one in resolved.criteria:
        planned = _planned_n(resolved.settings, sends, one.target, one.prompt is not None, one.phase or "hold")
        plain = Criterion(
            name=one.name, metric=one.metric, stat=one.stat, op=one.op, limit=one.limit, unit=one.unit,
            target=one.target, prompt=one.prompt, phase=one.phase, advisory=one.advisory, planned_n=planned,
            severity=one.severity,
        )  # fmt: skip
        gating = not one.advisory and one.may_gate and gates(plain, planned, confidence)
        made.append(msgspec.structs.replace(plain, gating=gating))
    return made


def _planned_n(
    settings: Settings, sends: Mapping[str, Mapping[str, float]], target: str | None, one_prompt: bool, phase: str
) -> int:
    """Requests that a criterion will have, by the plan; where only time ends a phase, by the guessed pace."""
    sent = sends.get(phase, {})
    n = sum(sent.get(name, 0.0) for name in (settings.targets if target is None else (target,)))
    return int(n / (len(settings.prompts) if one_prompt else 1) + 1e-9)


def _notes(resolved: Resolved) -> list[str]:
    """What a reader of the report must know of the set-up."""
    notes = []
    for target in (*resolved.targets, *resolved.controls):
        if target.scheme == "https" and not target.tls.verify:
            notes.append(f"{target.name}: the server's certificate was not verified (tls.verify = false)")
        if not resolved.settings.unique_prefix:
            notes.append("prompts were sent without a mark of their own: caches may have flattered TTFT")
    notes += [f"{host} is public and no environment names it: treated as production" for host in resolved.guarded]
    return list(dict.fromkeys(notes))


def check_descriptors(streams: int, limit: int) -> None:
    """Refuse a plan that this machine's descriptor limit cannot hold."""
    needed = streams // workers_for(streams) + DESCRIPTORS_SPARE
    if needed > limit:
        raise UsageError(
            f"the plan wants {streams} streams, about {needed} descriptors a worker; the limit here is {limit} "
            f"(ulimit -n). Ask for fewer (--concurrency {max(limit - DESCRIPTORS_SPARE, 1)}) or raise the limit"
        )


def preflight(load: Load, clock: Clock) -> Load:
    """Resolve every name, connect once to each target and speak TLS; no request is sent. TargetError where it fails."""
    found = []
    for target in load.targets:
        try:
            target = msgspec.structs.replace(target, addresses=resolve(target.host, target.port))
            _knock(target, clock)
        except NetError as error:
            raise _unusable(target, error) from None
        found.append(target)
    return msgspec.structs.replace(load, targets=tuple(found))


def _knock(target: Target, clock: Clock) -> None:
    """Connect to the first address that answers, with TLS where it is spoken. NetError of the last one otherwise."""
    last: NetError | None = None
    for address in target.addresses:
        try:
            conn = Connection(target, address, 0)
        except NetError as error:
            last = error
            continue
        try:
            _until_ready(conn, clock, clock.now() + target.limits.connect_ns)
        except NetError as error:
            last = error
        except OSError as error:
            last = NetError(Outcome.TLS_ERROR, error.strerror or str(error))
        else:
            return
        finally:
            conn.close()
    assert last is not None
    raise last


def _until_ready(conn: Connection, clock: Clock, deadline: int) -> None:
    def wait(*, write: bool) -> None:
        left = max(deadline - clock.now(), 0) / S
        fds = [conn.sock.fileno()]
        if not any(select.select([] if write else fds, fds if write else [], [], left)):
            raise NetError(Outcome.CONNECT_TIMEOUT, f"no answer within {conn.target.limits.connect_ns / S:g} s")

    wait(write=True)
    if conn.connected():
        return
    conn.handshake(b"")
    while not conn.ready:
        while not conn.push():
            wait(write=True)
        wait(write=False)
        data, _ = conn.take()
        if not data:
            raise NetError(Outcome.TLS_ERROR, "connection closed during the TLS handshake")
        conn.handshake(data)


_NEXT = {
    Outcome.DNS_ERROR: "check the host's spelling, or whether this machine may resolve it (VPN, /etc/hosts)",
    Outcome.CONNECT_REFUSED: "nothing listens there: start the service, or check host and port",
    Outcome.UNREACHABLE: "no route: check VPN, firewall and the address",
    Outcome.CONNECT_TIMEOUT: "packets are dropped on the way: check firewall and security groups, or the port",
    Outcome.TLS_ERROR: "check the certificate; for an own CA set tls.ca, for a test without checks tls.verify = false",
    Outcome.CLIENT_LIMIT: "this machine is out of descriptors or ports: raise ulimit -n",
}


def _unusable(target: Target, error: NetError) -> TargetError:
    stage = {Outcome.DNS_ERROR: "resolve", Outcome.TLS_ERROR: "tls"}.get(error.outcome, "connect")
    where = f"{target.host}:{target.port}"
    return TargetError(
        f"{target.name}: {where}: {error.outcome}: {error.words}",
        target=target.name,
        stage=stage,
        next_step=_NEXT.get(error.outcome, "see the words above"),
    )
