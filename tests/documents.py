"""Documents as runs would leave them, for tests of reports; the parts they are made of stand in `document_parts`.

`ALL` names every document; each function gives (Document, Samples).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from document_parts import (
    START,
    Model,
    distribution,
    ecdf,
    gaps,
    group,
    heat,
    not_ok,
    output_criterion,
    quantile_criterion,
    rate_criterion,
    samples_of,
    slowest,
    timeline,
)
from streamgauge.compare import Comparison
from streamgauge.connections import Age, Connections
from streamgauge.findings import Basis, Finding
from streamgauge.findings.checklist import Look
from streamgauge.findings.signs import Trend
from streamgauge.reports.document import Baseline, Document, Measurement, Run
from streamgauge.sample import Outcome, Sample
from streamgauge.series import Series
from streamgauge.summary import Phase
from streamgauge.verdict import Judged, Word


def measurement(**changed: Any) -> Measurement:
    usual: dict[str, Any] = {
        "stamps": "kernel",
        "valid": True,
        "invalid_because": [],
        "slack_ms": {"p50": 0.0, "p95": 0.9, "p99": 1.2, "max": 3.1},
        "late_ms": {"p50": 0.02, "p95": 0.18, "p99": 0.4, "max": 1.9},
        "merged_events": 12,
        "text_events": 25_600,
        "starts": 800,
        "missed_starts": 0,
        "worker_cpu_mean": 0.06,
        "worker_cpu_max": 0.21,
        "longest_turn_ms": 2.4,
        "workers": 1,
        "clock_steps": 0,
        "flagged_by_clock": 0,
        "client_limits": 0,
        "descriptors_used": 31,
        "descriptors_limit": 1_048_576,
        "planned": {"requests": 800.0, "streams": 8.0},
        "achieved": {"requests": 800.0, "streams": 8.0},
        "notes": [],
    }
    return Measurement(**{**usual, **changed})


def run_of(samples: list[Sample], models: list[Model], phases: list[Phase], **changed: Any) -> Run:
    usual: dict[str, Any] = {
        "id": "20251124T041500Z-ttft-5c1f",
        "version": "0.1.0",
        "python": "3.11.7",
        "platform": "Linux 6.1 x86_64",
        "host": "runner-3",
        "cpus": 4,
        "git": "7f3a1c2",
        "environment": "staging",
        "targets": [
            {
                "name": m.name,
                "url": "https://staging.example.com/api/chat",
                "dialect": "ai-sdk",
                "model": m.model,
                "control": m.control,
                "addresses": "192.0.2.10, 192.0.2.11",
            }
            for m in models
        ],
        "preset": "standard",
        "settings": {"requests": 400, "concurrency": 4, "max_tokens": 32},
        "spec_digest": "sha256:9c4e",
        "seed": 7,
        "started": "2025-11-24T04:15:00Z",
        "ended": "2025-11-24T04:18:04Z",
        "start_ns": START,
        "end_ns": max(s.end_ns for s in samples),
        "phases": phases,
        "judged_phases": ["hold"],
        "stopped_by": None,
        "rerun": "streamgauge run ttft --env staging --preset standard --seed 7",
        "cost_usd": 0.65,
        "tokens": {"input": 96_400, "output": 25_600},
        "folder": ".streamgauge/runs/20251124T041500Z-ttft-5c1f",
    }
    return Run(**{**usual, **changed})


def phases_of(samples: list[Sample]) -> list[Phase]:
    found: dict[tuple[str, int], list[int]] = {}
    for s in samples:
        found.setdefault((s.phase, s.level), []).append(s.due_ns)
    return [Phase(name=k[0], level=k[1], start_ns=min(v), end_ns=max(v)) for k, v in found.items()]


def _shown(value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f} ms"


def baselines(by_target: dict[str, list[Sample]], errors: float) -> list[Baseline]:
    first = next(iter(by_target.values()))
    short = distribution([s for s in first if s.prompt == "short"], "ttft_ms")
    p50, p95, rate = _shown(short.p50), _shown(short.p95), f"{errors:.2%}"
    mini, failed = "OpenAI GPT-4o-mini", "pass" if errors < 0.005 else "fail"
    rows: list[tuple[str, str, str, str | None, str | None, str | None, str | None]] = [
        ("criteria", "TTFT p95", "< 1000 ms", None, p95, "pass", None),
        ("criteria", "Error rate", "< 0.5 %", None, rate, failed, None),
        ("criteria", "Concurrent streams", "100+", None, None, None, "test concurrent"),
        ("baselines", "TTFT p50 (short prompts)", "<500ms", "~300ms", p50, "pass", mini),
        ("baselines", "TTFT p95 (short prompts)", "<1000ms", "~600ms", p95, "pass", mini),
        ("baselines", "Throughput", ">10 tok/s", "~50 tok/s", "49 tok/s", "pass", "Model dependent"),
        ("baselines", "Memory growth", "<100MB/hr", "~30MB/hr", None, None, "10 concurrent streams; test memory"),
        ("providers", "OpenAI (GPT-4o-mini) TTFT p95", "~600ms", None, p95, None, None),
        ("providers", "OpenAI (GPT-4o-mini) throughput", "~50 tokens/sec", None, "49 tok/s", None, None),
    ]
    names = ("table", "name", "target", "typical", "measured", "verdict", "note")
    return [Baseline(**dict(zip(names, row, strict=True))) for row in rows]  # type: ignore[arg-type]


def document(samples: list[Sample], models: list[Model], criteria: list[Judged], **changed: Any) -> Document:
    """Put together what a run over `models` would report; `changed` replaces fields."""
    judged = [s for s in samples if s.phase == "hold"]
    by_target = {m.name: [s for s in judged if s.target == m.name] for m in models}
    controls = {m.control for m in models}
    main = [s for s in judged if s.target not in controls]
    whole = group(main)
    groups = [group(own, target=name) for name, own in by_target.items()]
    groups += [
        group([s for s in own if s.prompt == p], target=name, prompt=p)
        for name, own in by_target.items()
        for p in ("short", "medium", "long")
    ]
    rate = whole.rates["error_rate"].value or 0.0
    usual: dict[str, Any] = {
        "test": "ttft",
        "suite": None,
        "severity": None,
        "partial": False,
        "impact": None,
        "criteria": criteria,
        "metrics": whole.metrics,
        "rates": whole.rates,
        "scalars": whole.scalars,
        "outcomes": whole.outcomes,
        "groups": groups,
        "comparisons": [],
        "baselines": baselines(by_target, rate),
        "series": Series(
            ecdf=[ecdf(own, name) for name, own in by_target.items()],
            timeline=[
                timeline(samples, None),
                *(timeline([s for s in samples if s.target == m.name], m.name) for m in models),
            ],
            slowest=slowest(main),
            gaps=[gaps(m, min(len(judged), 120), 3) for m in models],
            not_ok=not_ok(judged, models),
            heat=[heat(samples, m.name) for m in models if len(main) >= 100 and m.name not in controls],
        ),
        "measurement": measurement(),
        "findings": [],
        "warnings": [],
        "run": run_of(samples, models, phases_of(samples)),
        "tokens_from": {m.name: "usage" for m in models},
    }
    return Document(**{**usual, **changed})


def _criteria(samples: list[Sample], names: list[str]) -> list[Judged]:
    judged = [s for s in samples if s.phase == "hold"]
    made = []
    for name in names:
        own = [s for s in judged if s.target == name]
        made += [
            quantile_criterion(own, 0.95, 1000, target=name),
            quantile_criterion(own, 0.99, 2000, target=name, gating=False),
            quantile_criterion([s for s in own if s.prompt == "short"], 0.5, 500, target=name, prompt="short"),
            output_criterion(own, name),
        ]
    return [*made, rate_criterion([s for s in judged if s.target in names], 0.005)]


def _difference(a: str, b: str, va: float, vb: float, half: float, kind: Any, stat: str, sentence: str) -> Comparison:
    return Comparison(
        kind=kind,
        a=a,
        b=b,
        metric="ttft_ms",
        stat=stat,
        unit="ms",
        value_a=va,
        value_b=vb,
        difference=va - vb,
        low=va - vb - half,
        high=va - vb + half,
        confidence=0.95,
        n_a=400,
        n_b=400,
        sentence=sentence,
    )


def joined(target: str) -> Connections:
    """Four connections, one of which the server closed."""
    return Connections(
        target=target, requests=402, new=5, reused=397, most_open=4, refused=0, failed=0, retried=1,
        ended={"server": 1, "reset": 0, "asked": 0, "us": 4},
        ages=[Age(from_s=60.0, to_s=120.0, ended={"server": 1}), Age(from_s=120.0, to_s=300.0, ended={"us": 4})],
        idle_limit_s=None, connect_p50_ms=11.4, tls_p50_ms=18.2, words="kept alive",
    )  # fmt: skip


def rising(target: str) -> Trend:
    """First tokens that come later and later."""
    return Trend(
        target=target, metric="ttft_ms", way="rising", change=0.31, low=0.2, high=0.44, first=612.0, last=801.0,
        p=0.0004, n=392, sign="warning", words="TTFT rising: +31% over the run [+20% to +44%]",
    )  # fmt: skip


def looked() -> list[Look]:
    """A line of each kind."""
    return [
        Look(cause="High TTFT", line="Check provider API latency", state="ruled_out",
             words="anthropic-direct alone has its p95 TTFT at 502 ms", findings=[]),
        Look(cause="High TTFT", line="Check database query performance", state="found",
             words="in 9 of the 10 slowest requests the longest step is db: 332 ms", findings=["database_slow"]),
        Look(cause="High TTFT", line="Review server resource usage (CPU, memory)", state="not_looked_at",
             words="a probe of the server ([probes.NAME])", findings=[]),
        Look(cause="High error rates", line="Monitor rate limits", state="found",
             words="429 for 108 of 400 requests", findings=["rate_limited"]),
    ]  # fmt: skip


@cache
def passing() -> tuple[Document, list[Sample]]:
    """Two targets and a control, all well."""
    models = [
        Model("gpt-4o-mini", 300, 0.34, 49, "gpt-4o-mini", control="openai-direct"),
        Model("gemini-flash", 345, 0.36, 45, "gemini-2.0-flash"),
        Model("openai-direct", 236, 0.30, 51, "gpt-4o-mini"),
    ]
    samples = samples_of(models, 400, seed=11)
    comparisons = [
        _difference(
            "gpt-4o-mini",
            "openai-direct",
            302.0,
            237.0,
            9.0,
            "control",
            "p50",
            "gpt-4o-mini adds 65 ms at the median over openai-direct [56 to 74]",
        ),
        _difference(
            "gpt-4o-mini",
            "gemini-flash",
            548.0,
            640.0,
            55.0,
            "targets",
            "p95",
            "gpt-4o-mini is 92 ms faster than gemini-flash at p95 [37 to 147]",
        ),
    ]
    return document(
        samples,
        models,
        _criteria(samples, ["gpt-4o-mini", "gemini-flash"]),
        verdict="pass",
        headline="Every target gives its first token in time: the slowest p95 is that of gemini-flash",
        impact="1 chat in 1,000 waits over 1 s",
        next_step="streamgauge baseline set ttft",
        comparisons=comparisons,
    ), samples


@cache
def failing() -> tuple[Document, list[Sample]]:
    """Three targets: one well, one slow and truncated, one out of quota so that its p95 is never reached."""
    models = [
        Model("gpt-4o-mini", 312, 0.34, 49, "gpt-4o-mini"),
        Model(
            "claude-sonnet",
            690,
            0.30,
            40,
            "claude-3-5-sonnet",
            {Outcome.TRUNCATED: 0.008},
            None,
            "nginx",
            "anthropic-direct",
            0.03,
        ),
        Model(
            "gemini-flash",
            340,
            0.40,
            45,
            "gemini-2.0-flash",
            {Outcome.RATE_LIMITED: 0.27, Outcome.FIRST_TOKEN_TIMEOUT: 0.005},
            '{"error":{"code":429,"message":"Resource has been exhausted (quota).","status":"EXHAUSTED"}}',
            "Google Frontend",
        ),
        Model("anthropic-direct", 306, 0.28, 41, "claude-3-5-sonnet"),
    ]
    samples = samples_of(models, 400, seed=5)
    names = ["gpt-4o-mini", "claude-sonnet", "gemini-flash"]
    finding = Finding(
        name="app_adds",
        target="claude-sonnet",
        words="Your app, not the provider, makes claude-sonnet slow",
        evidence=Basis(
            k=340, n=400, of="requests", values={"app_ms": 390.0, "provider_ms": 306.0}, from_s=2.5, to_s=171.0,
            samples=[samples[0].id],
        ),
        cause="db 332 ms in Server-Timing (median), 12 ms for the others",
        check="Ask the provider itself with the same prompts: the control does.",
        remedy="Look at the query that runs before the model is called; start the model call first.",
    )  # fmt: skip
    return document(
        samples,
        models,
        _criteria(samples, names),
        verdict="fail",
        severity="P0",
        headline="claude-sonnet: p95 TTFT 1,215 ms, limit 1,000 ms (95 % sure it is above 1,136 ms)",
        impact="1 chat in 7 waits over 1 s with claude-sonnet",
        next_step="streamgauge check staging --target claude-sonnet",
        comparisons=[
            _difference(
                "claude-sonnet",
                "anthropic-direct",
                702.0,
                312.0,
                20.0,
                "control",
                "p50",
                "claude-sonnet adds 390 ms at the median over anthropic-direct [370 to 410]",
            )
        ],
        findings=[finding],
        silenced={"far_away": 1},
        connections=[joined(name) for name in (*names, "anthropic-direct")],
        trends=[rising("claude-sonnet")],
        checklist=looked(),
        warnings=["gemini-flash: 112 of 400 requests were refused for quota"],
        measurement=measurement(
            notes=["limit of host overridden: max_streams 12 (usual 10)", "tokens of gemini-flash counted from events"]
        ),
        tokens_from={"gpt-4o-mini": "usage", "claude-sonnet": "usage", "gemini-flash": "events"},
    ), samples


@cache
def inconclusive() -> tuple[Document, list[Sample]]:
    """Too few requests to tell on one target."""
    models = [Model("chat", 560, 0.38, 38, "qwen2.5-7b")]
    samples = samples_of(models, 70, seed=3)
    return document(
        samples,
        models,
        _criteria(samples, ["chat"]),
        verdict="inconclusive",
        headline="chat: p95 TTFT is somewhere around its limit of 1,000 ms; 70 requests cannot tell",
        next_step="streamgauge run ttft --env staging --requests 470",
        run=run_of(samples, models, phases_of(samples), preset="smoke", cost_usd=None, git=None),
    ), samples


def _doubted(c: Judged) -> Judged:
    why = "our own slack and lateness reach 84 ms at p95, over 5 % of the limit (50 ms)"
    timed = c.metric == "ttft_ms"
    return _replace(c, verdict="invalid", why=why, needs=None, sentence=f"not judged: {why}") if timed else c


@cache
def invalid() -> tuple[Document, list[Sample]]:
    """Our own machine was too busy to say."""
    models = [Model("chat", 800, 0.2, 30, "qwen2.5-7b")]
    samples = samples_of(models, 150, seed=4)
    return document(
        samples,
        models,
        [_doubted(c) for c in _criteria(samples, ["chat"])],
        verdict="invalid",
        headline="This machine was too busy to measure: starts were late by 84 ms at p95",
        next_step="Repeat on a machine with a free core, or with --concurrency 2",
        measurement=measurement(
            valid=False,
            invalid_because=["p95 of our own lateness is 84 ms, over 5 % of the limit of 1,000 ms"],
            late_ms={"p50": 22.0, "p95": 84.0, "p99": 190.0, "max": 411.0},
            missed_starts=41,
            worker_cpu_mean=0.93,
            worker_cpu_max=1.0,
            stamps="user",
            slack_ms={"p50": None, "p95": None, "p99": None, "max": None},
        ),
    ), samples


@cache
def partial() -> tuple[Document, list[Sample]]:
    """Stopped half-way: every request failed alike, so nothing has a first token."""
    models = [
        Model(
            "chat",
            400,
            0.2,
            30,
            "gpt-4o-mini",
            {Outcome.HTTP_ERROR: 1.0},
            "<html><head><title>502 Bad Gateway</title></head></html>",
            "awselb/2.0",
        )
    ]
    samples = samples_of(models, 20, seed=4)
    return document(
        samples,
        models,
        _criteria_of_nothing(samples),
        verdict="fail",
        severity="P0",
        partial=True,
        headline="chat: every one of 20 requests failed: http_error 502, answered by awselb/2.0",
        next_step="streamgauge check staging",
        run=run_of(samples, models, phases_of(samples), stopped_by="20 equal failures in a row"),
        baselines=[],
    ), samples


def _criteria_of_nothing(samples: list[Sample]) -> list[Judged]:
    judged = [s for s in samples if s.phase == "hold"]
    return [quantile_criterion(judged, 0.95, 1000, target="chat"), rate_criterion(judged, 0.005)]


def _judged(metric: str, op: str, limit: float, unit: str, value: float, verdict: Word, **changed: Any) -> Judged:
    usual: dict[str, Any] = {"stat": None, "target": None, "prompt": None, "phase": None, "low": None, "high": None}
    usual |= {"confidence": 0.95, "n": 1500, "gating": True, "advisory": False}
    fixed = {"name": f"{metric} {op} {limit}", "metric": metric, "op": op, "limit": limit, "unit": unit}
    return Judged(**{**usual, **fixed, "value": value, "verdict": verdict, **changed})


@cache
def concurrent() -> tuple[Document, list[Sample]]:
    """Reference, ramp, hold and stress on one target; the stress level drops streams."""
    models = [Model("chat", 420, 0.32, 44, "gpt-4o-mini", {Outcome.DROPPED: 0.0012})]
    plan = [
        ("warmup", 1, 2),
        ("reference", 1, 30),
        ("ramp", 100, 100),
        ("hold", 100, 1500),
        ("stress", 200, 500),
        ("drain", 200, 20),
    ]
    samples = samples_of(models, 2150, seed=9, phases=plan)
    judged = [s for s in samples if s.phase == "hold"]
    reference = [s for s in samples if s.phase == "reference"]
    dropped = sum(s.outcome is Outcome.DROPPED for s in judged)
    held = _judged("concurrency_held", ">=", 100, "streams", 100, "pass", phase="hold", low=100, high=100)
    drops = _judged("drops", "==", 0, "", dropped, "fail", phase="hold", sentence="streams were cut half-way")
    slower = _judged("ttft_degradation", "<=", 1.5, "x", 1.46, "inconclusive", low=1.31, high=1.62, advisory=True)
    whole = document(
        samples,
        models,
        [held, drops, rate_criterion(judged, 0.005), slower],
        verdict="fail",
        severity="P2",
        test="concurrent",
        headline="chat: 100 streams were held, but 1 of 1,500 was dropped in the middle of the answer",
        impact="1 answer in 1,500 stops half-way",
        next_step="Look for the trace ids below in the load balancer's logs",
    )
    by_phase = [
        group([s for s in samples if s.phase == p and s.level == level], phase=p, level=level)
        for p, level, _ in plan[1:5]
    ]
    series = whole.series
    both = [ecdf(judged, "chat", "hold"), ecdf(reference, "chat", "reference")]
    return _replace(
        whole,
        groups=[*whole.groups, *by_phase],
        series=_replace(series, ecdf=both),
        scalars={**whole.scalars, "concurrency_held": 100.0, "open_streams_mean": 99.2, "tokens_per_s": 3_310.0},
    ), samples


def _replace(struct: Any, **changed: Any) -> Any:
    return msgspec.structs.replace(struct, **changed)


ALL = {
    "passing": passing,
    "failing": failing,
    "inconclusive": inconclusive,
    "invalid": invalid,
    "partial": partial,
    "concurrent": concurrent,
}
